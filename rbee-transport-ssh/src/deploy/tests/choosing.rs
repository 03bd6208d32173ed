//! Programs that fit a machine.

use std::fs;

use super::{TestPrograms, local::LocalExec};
use crate::deploy::{
    Architecture, DeployError, Gpu, Libc, LibcVersion, MachineFacts, Programs, deploy, probe,
};

async fn facts() -> MachineFacts {
    let home = tempfile::tempdir().unwrap();
    probe(&LocalExec::new(home.path()), None, &()).await.unwrap()
}

/// `/bin/true` for 64-bit ARM.
fn aarch64() -> Vec<u8> {
    let mut bytes = fs::read("/bin/true").unwrap();
    bytes[18..20].copy_from_slice(&183_u16.to_le_bytes());
    bytes
}

/// A static program for this machine: it has a header and no parts.
fn static_program() -> Vec<u8> {
    let mut bytes = fs::read("/bin/true").unwrap();
    bytes[56..58].copy_from_slice(&[0, 0]);
    bytes
}

fn gpu() -> Gpu {
    Gpu { name: "NVIDIA RTX 4090".into(), driver: "570.1".into(), memory: None }
}

fn no_programs(
    result: Result<impl std::fmt::Debug, DeployError>,
) -> (Vec<(String, String)>, String) {
    let error = result.unwrap_err();
    let DeployError::NoPrograms(none) = &error else { panic!("{error}") };
    let searched = none.searched.iter();
    let searched = searched.map(|(path, reason)| (path.display().to_string(), reason.clone()));
    (searched.collect(), error.to_string())
}

#[tokio::test]
async fn programs_for_another_processor_are_refused_before_anything_is_sent() {
    let (home, programs) = (tempfile::tempdir().unwrap(), TestPrograms::new());
    programs.put("rbee-hive", &aarch64());
    let exec = LocalExec::new(home.path());
    let error = deploy(&exec, &programs.options(), &()).await.unwrap_err();
    assert_eq!(exec.sessions(), 1);
    assert!(super::names(home.path()).is_empty());
    let (searched, text) = no_programs(Err::<(), _>(error));
    let path = programs.path("rbee-hive").display().to_string();
    let arch = std::env::consts::ARCH;
    assert_eq!(searched, [(path, format!("it is for aarch64, and the machine is {arch}"))]);
    let put_in = programs.path(&format!("{arch}-unknown-linux-gnu"));
    assert!(
        text.contains(&format!(
            "Put rbee-hive and llm-worker-rbee for it into {}",
            put_in.display()
        )),
        "{text}"
    );
}

#[tokio::test]
async fn the_directory_of_a_processor_is_used_for_a_machine_that_has_it() {
    let programs = TestPrograms::new();
    let mut arm = facts().await;
    arm.architecture = Architecture::Aarch64;
    let (searched, _) = no_programs(programs.programs().choose(&arm));
    assert_eq!(searched.len(), 2, "both programs are for another processor");
    programs.put("aarch64-unknown-linux-gnu/rbee-hive", &aarch64());
    let (searched, _) = no_programs(programs.programs().choose(&arm));
    let missing = programs.path("aarch64-unknown-linux-gnu/llm-worker-rbee").display().to_string();
    assert!(searched.contains(&(missing, "this file is missing".into())), "{searched:?}");
    programs.put("aarch64-unknown-linux-gnu/llm-worker-rbee", &aarch64());
    let set = programs.programs().choose(&arm).unwrap();
    assert_eq!(set.directory, programs.path("aarch64-unknown-linux-gnu"));
    assert_eq!(set.refused.len(), 2);
    // Other directories are not for this processor, whatever is in them.
    fs::rename(programs.path("aarch64-unknown-linux-gnu"), programs.path("riscv64-x")).unwrap();
    no_programs(programs.programs().choose(&arm));
}

#[tokio::test]
async fn a_c_library_that_is_too_old_or_missing_is_named_and_a_static_program_needs_none() {
    let programs = TestPrograms::new();
    let mut old = facts().await;
    old.libc = Some(Libc::Glibc(LibcVersion { major: 2, minor: 2 }));
    let (searched, _) = no_programs(programs.programs().choose(&old));
    assert!(searched[0].1.contains("and the machine has 2.2"), "{searched:?}");

    programs.patch("rbee-hive", b"GLIBC_2.34\0", b"GLIBC_2.99\0");
    let (searched, _) = no_programs(programs.programs().choose(&facts().await));
    assert!(searched[0].1.contains("it needs glibc 2.99"), "{searched:?}");

    let mut musl = facts().await;
    musl.libc = Some(Libc::Musl(LibcVersion { major: 1, minor: 2 }));
    musl.interpreters = vec!["/lib/ld-musl-x86_64.so.1".into()];
    let (searched, text) = no_programs(programs.programs().choose(&musl));
    assert!(searched[0].1.contains("which is not on the machine"), "{searched:?}");
    assert!(text.contains("with musl 1.2"), "{text}");
    for name in ["rbee-hive", "llm-worker-rbee"] {
        programs.put(name, &static_program());
    }
    for facts in [&old, &musl] {
        assert!(
            programs
                .programs()
                .choose(facts)
                .unwrap()
                .files
                .iter()
                .all(|file| file.elf.is_static())
        );
    }
    let mut other = facts().await;
    other.os = "Darwin".into();
    let (searched, _) = no_programs(programs.programs().choose(&other));
    assert!(searched[0].1.contains("the machine runs Darwin"), "{searched:?}");
}

