//! Copying programs.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use super::{TestPrograms, local::LocalExec, mounts::Mounts, names, tree};
use crate::deploy::{
    DeployError, DeployEvent, DeployOptions, DeployStep, InstallOptions, Programs, deploy, install,
    probe,
};

fn size_of(path: &str) -> u64 {
    fs::metadata(path).unwrap().len()
}

fn versions(home: &Path) -> Vec<String> {
    names(&home.join(".local/share/rbee/versions"))
}

#[tokio::test]
async fn programs_are_copied_once_with_progress_and_only_their_user_can_use_them() {
    let (home, programs) = (tempfile::tempdir().unwrap(), TestPrograms::new());
    let exec = LocalExec::new(home.path());
    let events = Mutex::new(Vec::new());
    let record = |event: &DeployEvent| events.lock().unwrap().push(event.clone());
    let options = programs.options();
    let first = deploy(&exec, &options, &record).await.unwrap();
    assert_eq!(exec.sessions(), 3, "the probe, and one for each file");
    let total = size_of("/bin/true") + size_of("/bin/echo");
    assert_eq!(first.installed.sent_bytes, total);
    let name = &first.programs.directory_name;
    assert!(name.starts_with(&format!("{}-", programs.version)), "{name}");
    assert_eq!(name.len(), programs.version.len() + 17);
    let found = tree(&home.path().join(".local"));
    let base = format!("share/rbee/versions/{name}");
    let manifest =
        fs::read_to_string(home.path().join(".local").join(&base).join("files")).unwrap();
    assert_eq!(
        found,
        [
            ("share".into(), 0o700, 0),
            ("share/rbee".into(), 0o700, 0),
            ("share/rbee/versions".into(), 0o700, 0),
            (base.clone(), 0o700, 0),
            (format!("{base}/files"), 0o600, manifest.len() as u64),
            (format!("{base}/llm-worker-rbee"), 0o700, size_of("/bin/echo")),
            (format!("{base}/rbee-hive"), 0o700, size_of("/bin/true")),
        ]
    );
    let installed = fs::read(first.installed.program("llm-worker-rbee")).unwrap();
    assert_eq!(installed, fs::read("/bin/echo").unwrap());

    let events = events.into_inner().unwrap();
    let steps: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            DeployEvent::Finished { step, .. } => Some(*step),
            _ => None,
        })
        .collect();
    assert_eq!(steps, [DeployStep::Probe, DeployStep::Programs, DeployStep::Upload]);
    let sent: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            DeployEvent::Sent { file, done, total: of } => {
                assert_eq!(*of, total);
                Some((file.as_str(), *done))
            }
            _ => None,
        })
        .collect();
    assert_eq!(sent.first(), Some(&("rbee-hive", 0)));
    assert!(sent.contains(&("llm-worker-rbee", size_of("/bin/true"))));
    assert_eq!(sent.last(), Some(&("llm-worker-rbee", total)));
    assert!(sent.is_sorted_by_key(|(_, done)| *done));

    let second = deploy(&exec, &options, &()).await.unwrap();
    assert_eq!(exec.sessions(), 1, "only the probe");
    assert_eq!(second.installed.sent_bytes, 0);
    assert_eq!(second.installed.directory, first.installed.directory);
}

#[tokio::test]
async fn only_the_file_that_differs_is_sent() {
    let (home, programs) = (tempfile::tempdir().unwrap(), TestPrograms::new());
    let exec = LocalExec::new(home.path());
    let first = deploy(&exec, &programs.options(), &()).await.unwrap();
    exec.sessions();
    programs.put("rbee-hive", &fs::read("/bin/date").unwrap());
    let second = deploy(&exec, &programs.options(), &()).await.unwrap();
    assert_eq!(exec.sessions(), 3);
    assert_eq!(second.installed.sent_bytes, size_of("/bin/date"));
    assert_ne!(second.installed.directory, first.installed.directory);
    for (name, from) in [("rbee-hive", "/bin/date"), ("llm-worker-rbee", "/bin/echo")] {
        let installed = fs::read(second.installed.program(name)).unwrap();
        assert_eq!(installed, fs::read(from).unwrap());
    }
    assert_eq!(versions(home.path()).len(), 2);

    // A file whose content is not that of its name any more is sent again, although its size is right.
    let mut changed = fs::read(second.installed.program("rbee-hive")).unwrap();
    changed[100] ^= 1;
    fs::remove_file(second.installed.program("rbee-hive")).unwrap();
    fs::write(second.installed.program("rbee-hive"), changed).unwrap();
    let mode = fs::Permissions::from_mode(0o700);
    fs::set_permissions(second.installed.program("rbee-hive"), mode).unwrap();
    programs.put("llm-worker-rbee", &fs::read("/bin/true").unwrap());
    let third = deploy(&exec, &programs.options(), &()).await.unwrap();
    // The other file is that of the first version, with another name.
    assert_eq!(third.installed.sent_bytes, size_of("/bin/date"));
    let installed = fs::read(third.installed.program("rbee-hive")).unwrap();
    assert_eq!(installed, fs::read("/bin/date").unwrap());
}

