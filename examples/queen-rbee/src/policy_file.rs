//! The policy that the configuration names: read at the start, and again whenever its file changes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rbee_core::{
    Error, ErrorKind, MAX_POLICY_BYTES, PolicyOrigin, PolicySource, Queen, Result, RhaiScheduler,
};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// What tells one state of the file from another without reading it.
type Stamp = Option<(SystemTime, u64)>;

/// A file with a policy.
#[derive(Debug)]
pub(crate) struct PolicyFile {
    path: PathBuf,
    stamp: Stamp,
    text: Arc<str>,
}

impl PolicyFile {
    /// Reads it.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] where it cannot be read or is not understood.
    pub(crate) fn open(path: &Path) -> Result<(Self, RhaiScheduler)> {
        let stamp = stamp(path);
        let wrong = |error: Error| {
            let message = format!("setting policy, {}: {}", path.display(), error.message());
            Error::new(ErrorKind::Config, message).with_source(error)
        };
        let source = read(path).map_err(wrong)?;
        let text = source.text.clone();
        let scheduler = RhaiScheduler::from_source(source).map_err(wrong)?;
        Ok((Self { path: path.to_owned(), stamp, text }, scheduler))
    }

    /// Puts it in force whenever it has changed, until the queen is gone. A change that is not understood leaves the old
    /// policy in force, and is said in the log once.
    pub(crate) async fn watch(mut self, queen: Queen) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let stamp = stamp(&self.path);
            // An editor may take the file away for a moment.
            if stamp.is_none() || stamp == self.stamp {
                continue;
            }
            self.stamp = stamp;
            if let Err(error) = self.reload(&queen).await {
                let path = self.path.display();
                tracing::error!(file = %path, %error, "the changed policy is refused; the old one stays in force");
            }
        }
    }

    async fn reload(&mut self, queen: &Queen) -> Result<()> {
        let source = read(&self.path)?;
        if source.text == self.text {
            return Ok(());
        }
        self.text = source.text.clone();
        queen.set_policy(source, PolicyOrigin::Application).await.map(drop)
    }
}

fn stamp(path: &Path) -> Stamp {
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