#[tokio::test]
async fn programs_for_cuda_are_used_only_if_the_machine_has_a_gpu_and_their_libraries() {
    let programs = TestPrograms::new();
    let arch = std::env::consts::ARCH;
    let cuda = format!("{arch}-cuda");
    for name in ["rbee-hive", "llm-worker-rbee"] {
        programs.put(&format!("{cuda}/{name}"), &fs::read(programs.path(name)).unwrap());
    }
    // As long as the name of a library that the program needs.
    programs.patch(&format!("{cuda}/llm-worker-rbee"), b"libc.so.6\0", b"libcuda.1\0");
    let mut facts = facts().await;
    let directory = |facts: &MachineFacts| programs.programs().choose(facts).unwrap().directory;
    facts.cuda_libraries = Some(["libcuda.1".to_owned()].into());
    assert_eq!(directory(&facts), programs.directory.path(), "it has no GPU");
    facts.gpus = vec![gpu()];
    assert_eq!(directory(&facts), programs.path(&cuda));
    assert!(programs.programs().choose(&facts).unwrap().needs_cuda());
    facts.cuda_libraries = Some([].into());
    let set = programs.programs().choose(&facts).unwrap();
    assert_eq!(set.directory, programs.directory.path(), "the library is missing");
    assert!(set.refused[0].1.contains("it needs libcuda.1"), "{:?}", set.refused);
    facts.cuda_libraries = None;
    assert_eq!(directory(&facts), programs.path(&cuda), "the test run will tell");
}

#[tokio::test]
async fn static_programs_are_preferred_and_otherwise_the_order_of_the_directories_counts() {
    let (first, second) = (TestPrograms::new(), TestPrograms::new());
    let facts = facts().await;
    let programs = || Programs::new("1").without_defaults().with_directory(second.directory.path());
    assert_eq!(programs().choose(&facts).unwrap().directory, second.directory.path());
    let both = || programs().with_path(first.directory.path());
    assert_eq!(both().choose(&facts).unwrap().directory, first.directory.path());
    let of_file = programs().with_path(first.path("rbee-hive"));
    assert_eq!(of_file.choose(&facts).unwrap().directory, first.directory.path());
    let below = format!("{}-static", std::env::consts::ARCH);
    for name in ["rbee-hive", "llm-worker-rbee"] {
        first.put(&format!("{below}/{name}"), &static_program());
    }
    assert_eq!(both().choose(&facts).unwrap().directory, first.path(&below));
    fs::remove_file(first.path("llm-worker-rbee")).unwrap();
    fs::remove_dir_all(first.path(&below)).unwrap();
    let set = both().choose(&facts).unwrap();
    assert_eq!(set.directory, second.directory.path());
    assert_eq!(set.refused, [(first.path("llm-worker-rbee"), "this file is missing".into())]);
}

#[tokio::test]
async fn every_directory_that_was_searched_is_named_if_there_are_no_programs() {
    let (first, second) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(second.path().join("rbee-hive"), "#!/bin/sh\n").unwrap();
    let programs = Programs::new("1").without_defaults();
    let programs = programs.with_path(first.path()).with_directory(second.path());
    let (searched, text) = no_programs(programs.choose(&facts().await));
    let script = second.path().join("rbee-hive").display().to_string();
    let empty = first.path().display().to_string();
    assert_eq!(
        searched,
        [
            (script, "it is no program in the ELF format".into()),
            (empty.clone(), "no rbee-hive and no llm-worker-rbee there".into()),
        ]
    );
    assert!(text.contains(&empty) && text.contains("Linux on "), "{text}");
}

#[tokio::test]
async fn a_setting_that_names_nothing_usable_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("other"), "").unwrap();
    for (name, reason) in [("missing", "No such file"), ("other", "rbee-hive or llm-worker-rbee")] {
        let path = directory.path().join(name);
        let error = Programs::new("1").with_path(&path).choose(&facts().await).unwrap_err();
        assert!(matches!(error, DeployError::Setting { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains(reason) && text.contains(path.to_str().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn the_name_of_the_directory_follows_from_the_version_and_the_files() {
    let (a, b) = (TestPrograms::new(), TestPrograms::new());
    let facts = facts().await;
    let name = |programs: &Programs| programs.choose(&facts).unwrap().directory_name;
    let shared = a.programs();
    assert_eq!(name(&shared), name(&b.programs()));
    let other = Programs::new("0.2.0").without_defaults().with_path(a.directory.path());
    assert!(name(&other).starts_with("0.2.0-"));
    let before = name(&shared);
    a.put("rbee-hive", &fs::read("/bin/date").unwrap());
    assert_ne!(name(&shared), before, "a changed file is read again");
}