/// Cuts the connection after so many bytes of a session, and deploys again.
async fn cut(after: usize, programs: &TestPrograms, path: &str) {
    let home = tempfile::tempdir().unwrap();
    let mut exec = LocalExec::new(home.path());
    exec.path = path.into();
    let facts = probe(&exec, None, &()).await.unwrap();
    let chosen = programs.programs().choose(&facts).unwrap();
    exec.cut_after = Some(after);
    let error =
        install(&exec, &facts, &chosen, &InstallOptions::new("queen-1"), &()).await.unwrap_err();
    assert!(matches!(error, DeployError::Session { .. }), "{error}");
    assert!(error.is_transient() && error.to_string().contains("was cut"), "{error}");
    exec.wait_for_cut().await;
    let left = versions(home.path());
    assert!(left.is_empty(), "{left:?} after {after} bytes");
    exec.cut_after = None;
    let facts = probe(&exec, None, &()).await.unwrap();
    let installed =
        install(&exec, &facts, &chosen, &InstallOptions::new("queen-1"), &()).await.unwrap();
    assert_eq!(versions(home.path()), [chosen.directory_name.as_str()]);
    assert_eq!(installed.sent_bytes, chosen.size());
    for file in &chosen.files {
        let there = fs::read(installed.program(&file.name)).unwrap();
        assert_eq!(there, fs::read(&file.path).unwrap());
    }
}

#[tokio::test]
async fn an_upload_that_is_cut_at_any_point_leaves_nothing_and_the_next_one_succeeds() {
    let programs = TestPrograms::new();
    // The last one cuts the second file, which is larger.
    let (script, file) = (5000, size_of("/bin/true") as usize);
    for after in [0, 100, script, 2 * script, file / 2, file, file + 2 * script] {
        cut(after, &programs, "/usr/bin:/bin").await;
    }
}

#[tokio::test]
async fn a_cut_is_noticed_by_the_size_on_a_machine_that_cannot_compute_hashes() {
    let bin = tempfile::tempdir().unwrap();
    fs::write(bin.path().join("sha256sum"), "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(bin.path().join("sha256sum"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", bin.path().display());
    let programs = TestPrograms::new();
    cut(size_of("/bin/true") as usize, &programs, &path).await;
}

#[tokio::test]
async fn what_dead_uploads_left_is_removed_and_what_others_are_writing_is_not() {
    let (home, programs) = (tempfile::tempdir().unwrap(), TestPrograms::new());
    let exec = LocalExec::new(home.path());
    let versions_dir = home.path().join(".local/share/rbee/versions");
    let mut uploads = Vec::new();
    // The names that two uploaders use: the upload is stopped when it has begun.
    for uploader in ["queen-1", "queen-2", "queen-3"] {
        let facts = probe(&exec, None, &()).await.unwrap();
        let chosen = programs.programs().choose(&facts).unwrap();
        let seen = Mutex::new(None);
        let record = |event: &DeployEvent| {
            if let DeployEvent::Sent { done: 1.., .. } = event {
                let name = names(&versions_dir).into_iter().find(|name| !uploads.contains(name));
                *seen.lock().unwrap() = name;
            }
        };
        install(&exec, &facts, &chosen, &InstallOptions::new(uploader), &record).await.unwrap();
        uploads.push(seen.into_inner().unwrap().unwrap());
        fs::remove_dir_all(&versions_dir).unwrap();
        for name in &uploads {
            fs::create_dir_all(versions_dir.join(name)).unwrap();
            fs::write(versions_dir.join(name).join("rbee-hive"), "half of it").unwrap();
        }
    }
    let old = |name: &str| {
        for path in [versions_dir.join(name).join("rbee-hive"), versions_dir.join(name)] {
            let touched = Command::new("touch").args(["-d", "2 hours ago"]).arg(path).status();
            assert!(touched.unwrap().success());
        }
    };
    old(&uploads[2]);
    let deployment = deploy(&exec, &programs.options(), &()).await.unwrap();
    let mut expected = vec![uploads[1].clone(), deployment.programs.directory_name];
    expected.sort();
    assert_eq!(names(&versions_dir), expected, "queen-1 began again, queen-3 is dead");
}

