//! Losses of the file, of its log, or of a part of either. Each is noticed, and each has a remedy.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::{
    super::{backup, file::beside, log_check, loss_mark},
    *,
};
use crate::{
    error::{Error, ErrorKind},
    registry::{Backups, JobFilter},
};

/// A directory with a database as a killed process leaves it, and the epoch of its queen: 20 jobs; the first are in the
/// file and the others in its log.
struct Killed {
    dir: tempfile::TempDir,
    epoch: Epoch,
}

impl Killed {
    async fn new() -> Self {
        let live = tempfile::tempdir().unwrap();
        let path = live.path().join("rbee.db");
        let registry = SqliteRegistry::open(&path).unwrap();
        let epoch = begin(&registry, "a").await.epoch;
        for n in 0..10 {
            registry.record(epoch, &[queued(&job(n, "x"))]).await.unwrap();
        }
        let checkpoint = |db: &Connection| {
            db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
        };
        registry.on_writer(checkpoint).await;
        for n in 10..20 {
            registry.record(epoch, &[queued(&job(n, "x"))]).await.unwrap();
        }
        // A killed process leaves the contents of its files at that time.
        let dir = tempfile::tempdir().unwrap();
        for suffix in ["", "-wal", "-shm", "-mark"] {
            fs::copy(beside(&path, suffix), beside(&dir.path().join("rbee.db"), suffix)).unwrap();
        }
        Self { dir, epoch }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("rbee.db")
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        beside(&self.path(), suffix)
    }

    /// Checks that opening is refused, with these words and the remedies, and changes nothing.
    fn refused(&self, words: &str) {
        for _ in 0..2 {
            let before = contents(self.dir.path());
            let error = SqliteRegistry::open(self.path()).expect_err(words);
            assert_loss(&error, words, &self.path());
            assert!(contents(self.dir.path()) == before, "something was changed");
        }
    }

    /// Opens the database, and returns the epoch and the number of jobs.
    async fn reopened(&self) -> (Epoch, usize) {
        let registry = SqliteRegistry::open(self.path()).unwrap();
        let found = begin(&registry, "a").await;
        (found.epoch, found.jobs.len())
    }
}

fn assert_loss(error: &Error, words: &str, path: &Path) {
    assert_eq!(error.kind(), ErrorKind::Storage, "{error:?}");
    let ways_out = ["--restore latest", "--accept-loss", "--new-database"];
    for part in ways_out.into_iter().chain([words, &path.display().to_string()]) {
        assert!(error.message().contains(part), "{part:?} is not in {error:?}");
    }
}

/// All files except the index of the log and an empty log: any reader of the database creates them.
fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let named =
        entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()));
    let mut found: Vec<_> = named
        .filter(|(name, _)| !name.ends_with("-shm"))
        .map(|(name, path)| (name, fs::read(path).unwrap()))
        .filter(|(name, bytes)| !name.ends_with("-wal") || !bytes.is_empty())
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn what_a_killed_process_leaves_is_whole() {
    let killed = Killed::new().await;
    assert_eq!(log_check::missing(&killed.path()).unwrap(), None);
    let (epoch, jobs) = killed.reopened().await;
    assert!(epoch > killed.epoch);
    assert_eq!(jobs, 20);
}

#[tokio::test]
async fn an_emptied_and_a_deleted_database_are_refused() {
    let killed = Killed::new().await;
    fs::write(killed.path(), "").unwrap();
    killed.refused("the file is empty");
    fs::remove_file(killed.path()).unwrap();
    killed.refused("the file is gone");
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(killed.beside(suffix)).unwrap();
    }
    killed.refused("the file is gone");
}

#[tokio::test]
async fn a_log_that_lost_anything_is_refused() {
    let whole = fs::read(Killed::new().await.beside("-wal")).unwrap();
    assert!(whole.len() > 10 * 4_096);
    // Cut anywhere, also within its last commit, or between two frames.
    for cut in [0, 31, 32, 5_000, whole.len() / 2, whole.len() - 4_120, whole.len() - 1] {
        let killed = Killed::new().await;
        let log = fs::read(killed.beside("-wal")).unwrap();
        fs::write(killed.beside("-wal"), &log[..cut.min(log.len() - 1)]).unwrap();
        killed.refused("is damaged or gone");
    }
    for at in [0, 100, whole.len() / 2, whole.len() - 8_000] {
        let killed = Killed::new().await;
        let mut log = fs::read(killed.beside("-wal")).unwrap();
        log[at..at + 24].iter_mut().for_each(|byte| *byte = !*byte);
        fs::write(killed.beside("-wal"), log).unwrap();
        killed.refused("changed pages are missing");
    }
    let killed = Killed::new().await;
    fs::remove_file(killed.beside("-wal")).unwrap();
    killed.refused("is damaged or gone");
}

