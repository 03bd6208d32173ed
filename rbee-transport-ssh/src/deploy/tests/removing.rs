//! Removing old versions and hives.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{TestPrograms, local::LocalExec, names};
use crate::deploy::{DeployError, RemoveOptions, deploy, remove, remove_old_versions};

fn root(home: &Path) -> PathBuf {
    home.join(".local/share/rbee")
}

/// Makes a directory with a file that was put there hours ago.
fn old_directory(path: &Path) {
    fs::create_dir_all(path).unwrap();
    fs::write(path.join("file"), [0; 5000]).unwrap();
    assert!(
        Command::new("touch").args(["-d", "2 hours ago"]).arg(path).status().unwrap().success()
    );
}

/// A program in this directory that runs until it is dropped.
struct RunningProgram(Child);

impl RunningProgram {
    fn new(directory: &Path) -> Self {
        let path = directory.join("cat");
        fs::copy("/bin/cat", &path).unwrap();
        old_directory(directory);
        // The parent of the program holds no copy of the file open for writing; another test's child may, for a moment.
        let start = || Command::new(&path).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let mut child = start();
        while child
            .as_ref()
            .is_err_and(|cause| cause.kind() == std::io::ErrorKind::ExecutableFileBusy)
        {
            std::thread::yield_now();
            child = start();
        }
        Self(child.unwrap())
    }
}

