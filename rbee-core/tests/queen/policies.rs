//! Changes of a queen's policy: which one is active, also after a restart, and what a change does not affect.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{Receiver, sync_channel},
    },
    time::Duration,
};

use crate::queen_support::{EchoFactory, echo, hive, queen, quiet, read, request};
use rbee_core::{
    Ask, ClusterView, Error, ErrorKind, FnScheduler, MemoryRegistry, ModelRef, Placement, Queen,
    QueenBuilder, Result, RhaiScheduler, Scheduler, Settings,
    queen::{LoadRequest, PolicyStatus},
    registry::{Change, GuardedRegistry, PolicyOrigin},
    scheduler::{PolicyLanguage, PolicySource, SchedulerInfo},
    worker::EchoGate,
};
use tokio::sync::Semaphore;

fn script(words: &str) -> PolicySource {
    let text = format!("// {words}\nfn schedule(job, workers, hives) {{ builtin() }}\n");
    PolicySource { language: PolicyLanguage::Rhai, text: text.into() }
}

fn own(words: &str) -> RhaiScheduler {
    RhaiScheduler::from_source(script(words)).unwrap()
}

fn native() -> impl Scheduler {
    FnScheduler::new("native", |_: &Ask, _: &ClusterView| Ok(Placement::Wait))
}

/// A queen on this store, as after a restart.
async fn life(store: &MemoryRegistry, with: impl FnOnce(QueenBuilder) -> QueenBuilder) -> Queen {
    with(queen().id("q".parse().unwrap()).registry(store.clone())).build().await.unwrap()
}

fn told(status: &PolicyStatus) -> (&str, &str, Option<u64>) {
    (&status.name, &status.description, status.version)
}

#[tokio::test]
async fn a_scheduler_that_is_compiled_in_is_in_force_whatever_was_recorded_before() {
    let store = MemoryRegistry::new();
    let first = life(&store, |queen| queen).await;
    first.policy().set(script("Set."), PolicyOrigin::Operator).await.unwrap();
    let second = life(&store, |queen| queen.scheduler(native())).await;
    let status = second.policy().status();
    assert_eq!((status.name.as_str(), status.version), ("native", None));
    let third = life(&store, |queen| queen).await;
    assert_eq!(
        told(&third.policy().status()),
        ("rhai", "Set.", Some(1)),
        "who brings none has it back"
    );
}

#[tokio::test]
async fn a_text_that_the_application_no_longer_brings_is_no_longer_in_force() {
    let store = MemoryRegistry::new();
    let first = life(&store, |queen| queen.scheduler(own("Own."))).await;
    assert_eq!(told(&first.policy().status()), ("rhai", "Own.", Some(1)));
    let again = life(&store, |queen| queen.scheduler(own("Own."))).await;
    assert_eq!(told(&again.policy().status()), ("rhai", "Own.", Some(1)), "it is recorded once");
    let without = life(&store, |queen| queen).await;
    let status = without.policy().status();
    assert_eq!((status.name.as_str(), status.version), ("least-loaded", None));
}

#[tokio::test]
async fn what_an_operator_set_stays_until_the_application_brings_a_new_text() {
    let store = MemoryRegistry::new();
    let first = life(&store, |queen| queen.scheduler(own("Own."))).await;
    first.policy().set(script("Set."), PolicyOrigin::Operator).await.unwrap();
    let second = life(&store, |queen| queen.scheduler(own("Own."))).await;
    assert_eq!(told(&second.policy().status()), ("rhai", "Set.", Some(2)));
    let third = life(&store, |queen| queen.scheduler(own("New."))).await;
    assert_eq!(told(&third.policy().status()), ("rhai", "New.", Some(3)));
}

