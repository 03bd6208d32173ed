//! What a scheduler says about itself.

use std::time::Duration;

use crate::policy_source::PolicySource;

/// What a scheduler says about itself: its name for people, and how it wants to be called.
///
/// ```
/// use std::time::Duration;
/// use rbee_core::scheduler::SchedulerInfo;
///
/// let info = SchedulerInfo::new("thrifty")
///     .with_description("never starts a worker")
///     .with_limit(Duration::from_millis(20));
/// assert_eq!((info.threads, info.admits, info.source), (1, false, None));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchedulerInfo {
    /// Its name, for people.
    pub name: String,
    /// What it does, in a sentence for people; may be empty.
    pub description: String,
    /// How long a decision may take. `None` if it is cheap: it is called in the queen's own loop. With a limit it is
    /// called on threads of its own with a clone of the view, and the built-in policy decides what it does not decide
    /// in time.
    pub limit: Option<Duration>,
    /// Threads that may decide side by side, if there is a limit. One, so that calls that do not return cannot pile
    /// up; more only for a policy that ends its own calls in time.
    pub threads: usize,
    /// The text that people can read and change; `None` for a policy that is compiled in.
    pub source: Option<PolicySource>,
    /// Whether [`Scheduler::admit`](super::Scheduler::admit) is called at all.
    pub admits: bool,
}

impl SchedulerInfo {
    /// A scheduler of this name that is called in the queen's own loop, and that does not decide on admission.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            limit: None,
            threads: 1,
            source: None,
            admits: false,
        }
    }

    /// The same, with the name of this type, without its path and its generic arguments.
    pub fn of<S: ?Sized>() -> Self {
        let path = std::any::type_name::<S>();
        let path = path.split('<').next().unwrap_or(path);
        Self::new(path.rsplit("::").next().unwrap_or(path))
    }

    /// What it does, in a sentence for people.
    pub fn with_description(mut self, description: impl Into<String>) -> Self {
        self.description = description.into();
        self
    }

    /// See [`limit`](Self::limit).
    pub fn with_limit(mut self, limit: Duration) -> Self {
        self.limit = Some(limit);
        self
    }

    /// See [`threads`](Self::threads).
    pub fn with_threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// See [`source`](Self::source).
    pub fn with_source(mut self, source: PolicySource) -> Self {
        self.source = Some(source);
        self
    }

    /// Its [`admit`](super::Scheduler::admit) is asked about every job.
    pub fn with_admission(mut self) -> Self {
        self.admits = true;
        self
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        cluster::ClusterView,
        error::Result,
        scheduler::{Ask, Placement, Scheduler},
    };

    #[derive(Debug)]
    struct Slow<T>(T);

    impl<T: std::fmt::Debug + Send + Sync + 'static> Scheduler for Slow<T> {
        fn place(&self, _: &Ask, _: &ClusterView) -> Result<Placement> {
            Ok(Placement::Wait)
        }
    }

    #[test]
    fn a_scheduler_that_only_places_has_the_name_of_its_type_and_is_cheap() {
        let expected = SchedulerInfo::new("Slow");
        assert_eq!(Slow(vec![0_u8]).info(), expected);
        let shared: Arc<dyn Scheduler> = Arc::new(Slow(()));
        assert_eq!(shared.info(), expected, "a shared one is the same");
        assert_eq!((expected.limit, expected.threads, expected.admits), (None, 1, false));
    }
}
