//! Threads for a policy that may take its time.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use super::guarded;
use crate::{Error, ErrorKind, Result, Scheduler, SchedulerInfo};

/// Questions that may wait for a thread.
const QUEUE: usize = 1_024;
/// The most threads of one policy.
const MOST_THREADS: usize = 16;
/// How long a question may wait for a thread, in limits of a decision. Every question before it either ends within its
/// limit or is found to be overdue.
const PATIENCE: u32 = 20;

type Task = Box<dyn FnOnce(&dyn Scheduler) + Send>;

/// A fixed number of them, so that calls that do not return cannot pile up.
#[derive(Debug)]
pub(super) struct Threads {
    tasks: SyncSender<Task>,
    limit: Duration,
    count: usize,
    /// Threads at a question that is overdue. Where all of them are, nobody is asked.
    stuck: Arc<AtomicUsize>,
}

/// What became of a question that was put to the threads.
#[derive(Debug)]
pub(super) enum Put {
    /// It waits for one of them, or is with it already.
    Asked,
    /// Too many wait already.
    Full,
    /// Nobody is there to be asked.
    Failed(Error),
}

/// How far a question has come. Both sides only swap in what they know, so neither can undo what the other has said.
#[derive(Debug, Default)]
struct Progress(AtomicU8);

impl Progress {
    const WAITS: u8 = 0;
    const BEGUN: u8 = 1;
    const DONE: u8 = 2;
    const OVERDUE: u8 = 3;

    /// The thread takes it up. Says whether anybody still waits for it.
    fn begin(&self) -> bool {
        let begun =
            self.0.compare_exchange(Self::WAITS, Self::BEGUN, Ordering::AcqRel, Ordering::Acquire);
        begun.is_ok()
    }
}

impl Threads {
    /// Those that this scheduler wants.
    pub(super) fn of(scheduler: &Arc<dyn Scheduler>, info: &SchedulerInfo) -> Result<Option<Self>> {
        let Some(limit) = info.limit else { return Ok(None) };
        let count = info.threads.clamp(1, MOST_THREADS);
        let (tasks, inbox) = sync_channel(QUEUE);
        let inbox = Arc::new(Mutex::new(inbox));
        for _ in 0..count {
            let (scheduler, inbox) = (scheduler.clone(), inbox.clone());
            std::thread::Builder::new()
                .name("rbee-scheduler".into())
                .spawn(move || answer_all(&*scheduler, &inbox))
                .map_err(|cause| {
                    let message = "no thread for the scheduler could be started";
                    Error::new(ErrorKind::Internal, message).with_source(cause)
                })?;
        }
        Ok(Some(Self { tasks, limit, count, stuck: Arc::default() }))
    }

    fn are_stuck(&self) -> bool {
        self.stuck.load(Ordering::Acquire) >= self.count
    }

    /// Has a thread decide, and hands the answer, or that there is none in time, to `then`; nothing where no thread came
    /// to the question at all.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&dyn Scheduler) -> Result<T> + Send + 'static,
        then: impl FnOnce(Option<Result<T>>) + Send + 'static,
    ) -> Put {
        let limit = self.limit;
        if self.are_stuck() {
            return Put::Failed(late(limit));
        }
        let progress = Arc::new(Progress::default());
        let (begun, begins) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        let (state, stuck) = (progress.clone(), self.stuck.clone());
        let task: Task = Box::new(move |scheduler| {
            // Nobody waits any more for a question that came too late.
            if !state.begin() {
                return;
            }
            let _ = begun.send(());
            let _ = answer.send(guarded(|| decide(scheduler)));
            if state.0.swap(Progress::DONE, Ordering::AcqRel) == Progress::OVERDUE {
                stuck.fetch_sub(1, Ordering::AcqRel);
            }
        });
        match self.tasks.try_send(task) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Put::Full,
            Err(TrySendError::Disconnected(_)) => return Put::Failed(gone()),
        }
        let stuck = self.stuck.clone();
        tokio::spawn(async move {
            let waited = timeout(limit * PATIENCE, begins).await;
            let in_time = match waited {
                Ok(_) => timeout(limit, answered).await.ok(),
                Err(_) => None,
            };
            then(match in_time {
                Some(answer) => Some(answer.unwrap_or_else(|_| Err(gone()))),
                None => match progress.0.swap(Progress::OVERDUE, Ordering::AcqRel) {
                    Progress::WAITS => None,
                    before => {
                        if before == Progress::BEGUN {
                            stuck.fetch_add(1, Ordering::AcqRel);
                        }
                        Some(Err(late(limit)))
                    }
                },
            });
        });
        Put::Asked
    }
}