impl Drop for RunningProgram {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn old_versions_are_removed_but_not_the_kept_the_running_and_the_new() {
    let (home, programs) = (tempfile::tempdir().unwrap(), TestPrograms::new());
    let exec = LocalExec::new(home.path());
    let current = deploy(&exec, &programs.options(), &()).await.unwrap();
    exec.sessions();
    let versions = root(home.path()).join("versions");
    for name in ["0.1-a", "0.1-b", "0.1-named", "0.1-running"] {
        old_directory(&versions.join(name));
    }
    let running = RunningProgram::new(&versions.join("0.1-running"));
    let keep = ["0.1-named"];
    let root_path = &current.installed.root;
    let removed = remove_old_versions(&exec, root_path, &keep, &()).await.unwrap();
    assert_eq!(exec.sessions(), 1);
    let removed_paths: Vec<_> = removed.removed.iter().map(|(path, _)| path.as_str()).collect();
    let expected = ["0.1-a", "0.1-b"].map(|name| versions.join(name).display().to_string());
    assert_eq!(removed_paths, expected);
    assert!(removed.removed.iter().all(|(_, bytes)| *bytes >= 5000));
    let name = current.programs.directory_name.as_str();
    assert_eq!(names(&versions), ["0.1-named", "0.1-running", name]);
    assert_eq!(removed.kept.len(), 2, "{removed:?}");
    assert!(removed.kept[0].0.ends_with("0.1-running"), "{removed:?}");
    assert!(removed.kept[0].1.contains(&format!("process {}", running.0.id())), "{removed:?}");
    assert!(removed.kept[1].1.contains("new"), "{removed:?}");
    drop(running);
    remove_old_versions(&exec, root_path, &[], &()).await.unwrap();
    assert_eq!(names(&versions), [name]);
}

#[tokio::test]
async fn versions_that_another_machine_may_use_are_kept() {
    let home = tempfile::tempdir().unwrap();
    let exec = LocalExec::new(home.path());
    let root = root(home.path());
    old_directory(&root.join("versions/0.1-a"));
    for hive in ["here", "there"] {
        fs::create_dir_all(root.join("hives").join(hive)).unwrap();
        fs::write(root.join("hives").join(hive).join("hive.json"), "{}").unwrap();
    }
    // One that was removed, apart from its models.
    fs::create_dir_all(root.join("hives/gone/models")).unwrap();
    fs::write(root.join("hives/gone/models/weights"), "").unwrap();
    let root_path = root.to_str().unwrap();
    let removed = remove_old_versions(&exec, root_path, &[], &()).await.unwrap();
    assert_eq!((removed.removed.len(), removed.kept.len()), (0, 1));
    assert!(removed.kept[0].1.contains("other machines"), "{removed:?}");
    let options = RemoveOptions::new("here");
    let removed = remove(&exec, root_path, &options, &()).await.unwrap();
    assert_eq!(names(&root.join("hives")), ["gone", "there"]);
    assert!(root.join("versions/0.1-a").exists());
    assert!(removed.kept[0].1.contains("the hive there may use it"), "{removed:?}");
    let removed = remove(&exec, root_path, &RemoveOptions::new("there"), &()).await.unwrap();
    assert_eq!((names(&root), removed.kept), (vec!["hives".into()], vec![]));
    let mut options = RemoveOptions::new("gone");
    options.models = true;
    remove(&exec, root_path, &options, &()).await.unwrap();
    assert!(!root.exists());
}

#[tokio::test]
async fn a_removed_hive_leaves_only_what_is_named() {
    let (home, programs) = (tempfile::tempdir().unwrap(), TestPrograms::new());
    let exec = LocalExec::new(home.path());
    let root = root(home.path());
    let deployment = deploy(&exec, &programs.options(), &()).await.unwrap();
    let state = root.join("hives/gpu box");
    fs::create_dir_all(state.join("models")).unwrap();
    fs::write(state.join("models/weights"), [0; 5000]).unwrap();
    fs::write(state.join("token"), "secret").unwrap();
    fs::write(state.join(".lock"), "").unwrap();
    let mut options = RemoveOptions::new("gpu box");
    let removed = remove(&exec, &deployment.installed.root, &options, &()).await.unwrap();
    let kept =
        [(state.join("models").display().to_string(), "the models were not to be removed".into())];
    assert_eq!(removed.kept, kept);
    assert_eq!((names(&root), names(&state)), (vec!["hives".into()], vec!["models".into()]));
    assert!(
        removed.removed.iter().any(|(path, bytes)| path.ends_with("/versions") && *bytes > 5000)
    );

    fs::write(root.join("note of the user"), "").unwrap();
    options.models = true;
    let removed = remove(&exec, &deployment.installed.root, &options, &()).await.unwrap();
    assert_eq!(names(&root), ["note of the user"], "{removed:?}");
    assert_eq!(removed.kept, []);
    fs::remove_file(root.join("note of the user")).unwrap();
    let removed = remove(&exec, &deployment.installed.root, &options, &()).await.unwrap();
    assert_eq!(removed.removed, [(root.display().to_string(), 0)]);
    assert_eq!(names(&home.path().join(".local")), ["share"], "other programs may use it");
}

#[tokio::test]
async fn a_hive_that_runs_is_not_removed() {
    let home = tempfile::tempdir().unwrap();
    let exec = LocalExec::new(home.path());
    let root = root(home.path());
    let version = root.join("versions/0.1-a");
    fs::create_dir_all(&version).unwrap();
    old_directory(&root.join("hives/here"));
    let running = RunningProgram::new(&version);
    let root_path = root.to_str().unwrap();
    let options = RemoveOptions::new("here");
    let error = remove(&exec, root_path, &options, &()).await.unwrap_err();
    let DeployError::InUse { process, .. } = &error else { panic!("{error}") };
    assert_eq!(*process, running.0.id());
    assert!(root.join("hives/here/file").exists());
    drop(running);
    remove(&exec, root_path, &options, &()).await.unwrap();
    assert!(!root.exists());
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let exec = LocalExec::new(home.path());
    for name in ["", ".", "..", "../x", "a/b", ".x", "a\nb"] {
        let options = RemoveOptions::new(name);
        let error = remove(&exec, "/nonexistent", &options, &()).await.unwrap_err();
        assert!(matches!(error, DeployError::Setting { .. }), "{error}");
    }
    assert_eq!(exec.sessions(), 0);
}
