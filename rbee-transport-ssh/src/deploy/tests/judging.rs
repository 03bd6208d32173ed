//! What the doctor says about a machine.

use super::{TestPrograms, local::LocalExec};
use crate::deploy::{
    Finding, Gpu, Libc, LibcVersion, MachineFacts, PlaceKind, ProgramSet, Verdict, findings, probe,
};

async fn machine() -> (MachineFacts, ProgramSet, TestPrograms) {
    let (home, programs) = (tempfile::tempdir().unwrap(), TestPrograms::new());
    let facts = probe(&LocalExec::new(home.path()), None, &()).await.unwrap();
    let set = programs.programs().choose(&facts).unwrap();
    (facts, set, programs)
}

fn finding(facts: &MachineFacts, set: &ProgramSet, what: &str) -> Finding {
    findings(facts, Ok(set)).into_iter().find(|finding| finding.what == what).unwrap()
}

#[tokio::test]
async fn a_machine_without_problems_has_findings_without_fixes() {
    let (mut facts, set, _programs) = machine().await;
    facts.memory = Some(8 << 30);
    facts.kill_user_processes = Some(false);
    for place in &mut facts.places {
        place.path = format!("/home/ann/{}", place.path.rsplit('/').next().unwrap());
    }
    let found = findings(&facts, Ok(&set));
    for finding in &found {
        assert_eq!((finding.verdict, &finding.fix), (Verdict::Ok, &None), "{finding}");
    }
    let what: Vec<&str> = found.iter().map(|finding| finding.what).collect();
    assert_eq!(what, ["system", "C library", "programs", "memory", "directory", "GPU", "logout"]);
}

#[tokio::test]
async fn every_problem_has_a_fix() {
    let (facts, set, programs) = machine().await;
    let judged = |change: &dyn Fn(&mut MachineFacts), what, verdict, fix: &str| {
        let mut facts = facts.clone();
        change(&mut facts);
        let finding = finding(&facts, &set, what);
        assert_eq!(finding.verdict, verdict, "{finding}");
        assert!(finding.fix.as_deref().is_some_and(|text| text.contains(fix)), "{finding}");
        assert!(finding.to_string().contains(fix));
    };
    use Verdict::{Error, Warning};
    judged(&|facts| facts.os = "Darwin".into(), "system", Error, "Linux");
    judged(&|facts| facts.libc = None, "C library", Warning, "static");
    let musl = Libc::Musl(LibcVersion { major: 1, minor: 2 });
    judged(&|facts| facts.libc = Some(musl), "C library", Warning, "crt-static");
    judged(&|facts| facts.memory = Some(1 << 30), "memory", Warning, "add memory");
    let full = |facts: &mut MachineFacts| {
        facts.places.iter_mut().for_each(|place| place.free_bytes = Some(1 << 20));
    };
    judged(&full, "directory", Error, "make room");
    let second = |facts: &mut MachineFacts| facts.places[0].refused = Some("it is on fire".into());
    judged(&second, "directory", Warning, "but it is on fire");
    let shm = |facts: &mut MachineFacts| facts.places.retain(|place| place.kind == PlaceKind::Shm);
    judged(&shm, "directory", Warning, "when the machine restarts");
    let long = |facts: &mut MachineFacts| facts.places[0].path = format!("/{}", "x".repeat(90));
    judged(&long, "path", Warning, "at most 60 bytes");
    let gpu = Gpu { name: "RTX".into(), driver: "570".into(), memory: Some(24 << 30) };
    let cuda = programs.path(&format!("{}-cuda", std::env::consts::ARCH)).display().to_string();
    judged(&|facts| facts.gpus = vec![gpu.clone(); 2], "GPU", Warning, &cuda);
    judged(&|facts| facts.gpu_error = Some("failed".into()), "GPU", Warning, "repair the driver");
    judged(
        &|facts| facts.gpu_devices = vec!["/dev/nvidia0".into()],
        "GPU",
        Warning,
        "install nvidia-smi",
    );
    judged(
        &|facts| facts.closed_gpu_devices = vec!["/dev/kfd".into()],
        "GPU",
        Warning,
        "the group that owns it",
    );
    let kills = |facts: &mut MachineFacts| {
        facts.user = Some("ann".into());
        (facts.kill_user_processes, facts.lingering) = (Some(true), Some(false));
    };
    judged(&kills, "logout", Warning, "loginctl enable-linger ann");
}

#[tokio::test]
async fn missing_programs_are_a_finding_and_the_others_are_judged_all_the_same() {
    let (facts, _, programs) = machine().await;
    std::fs::remove_file(programs.path("rbee-hive")).unwrap();
    let error = programs.programs().choose(&facts).unwrap_err();
    let found = findings(&facts, Err(&error));
    let broken: Vec<_> = found.iter().filter(|finding| finding.verdict == Verdict::Error).collect();
    assert_eq!(broken.len(), 1, "{broken:?}");
    assert_eq!(broken[0].what, "programs");
    assert!(broken[0].value.contains("this file is missing"), "{}", broken[0]);
    assert!(found.len() >= 6);
}

#[tokio::test]
async fn a_lingering_user_and_a_gpu_that_is_used_need_no_fix() {
    let (mut facts, mut set, _programs) = machine().await;
    (facts.kill_user_processes, facts.lingering) = (Some(true), Some(true));
    assert_eq!(finding(&facts, &set, "logout").fix, None);
    facts.gpus = vec![Gpu { name: "RTX".into(), driver: "570".into(), memory: Some(24 << 30) }; 2];
    set.files[0].elf.libraries.push("libcuda.so.1".into());
    let gpu = finding(&facts, &set, "GPU");
    assert_eq!((gpu.value.as_str(), gpu.fix), ("2 × RTX, 24 GiB, driver 570", None));
    set.files[0].elf.libraries.pop();
    set.refused
        .push(("/x/llm-worker-rbee".into(), "it needs libcublas.so.12, which is not there".into()));
    let fix = finding(&facts, &set, "GPU").fix.unwrap();
    assert!(fix.contains("/x/llm-worker-rbee cannot be used: it needs libcublas.so.12"), "{fix}");
}
