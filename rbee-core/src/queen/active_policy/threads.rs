//! Threads for a policy with a time limit.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use crate::{
    engine::Advice,
    error::{Error, ErrorKind, Result},
    scheduler::{Scheduler, SchedulerInfo},
};

/// The most questions that wait for a thread.
const QUEUE: usize = 1_024;
/// The most threads of one policy.
const MOST_THREADS: usize = 16;
/// How long a question may wait for a thread, in multiples of the policy's time limit. Every question before it either
/// ends within its limit or is found to be overdue.
const MAX_TRIES: u32 = 20;

type Task = Box<dyn FnOnce(&dyn Scheduler) + Send>;

/// A fixed number of threads, so that calls that do not return cannot accumulate.
#[derive(Debug)]
pub(super) struct Threads {
    tasks: SyncSender<Task>,
    limit: Duration,
    count: usize,
    /// Threads with an overdue question. If all are, the policy is not asked.
    stuck: Arc<AtomicUsize>,
}

/// The state of a question. Both sides only swap in what they know, so neither can undo the other's change.
#[derive(Debug, Default)]
struct Progress(AtomicU8);

impl Progress {
    const WAITS: u8 = 0;
    const BEGUN: u8 = 1;
    const DONE: u8 = 2;
    const OVERDUE: u8 = 3;

    /// The thread takes the question. Returns true if it is still waited for.
    fn begin(&self) -> bool {
        let begun =
            self.0.compare_exchange(Self::WAITS, Self::BEGUN, Ordering::AcqRel, Ordering::Acquire);
        begun.is_ok()
    }
}

impl Threads {
    /// The threads that this scheduler needs; `None` if it needs none.
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

    /// Asks on a thread. The answer, or the error of a timeout, goes to `then`, unless it is known at once that no
    /// thread is free.
    pub(super) fn ask(
        &self,
        decide: impl FnOnce(&dyn Scheduler) -> Advice + Send + 'static,
        then: impl FnOnce(Advice) + Send + 'static,
    ) -> Option<Advice> {
        let limit = self.limit;
        if self.are_stuck() {
            return Some(late(limit));
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
            let _ = answer.send(decide(scheduler));
            if state.0.swap(Progress::DONE, Ordering::AcqRel) == Progress::OVERDUE {
                stuck.fetch_sub(1, Ordering::AcqRel);
            }
        });
        match self.tasks.try_send(task) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Some(Advice::NoTime),
            Err(TrySendError::Disconnected(_)) => return Some(gone()),
        }
        let stuck = self.stuck.clone();
        tokio::spawn(async move {
            let waited = timeout(limit * MAX_TRIES, begins).await;
            let in_time = match waited {
                Ok(_) => timeout(limit, answered).await.ok(),
                Err(_) => None,
            };
            then(match in_time {
                Some(answer) => answer.unwrap_or_else(|_| gone()),
                None => match progress.0.swap(Progress::OVERDUE, Ordering::AcqRel) {
                    Progress::WAITS => Advice::NoTime,
                    before => {
                        if before == Progress::BEGUN {
                            stuck.fetch_add(1, Ordering::AcqRel);
                        }
                        late(limit)
                    }
                },
            });
        });
        None
    }
}

fn late(limit: Duration) -> Advice {
    let message = format!("the scheduler did not decide within {limit:?}");
    Advice::Failed(Error::new(ErrorKind::Internal, message))
}

fn gone() -> Advice {
    Advice::Failed(Error::new(ErrorKind::Internal, "the scheduler's thread has ended"))
}

fn answer_all(scheduler: &dyn Scheduler, inbox: &Mutex<Receiver<Task>>) {
    loop {
        // The lock is held while waiting: its holder takes the next question, and the others wait for the lock.
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
        cluster::ClusterView,
        engine::{Decider, Question},
        queen::active_policy::{PolicyRunner, PreparedPolicy},
        request::Request,
        scheduler::{Ask, LeastLoaded, Placement},
        settings::Settings,
        time::Now,
    };

    /// A scheduler whose every decision waits until the test releases it.
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
        let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
        assert_eq!(put(&policy, &told), None);
        until(|| asked.load(Ordering::SeqCst) == 1);
        assert!(matches!(answers.recv().await.unwrap(), Advice::Failed(_)), "it was late");
        assert!(matches!(put(&policy, &told), Some(Advice::Failed(_))), "nobody can be asked");
        go.send(()).unwrap();
        let threads = policy.prepared.threads.as_ref().unwrap();
        until(|| !threads.are_stuck());
        assert_eq!(put(&policy, &told), None, "it is asked again");
        go.send(()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_that_a_policy_has_no_time_for_is_no_fault_of_it() {
        let (go, gate) = sync_channel(QUEUE + 2);
        let asked = Arc::new(AtomicUsize::new(0));
        let policy = policy(Gated { gate: Mutex::new(gate), asked: asked.clone() });
        let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
        assert_eq!(put(&policy, &told), None);
        until(|| asked.load(Ordering::SeqCst) == 1);
        for _ in 0..QUEUE {
            assert_eq!(put(&policy, &told), None);
        }
        for _ in 0..10 {
            assert_eq!(put(&policy, &told), Some(Advice::NoTime), "the queue is full");
        }
        // Time stands still in the meantime. One question is overdue; those after it never got a thread.
        let mut late = 0;
        for _ in 0..=QUEUE {
            match answers.recv().await.unwrap() {
                Advice::Failed(_) => late += 1,
                advice => assert_eq!(advice, Advice::NoTime),
            }
        }
        assert_eq!(late, 1);
        go.send(()).unwrap();
    }

    // Not on a paused clock: it would advance while the thread is working.
    #[tokio::test]
    async fn a_policy_that_panics_has_failed_inline_and_on_threads() {
        for limit in [None, Some(Duration::from_secs(60))] {
            let policy = policy(Panics(limit));
            let (told, mut answers) = tokio::sync::mpsc::unbounded_channel();
            let advice = match put(&policy, &told) {
                Some(advice) => advice,
                None => answers.recv().await.unwrap(),
            };
            let Advice::Failed(error) = advice else { panic!("{advice:?}") };
            assert_eq!(error.message(), "the scheduler panicked: line 3");
        }
    }

    #[derive(Debug)]
    struct Panics(Option<Duration>);

    impl Scheduler for Panics {
        fn place(&self, _: &Ask, _: &ClusterView) -> Result<Placement> {
            panic!("line 3")
        }
        fn info(&self) -> SchedulerInfo {
            let mut info = SchedulerInfo::of::<Self>();
            info.limit = self.0;
            info
        }
    }

    fn put(
        policy: &PolicyRunner,
        told: &tokio::sync::mpsc::UnboundedSender<Advice>,
    ) -> Option<Advice> {
        let (question, told) = (Question::Place(Decider::Policy), told.clone());
        let view = ClusterView::default();
        policy.ask(question, &ask(), &view, move |advice| _ = told.send(advice))
    }

    fn policy(scheduler: impl Scheduler) -> PolicyRunner {
        PolicyRunner::new(
            PreparedPolicy::new(Arc::new(scheduler)).unwrap(),
            None,
            LeastLoaded::default(),
        )
    }
}