#[tokio::test]
async fn a_reset_leads_back_to_what_the_application_brings_and_holds_after_a_restart() {
    for has_own in [false, true] {
        let store = MemoryRegistry::new();
        let build = |queen: QueenBuilder| match has_own {
            true => queen.scheduler(own("Own.")),
            false => queen,
        };
        let first = life(&store, build).await;
        let before = first.policy().status();
        let set = first.policy().set(script("Set."), PolicyOrigin::Operator).await.unwrap();
        assert_eq!(told(&set).1, "Set.");
        let reset = first.policy().reset().await.unwrap();
        assert_eq!((&reset.name, &reset.source), (&before.name, &before.source));
        let version = set.version.map(|version| version + 1);
        assert_eq!(reset.version, version);
        let recorded = first.policy().version(version.unwrap()).await.unwrap();
        assert_eq!((recorded.origin, &*recorded.source.text), (PolicyOrigin::Reset, ""));

        let second = life(&store, build).await;
        let after = second.policy().status();
        assert_eq!((&after.source, after.version), (&before.source, version));
        second.policy().set(script("Set."), PolicyOrigin::Operator).await.unwrap();
        let back = second.policy().roll_back(version.unwrap()).await.unwrap();
        assert_eq!(back.source, before.source, "a reset can be gone back to");
    }
    let fixed = queen().fixed_policy().build().await.unwrap();
    assert_eq!(fixed.policy().reset().await.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[tokio::test]
async fn a_version_is_shown_and_put_back_by_its_number() {
    let queen = queen().build().await.unwrap();
    for words in ["First.", "Second."] {
        queen.policy().set(script(words), PolicyOrigin::Operator).await.unwrap();
    }
    assert_eq!(queen.policy().version(1).await.unwrap().source, script("First."));
    let back = queen.policy().roll_back(1).await.unwrap();
    assert_eq!(told(&back), ("rhai", "First.", Some(3)));
    for error in [
        queen.policy().version(9).await.unwrap_err(),
        queen.policy().roll_back(9).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.message().contains("version 9"), "{error}");
    }
}

/// A queen whose store delays a change of the policy; the caller of the change has gone. A permit releases one record.
async fn left_while_it_is_recorded() -> (Queen, Arc<Semaphore>) {
    let (begun, go) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
    let (at_guard, pass) = (begun.clone(), go.clone());
    let store = GuardedRegistry::new(move |changes| {
        let is_held = matches!(changes, [Change::PolicyPut(_)]);
        let (begun, go) = (at_guard.clone(), pass.clone());
        Box::pin(async move {
            if is_held {
                begun.add_permits(1);
                go.acquire().await.unwrap().forget();
            }
            Ok(())
        })
    });
    let queen = queen().registry(store).build().await.unwrap();
    let mut change = Box::pin(queen.policy().set(script("Set."), PolicyOrigin::Operator));
    tokio::select! {
        _ = &mut change => panic!("the store waits"),
        permit = begun.acquire() => permit.unwrap().forget(),
    }
    drop(change);
    (queen, go)
}

#[tokio::test]
async fn a_change_whose_caller_goes_away_while_it_is_recorded_comes_into_force_all_the_same() {
    let (queen, go) = left_while_it_is_recorded().await;
    assert_eq!(queen.policy().status().version, None);
    go.add_permits(2);
    // The next change waits for this one.
    let next = queen.policy().set(script("Next."), PolicyOrigin::Operator).await.unwrap();
    assert_eq!(next.version, Some(2));
    let versions: Vec<u64> =
        queen.policy().versions().await.unwrap().iter().map(|version| version.version).collect();
    assert_eq!(versions, [1, 2]);
}

#[tokio::test]
async fn a_change_is_in_force_once_it_is_recorded_though_nobody_waits_for_it() {
    let (queen, go) = left_while_it_is_recorded().await;
    go.add_permits(1);
    until(|| queen.policy().status().version == Some(1)).await;
    assert_eq!(queen.policy().status().description, "Set.");
}

async fn until(holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it comes to be");
}

#[tokio::test]
async fn two_changes_at_once_come_into_force_one_after_the_other() {
    let queen = queen().build().await.unwrap();
    let (a, b) = tokio::join!(
        queen.policy().set(script("A."), PolicyOrigin::Operator),
        queen.policy().set(script("B."), PolicyOrigin::Operator),
    );
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((told(&a), told(&b)), (("rhai", "A.", Some(1)), ("rhai", "B.", Some(2))));
    assert_eq!(told(&queen.policy().status()), ("rhai", "B.", Some(2)));
    assert_eq!(queen.policy().versions().await.unwrap().len(), 2);
}

/// Fails every question once it is released.
#[derive(Debug)]
struct Held {
    asked: Arc<AtomicUsize>,
    gate: Mutex<Receiver<()>>,
}

impl Scheduler for Held {
    fn place(&self, _: &Ask, _: &ClusterView) -> Result<Placement> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _ = self.gate.lock().unwrap().recv();
        Err(Error::new(ErrorKind::Internal, "the old one fails"))
    }
    fn info(&self) -> SchedulerInfo {
        SchedulerInfo::of::<Self>().with_limit(Duration::from_secs(60))
    }
}

