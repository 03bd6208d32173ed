//! A disk that is really full: a small file system in memory, which only root can mount, and only on Linux.
//!
//! If it cannot be mounted, the test prints a warning. The tests of the registry itself cause the same fault inside
//! SQLite.

use std::{fs, path::Path, process::Command, time::Duration};

use rbee_core::{
    CorrelationId, ErrorKind, HiveId, JobId, Outcome, Priority, Registry, SqliteRegistry,
    answer::AnswerFormat,
    hive::HiveAddress,
    id::{Epoch, QueenId},
    job::LiveJob,
    registry::{Change, HiveRecord, HiveStatus, JobFilter, JobRecord},
    time::WallTime,
};

/// Unmounted in any case.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Result<Self, String> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"])
            .arg(dir.path())
            .output()
            .map_err(|error| error.to_string())?;
        if mounted.status.success() {
            Ok(Self(dir))
        } else {
            Err(String::from_utf8_lossy(&mounted.stderr).trim().to_owned())
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.0.path()).status();
        assert!(
            std::thread::panicking() || unmounted.is_ok_and(|status| status.success()),
            "the small disk is still mounted"
        );
    }
}

fn job(order: u64) -> JobRecord {
    JobRecord {
        id: JobId::random(),
        tenant: None,
        model: "bee".parse().unwrap(),
        priority: Priority::Interactive,
        status: LiveJob::queued().into(),
        order,
        submitted_at: WallTime::now(),
        attempts: 0,
        restarts: 0,
        correlation_id: CorrelationId::random(),
        idempotency: None,
        owner: Epoch::default(),
        request: None,
        outline: None,
        numerics: None,
        format: AnswerFormat::default(),
        chunks: Vec::new(),
        vectors: None,
        output_kept: false,
        taken_over: false,
        tokens_generated: 0,
    }
}

fn hive(bytes: usize) -> Change {
    Change::HivePut(Box::new(HiveRecord {
        id: HiveId::local(),
        hostname: "here".into(),
        port: 0,
        address: HiveAddress::Local,
        capabilities: "x".repeat(bytes).into(),
        last_seen: WallTime::now(),
        status: HiveStatus::Online,
        labels: Default::default(),
    }))
}

#[tokio::test]
async fn a_full_disk_fails_records_whole_and_room_mends_it() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(why) => {
            eprintln!(
                "NOT TESTED: a disk that is really full. No small disk can be mounted here: {why}"
            );
            return;
        }
    };
    let database = disk.path().join("rbee.db");
    let ballast = disk.path().join("ballast");
    let registry = SqliteRegistry::open(&database).unwrap();
    let queen = QueenId::new("a").unwrap();
    let epoch = registry.open(&queen, Duration::from_secs(3600)).await.unwrap().epoch;
    let first = job(0);
    let queue = |job: &JobRecord| Change::JobQueued(Box::new(job.clone()));
    registry.record(epoch, &[queue(&first)]).await.unwrap();

    // Half of the remaining space for another file, the rest for the registry, until the disk is full.
    fs::write(&ballast, vec![0; 400 << 10]).unwrap();
    let mut acknowledged = vec![first.id];
    let mut refused = Vec::new();
    for order in 1..40 {
        let job = job(order);
        match registry.record(epoch, &[queue(&job), hive(50 << 10)]).await {
            Ok(()) => acknowledged.push(job.id),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Storage, "{error:?}");
                let named = database.display().to_string();
                assert!(error.message().contains(&named), "{error:?}");
                refused.push(job.id);
            }
        }
    }
    assert!(!refused.is_empty(), "40 records of 50 KiB fit on a disk of 1 MiB");

    fs::remove_file(&ballast).unwrap();
    let end = Change::JobEnded {
        job: first.id,
        outcome: Outcome::Cancelled,
        at: WallTime::now(),
        used_tokens: 0,
        keep_request: false,
        keep_output: false,
    };
    registry.record(epoch, &[end]).await.expect("there is room again");
    for id in &acknowledged {
        let found = registry.jobs(&JobFilter::one(*id)).await.unwrap();
        assert_eq!(found.len(), 1, "acknowledged job {id} is lost");
    }
    for id in &refused {
        let found = registry.jobs(&JobFilter::one(*id)).await.unwrap();
        assert!(found.is_empty(), "a part of a refused record is there");
    }
    drop(registry);
    let db = rusqlite::Connection::open(&database).unwrap();
    let integrity: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
}
