//! The policy of a running queen: it admits and ranks jobs, its faults do no harm, and its decisions are explained.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::queen_support::{echo, queen, quiet, read, request};
use rbee_core::{
    Ask, ClusterView, Error, ErrorKind, FnScheduler, JobId, LeastLoaded, Placement, Queen, Request,
    Result, Scheduler, Settings,
    scheduler::{Admission, Candidate, Explanation, SchedulerInfo, Verdict},
    settings::KeepRequests,
    worker::EchoGate,
};

/// The built-in policy with admission: it refuses correlation ids that begin with `no`, and ranks by the seed, the
/// highest first.
#[derive(Debug, Default)]
struct Picky {
    limit: Option<Duration>,
}

impl Scheduler for Picky {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        LeastLoaded::default().place(ask, cluster)
    }
    fn explain(&self, ask: &Ask, cluster: &ClusterView) -> Explanation {
        LeastLoaded::default().explain(ask, cluster)
    }
    fn admit(&self, ask: &Ask, _: &ClusterView) -> Result<Admission> {
        let id = ask.job.correlation_id.as_str();
        if id.starts_with("no") {
            return Ok(Admission::Refuse(Error::new(ErrorKind::Rejected, "not today")));
        }
        if id.starts_with("broken") {
            return Err(Error::new(ErrorKind::Internal, "line 3"));
        }
        Ok(Admission::Accept { rank: -(ask.job.seed as i64) })
    }
    fn info(&self) -> SchedulerInfo {
        let mut info = SchedulerInfo::of::<Self>().with_threads(2).with_admission();
        info.limit = self.limit;
        info
    }
}

#[tokio::test]
async fn a_policy_admits_and_ranks_jobs_whether_it_is_asked_inline_or_on_threads() {
    for limit in [None, Some(Duration::from_secs(60))] {
        let gate = EchoGate::new();
        let worker = echo().slots(1).gate(&gate).build();
        let queen = queen().scheduler(Picky { limit }).worker(worker.clone()).build();
        let queen = queen.await.unwrap();
        let first = queen.submit(request(1, 1)).await.unwrap();
        worker.until_active(1).await;

        let refused = request(2, 1).correlation_id("no-thanks".parse().unwrap());
        let error = queen.submit(refused).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Rejected, "not today"));
        let lowest = queen.submit(request(3, 1)).await.unwrap();
        let highest = queen.submit(request(9, 1)).await.unwrap();
        let unranked = request(4, 1).correlation_id("broken".parse().unwrap());
        let unranked = queen.submit(unranked).await.unwrap();
        let mut ahead = Vec::new();
        for job in [&highest, &lowest, &unranked] {
            ahead.push(queen.position(job.id()).await.unwrap());
        }
        assert_eq!(ahead, [Some(0), Some(1), Some(2)], "limit {limit:?}");
        assert_eq!(queen.policy().status().health.faults, 1);
        assert!(queen.job(JobId::from_random_bits(7)).await.is_err());
        gate.open();
        read(first).await.assert_whole(1, 1);
        read(lowest).await.assert_whole(3, 1);
        read(highest).await.assert_whole(9, 1);
        read(unranked).await.assert_whole(4, 1);
        quiet(&queen).await;
    }
}

#[tokio::test]
async fn admissions_that_fail_suspend_a_policy_whose_placements_are_good() {
    let queen = queen().scheduler(Picky::default()).worker(echo().build()).build().await.unwrap();
    for seed in 0..7 {
        let broken = request(seed, 1).correlation_id("broken".parse().unwrap());
        read(queen.submit(broken).await.unwrap()).await.assert_whole(seed, 1);
    }
    let health = queen.policy().status().health;
    assert!(health.is_suspended && health.faults == 5, "{health:?}");
    assert_eq!(health.last_fault.unwrap().1.message(), "line 3");
}

#[tokio::test]
async fn what_a_policy_said_of_an_admission_is_kept_beside_its_decisions() {
    let queen = queen().scheduler(Picky::default()).worker(echo().build()).build().await.unwrap();
    let ranked = queen.submit(request(9, 1)).await.unwrap();
    let id = ranked.id();
    read(ranked).await.assert_whole(9, 1);
    let decisions = queen.policy().why(id).await.unwrap();
    assert_eq!(decisions[0].admission, Some(Ok(Admission::Accept { rank: -9 })));
    assert!(decisions[0].answer.is_none() && decisions[0].policy == "Picky");
    assert!(matches!(decisions[1].answer, Some(Ok(Placement::Assign(_)))), "{decisions:?}");

    let plain = queen.submit(request(0, 1)).await.unwrap();
    let id = plain.id();
    read(plain).await.assert_whole(0, 1);
    let decisions = queen.policy().why(id).await.unwrap();
    assert!(decisions.iter().all(|one| one.admission.is_none()), "it said nothing: {decisions:?}");

    // The id of a job follows from its key.
    let refused =
        |id: &str| request(2, 1).idempotency_key("again").correlation_id(id.parse().unwrap());
    queen.submit(refused("no-thanks")).await.unwrap_err();
    let accepted = queen.submit(refused("yes")).await.unwrap();
    let id = accepted.id();
    read(accepted).await.assert_whole(2, 1);
    let decisions = queen.policy().why(id).await.unwrap();
    let Some(Ok(Admission::Refuse(error))) = &decisions[0].admission else {
        panic!("{decisions:?}")
    };
    assert_eq!(error.message(), "not today");
}

