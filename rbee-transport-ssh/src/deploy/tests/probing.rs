//! Looking at a machine.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use super::{TestPrograms, local::LocalExec, mounts::Mounts, names, place};
use crate::deploy::{
    Architecture, DeployError, DeployEvent, DeployStep, Libc, PlaceKind, deploy, probe,
};

/// A file that can be used as a login shell.
fn shell(directory: &Path, text: &str) -> std::path::PathBuf {
    let path = directory.join("shell");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn the_facts_are_those_of_this_system_and_nothing_is_left_on_it() {
    let home = tempfile::tempdir().unwrap();
    let exec = LocalExec::new(home.path());
    let events = std::sync::Mutex::new(Vec::new());
    let record = |event: &DeployEvent| events.lock().unwrap().push(event.clone());
    let facts = probe(&exec, None, &record).await.unwrap();
    assert_eq!(exec.sessions(), 1);
    assert_eq!(facts.os, "Linux");
    assert_eq!(facts.architecture.name(), std::env::consts::ARCH);
    assert_eq!(facts.home.as_deref(), home.path().to_str());
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap();
    let kib = meminfo.lines().next().unwrap().split_ascii_whitespace().nth(1).unwrap();
    assert_eq!(facts.memory, Some(kib.parse::<u64>().unwrap() * 1024));
    let cpus = std::thread::available_parallelism().unwrap().get();
    assert!(facts.cpus.is_some_and(|found| found as usize >= cpus));
    let interpreter = crate::deploy::Elf::read(Path::new("/bin/true")).unwrap().interpreter;
    assert!(interpreter.is_none_or(|interpreter| facts.interpreters.contains(&interpreter)));
    assert!(matches!(facts.libc, Some(Libc::Glibc(version)) if version.major == 2), "{facts}");
    let data = place(&facts, PlaceKind::Data);
    assert_eq!(Path::new(&data.path), home.path().join(".local/share/rbee"));
    assert_eq!(data.can_take(1 << 20), Ok(()));
    assert!(data.can_take(u64::MAX).unwrap_err().contains("are needed"));
    assert_eq!(names(home.path()), [""; 0]);
    let events = events.into_inner().unwrap();
    let [started, DeployEvent::Finished { step, detail, .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(started, &DeployEvent::Started { step: DeployStep::Probe });
    assert_eq!((*step, detail), (DeployStep::Probe, &facts.to_string()));
}

#[tokio::test]
async fn a_command_other_than_sh_is_named_with_what_it_printed() {
    let home = tempfile::tempdir().unwrap();
    let mut exec = LocalExec::new(home.path());
    for (text, output, status) in [
        ("echo This account is not available.; exit 1", "This account is not available.", Some(1)),
        ("cat", "} </dev/null", Some(0)),
        ("head -c 3 >/dev/null; kill -9 $$", "", None),
        ("exit 0", "", Some(0)),
    ] {
        exec.shell = shell(home.path(), text);
        let error = probe(&exec, None, &()).await.unwrap_err();
        let DeployError::NoShell { end, printed: shown, .. } = &error else { panic!("{error}") };
        assert_eq!(end.status, status, "{text}");
        assert!(shown.contains(output), "{text}: {shown}");
        assert!(shown.len() <= 400 && error.to_string().contains("login shell"), "{error}");
        assert!(!error.is_transient());
    }
}

#[tokio::test]
async fn a_shell_that_dies_in_the_middle_is_named_with_how_far_it_came() {
    let home = tempfile::tempdir().unwrap();
    let mut exec = LocalExec::new(home.path());
    exec.shell = shell(home.path(), "sh | head -n 3");
    let error = probe(&exec, None, &()).await.unwrap_err();
    assert!(matches!(error, DeployError::Answer { .. }), "{error}");
    assert!(error.to_string().contains("ended early, after \"os\", with exit status 0"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_never_answers_is_given_up() {
    let home = tempfile::tempdir().unwrap();
    let mut exec = LocalExec::new(home.path());
    exec.shell = shell(home.path(), "exec sleep 1000");
    let error = probe(&exec, None, &()).await.unwrap_err();
    assert!(matches!(error, DeployError::TimedOut { .. }) && error.is_transient(), "{error}");
}

#[tokio::test]
async fn file_systems_that_run_nothing_or_are_read_only_or_full_are_passed_over() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    for below in ["noexec", "read-only", "full", "few"] {
        fs::create_dir(home.join(below)).unwrap();
    }
    let mounts = Mounts::new(
        home,
        "mount -t tmpfs -o size=1m,noexec noexec $1/noexec; mount -t tmpfs -o size=1m,ro ro $1/read-only; \
         mount -t tmpfs -o size=64k full $1/full; mount -t tmpfs -o size=64m,nr_inodes=5 few $1/few",
    );
    let programs = TestPrograms::new();
    for (below, reason) in [
        ("noexec", "noexec"),
        ("read-only", "Read-only file system"),
        ("full", "64 KiB are free"),
        ("few", "more files can be created"),
    ] {
        let mut exec = LocalExec::new(home);
        exec.prefix = mounts.enter();
        let given = home.join(below).join("rbee").display().to_string();
        let mut options = programs.options();
        options.directory = Some(given.clone());
        let error = deploy(&exec, &options, &()).await.unwrap_err();
        let DeployError::NoPlace(no_place) = &error else { panic!("{error}") };
        assert_eq!(no_place.places.len(), 1);
        assert_eq!(no_place.places[0].0, given);
        assert!(no_place.places[0].1.contains(reason), "{error}");
        assert_eq!(exec.sessions(), 1, "nothing was sent");
        assert_eq!(mounts.run(home, &format!("ls -A $1/{below}")), "");

        // With such a directory for data, the next one is used.
        exec.variables = vec![("XDG_DATA_HOME", home.join(below).display().to_string())];
        let deployment = deploy(&exec, &programs.options(), &()).await.unwrap();
        let cache = home.join(".cache/rbee");
        assert_eq!(Path::new(&deployment.installed.root), cache, "{below}");
        fs::remove_dir_all(home.join(".cache")).unwrap();
    }
}

#[tokio::test]
async fn a_deployment_stays_where_it_is_when_a_better_directory_can_be_used() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join(".local"), "not a directory").unwrap();
    let exec = LocalExec::new(home.path());
    let programs = TestPrograms::new();
    let first = deploy(&exec, &programs.options(), &()).await.unwrap();
    let why = place(&first.facts, PlaceKind::Data).can_take(1).unwrap_err();
    assert!(why.contains(".local is not a directory"), "{why}");
    assert_eq!(Path::new(&first.installed.root), home.path().join(".cache/rbee"));
    fs::remove_file(home.path().join(".local")).unwrap();
    let second = deploy(&exec, &programs.options(), &()).await.unwrap();
    assert_eq!(second.installed.directory, first.installed.directory);
    assert_eq!(second.installed.sent_bytes, 0);
    assert_eq!(place(&second.facts, PlaceKind::Data).can_take(1), Ok(()));
}

#[tokio::test]
async fn a_missing_home_is_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let mut exec = LocalExec::new(directory.path());
    exec.variables.push(("HOME", "/nonexistent".into()));
    let facts = probe(&exec, None, &()).await.unwrap();
    for kind in [PlaceKind::Data, PlaceKind::Cache] {
        let why = place(&facts, kind).can_take(1).unwrap_err();
        assert!(why.contains("home directory /nonexistent does not exist"), "{why}");
    }
    assert!(!Path::new("/nonexistent").exists());
}

#[tokio::test]
async fn a_directory_that_others_can_change_or_that_is_no_path_is_refused() {
    let home = tempfile::tempdir().unwrap();
    let exec = LocalExec::new(home.path());
    let open = home.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let facts = probe(&exec, Some("~/open/"), &()).await.unwrap();
    let given = &facts.places[..];
    assert_eq!((given.len(), given[0].kind), (1, PlaceKind::Given));
    assert_eq!(Path::new(&given[0].path), open);
    assert!(given[0].can_take(1).unwrap_err().contains("drwxrwxrwx"));
    fs::set_permissions(&open, fs::Permissions::from_mode(0o755)).unwrap();
    let facts = probe(&exec, Some("~/open"), &()).await.unwrap();
    assert_eq!(facts.places[0].can_take(1), Ok(()));
    exec.sessions();
    for wrong in ["relative", "", "/", "~", "~/", "/a/../b", "/a\nb", "~bee/x"] {
        let error = probe(&exec, Some(wrong), &()).await.unwrap_err();
        assert!(matches!(error, DeployError::Setting { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{wrong:?}")), "{error}");
    }
    assert_eq!(exec.sessions(), 0);
}

#[tokio::test]
async fn the_gpus_libraries_and_session_settings_are_read_from_the_tools_of_the_machine() {
    let home = tempfile::tempdir().unwrap();
    let bin = home.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let tool =
        |name: &str, text: &str| fs::rename(shell(home.path(), text), bin.join(name)).unwrap();
    tool(
        "nvidia-smi",
        "echo '570.1, 24564, NVIDIA RTX 4090'; echo '570.1, 24564, NVIDIA RTX 4090'",
    );
    tool(
        "ldconfig",
        "printf '2 libs found\\n\\tlibcuda.so.1 (libc6,x86-64) => /x\\n\\tlibcurl.so.4 (libc6) => /y\\n'",
    );
    tool(
        "loginctl",
        "case $1 in show-user) echo Linger=no ;; *) echo KillUserProcesses=yes ;; esac",
    );
    tool("uname", "case $1 in -m) echo aarch64 ;; *) exec /bin/uname \"$@\" ;; esac");
    let mut exec = LocalExec::new(home.path());
    exec.path = format!("{}:/usr/bin:/bin", bin.display());
    let facts = probe(&exec, None, &()).await.unwrap();
    assert_eq!(facts.architecture, Architecture::Aarch64);
    assert_eq!(facts.gpus.len(), 2);
    assert_eq!(facts.gpus[1].name, "NVIDIA RTX 4090");
    assert_eq!(facts.gpus[1].memory, Some(24_564 << 20));
    assert_eq!(facts.cuda_libraries, Some(["libcuda.so.1".to_owned()].into()));
    assert_eq!((facts.kill_user_processes, facts.lingering), (Some(true), Some(false)));
    fs::write(bin.join("libcublas.so.12"), "").unwrap();
    exec.variables.push(("LD_LIBRARY_PATH", format!("/nonexistent:{}", bin.display())));
    let facts = probe(&exec, None, &()).await.unwrap();
    assert!(facts.cuda_libraries.unwrap().contains("libcublas.so.12"));
    tool("nvidia-smi", "echo 'NVIDIA-SMI has failed.'; echo 'Is the driver loaded?'; exit 9");
    let facts = probe(&exec, None, &()).await.unwrap();
    assert!(!facts.has_nvidia());
    assert_eq!(facts.gpu_error.as_deref(), Some("NVIDIA-SMI has failed. Is the driver loaded?"));
}

#[tokio::test]
async fn the_device_files_of_gpus_are_found() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path();
    fs::create_dir(home.join("dev")).unwrap();
    let mounts = Mounts::new(
        home,
        "mount -t tmpfs dev $1/dev; touch $1/dev/null $1/dev/nvidia0 $1/dev/nvidia-uvm $1/dev/nvidia1 $1/dev/kfd; \
         mount --bind /dev/null $1/dev/null; mount --rbind $1/dev /dev",
    );
    let mut exec = LocalExec::new(home);
    exec.prefix = mounts.enter();
    let facts = probe(&exec, None, &()).await.unwrap();
    assert_eq!(facts.gpu_devices, ["/dev/nvidia0", "/dev/nvidia1", "/dev/kfd"]);
    assert!(facts.closed_gpu_devices.is_empty());
    // `/dev/shm` is not there.
    assert!(facts.places.iter().all(|place| place.kind != PlaceKind::Shm));
}
