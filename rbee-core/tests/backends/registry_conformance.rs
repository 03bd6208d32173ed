//! The conformance suite of registries, run on both of them and on registries that break one rule each.

mod broken;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broken::{Broken, Flaw};
use futures_util::FutureExt;
use rbee_core::{
    MemoryRegistry, Registry, async_trait,
    conformance::registry::{Subject, check},
    time::WallTime,
};

/// A clock that moves only if a test moves it.
#[derive(Clone)]
struct HandClock(Arc<AtomicU64>);

impl HandClock {
    fn new() -> Self {
        Self(Arc::new(AtomicU64::new(1_800_000_000_000)))
    }

    fn now(&self) -> WallTime {
        WallTime::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn advance(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }
}

/// A store that uses a [`HandClock`].
struct Store<H> {
    clock: HandClock,
    handle: H,
}

#[async_trait]
impl<H: Fn(&HandClock) -> Arc<dyn Registry> + Send + Sync> Subject for Store<H> {
    async fn handle(&self) -> Arc<dyn Registry> {
        (self.handle)(&self.clock)
    }

    fn lease(&self) -> Duration {
        Duration::from_secs(30)
    }

    async fn advance(&self, time: Duration) {
        self.clock.advance(time);
    }

    fn now(&self) -> WallTime {
        self.clock.now()
    }
}

fn in_memory(flaw: Option<Flaw>) -> impl Subject {
    let clock = HandClock::new();
    let told = clock.clone();
    let registry = MemoryRegistry::with_clock(move || told.now());
    let registry: Arc<dyn Registry> = match flaw {
        None => Arc::new(registry),
        Some(flaw) => Arc::new(Broken::new(registry, flaw)),
    };
    Store { clock, handle: move |_: &HandClock| registry.clone() }
}

#[cfg(feature = "sqlite")]
fn in_sqlite() -> impl Subject {
    let dir = tempfile::tempdir().unwrap();
    Store {
        clock: HandClock::new(),
        handle: move |clock: &HandClock| {
            let told = clock.clone();
            let options = rbee_core::SqliteRegistry::options().clock(move || told.now());
            let registry = options.open(dir.path().join("rbee.db")).unwrap();
            Arc::new(registry) as Arc<dyn Registry>
        },
    }
}

#[tokio::test]
async fn the_registry_in_memory_conforms() {
    check(async || in_memory(None)).await;
}

#[cfg(feature = "sqlite")]
#[tokio::test]
async fn the_registry_on_sqlite_conforms() {
    check(async || in_sqlite()).await;
}

#[tokio::test]
async fn the_suite_needs_no_clock_that_can_be_moved() {
    struct RealTime(MemoryRegistry);

    #[async_trait]
    impl Subject for RealTime {
        async fn handle(&self) -> Arc<dyn Registry> {
            Arc::new(self.0.clone())
        }

        fn lease(&self) -> Duration {
            Duration::from_millis(300)
        }
    }

    use rbee_core::conformance::registry::owners;
    let fresh = || RealTime(MemoryRegistry::new());
    owners::an_expired_queen_is_taken_over_at_the_next_opening(&fresh()).await;
    owners::a_living_queen_keeps_its_rows(&fresh()).await;
}

fn sentence(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("no sentence").to_owned()
}

#[tokio::test]
async fn the_suite_catches_every_broken_registry() {
    let mut wrong = Vec::new();
    for (flaw, complaint) in Flaw::ALL {
        let suite = std::panic::AssertUnwindSafe(check(async || in_memory(Some(*flaw))));
        let said = match suite.catch_unwind().await {
            Ok(()) => "nothing".to_owned(),
            Err(panic) => sentence(&*panic),
        };
        if !said.contains(complaint) {
            wrong.push(format!("{flaw:?}: the suite should say {complaint:?} and says {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