/// Names a worker that does not exist, and then decides correctly.
#[derive(Debug, Default)]
struct Hasty(AtomicUsize);

impl Scheduler for Hasty {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            0 => Ok(Placement::Assign(rbee_core::WorkerId::from_random_bits(7))),
            _ => LeastLoaded::default().place(ask, cluster),
        }
    }
}

#[tokio::test]
async fn an_answer_that_did_not_fit_is_shown_as_one_that_was_not_carried_out() {
    let queen = queen().scheduler(Hasty::default()).worker(echo().build()).build().await.unwrap();
    let job = queen.submit(request(1, 1)).await.unwrap();
    let id = job.id();
    read(job).await.assert_whole(1, 1);
    let stale: Vec<bool> =
        queen.policy().why(id).await.unwrap().iter().map(|decision| decision.is_stale).collect();
    assert_eq!(stale, [true, false]);
}

#[derive(Debug, Default)]
struct Failing(Arc<AtomicUsize>);

impl Scheduler for Failing {
    fn place(&self, _: &Ask, _: &ClusterView) -> Result<Placement> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(Error::new(ErrorKind::Internal, "line 7: no such worker"))
    }
}

#[tokio::test]
async fn a_policy_that_fails_every_time_is_no_longer_asked_and_the_status_says_why() {
    let asked = Arc::new(AtomicUsize::new(0));
    let queen = queen().scheduler(Failing(asked.clone())).worker(echo().build());
    let queen = queen.build().await.unwrap();
    for seed in 0..9 {
        read(queen.submit(request(seed, 2)).await.unwrap()).await.assert_whole(seed, 2);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 5);
    let health = queen.policy().status().health;
    assert!(health.is_suspended && health.faults == 5);
    assert_eq!(health.last_fault.unwrap().1.message(), "line 7: no such worker");
}

#[tokio::test]
async fn every_decision_about_a_job_is_explained_as_it_was_made() {
    let gate = EchoGate::new();
    let worker = echo().slots(1).gate(&gate).build();
    let queen = queen().worker(worker.clone()).build().await.unwrap();
    let first = queen.submit(request(1, 1)).await.unwrap();
    worker.until_active(1).await;
    let second = queen.submit(request(2, 1)).await.unwrap();
    let (a, b) = (first.id(), second.id());
    gate.open();
    read(first).await.assert_whole(1, 1);
    read(second).await.assert_whole(2, 1);

    let worker = worker_id(&queen).await;
    let decisions = queen.policy().why(a).await.unwrap();
    let [decision] = &*decisions else { panic!("{decisions:?}") };
    assert_eq!(decision.answer, Some(Ok(Placement::Assign(worker))));
    assert_eq!(decision.explanation.placement, Ok(Placement::Assign(worker)));
    assert_eq!((decision.policy.as_str(), decision.fallback), ("least-loaded", false));
    let chosen = (Candidate::Worker(worker), Verdict::Chosen);
    assert_eq!(decision.explanation.candidates, [chosen]);

    let decisions = queen.policy().why(b).await.unwrap();
    assert!(decisions.len() >= 2, "it waited first: {decisions:?}");
    assert_eq!(decisions[0].answer, Some(Ok(Placement::Wait)));
    let taken = (Candidate::Worker(worker), Verdict::Refused("its only slot is taken".into()));
    assert_eq!(decisions[0].explanation.candidates, [taken], "as the worker was then");
    let last = decisions.last().unwrap();
    assert_eq!(last.answer, Some(Ok(Placement::Assign(worker))));
}

async fn worker_id(queen: &rbee_core::Queen) -> rbee_core::WorkerId {
    queen.cluster().await.unwrap().workers().next().unwrap().info.id
}