fn late(limit: Duration) -> Error {
    Error::new(ErrorKind::Internal, format!("the scheduler did not decide within {limit:?}"))
}

fn gone() -> Error {
    Error::new(ErrorKind::Internal, "the scheduler's thread has ended")
}

fn answer_all(scheduler: &dyn Scheduler, inbox: &Mutex<Receiver<Task>>) {
    loop {
        // Held while waiting: whoever holds it takes the next one, and the others wait for the lock.
        let task = inbox.lock().unwrap_or_else(PoisonError::into_inner).recv();
        match task {
            Ok(task) => task(scheduler),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Ask, ClusterView, LeastLoaded, Now, Placement, Request, Settings,
        queen::policy::{Asked, Function, MOST_FAULTS, Policy, Ready},
    };

    /// Every decision takes until somebody lets it go.
    #[derive(Debug)]
    struct Gated {
        gate: Mutex<Receiver<()>>,
        asked: Arc<AtomicUsize>,
    }

    impl Scheduler for Gated {
        fn place(&self, _: &Ask, _: &ClusterView) -> Result<Placement> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let gate = self.gate.lock().expect("nobody panics");
            let _ = gate.recv();
            Ok(Placement::Wait)
        }
        fn info(&self) -> SchedulerInfo {
            SchedulerInfo::of::<Self>().with_limit(Duration::from_millis(50))
        }
    }

    fn ask() -> Ask {
        let model = "m".parse().unwrap();
        let request = Request::completion("m", "x");
        let job = request.into_job(model, &Settings::default(), 1).unwrap();
        Ask {
            job: Arc::new(job),
            now: Now::default(),
            random: 0,
            waited: Duration::ZERO,
            attempts: 0,
            avoid: Arc::default(),
            must_match: None,
            refused: Arc::default(),
        }
    }

    fn until(what: impl Fn() -> bool) {
        while !what() {
            std::thread::yield_now();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_that_is_stuck_is_not_asked_until_it_has_come_back() {
        let (go, gate) = sync_channel(8);
        let asked = Arc::new(AtomicUsize::new(0));
        let gated = Gated { gate: Mutex::new(gate), asked: asked.clone() };
        let policy = policy(gated);
        let view = ClusterView::default();
        let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let put = |fallback| {
            let told = told.clone();
            policy.place(ask(), fallback, &view, move |answer| _ = told.send(answer))
        };
        assert!(matches!(put(false), Asked::Later));
        until(|| asked.load(Ordering::SeqCst) == 1);
        let late = answers.recv().await.unwrap();
        assert!(late.is_some_and(|answer| answer.is_err()), "it was late");
        assert!(matches!(put(false), Asked::Policy(Err(_))), "nobody is there to be asked");
        assert!(matches!(put(true), Asked::BuiltIn(Ok(_))));
        go.send(()).unwrap();
        let threads = policy.ready.threads.as_ref().unwrap();
        until(|| !threads.are_stuck());
        assert!(matches!(put(false), Asked::Later), "it is asked again");
        go.send(()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_that_a_policy_has_no_time_for_is_no_fault_of_it() {
        let (go, gate) = sync_channel(QUEUE + 2);
        let asked = Arc::new(AtomicUsize::new(0));
        let policy = policy(Gated { gate: Mutex::new(gate), asked: asked.clone() });
        let view = ClusterView::default();
        let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let put = |policy: &Policy| {
            let told = told.clone();
            policy.place(ask(), false, &view, move |answer| _ = told.send(answer))
        };
        assert!(matches!(put(&policy), Asked::Later));
        until(|| asked.load(Ordering::SeqCst) == 1);
        for _ in 0..QUEUE {
            assert!(matches!(put(&policy), Asked::Later));
        }
        for _ in 0..2 * MOST_FAULTS {
            assert!(matches!(put(&policy), Asked::BuiltIn(Ok(_))), "the queue is full");
        }
        // Time stands still meanwhile. One is late, those behind it never had their turn.
        let mut late = 0;
        for _ in 0..=QUEUE {
            match answers.recv().await.unwrap() {
                Some(answer) => late += u32::from(answer.is_err()),
                None => policy.passed_over(policy.term()),
            }
        }
        assert_eq!(late, 1);
        let health = policy.reign().look().health;
        assert_eq!(health.passed_over, u64::from(2 * MOST_FAULTS) + QUEUE as u64);
        assert!(health.faults == 0 && !health.is_suspended, "{health:?}");
        go.send(()).unwrap();
    }

    fn policy(scheduler: impl Scheduler) -> Policy {
        Policy::new(Ready::new(Arc::new(scheduler)).unwrap(), None, LeastLoaded::default())
    }

    fn failing() -> impl Scheduler {
        crate::FnScheduler::new("failing", |_: &Ask, _: &ClusterView| {
            Err(Error::new(ErrorKind::Internal, "no"))
        })
    }

    #[test]
    fn a_policy_that_fails_again_and_again_is_suspended_until_it_is_changed() {
        let mut policy = policy(failing());
        let view = ClusterView::default();
        let put = |policy: &Policy| policy.place(ask(), false, &view, |_| {});
        let term = policy.term();
        for _ in 0..2 {
            for n in 1..MOST_FAULTS {
                let Asked::Policy(Err(error)) = put(&policy) else { panic!("it is asked") };
                let too_often = policy.failed(term, Function::Place, &error);
                assert!(!too_often, "fault {n} is not yet too many");
            }
            policy.did_well(term, Function::Place);
        }
        let error = Error::new(ErrorKind::Internal, "no");
        let fail = |_| policy.failed(term, Function::Place, &error);
        let told: Vec<bool> = (0..MOST_FAULTS).map(fail).collect();
        assert_eq!(told, [false, false, false, false, true]);
        assert!(matches!(put(&policy), Asked::BuiltIn(Ok(_))));
        assert!(policy.reign().look().health.is_suspended);
        policy.did_well(term, Function::Place);
        assert!(matches!(put(&policy), Asked::BuiltIn(Ok(_))), "only a change helps");

        policy.replace(Ready::new(Arc::new(failing())).unwrap(), Some(2));
        assert!(matches!(put(&policy), Asked::Policy(Err(_))));
        let in_force = policy.reign().look();
        assert_eq!((in_force.version, in_force.health.faults), (Some(2), 0));
    }

    #[test]
    fn what_an_old_policy_still_answers_says_nothing_of_the_new_one() {
        let mut policy = policy(failing());
        let old = policy.term();
        policy.replace(Ready::new(Arc::new(failing())).unwrap(), Some(2));
        let error = Error::new(ErrorKind::Internal, "no");
        for _ in 0..2 * MOST_FAULTS {
            assert!(!policy.failed(old, Function::Place, &error));
        }
        policy.passed_over(old);
        let health = policy.reign().look().health;
        assert_eq!((health.faults, health.passed_over, health.is_suspended), (0, 0, false));
        for _ in 1..MOST_FAULTS {
            policy.failed(policy.term(), Function::Place, &error);
        }
        policy.did_well(old, Function::Place);
        assert!(policy.failed(policy.term(), Function::Place, &error), "five of its own in a row");
    }

    #[test]
    fn good_placements_do_not_make_up_for_admissions_that_fail() {
        let mut policy = policy(failing());
        let (term, error) = (policy.term(), Error::new(ErrorKind::Internal, "no"));
        for n in 1..=MOST_FAULTS {
            let too_often = policy.failed(term, Function::Admit, &error);
            assert_eq!(too_often, n == MOST_FAULTS);
            policy.did_well(term, Function::Place);
        }
        assert!(policy.is_suspended() && !policy.admits());
    }
}
