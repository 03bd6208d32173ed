//! Owners of rows: which runs of queens are alive, and which run takes over the rows of ended ones. Runs inside a
//! transaction of the writer.

use std::{path::Path, time::Duration};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    ends,
    fault::{Fault, Refusal},
    ops::{stored, stored_time},
    owner_lock, rows,
};
use crate::{
    id::{Epoch, IdText, QueenId},
    job::JobState,
    registry::{Snapshot, rules},
    time::WallTime,
};

/// Begins a run and ends the previous runs of the same queen.
pub(super) fn begin(
    db: &Connection,
    queen: &QueenId,
    lease: Duration,
    liveness: Option<&str>,
    now: WallTime,
    database: &Path,
) -> Result<Epoch, Fault> {
    let earlier: Vec<(i64, Option<String>)> = db
        .prepare_cached("SELECT epoch, liveness FROM queens WHERE queen_id = ?1 ORDER BY epoch")?
        .query_map([queen.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<_, _>>()?;
    for (epoch, life) in earlier {
        record_kept(db, database, epoch, life.as_deref())?;
    }
    let lease_ms = stored(u64::try_from(lease.as_millis()).unwrap_or(u64::MAX));
    db.prepare_cached("DELETE FROM queens WHERE queen_id = ?1")?.execute([queen.as_str()])?;
    db.prepare_cached(
        "INSERT INTO queens (queen_id, lease_ms, lease_until, liveness) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![queen.as_str(), lease_ms, stored_time(now + lease), liveness])?;
    let epoch = u64::try_from(db.last_insert_rowid()).unwrap_or_default();
    Ok(Epoch(epoch))
}

/// Records the ends that a run kept next to the database, before its jobs change their owner.
fn record_kept(
    db: &Connection,
    database: &Path,
    epoch: i64,
    life: Option<&str>,
) -> Result<(), Fault> {
    let epoch = Epoch(u64::try_from(epoch).unwrap_or_default());
    life.map_or(Ok(()), |life| ends::record_kept(db, database, epoch, life))
}

/// Returns true if this run may write.
pub(super) fn is_current(db: &Connection, epoch: Epoch) -> Result<bool, Fault> {
    let found = db
        .prepare_cached("SELECT 1 FROM queens WHERE epoch = ?1 AND released = 0")?
        .query_row([stored(epoch.0)], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

/// Writes the row of a run again without a change.
pub(super) fn touch(db: &Connection, epoch: Epoch) -> Result<(), Fault> {
    db.prepare_cached("UPDATE queens SET released = released WHERE epoch = ?1")?
        .execute([stored(epoch.0)])?;
    Ok(())
}

/// Extends its lease.
pub(super) fn renew(db: &Connection, epoch: Epoch, now: WallTime) -> Result<(), Refusal> {
    // In SQLite a sum that is too large becomes a floating-point number, hence the smaller of the two.
    let renewed = db
        .prepare_cached(
            "UPDATE queens SET lease_until = ?2 + min(lease_ms, 9223372036854775807 - ?2)
             WHERE epoch = ?1 AND released = 0",
        )?
        .execute(params![stored(epoch.0), stored_time(now)])?;
    if renewed == 0 {
        return Err(Refusal::Fenced(rules::life_is_over(epoch)));
    }
    Ok(())
}

/// Ends a run cleanly. Has no effect if it has ended already.
pub(super) fn release(db: &Connection, epoch: Epoch) -> Result<(), Fault> {
    let ended = db
        .prepare_cached(
            "UPDATE queens SET released = 1, liveness = NULL WHERE epoch = ?1 AND released = 0",
        )?
        .execute([stored(epoch.0)])?;
    if ended > 0 {
        db.prepare_cached(
            "UPDATE jobs SET state = 'queued', worker_id = NULL, attempts = max(attempts - 1, 0)
             WHERE owner = ?1 AND state = 'running' AND completed_at IS NULL",
        )?
        .execute([stored(epoch.0)])?;
    }
    Ok(())
}

/// Ends every other run that is not alive, and gives rows without a living owner to this run.
pub(super) fn take_over(
    db: &Connection,
    epoch: Epoch,
    now: WallTime,
    database: &Path,
) -> Result<Snapshot, Fault> {
    for (dead, life) in dead_lives(db, epoch, now, database)? {
        record_kept(db, database, dead, life.as_deref())?;
        db.prepare_cached("DELETE FROM queens WHERE epoch = ?1")?.execute([dead])?;
    }
    let mut jobs = rows::ownerless_jobs(db, epoch)?;
    if !jobs.is_empty() {
        for job in &mut jobs {
            job.restarts += u32::from(job.status.state() == JobState::Running);
        }
        db.prepare_cached(
            "UPDATE jobs SET owner = ?1, taken_over = 1, restarts = restarts + (state = 'running')
             WHERE completed_at IS NULL AND owner NOT IN (SELECT epoch FROM queens)",
        )?
        .execute([stored(epoch.0)])?;
    }
    let hives = rows::ownerless_hives(db)?;
    let (mut models, mut workers) = (Vec::new(), Vec::new());
    for hive in &hives {
        models.extend(rows::models_of(db, &hive.id)?);
        workers.extend(rows::workers_of(db, &hive.id)?);
        db.prepare_cached("UPDATE hives SET owner = ?1 WHERE hive_id = ?2")?
            .execute(params![stored(epoch.0), hive.id.as_str()])?;
    }
    db.prepare_cached("DELETE FROM tenant_usage WHERE day < ?1")?
        .execute([stored(rules::first_day_kept(now))])?;
    let tenants = rows::tenants(db, rules::day(now))?;
    Ok(Snapshot { epoch, jobs, hives, models, workers, tenants })
}

fn dead_lives(
    db: &Connection,
    epoch: Epoch,
    now: WallTime,
    database: &Path,
) -> Result<Vec<(i64, Option<String>)>, Fault> {
    let mut others = db.prepare_cached(
        "SELECT epoch, released OR lease_until <= ?2, liveness FROM queens WHERE epoch <> ?1",
    )?;
    let mut others = others.query(params![stored(epoch.0), stored_time(now)])?;
    let mut dead = Vec::new();
    while let Some(row) = others.next()? {
        let (other, is_over, liveness) =
            (row.get(0)?, row.get(1)?, row.get::<_, Option<String>>(2)?);
        if is_over || liveness.as_deref().is_some_and(|name| owner_lock::has_died(database, name)) {
            dead.push((other, liveness));
        }
    }
    Ok(dead)
}

/// Removes the lock files that belong to no run in the table.
pub(super) fn sweep(db: &Connection, database: &Path) -> Result<(), Fault> {
    let known: Vec<String> = db
        .prepare_cached("SELECT liveness FROM queens WHERE liveness IS NOT NULL")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    owner_lock::sweep(database, |name| known.iter().any(|life| life == name))?;
    Ok(())
}

/// Removes up to `limit` jobs that ended before `before`. Returns true if there may be more.
pub(super) fn purge(db: &Connection, before: WallTime, limit: usize) -> Result<bool, Fault> {
    let old: Vec<String> = db
        .prepare_cached("SELECT job_id FROM jobs WHERE completed_at < ?1 LIMIT ?2")?
        .query_map(params![stored_time(before), stored(limit as u64)], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for job in &old {
        db.prepare_cached("DELETE FROM pieces WHERE job_id = ?1")?.execute([job])?;
        db.prepare_cached("DELETE FROM jobs WHERE job_id = ?1")?.execute([job])?;
    }
    Ok(old.len() == limit)
}

impl rusqlite::ToSql for IdText {
    fn to_sql(&self) -> rusqlite::Result<rusqlite::types::ToSqlOutput<'_>> {
        Ok(self.as_str().into())
    }
}
