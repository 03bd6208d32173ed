//! Login shells, the `sh` that they find, and what their start files print.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use super::{TestPrograms, local::LocalExec, tree};
use crate::deploy::{deploy, probe};

/// The login shells of this system. Those that are missing are named.
fn login_shells() -> Vec<PathBuf> {
    let known = [
        "/bin/sh",
        "/bin/dash",
        "/bin/bash",
        "/bin/rbash",
        "/usr/bin/fish",
        "/bin/tcsh",
        "/bin/mksh",
    ];
    let (found, missing): (Vec<&str>, Vec<&str>) =
        known.into_iter().partition(|path| Path::new(path).exists());
    if !missing.is_empty() {
        println!("!!! NOT CHECKED: these shells are not installed: {}", missing.join(", "));
    }
    assert!(found.len() >= 2, "no shells are installed");
    found.into_iter().map(PathBuf::from).collect()
}

/// Makes `name` the `sh` that is found in this directory. Returns false if it is not installed.
fn link_sh(directory: &Path, name: &str) -> bool {
    let path = Path::new("/bin").join(name);
    if !path.exists() {
        println!("!!! NOT CHECKED: {name} is not installed");
        return false;
    }
    let _ = fs::remove_file(directory.join("sh"));
    symlink(&path, directory.join("sh")).unwrap();
    if name == "busybox" {
        let output = Command::new(&path).arg("--list").output().unwrap();
        for applet in String::from_utf8(output.stdout).unwrap().lines() {
            let _ = symlink(&path, directory.join(applet));
        }
    }
    true
}

/// Start files that print something without a line end, for every shell.
fn make_noise(exec: &mut LocalExec) {
    let noise = "echo Welcome to this machine; echo 'it is =1 noisy' >&2; printf 'no end '\n";
    let home = &exec.home;
    fs::create_dir_all(home.join(".config/fish")).unwrap();
    for file in [".config/fish/config.fish", ".cshrc", ".bashrc", ".mkshrc", "env"] {
        let noise = if file == ".cshrc" { "echo Welcome; echo -n 'no end '\n" } else { noise };
        fs::write(home.join(file), noise).unwrap();
    }
    let file = home.join("env").display().to_string();
    exec.variables.push(("BASH_ENV", file.clone()));
    exec.variables.push(("ENV", file));
}

#[tokio::test]
async fn programs_are_deployed_through_every_login_shell_with_noisy_start_files() {
    let programs = TestPrograms::new();
    for shell in login_shells() {
        let home = tempfile::tempdir().unwrap();
        let mut exec = LocalExec::new(home.path());
        exec.shell.clone_from(&shell);
        make_noise(&mut exec);
        let deployment = deploy(&exec, &programs.options(), &()).await;
        let deployment = deployment.unwrap_or_else(|error| panic!("{}: {error}", shell.display()));
        let installed = fs::read(deployment.installed.program("rbee-hive")).unwrap();
        assert_eq!(installed, fs::read("/bin/true").unwrap(), "{}", shell.display());
    }
}

#[tokio::test]
async fn every_shell_that_is_sh_finds_the_same_facts_and_deploys_the_same_files() {
    let programs = TestPrograms::new();
    let mut found = Vec::new();
    for name in ["dash", "bash", "mksh", "busybox"] {
        let (home, bin) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        if !link_sh(bin.path(), name) {
            continue;
        }
        let mut exec = LocalExec::new(home.path());
        exec.path = format!("{}:/usr/bin:/bin", bin.path().display());
        let deployment = deploy(&exec, &programs.options(), &()).await;
        let deployment = deployment.unwrap_or_else(|error| panic!("{name}: {error}"));
        let again = deploy(&exec, &programs.options(), &()).await.unwrap();
        assert_eq!(again.installed.sent_bytes, 0, "{name}");
        // Free memory and free room change all the time, and other tests use the shared directories.
        let mut facts = deployment.facts;
        facts.available_memory = None;
        facts.home = None;
        for place in &mut facts.places {
            assert!(place.free_bytes.is_some_and(|free| free > 0), "{name}: {}", place.path);
            assert!(place.free_inodes != Some(0), "{name}");
            (place.free_bytes, place.free_inodes) = (None, None);
            place.path = place.path.replace(home.path().to_str().unwrap(), "HOME");
        }
        found.push((name, facts, tree(home.path())));
    }
    assert!(found.len() >= 2, "no shells are installed");
    for (name, facts, tree) in &found {
        assert_eq!(facts, &found[0].1, "{name}");
        assert_eq!(tree, &found[0].2, "{name}");
    }
}

#[tokio::test]
async fn a_home_with_blanks_quotes_and_other_letters_is_fine() {
    let programs = TestPrograms::new();
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("it's a \"höme\" $(touch x) * \\n");
    fs::create_dir(&home).unwrap();
    for shell in login_shells() {
        let mut exec = LocalExec::new(&home);
        exec.shell = shell;
        // Without it, fish makes another name of the directory.
        exec.variables.push(("LANG", "C.UTF-8".into()));
        let deployment = deploy(&exec, &programs.options(), &()).await.unwrap();
        assert!(deployment.installed.root.starts_with(home.to_str().unwrap()));
        assert!(Path::new(&deployment.installed.program("rbee-hive")).exists());
    }
    let made = super::names(&home);
    assert!(made.iter().all(|name| name.starts_with('.')), "{made:?}");
    let changed = TestPrograms::new();
    changed.put("rbee-hive", &fs::read("/bin/date").unwrap());
    let deployment = deploy(&LocalExec::new(&home), &changed.options(), &()).await.unwrap();
    assert_eq!(deployment.installed.sent_bytes, fs::metadata("/bin/date").unwrap().len());
}

#[tokio::test]
async fn a_home_with_a_line_end_is_not_used() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("a\nb");
    fs::create_dir(&home).unwrap();
    let facts = probe(&LocalExec::new(&home), None, &()).await.unwrap();
    assert_eq!(facts.home, None);
    let reasons: Vec<_> = facts.places.iter().map(|place| place.can_take(1)).collect();
    assert!(reasons[0].is_err() && reasons[1].is_err(), "{reasons:?}");
}