#[tokio::test]
async fn a_log_that_was_lost_with_the_index_is_noticed_by_the_mark() {
    let killed = Killed::new().await;
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(killed.beside(suffix)).unwrap();
    }
    // The mark is as old as the epoch, and all of it was in the file.
    assert_eq!(killed.reopened().await.1, 10);

    let killed = Killed::new().await;
    let (epoch, _) = killed.reopened().await;
    let earlier = fs::read(killed.path()).unwrap();
    let registry = SqliteRegistry::open(killed.path()).unwrap();
    begin(&registry, "a").await;
    drop(registry);
    fs::write(killed.path(), earlier).unwrap();
    killed.refused("is missing");
    assert!(epoch > killed.epoch);
}

#[tokio::test]
async fn a_log_that_was_torn_as_the_system_went_down_is_no_damage() {
    let killed = Killed::new().await;
    let log = fs::read(killed.beside("-wal")).unwrap();
    fs::write(killed.beside("-wal"), &log[..log.len() - 1]).unwrap();
    let mut mark = loss_mark::read(&killed.path()).unwrap().unwrap();
    mark.boot = Some("another start of the system".into());
    loss_mark::write(&killed.path(), &mark).unwrap();
    assert_eq!(killed.reopened().await.1, 19);
}

#[tokio::test]
async fn another_database_in_its_place_is_refused() {
    let killed = Killed::new().await;
    let other = tempfile::tempdir().unwrap();
    let registry = SqliteRegistry::open(other.path().join("rbee.db")).unwrap();
    for queen in ["a", "b", "c"] {
        begin(&registry, queen).await;
    }
    drop(registry);
    for suffix in ["-wal", "-shm"] {
        fs::remove_file(killed.beside(suffix)).unwrap();
    }
    fs::copy(other.path().join("rbee.db"), killed.path()).unwrap();
    killed.refused("it is another database");
}

#[tokio::test]
async fn a_directory_that_is_copied_or_has_no_mark_is_opened() {
    let killed = Killed::new().await;
    killed.reopened().await;
    let copy = tempfile::tempdir().unwrap();
    for suffix in ["", "-mark"] {
        fs::copy(killed.beside(suffix), beside(&copy.path().join("rbee.db"), suffix)).unwrap();
    }
    drop(SqliteRegistry::open(copy.path().join("rbee.db")).unwrap());
    fs::remove_file(copy.path().join("rbee.db-mark")).unwrap();
    let registry = SqliteRegistry::open(copy.path().join("rbee.db")).unwrap();
    assert_eq!(begin(&registry, "a").await.jobs.len(), 20);
    assert!(loss_mark::read(&copy.path().join("rbee.db")).unwrap().is_some(), "it is marked again");
}

#[tokio::test]
async fn two_processes_that_share_a_database_share_its_mark() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let one = SqliteRegistry::open(&path).unwrap();
    let first = begin(&one, "a").await.epoch;
    let other = SqliteRegistry::open(&path).unwrap();
    let second = begin(&other, "b").await.epoch;
    one.record(first, &[queued(&job(1, "x"))]).await.unwrap();
    one.release(first).await.unwrap();
    let mark = loss_mark::read(&path).unwrap().unwrap();
    assert_eq!(mark.epoch, second.0, "the greatest, whoever has it");
    drop(one);
    drop(other);
    SqliteRegistry::open(&path).unwrap();
}

#[tokio::test]
async fn the_mark_is_written_now_and_then_and_not_for_each_record() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let clock = Arc::new(AtomicU64::new(1_800_000_000_000));
    let told = clock.clone();
    let options = SqliteRegistry::options();
    let options = options.clock(move || WallTime::from_millis(told.load(Ordering::Relaxed)));
    let registry = options.open(&path).unwrap();
    let epoch = begin(&registry, "a").await.epoch;
    let stamp = || loss_mark::read(&path).unwrap().unwrap().stamp;
    let first = stamp();
    for n in 0..100 {
        registry.record(epoch, &[queued(&job(n, "x"))]).await.unwrap();
    }
    registry.renew(epoch).await.unwrap();
    assert_eq!(stamp(), first);
    clock.fetch_add(30_000, Ordering::Relaxed);
    registry.renew(epoch).await.unwrap();
    assert_eq!(stamp(), first + 1);
    clock.fetch_add(30_000, Ordering::Relaxed);
    registry.renew(epoch).await.unwrap();
    assert_eq!(stamp(), first + 1, "nothing was recorded since");
}