#[tokio::test]
async fn only_so_many_decisions_are_kept() {
    let settings = Settings { decisions_kept: 2, ..Settings::default() };
    let queen = queen().settings(settings).worker(echo().build()).build().await.unwrap();
    let mut jobs = Vec::new();
    for seed in 0..3 {
        let job = queen.submit(request(seed, 1)).await.unwrap();
        jobs.push(job.id());
        read(job).await.assert_whole(seed, 1);
    }
    let error = queen.policy().why(jobs[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.message().contains("decisions_kept"), "{error}");
    assert_eq!(queen.policy().why(jobs[2]).await.unwrap().len(), 1);
}

#[tokio::test]
async fn the_seed_of_a_queen_fixes_the_seeds_of_requests_that_name_none() {
    let run = async |seed: u64| {
        let settings = Settings { keep_requests: KeepRequests::Always, ..Settings::default() };
        let queen = Queen::builder().settings(settings).seed(seed).worker(echo().build());
        let queen = queen.build().await.unwrap();
        let ask = || Request::chat(crate::queen_support::MODEL).user("hello").max_tokens(2);
        let mut seeds = Vec::new();
        for request in [ask(), ask().seed(5), ask()] {
            let job = queen.submit(request).await.unwrap();
            let id = job.id();
            read(job).await;
            seeds.push(queen.job(id).await.unwrap().request.unwrap().seed);
        }
        let pair = queen.submit_all([ask(), ask()]).await.unwrap();
        for job in pair {
            let id = job.id();
            read(job).await;
            seeds.push(queen.job(id).await.unwrap().request.unwrap().seed);
        }
        seeds
    };
    let first = run(1).await;
    assert_eq!(first[1], 5);
    let mut fresh = vec![first[0], first[2], first[3], first[4]];
    fresh.sort_unstable();
    fresh.dedup();
    assert_eq!(fresh.len(), 4, "each is another: {first:?}");
    assert_eq!(run(1).await, first);
    assert_ne!(run(2).await, first);
}

/// Decides whether to admit a job when it is released.
#[derive(Debug)]
struct Thinking {
    asked: Arc<AtomicUsize>,
    go: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
}

impl Scheduler for Thinking {
    fn place(&self, ask: &Ask, cluster: &ClusterView) -> Result<Placement> {
        LeastLoaded::default().place(ask, cluster)
    }
    fn admit(&self, _: &Ask, _: &ClusterView) -> Result<Admission> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _ = self.go.lock().unwrap().recv();
        Ok(Admission::default())
    }
    fn info(&self) -> SchedulerInfo {
        SchedulerInfo::of::<Self>().with_limit(Duration::from_secs(60)).with_admission()
    }
}

#[tokio::test]
async fn a_client_that_goes_away_while_the_policy_thinks_leaves_no_job() {
    let (go, gate) = std::sync::mpsc::channel();
    let asked = Arc::new(AtomicUsize::new(0));
    let policy = Thinking { asked: asked.clone(), go: std::sync::Mutex::new(gate) };
    let queen = queen().scheduler(policy).worker(echo().build()).build().await.unwrap();
    // The caller of the second one could come back for its job.
    for request in [request(1, 1), request(2, 1).idempotency_key("mine")] {
        let before = asked.load(Ordering::SeqCst);
        let submit = queen.submit(request);
        let is_asked = async {
            while asked.load(Ordering::SeqCst) == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = submit => panic!("nothing has decided"),
            () = is_asked => {}
        }
        go.send(()).unwrap();
    }
    // The same thread decides this job after those.
    let go_on = std::thread::spawn(move || go.send(()).map(|()| go));
    read(queen.submit(request(3, 1)).await.unwrap()).await.assert_whole(3, 1);
    go_on.join().unwrap().unwrap();
    let jobs = queen.jobs(&Default::default()).await.unwrap();
    assert_eq!(jobs.len(), 1, "{jobs:?}");
    quiet(&queen).await;
}

#[tokio::test]
async fn a_worker_that_would_ignore_a_parameter_gets_no_job_that_uses_it_whatever_the_policy_says()
{
    let careless = FnScheduler::new("careless", |ask: &Ask, cluster: &ClusterView| {
        let first = cluster.available(&ask.job.model).next();
        Ok(first.map_or(Placement::Wait, |worker| Placement::Assign(worker.info.id)))
    });
    let worker = echo().info(|info| info.capabilities.logprobs = false).build();
    let queen = queen().scheduler(careless).worker(worker.clone()).build().await.unwrap();
    let job = request(1, 4).sampling(|sampling| sampling.logprobs = Some(0));
    let error = queen.submit(job).await.unwrap().answer().await.unwrap_err();
    assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, Some("logprobs")));
    assert!(worker.runs().is_empty());
    // The slot is free for others.
    read(queen.submit(request(3, 4)).await.unwrap()).await.assert_whole(3, 4);
    quiet(&queen).await;
}

#[tokio::test]
async fn log_probabilities_that_take_too_much_memory_are_no_fault_of_the_worker() {
    let settings = Settings { max_answer_bytes: 4 << 10, ..Settings::default() };
    let worker = echo().build();
    let queen = queen().settings(settings).worker(worker.clone()).build().await.unwrap();
    let job = request(1, 500).sampling(|sampling| sampling.logprobs = Some(20));
    let error = queen.submit(job).await.unwrap().answer().await.unwrap_err();
    assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some("logprobs")));
    assert_eq!(worker.runs().len(), 1, "it is not tried again");
    quiet(&queen).await;
}