#[tokio::test]
async fn faults_of_a_policy_that_was_replaced_are_not_held_against_the_new_one() {
    let (go, gate) = sync_channel(1);
    let asked = Arc::new(AtomicUsize::new(0));
    let held = Held { asked: asked.clone(), gate: Mutex::new(gate) };
    let queen = queen().scheduler(held).worker(echo().build()).build().await.unwrap();
    let job = queen.submit(request(1, 1)).await.unwrap();
    until(|| asked.load(Ordering::SeqCst) == 1).await;
    queen.policy().set(script("New."), PolicyOrigin::Operator).await.unwrap();
    go.send(()).unwrap();
    read(job).await.assert_whole(1, 1);
    quiet(&queen).await;
    let health = queen.policy().status().health;
    assert_eq!((health.faults, health.is_suspended), (0, false));
}

#[tokio::test]
async fn a_new_policy_is_asked_at_once_about_what_the_old_one_let_wait() {
    // Nothing else would wake them.
    let settings =
        Settings { autoscale_interval: Duration::from_secs(3600), ..Settings::default() };
    let queen = queen().settings(settings).scheduler(native()).worker(echo().build());
    let queen = queen.build().await.unwrap();
    let jobs =
        [queen.submit(request(1, 1)).await.unwrap(), queen.submit(request(2, 1)).await.unwrap()];
    queen.policy().set(script("New."), PolicyOrigin::Operator).await.unwrap();
    for (job, seed) in jobs.into_iter().zip([1, 2]) {
        let seen = tokio::time::timeout(Duration::from_secs(60), read(job)).await;
        seen.expect("it is asked about again").assert_whole(seed, 1);
    }
}

fn tiny() -> ModelRef {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/models/bee-tiny");
    format!("file:{}", path.canonicalize().unwrap().display()).parse().unwrap()
}

#[tokio::test]
async fn a_model_is_loaded_though_the_policy_fails_or_would_wait() {
    let fails = || {
        FnScheduler::new("fails", |_: &Ask, _: &ClusterView| {
            Err(Error::new(ErrorKind::Internal, "line 3"))
        })
    };
    for scheduler in [Arc::new(native()) as Arc<dyn Scheduler>, Arc::new(fails())] {
        let attic = hive("attic").with_factory(EchoFactory::new().0);
        let queen = queen().hive(attic).scheduler(scheduler).build().await.unwrap();
        queen.models().load(LoadRequest::new(tiny())).await.unwrap();
    }
}

#[tokio::test]
async fn a_policy_that_says_no_to_a_load_is_heeded() {
    let scheduler = FnScheduler::new("no", |_: &Ask, _: &ClusterView| {
        Ok(Placement::Reject(Error::new(ErrorKind::Rejected, "not here")))
    });
    let attic = hive("attic").with_factory(EchoFactory::new().0);
    let queen = queen().hive(attic).scheduler(scheduler).build().await.unwrap();
    let error = queen.models().load(LoadRequest::new(tiny())).await.unwrap_err();
    assert_eq!(error.message(), "not here");
}

#[tokio::test]
async fn a_load_reckons_with_the_slots_that_are_wanted_on_the_hive_that_the_policy_chose() {
    // The built-in policy takes the first of two equal machines.
    let scheduler = RhaiScheduler::new(
        "fn schedule(job, workers, hives) { spawn_on(hives.get(\"b\")) ?? wait() }",
    );
    let hives = ["a", "b"].map(|name| hive(name).with_factory(EchoFactory::new().0));
    let [a, b] = hives;
    let scheduler = scheduler.unwrap().with_limit(Duration::from_secs(10));
    let queen = queen().hive(a).hive(b).scheduler(scheduler).build().await.unwrap();
    let load = LoadRequest { slots: Some(16), ..LoadRequest::new(tiny()) };
    let worker = queen.models().load(load.clone()).await.unwrap();
    let cluster = queen.cluster().await.unwrap();
    let expected = queen.models().estimate(&load, None).await.unwrap()[0].expected;
    let fewer = LoadRequest::new(tiny());
    assert!(queen.models().estimate(&fewer, None).await.unwrap()[0].expected < expected);
    let view = cluster.worker(worker).unwrap();
    assert_eq!((view.info.hive.as_str(), view.info.slots), ("b", 16));
    assert_eq!(view.memory_bytes, expected);
    let none = LoadRequest { slots: Some(0), ..fewer };
    assert_eq!(queen.models().load(none).await.unwrap_err().kind(), ErrorKind::InvalidRequest);
}

