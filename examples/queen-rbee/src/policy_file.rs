//! The policy of the configuration: read at the start, and again when its file changes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rbee_core::{
    Error, ErrorKind, Queen, Result, RhaiScheduler, queen::MAX_POLICY_BYTES,
    registry::PolicyOrigin, scheduler::PolicySource,
};
use rbee_transport_http::server::log_reload;
use tokio::sync::Notify;

/// How often the file is checked.
const LOOK: Duration = Duration::from_secs(1);
/// The most checks that are skipped before a temporarily refused policy is tried again.
const MOST_PASSED: u32 = 60;

/// The content of the file.
pub(crate) type Policy = RhaiScheduler;

/// Identifies a state of the file without reading it.
type Stamp = (SystemTime, u64);

/// A file with a policy.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    path: PathBuf,
    /// The text that was last put in force.
    text: Arc<str>,
    /// The state that was processed: put in force, or refused permanently.
    applied: Option<Stamp>,
    /// The state at the last check.
    seen: Option<Stamp>,
    is_away: bool,
    retry: Retry,
}

/// The timer for a policy that was refused temporarily.
#[derive(Debug, Default)]
struct Retry {
    passed: u32,
    left: u32,
}

impl Retry {
    /// Returns true if a retry is due.
    fn is_due(&mut self) -> bool {
        let is_due = self.left == 0;
        self.left = self.left.saturating_sub(1);
        is_due
    }

    /// Records another refusal: the delay doubles.
    fn again(&mut self) {
        self.passed = (self.passed * 2).clamp(1, MOST_PASSED);
        self.left = self.passed;
    }
}

/// Why a policy is not in force.
enum Refusal {
    /// It never will be in this form.
    Final(Error),
    /// It may be later, when the store or the fleet has changed.
    ForNow(Error),
}

impl PolicyFile {
    /// Reads the file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if it cannot be read or parsed.
    pub(crate) fn open(path: &Path) -> Result<(Self, RhaiScheduler)> {
        let applied = stamp(path);
        let wrong = |error: Error| {
            let message = format!("setting policy, {}: {}", path.display(), error.message());
            Error::new(ErrorKind::Config, message).with_source(error)
        };
        let source = read(path).map_err(wrong)?;
        let text = source.text.clone();
        let scheduler = RhaiScheduler::from_source(source).map_err(wrong)?;
        let file = Self {
            path: path.to_owned(),
            text,
            applied,
            seen: applied,
            is_away: false,
            retry: Retry::default(),
        };
        Ok((file, scheduler))
    }

