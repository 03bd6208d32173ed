//! Cleanup after killed processes.

use std::{fs, time::Duration};

use super::{Shared, scan::names};
use crate::{error::Result, models::hub_cache::snapshot_files};

/// How long an unfinished copy is kept that nobody continues.
const ABANDONED: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a temporary file may be in use: it is written and renamed at once.
const TEMPORARY: Duration = Duration::from_secs(3600);

impl Shared {
    /// Removes the leftovers.
    pub(super) fn sweep(&self) -> Result<()> {
        let _lock = self.lock()?;
        for trash in names(&self.dir.join("trash")) {
            self.disk.remove_tree(&trash)?;
        }
        let older = |path: &std::path::Path, than| {
            let modified = fs::metadata(path).and_then(|file| file.modified()).ok();
            modified.and_then(|then| then.elapsed().ok()).is_some_and(|age| age > than)
        };
        for part in names(&self.dir.join("parts")) {
            let files = snapshot_files(&part).into_iter().map(|file| part.join(file.path));
            if files.chain([part.clone()]).all(|file| older(&file, ABANDONED)) {
                self.disk.remove_tree(&part)?;
            }
        }
        for file in names(&self.dir.join("hub")) {
            if file.extension().is_some_and(|end| end == "tmp") && older(&file, TEMPORARY) {
                self.disk.remove_file(&file)?;
            }
        }
        Ok(())
    }
}