#[tokio::test]
async fn two_uploads_of_the_same_files_at_once_give_one_directory() {
    let programs = TestPrograms::new();
    for _ in 0..5 {
        let home = tempfile::tempdir().unwrap();
        let [a, b] = [LocalExec::new(home.path()), LocalExec::new(home.path())];
        let [of_a, of_b] = ["queen-a", "queen-b"]
            .map(|uploader| DeployOptions::new(Arc::new(programs.programs()), uploader));
        let (a, b) = tokio::join!(deploy(&a, &of_a, &()), deploy(&b, &of_b, &()));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!(a.installed.directory, b.installed.directory);
        assert_eq!(versions(home.path()), [a.programs.directory_name]);
        let found = names(Path::new(&a.installed.directory));
        assert_eq!(found, ["files", "llm-worker-rbee", "rbee-hive"]);
    }
}

#[tokio::test]
async fn a_version_with_a_damaged_file_is_replaced() {
    let (home, programs) = (tempfile::tempdir().unwrap(), TestPrograms::new());
    let exec = LocalExec::new(home.path());
    let first = deploy(&exec, &programs.options(), &()).await.unwrap();
    let path = first.installed.program("rbee-hive");
    for damage in 0..3 {
        match damage {
            0 => fs::write(&path, "short").unwrap(),
            1 => fs::remove_file(&path).unwrap(),
            _ => fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap(),
        }
        // As root a file can be executed only if somebody may.
        let again = deploy(&exec, &programs.options(), &()).await.unwrap();
        assert_eq!(again.installed.sent_bytes, size_of("/bin/true"), "damage {damage}");
        assert_eq!(fs::read(&path).unwrap(), fs::read("/bin/true").unwrap());
        assert_eq!(versions(home.path()), [first.programs.directory_name.as_str()]);
        let found = names(Path::new(&first.installed.directory));
        assert_eq!(found, ["files", "llm-worker-rbee", "rbee-hive"]);
    }
}

#[tokio::test]
async fn a_program_that_changes_while_it_is_copied_is_not_kept() {
    let (home, programs) = (tempfile::tempdir().unwrap(), TestPrograms::new());
    let exec = LocalExec::new(home.path());
    let facts = probe(&exec, None, &()).await.unwrap();
    let chosen = programs.programs().choose(&facts).unwrap();
    // The same size, so that only the hash tells.
    let mut changed = fs::read("/bin/echo").unwrap();
    *changed.last_mut().unwrap() ^= 1;
    programs.put("llm-worker-rbee", &changed);
    let error =
        install(&exec, &facts, &chosen, &InstallOptions::new("queen-1"), &()).await.unwrap_err();
    let DeployError::LocalProgram { path, reason } = &error else { panic!("{error}") };
    assert_eq!(path, &programs.path("llm-worker-rbee"));
    assert!(reason.contains("changed"), "{reason}");
}

/// Deploys programs that do not run, and returns the error.
async fn refused(programs: &TestPrograms) -> DeployError {
    let home = tempfile::tempdir().unwrap();
    let exec = LocalExec::new(home.path());
    let error = deploy(&exec, &programs.options(), &()).await.unwrap_err();
    assert_eq!(versions(home.path()), [""; 0], "nothing is kept");
    assert!(!error.is_transient());
    error
}

#[tokio::test]
async fn a_program_that_does_not_run_there_is_refused_with_the_reason() {
    let programs = TestPrograms::new();
    programs.put("llm-worker-rbee", &fs::read("/bin/false").unwrap());
    let error = refused(&programs).await;
    let DeployError::DoesNotRun { program, reason, .. } = &error else { panic!("{error}") };
    assert_eq!(program, &programs.path("llm-worker-rbee"));
    assert!(reason.contains("exit status 1"), "{error}");

    programs.put("llm-worker-rbee", &fs::read("/bin/echo").unwrap());
    programs.patch("rbee-hive", b"libc.so.6", b"libq.so.6");
    let error = refused(&programs).await;
    let DeployError::DoesNotRun { program, advice, .. } = &error else { panic!("{error}") };
    assert_eq!(program, &programs.path("rbee-hive"));
    assert!(error.to_string().contains("libq.so.6"), "{error}");
    assert!(advice.contains("install this library"), "{error}");
}