    /// Puts the policy in force whenever the file has changed, until the queen is gone. An invalid change leaves the
    /// old policy in force, and is logged once; a change that fails for a temporary reason is tried again. The file
    /// is read at once when `reload` is notified.
    pub(crate) async fn watch(mut self, queen: Queen, reload: Arc<Notify>) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = looks.tick() => self.look(&queen).await,
                () = reload.notified() => self.look_again(&queen).await,
            }
        }
    }

    /// Reads the file now on request: the operator says that it is complete, even if it does not seem to have
    /// changed.
    async fn look_again(&mut self, queen: &Queen) {
        let now = stamp(&self.path);
        self.seen = now;
        self.is_away = now.is_none();
        self.retry = Retry::default();
        let reloaded = self.reload(queen).await;
        if let Ok(is_new) = reloaded {
            log_reload("policy", &self.path, &Ok(is_new));
        }
        self.conclude(now, reloaded);
    }

    async fn look(&mut self, queen: &Queen) {
        let now = stamp(&self.path);
        let before = std::mem::replace(&mut self.seen, now);
        let Some(now) = now else {
            // An editor may remove the file for a moment, but not for two checks.
            if before.is_none() && !self.is_away {
                self.is_away = true;
                let path = self.path.display();
                tracing::warn!(file = %path, "the policy's file is gone; the policy stays in force until the queen ends");
            }
            return;
        };
        self.is_away = false;
        if before != Some(now) {
            // It may be half written: a file that is unchanged between two checks is complete.
            self.retry = Retry::default();
            return;
        }
        if self.applied == Some(now) || !self.retry.is_due() {
            return;
        }
        let reloaded = self.reload(queen).await;
        self.conclude(Some(now), reloaded);
    }

    /// Records the result for this state of the file.
    fn conclude(&mut self, now: Option<Stamp>, reloaded: Result<bool, Refusal>) {
        let path = self.path.display();
        match reloaded {
            Ok(_) => self.applied = now,
            Err(Refusal::Final(error)) => {
                self.applied = now;
                tracing::error!(file = %path, %error, "the changed policy is refused; the old one stays in force");
            }
            Err(Refusal::ForNow(error)) => {
                self.retry.again();
                tracing::warn!(
                    file = %path, %error,
                    "the changed policy cannot come into force yet; the old one stays until it can"
                );
            }
        }
    }

    /// Puts the text of the file in force; returns false if it already is.
    async fn reload(&mut self, queen: &Queen) -> Result<bool, Refusal> {
        if fs::metadata(&self.path).is_ok_and(|found| !found.is_file()) {
            // A pipe may have no writer, and is empty the second time.
            let message = "it is not a regular file, so it is read at the start alone";
            return Err(Refusal::ForNow(Error::new(ErrorKind::Config, message)));
        }
        let source = read(&self.path).map_err(Refusal::ForNow)?;
        if source.text == self.text {
            return Ok(false);
        }
        // An invalid text stays invalid.
        RhaiScheduler::from_source(source.clone()).map_err(Refusal::Final)?;
        let text = source.text.clone();
        match queen.policy().set(source, PolicyOrigin::Application).await {
            Ok(_) => {
                self.text = text;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Err(Refusal::Final(error)),
            Err(error) => Err(Refusal::ForNow(error)),
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path) -> Result<PolicySource> {
    let unreadable = |cause: std::io::Error| {
        let message = format!("it cannot be read: {cause}");
        Error::new(ErrorKind::Config, message).with_source(cause)
    };
    let size = fs::metadata(path).map_err(unreadable)?.len();
    if size > MAX_POLICY_BYTES as u64 {
        let message = format!("it has {size} bytes; allowed are at most {MAX_POLICY_BYTES}");
        return Err(Error::new(ErrorKind::Config, message));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    PolicySource::named(&path.file_name().unwrap_or_default().to_string_lossy(), text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::atomic::{AtomicBool, Ordering};

    use rbee_core::registry::GuardedRegistry;

    use super::*;

    /// A file in a directory of its own, watched for a queen; the test makes every check itself.
    struct Desk {
        directory: tempfile::TempDir,
        file: PolicyFile,
        queen: Queen,
        /// True if the store cannot write.
        is_full: Arc<AtomicBool>,
        writes: u64,
    }

    const FIRST: &str = "// First.\nfn schedule(job, workers, hives) { builtin() }\n";
    const SECOND: &str = "// Second.\nfn schedule(job, workers, hives) { builtin() }\n";

    impl Desk {
        async fn new() -> Self {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("mine.rhai"), FIRST).unwrap();
            let (file, scheduler) = PolicyFile::open(&directory.path().join("mine.rhai")).unwrap();
            let is_full = Arc::new(AtomicBool::new(false));
            let store = GuardedRegistry::with_switch(is_full.clone());
            let queen = Queen::builder().registry(store).scheduler(scheduler);
            let queen = queen.build().await.unwrap();
            Self { directory, file, queen, is_full, writes: 0 }
        }

        fn path(&self) -> PathBuf {
            self.directory.path().join("mine.rhai")
        }

        /// Writes the file, with a modification time one second later than before.
        fn write(&mut self, text: &str) {
            self.writes += 1;
            fs::write(self.path(), text).unwrap();
            let at = SystemTime::now() + Duration::from_secs(self.writes);
            fs::File::options().append(true).open(self.path()).unwrap().set_modified(at).unwrap();
        }

        async fn look(&mut self) -> String {
            self.file.look(&self.queen).await;
            self.queen.policy().status().description
        }
    }

    #[tokio::test]
    async fn a_changed_file_comes_into_force_when_it_has_stood_still_between_two_looks() {
        let mut desk = Desk::new().await;
        assert_eq!(desk.look().await, "First.");
        // Half of a file may be a valid policy.
        desk.write("// Half.\nfn schedule(job, workers, hives) { wait() }\n");
        assert_eq!(desk.look().await, "First.");
        desk.write(SECOND);
        assert_eq!(desk.look().await, "First.");
        assert_eq!(desk.look().await, "Second.");
        for _ in 0..3 {
            desk.look().await;
        }
        let versions = desk.queen.policy().versions().await.unwrap();
        let origins: Vec<_> = versions.iter().map(|version| version.origin).collect();
        assert_eq!(origins, [PolicyOrigin::Application; 2], "it is put in force once");
    }

    #[tokio::test]
    async fn a_file_that_is_not_understood_is_refused_once_and_the_next_one_is_taken() {
        let mut desk = Desk::new().await;
        desk.write("fn schedule(job, workers, hives) { workers.idel() }");
        desk.look().await;
        assert_eq!(desk.look().await, "First.");
        assert_eq!(desk.file.applied, stamp(&desk.path()), "it is not read again");
        desk.write(SECOND);
        desk.look().await;
        assert_eq!(desk.look().await, "Second.");
    }

    #[tokio::test]
    async fn a_file_that_is_read_again_on_demand_is_in_force_at_once_or_refused() {
        let mut desk = Desk::new().await;
        let again = async |desk: &mut Desk| {
            desk.file.look_again(&desk.queen).await;
            desk.queen.policy().status().description
        };
        desk.write(SECOND);
        assert_eq!(again(&mut desk).await, "Second.", "without an unchanged check first");
        assert_eq!(again(&mut desk).await, "Second.");
        let versions = desk.queen.policy().versions().await.unwrap();
        assert_eq!(versions.len(), 2, "what has not changed is not put in force again");
        desk.write("fn schedule(job, workers, hives) { workers.idel() }");
        assert_eq!(again(&mut desk).await, "Second.");
        fs::remove_file(desk.path()).unwrap();
        assert_eq!(again(&mut desk).await, "Second.");
        desk.write(FIRST);
        assert_eq!(again(&mut desk).await, "First.");
        assert_eq!(desk.file.applied, stamp(&desk.path()), "nothing is left to do");
    }

    #[tokio::test]
    async fn a_change_that_could_not_be_recorded_is_tried_again() {
        let mut desk = Desk::new().await;
        desk.is_full.store(true, Ordering::SeqCst);
        desk.write(SECOND);
        for _ in 0..8 {
            assert_eq!(desk.look().await, "First.");
        }
        desk.is_full.store(false, Ordering::SeqCst);
        for _ in 0..8 {
            desk.look().await;
        }
        assert_eq!(desk.look().await, "Second.");
    }

    #[tokio::test]
    async fn a_file_that_is_gone_leaves_its_policy_in_force_until_it_is_back() {
        let mut desk = Desk::new().await;
        fs::remove_file(desk.path()).unwrap();
        desk.look().await;
        assert!(!desk.file.is_away, "an editor may take it away for a moment");
        assert_eq!(desk.look().await, "First.");
        assert!(desk.file.is_away);
        desk.write(SECOND);
        desk.look().await;
        assert_eq!(desk.look().await, "Second.");
        assert!(!desk.file.is_away);
    }
}