#[tokio::test]
async fn a_backup_is_restored_in_the_place_of_a_lost_database_and_epochs_go_on() {
    let killed = Killed::new().await;
    let (_, jobs) = killed.reopened().await;
    assert_eq!(jobs, 20);
    let backup = killed.dir.path().join("copy.db");
    fs::write(&backup, "").unwrap();
    assert!(backup::copy(&killed.path(), &backup, Duration::ZERO, || false).unwrap());
    // Later runs, and jobs that are in no backup.
    let registry = SqliteRegistry::open(killed.path()).unwrap();
    let last = begin(&registry, "a").await.epoch;
    registry.record(last, &[queued(&job(100, "x"))]).await.unwrap();
    let error = SqliteRegistry::restore(killed.path(), &backup).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error:?}");
    drop(registry);
    fs::write(killed.path(), "").unwrap();
    killed.refused("the file is empty");

    let restored = SqliteRegistry::restore(killed.path(), &backup).unwrap();
    assert_eq!(restored.live_jobs, 20);
    assert!(restored.from.is_some());
    assert_eq!(fs::read(restored.replaced.unwrap()).unwrap(), b"");
    let (epoch, jobs) = killed.reopened().await;
    assert!(epoch > last, "{epoch} was given out before: the last one was {last}");
    assert_eq!(jobs, 20);
}

#[tokio::test]
async fn a_database_from_a_backup_that_was_copied_by_hand_is_refused_until_the_loss_is_accepted() {
    let killed = Killed::new().await;
    killed.reopened().await;
    let backup = fs::read(killed.path()).unwrap();
    let registry = SqliteRegistry::open(killed.path()).unwrap();
    let last = begin(&registry, "a").await.epoch;
    registry.record(last, &[queued(&job(100, "x"))]).await.unwrap();
    drop(registry);
    fs::write(killed.path(), backup).unwrap();
    killed.refused("is missing");
    let accepted = SqliteRegistry::accept_loss(killed.path()).unwrap();
    assert_eq!((accepted.live_jobs, accepted.replaced), (20, None));
    let (epoch, jobs) = killed.reopened().await;
    assert!(epoch > last);
    assert_eq!(jobs, 20);
}

#[tokio::test]
async fn a_new_database_begins_with_greater_epochs_and_the_old_one_is_kept() {
    let killed = Killed::new().await;
    let (last, _) = killed.reopened().await;
    let anew = SqliteRegistry::start_anew(killed.path()).unwrap();
    assert_eq!((anew.live_jobs, anew.from), (0, None));
    let (epoch, jobs) = killed.reopened().await;
    assert!(epoch > last);
    assert_eq!(jobs, 0);
    let old = SqliteRegistry::open(anew.replaced.unwrap()).unwrap();
    assert_eq!(old.jobs(&JobFilter::default()).await.unwrap().len(), 20);
}

#[tokio::test]
async fn what_is_no_whole_backup_is_not_restored_and_everything_stays_as_it_is() {
    let killed = Killed::new().await;
    killed.reopened().await;
    let (before, other) = (fs::read(killed.path()).unwrap(), tempfile::tempdir().unwrap());
    let file = other.path().join("backup.db");
    let mut damaged = before.clone();
    let middle = damaged.len() / 2;
    damaged[middle..].fill(0xa5);
    let short = &before[..before.len() / 2];
    for content in [&b""[..], b"nonsense that is no database", short, &damaged] {
        fs::write(&file, content).unwrap();
        let error = SqliteRegistry::restore(killed.path(), &file).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Storage);
        assert!(error.message().contains(&file.display().to_string()), "{error:?}");
        assert_eq!(fs::read(killed.path()).unwrap(), before);
    }
    let missing = SqliteRegistry::restore(killed.path(), other.path().join("none")).unwrap_err();
    assert!(missing.message().contains("none cannot be used"), "{missing:?}");
    let foreign = other.path().join("foreign.db");
    Connection::open(&foreign).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    let error = SqliteRegistry::restore(killed.path(), &foreign).unwrap_err();
    assert!(error.message().contains("another application"), "{error:?}");
    let names = contents(killed.dir.path()).into_iter().map(|(name, _)| name);
    let names: Vec<_> = names.filter(|name| !name.contains("-life-")).collect();
    assert_eq!(names, ["rbee.db", "rbee.db-mark"], "nothing is left lying about");
}

#[tokio::test]
async fn a_backup_is_of_one_moment_whatever_is_written_while_it_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join("rbee.db"), dir.path().join("copy.db"));
    let registry = SqliteRegistry::open(&path).unwrap();
    let epoch = begin(&registry, "a").await.epoch;
    for n in 0..150 {
        registry.record(epoch, &[queued(&job(n, &"x".repeat(20_000)))]).await.unwrap();
    }
    let other = Connection::open(&path).unwrap();
    let mut written = 0;
    let write = || {
        other.execute("UPDATE jobs SET attempts = attempts + 1", []).unwrap();
        written += 1;
        false
    };
    fs::write(&copy, "").unwrap();
    assert!(backup::copy(&path, &copy, Duration::ZERO, write).unwrap());
    assert!(written > 1, "it was copied in one step");
    let db = Connection::open(&copy).unwrap();
    let ask = |sql| db.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(ask("SELECT count(*) FROM jobs WHERE attempts = 0"), 150);
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok");
    assert!(!beside(&copy, "-wal").exists(), "it is one file");

    let stopped = dir.path().join("stopped.db");
    fs::write(&stopped, "").unwrap();
    assert!(!backup::copy(&path, &stopped, Duration::ZERO, || true).unwrap());
}