#[tokio::test]
async fn a_program_of_another_version_is_refused() {
    let (home, programs) = (tempfile::tempdir().unwrap(), TestPrograms::new());
    let exec = LocalExec::new(home.path());
    let other = Programs::new("9.11").without_defaults().with_path(programs.directory.path());
    let options = DeployOptions::new(Arc::new(other), "queen-1");
    let error = deploy(&exec, &options, &()).await.unwrap_err();
    let DeployError::OtherVersion { program, printed, .. } = &error else { panic!("{error}") };
    assert_eq!(program, &programs.path("rbee-hive"));
    assert!(printed.contains("coreutils"), "{error}");
    assert!(versions(home.path()).is_empty());
}

#[tokio::test]
async fn a_disk_that_fills_up_during_the_upload_is_named_and_nothing_is_left_on_it() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("home");
    fs::create_dir(&home).unwrap();
    let mounts = Mounts::new(&home, "mount -t tmpfs -o size=32m home $1");
    let mut exec = LocalExec::new(&home);
    exec.prefix = mounts.enter();
    let programs = TestPrograms::new();
    programs.put("rbee-hive", &[fs::read("/bin/true").unwrap(), vec![7; 4 << 20]].concat());
    let options = DeployOptions { directory: Some("~/rbee".into()), ..programs.options() };
    let facts = probe(&exec, options.directory.as_deref(), &()).await.unwrap();
    let chosen = options.programs.choose(&facts).unwrap();
    mounts.run(&home, "head -c 30m /dev/zero >$1/fill");
    let error =
        install(&exec, &facts, &chosen, &InstallOptions::new("queen-1"), &()).await.unwrap_err();
    let DeployError::Write { what, reason, advice } = &error else { panic!("{error}") };
    assert!(what.ends_with("/rbee-hive") && reason.contains("No space left"), "{error}");
    assert!(advice.contains("make room"), "{error}");
    assert_eq!(mounts.run(&home, "ls -A $1/rbee/versions"), "");
    mounts.run(&home, "rm $1/fill");
    install(&exec, &facts, &chosen, &InstallOptions::new("queen-1"), &()).await.unwrap();
}

#[tokio::test]
async fn compressed_files_arrive_unchanged_and_a_cut_is_noticed() {
    let programs = TestPrograms::new();
    let zeros = [fs::read("/bin/true").unwrap(), vec![0; 4 << 20]].concat();
    programs.put("rbee-hive", &zeros);
    let home = tempfile::tempdir().unwrap();
    let mut exec = LocalExec::new(home.path());
    let mut options = programs.options();
    // Less than the file has, and more than its compressed form.
    exec.cut_after = Some(100 << 10);
    deploy(&exec, &options, &()).await.unwrap_err();
    exec.wait_for_cut().await;
    options.install.compress = true;
    let deployment = deploy(&exec, &options, &()).await.unwrap();
    assert!(fs::read(deployment.installed.program("rbee-hive")).unwrap() == zeros);
    assert_eq!(deployment.installed.sent_bytes, zeros.len() as u64 + size_of("/bin/echo"));

    fs::remove_dir_all(home.path().join(".local")).unwrap();
    exec.cut_after = Some(20_000);
    let error = deploy(&exec, &options, &()).await.unwrap_err();
    assert!(matches!(error, DeployError::Session { .. }), "{error}");
    exec.wait_for_cut().await;
    assert!(versions(home.path()).is_empty());
}

#[tokio::test]
async fn a_file_with_all_programs_is_sent_once_and_gets_both_names() {
    use std::os::unix::fs::MetadataExt;

    let (home, programs) = (tempfile::tempdir().unwrap(), TestPrograms::new());
    for name in ["rbee-hive", "llm-worker-rbee"] {
        fs::remove_file(programs.path(name)).unwrap();
    }
    programs.put("rbee-programs", &fs::read("/bin/true").unwrap());
    let exec = LocalExec::new(home.path());
    let deployment = deploy(&exec, &programs.options(), &()).await.unwrap();
    assert_eq!(deployment.installed.sent_bytes, size_of("/bin/true"));
    assert_eq!(exec.sessions(), 2, "the probe, and one for the file");
    let files = ["rbee-hive", "llm-worker-rbee"].map(|name| {
        let file = fs::metadata(deployment.installed.program(name)).unwrap();
        (file.ino(), file.mode() & 0o777)
    });
    assert_eq!(files[0], files[1]);
    assert_eq!(files[0].1, 0o700);
    // It is found again, and nothing is sent.
    let again = deploy(&exec, &programs.options(), &()).await.unwrap();
    assert_eq!(again.installed.sent_bytes, 0);
}
