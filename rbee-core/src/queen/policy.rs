//! Asking the scheduler: in the driver's own loop where it is cheap, on a thread of its own where it is not.
//!
//! Whatever the policy does, the queen goes on: a panic, an error or an answer that does not come in time is a fault
//! of the policy, and the built-in one decides that job.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::mailbox::Mailbox;
use crate::{
    Ask, ClusterView, Error, ErrorKind, LeastLoaded, Placement, Result, Scheduler, Ticket,
    engine::Input, metrics,
};

/// Questions that may wait for the thread.
const QUEUE: usize = 1_024;

struct Question {
    /// Its number; the first is 1.
    n: u64,
    ask: Ask,
    view: ClusterView,
    answer: oneshot::Sender<Result<Placement>>,
}

#[derive(Debug)]
pub(super) struct Policy {
    scheduler: Arc<dyn Scheduler>,
    fallback: LeastLoaded,
    thread: Option<Thread>,
}

/// A thread for a policy that may take its time. There is one, so that calls that do not return cannot pile up.
#[derive(Debug)]
struct Thread {
    questions: SyncSender<Question>,
    limit: Duration,
    asked: AtomicU64,
    breaker: Arc<Breaker>,
}

/// Open from the moment a question is overdue until the thread has come back from it. Both sides only ever raise a
/// number, so neither can undo what the other has just said.
#[derive(Debug, Default)]
struct Breaker {
    /// The last question that was not answered in time.
    overdue: AtomicU64,
    /// The last question that the thread is done with.
    done: AtomicU64,
}

impl Breaker {
    fn is_open(&self) -> bool {
        self.overdue.load(Ordering::Relaxed) > self.done.load(Ordering::Relaxed)
    }
}

impl Policy {
    pub(super) fn new(scheduler: Arc<dyn Scheduler>) -> Result<Self> {
        let thread =
            scheduler.limit().map(|limit| Thread::start(scheduler.clone(), limit)).transpose()?;
        Ok(Self { scheduler, fallback: LeastLoaded::default(), thread })
    }

    pub(super) fn scheduler(&self) -> &Arc<dyn Scheduler> {
        &self.scheduler
    }

    /// The answer, if it is there at once; else it comes to the mailbox.
    pub(super) fn place(
        &self,
        ticket: Ticket,
        ask: Ask,
        fallback: bool,
        view: &ClusterView,
        mailbox: &Mailbox,
    ) -> Option<Result<Placement>> {
        if fallback {
            return Some(self.fallback.place(&ask, view));
        }
        let Some(thread) = &self.thread else {
            return Some(guarded(&*self.scheduler, &ask, view));
        };
        if thread.breaker.is_open() {
            return Some(Err(late(thread.limit)));
        }
        let (answer, answered) = oneshot::channel();
        let n = thread.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let question = Question { n, ask, view: view.clone(), answer };
        match thread.questions.try_send(question) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => return Some(Err(late(thread.limit))),
            Err(TrySendError::Disconnected(_)) => {
                let message = "the scheduler's thread has ended";
                return Some(Err(Error::new(ErrorKind::Internal, message)));
            }
        }
        let (limit, breaker, mailbox) = (thread.limit, thread.breaker.clone(), mailbox.clone());
        let asked = Instant::now();
        tokio::spawn(async move {
            let answer = match tokio::time::timeout(limit, answered).await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => {
                    Err(Error::new(ErrorKind::Internal, "the scheduler's thread has ended"))
                }
                Err(_) => {
                    breaker.overdue.fetch_max(n, Ordering::Relaxed);
                    Err(late(limit))
                }
            };
            metrics::scheduled(asked.elapsed());
            mailbox.input(Input::Placed { ticket, answer });
        });
        None
    }
}

fn late(limit: Duration) -> Error {
    Error::new(ErrorKind::Internal, format!("the scheduler did not decide within {limit:?}"))
}

fn guarded(scheduler: &dyn Scheduler, ask: &Ask, view: &ClusterView) -> Result<Placement> {
    catch_unwind(AssertUnwindSafe(|| scheduler.place(ask, view))).unwrap_or_else(|panic| {
        let message = format!("the scheduler panicked: {}", super::panic_message(&*panic));
        Err(Error::new(ErrorKind::Internal, message))
    })
}

impl Thread {
    fn start(scheduler: Arc<dyn Scheduler>, limit: Duration) -> Result<Self> {
        let (questions, inbox) = sync_channel(QUEUE);
        let breaker = Arc::new(Breaker::default());
        let told = breaker.clone();
        std::thread::Builder::new()
            .name("rbee-scheduler".into())
            .spawn(move || answer_all(&*scheduler, &inbox, &told))
            .map_err(|cause| {
                Error::new(ErrorKind::Internal, "no thread for the scheduler could be started")
                    .with_source(cause)
            })?;
        Ok(Self { questions, limit, asked: AtomicU64::new(0), breaker })
    }
}

fn answer_all(scheduler: &dyn Scheduler, inbox: &Receiver<Question>, breaker: &Breaker) {
    while let Ok(question) = inbox.recv() {
        // Nobody waits any more for a question that came too late.
        if !question.answer.is_closed() {
            let answer = guarded(scheduler, &question.ask, &question.view);
            let _ = question.answer.send(answer);
        }
        breaker.done.fetch_max(question.n, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::{Now, Request, Settings, queen::mailbox::Message};

    /// Every decision takes until somebody lets it go.
    #[derive(Debug)]
    struct Gated(Mutex<Receiver<()>>);

    impl Scheduler for Gated {
        fn place(&self, _: &Ask, _: &ClusterView) -> Result<Placement> {
            let gate = self.0.lock().expect("nobody panics");
            let _ = gate.recv();
            Ok(Placement::Wait)
        }
        fn limit(&self) -> Option<Duration> {
            Some(Duration::from_millis(50))
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
            attempts: 0,
            avoid: Arc::default(),
            must_match: None,
            refused: Arc::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_policy_that_is_stuck_is_not_asked_until_it_has_come_back() {
        let (go, gate) = sync_channel(8);
        let policy = Policy::new(Arc::new(Gated(Mutex::new(gate)))).unwrap();
        let (mailbox, mut letters) = Mailbox::new();
        let view = ClusterView::default();
        let put = |n| policy.place(Ticket(n), ask(), false, &view, &mailbox);
        assert_eq!(put(1), None);
        let letter = letters.recv().await.unwrap();
        let Message::Input(Input::Placed { ticket, answer }) = letter.message else {
            panic!("an answer is expected");
        };
        assert!(ticket == Ticket(1) && answer.is_err(), "it was late");
        assert!(matches!(put(2), Some(Err(_))), "the breaker is open");
        assert!(matches!(policy.place(Ticket(3), ask(), true, &view, &mailbox), Some(Ok(_))));
        go.send(()).unwrap();
        let thread = policy.thread.as_ref().unwrap();
        while thread.breaker.is_open() {
            std::thread::yield_now();
        }
        assert_eq!(put(4), None, "it is asked again");
        go.send(()).unwrap();
    }

    #[test]
    fn a_question_that_is_overdue_in_the_moment_it_is_done_does_not_keep_the_breaker_open() {
        let breaker = Breaker::default();
        breaker.done.fetch_max(1, Ordering::Relaxed);
        breaker.overdue.fetch_max(1, Ordering::Relaxed);
        assert!(!breaker.is_open());
        breaker.overdue.fetch_max(2, Ordering::Relaxed);
        assert!(breaker.is_open());
    }
}
