//! Deployments over a real server.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, sync::Arc};

use rbee_transport_ssh::deploy::{
    DeployError, DeployEvent, DeployOptions, Programs, RemoveOptions, deploy, remove,
};
use tempfile::TempDir;
use tokio::sync::Notify;

use crate::sshd::Sshd;

/// Small programs of this system with the names of a hive's programs, and a directory to put them into.
fn options(large: bool) -> (TempDir, TempDir, DeployOptions) {
    let (programs, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (from, name) in [("/bin/true", "rbee-hive"), ("/bin/echo", "llm-worker-rbee")] {
        let mut bytes = fs::read(from).unwrap();
        if large {
            let noise = (0..5_000_000_u32)
                .flat_map(|index| index.wrapping_mul(2_654_435_761).to_le_bytes());
            bytes.extend(noise);
        }
        let path = programs.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let output = Command::new("/bin/true").arg("--version").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let version = text.lines().next().unwrap().split(' ').next_back().unwrap();
    let search = Programs::new(version).without_defaults().with_path(programs.path());
    let mut options = DeployOptions::new(Arc::new(search), "queen-1");
    options.directory = Some(home.path().join("rbee").display().to_string());
    (programs, home, options)
}

#[tokio::test]
async fn programs_are_deployed_once_and_removed_through_a_server_that_allows_one_session() {
    for (compress, lines) in [(false, &["MaxSessions 1", "DisableForwarding yes"][..]), (true, &[])]
    {
        let (_programs, home, mut options) = options(false);
        options.install.compress = compress;
        let sshd = Sshd::with_lines(lines);
        let connection = sshd.connect().await.unwrap();
        let first = deploy(&connection, &options, &()).await.unwrap();
        assert!(first.installed.sent_bytes > 0);
        let second = deploy(&connection, &options, &()).await.unwrap();
        assert_eq!(second.installed.sent_bytes, 0);
        let hive = RemoveOptions::new("here");
        remove(&connection, &first.installed.root, &hive, &()).await.unwrap();
        assert!(!Path::new(&first.installed.root).exists());
        assert!(home.path().exists());
        connection.close().await;
    }
}

#[tokio::test]
async fn an_upload_whose_connection_is_lost_leaves_nothing_that_runs_and_the_next_one_succeeds() {
    let (_programs, _home, options) = options(true);
    let sshd = Sshd::start();
    let connection = sshd.connect().await.unwrap();
    let begun = Notify::new();
    let watch = |event: &DeployEvent| {
        if matches!(event, DeployEvent::Sent { done, .. } if *done > 4 << 20) {
            begun.notify_one();
        }
    };
    tokio::select! {
        result = deploy(&connection, &options, &watch) => panic!("it is faster than this test: {:?}", result.map(|_| ())),
        () = begun.notified() => {}
    }
    connection.close().await;
    drop(connection);
    let connection = sshd.connect().await.unwrap();
    let deployment = deploy(&connection, &options, &()).await.unwrap();
    let versions = Path::new(&deployment.installed.root).join("versions");
    let names: Vec<_> =
        fs::read_dir(versions).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [deployment.programs.directory_name.as_str()]);
    connection.close().await;
}

#[tokio::test]
async fn a_forced_command_is_named() {
    let (_programs, _home, options) = options(false);
    let sshd = Sshd::with_lines(&["ForceCommand echo This account only counts bees"]);
    let connection = sshd.connect().await.unwrap();
    let error = deploy(&connection, &options, &()).await.unwrap_err();
    assert!(matches!(error, DeployError::NoShell { .. }), "{error}");
    assert!(error.to_string().contains("only counts bees"), "{error}");
    connection.close().await;
}