#[tokio::test]
async fn backups_are_made_while_something_is_recorded_and_the_oldest_make_way() {
    let dir = tempfile::tempdir().unwrap();
    let (path, directory) = (dir.path().join("rbee.db"), dir.path().join("backups"));
    let interval = Duration::from_millis(1_100);
    let backups = Backups { directory: directory.clone(), interval, kept: 1 };
    let registry = SqliteRegistry::options().backups(backups).open(&path).unwrap();
    let epoch = begin(&registry, "a").await.epoch;
    let status = registry.backup_status().unwrap();
    let began = std::time::Instant::now();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "{seen:?} {:?}", status.error());
        if let Some((made, _)) = status.last()
            && !seen.contains(&made)
        {
            seen.push(made);
            registry.record(epoch, &[queued(&job(seen.len() as u64, "x"))]).await.unwrap();
        } else if seen.is_empty() {
            registry.record(epoch, &[queued(&job(0, "x"))]).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(registry);
    assert_eq!(SqliteRegistry::find_backups(&directory), seen[1..]);
    // It was made before the last write of the mark.
    fs::copy(&seen[1], &path).unwrap();
    let error = SqliteRegistry::open(&path).unwrap_err();
    assert_loss(&error, "is missing", &path);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&directory), mode(&seen[1])), (0o700, 0o600));
    }
}

#[tokio::test]
async fn an_end_that_was_kept_beside_a_locked_database_is_recorded_by_whoever_takes_the_job_over() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    let options = SqliteRegistry::options().busy_timeout(Duration::from_millis(20));
    for taker in ["a", "b"] {
        let registry = options.open(&path).unwrap();
        let epoch = begin(&registry, "a").await.epoch;
        let jobs = [job(1, "x"), job(2, "x"), job(3, "x")];
        let changes = jobs.each_ref().map(queued);
        registry.record(epoch, &changes).await.unwrap();
        let failed = Outcome::Failed(Error::new(ErrorKind::WorkerLost, "its words"));
        let at = WallTime::now();
        let ended = |id, outcome| Change::JobEnded {
            job: id,
            outcome,
            at,
            used_tokens: 0,
            keep_request: false,
            keep_output: false,
        };
        let ends = [ended(jobs[0].id, failed.clone()), ended(jobs[1].id, Outcome::Cancelled)];
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN IMMEDIATE").unwrap();
        registry.record(epoch, &ends).await.unwrap_err();
        for end in &ends {
            registry.keep_ends(epoch, std::slice::from_ref(end)).await.unwrap();
        }
        drop(other);
        // Its process ends without another record.
        drop(registry);
        let registry = options.open(&path).unwrap();
        let left: Vec<_> = begin(&registry, taker).await.jobs.iter().map(|job| job.id).collect();
        assert_eq!(left, [jobs[2].id]);
        let found = registry.jobs(&JobFilter::one(jobs[0].id)).await.unwrap().remove(0);
        let crate::job::JobStatus::Ended(end) = found.status else { panic!("it is live") };
        assert_eq!((end.outcome, end.completed_at), (failed, at));
        let cancelled = registry.jobs(&JobFilter::one(jobs[1].id)).await.unwrap().remove(0);
        assert_eq!(cancelled.status.state(), crate::job::JobState::Cancelled);
        let end = ended(jobs[2].id, Outcome::Cancelled);
        let epoch = begin(&registry, taker).await.epoch;
        registry.record(epoch, &[end]).await.unwrap();
        registry.release(epoch).await.unwrap();
    }
}

#[tokio::test]
async fn there_is_a_bound_to_the_ends_that_are_kept_and_room_again_once_they_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let registry = SqliteRegistry::open(dir.path().join("rbee.db")).unwrap();
    let epoch = begin(&registry, "a").await.epoch;
    let ends: Vec<_> =
        (0..50).map(|_| cancelled(JobId::random(), WallTime::from_millis(1))).collect();
    for _ in 0..2 {
        let mut kept = 0;
        let error = loop {
            match registry.keep_ends(epoch, &ends).await {
                Ok(()) => kept += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Storage, "{error:?}");
        assert!((5..20).contains(&kept), "{kept}");
        registry.keep_ends(epoch, &[]).await.unwrap();
    }
    let unknown = registry.keep_ends(Epoch(99), &ends).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unsupported);
}