#[tokio::test]
async fn a_described_job_may_go_by_an_alias() {
    let queen = queen().alias("small", "echo").worker(echo().build()).build().await.unwrap();
    let try_it = |job| queen.policy().check_described(script("Tried."), None, Some(job));
    let trial = try_it("model: small\n").await.unwrap();
    assert_eq!(trial.decisions[0].job.model, "echo".parse().unwrap());
    assert!(matches!(trial.decisions[0].explanation.placement, Ok(Placement::Assign(_))));
}

/// A job that waits long does not keep a policy from being tried on other jobs.
#[tokio::test]
async fn a_policy_is_tried_on_different_jobs() {
    let gate = EchoGate::new();
    let worker = echo().slots(1).gate(&gate).build();
    let settings =
        Settings { autoscale_interval: Duration::from_millis(10), ..Settings::default() };
    let queen = queen().settings(settings).worker(worker.clone()).build().await.unwrap();
    let first = queen.submit(request(1, 1)).await.unwrap();
    worker.until_active(1).await;
    let waits = queen.submit(request(2, 1)).await.unwrap();
    // Far more questions than jobs that a policy is tried on.
    let asked =
        async || queen.policy().why(waits.id()).await.map_or(0, |decisions| decisions.len());
    while asked().await < 40 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let trial = queen.policy().check(script("Tried.")).await.unwrap();
    let recent = trial.decisions.iter().filter(|decision| decision.is_recent);
    let mut jobs: Vec<_> = recent.map(|decision| decision.job.id).collect();
    jobs.sort();
    let mut expected = [first.id(), waits.id()];
    expected.sort();
    assert_eq!(jobs, expected);
    gate.open();
}

/// The next fenced block of a page after these words.
fn block<'a>(page: &'a str, after: &str) -> &'a str {
    let rest = page.split_once(after).unwrap_or_else(|| panic!("{after:?} stands there")).1;
    let block = rest.split_once("```").unwrap().1.split_once("```").unwrap().0;
    block.split_once('\n').unwrap().1
}

#[cfg(feature = "rules")]
#[tokio::test]
async fn the_first_ten_minutes_go_as_the_page_says() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/scheduler.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mine = PolicySource::named("mine.rhai", block(&page, "Save this as `mine.rhai`")).unwrap();
    let fleet = block(&page, "Save this as `fleet.yaml`");
    let job = block(&page, "as `job.yaml`");
    let queen = queen().build().await.unwrap();
    let trial = queen.policy().check_described(mine, Some(fleet), Some(job)).await.unwrap();
    let [decision] = &*trial.decisions else { panic!("{trial:?}") };
    let output = block(&page, "max_tokens: 200\n```\n");
    let steps = decision.explanation.steps.iter().enumerate();
    let steps: String =
        steps.map(|(number, step)| format!("{:>3}. {step}\n", number + 1)).collect();
    assert!(output.contains(&steps), "the page shows:\n{output}it is:\n{steps}");
    for (candidate, verdict) in &decision.explanation.candidates {
        let line = format!("{candidate}  {verdict}").replace("refused: ", "refused  ");
        assert!(output.contains(&line), "the page shows:\n{output}it is:\n{line}");
    }

    let slip = block(&page, "An error\nnames its place").trim();
    let text = block(&page, "Save this as `mine.rhai`").replace("in_region", "in_regoin");
    let error = queen.policy().check(PolicySource::named("mine.rhai", text).unwrap()).await;
    // The keeper says which file it is.
    assert_eq!(format!("mine.rhai: {}", error.unwrap_err().message()), slip);
}
