//! Opens the database: refuses files that are not a database of rbee, then migrates to the version of this build.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{
    durability::Durability,
    fault::Fault,
    file, log_check,
    loss_mark::{self, Mark},
    schema::{APPLICATION_ID, MIGRATIONS},
};

/// The number of statements kept prepared: more than the code has.
const STATEMENTS: usize = 64;

/// The size to which the log is truncated after a burst, in bytes.
const LOG_BYTES: i64 = 64 << 20;

/// The largest database of which all pages are checked when it is opened, in bytes. A larger one is checked when a
/// backup of it is made.
const CHECKED_BYTES: u64 = 64 << 20;

/// Only one opening at a time in this process (see file.rs).
static OPENING: Mutex<()> = Mutex::new(());

/// How often each database is open in this process.
static OPEN: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

fn open_here() -> MutexGuard<'static, BTreeMap<PathBuf, usize>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A unique path of a file.
fn one_name(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// True if this database is open in this process.
pub(super) fn is_open_here(path: &Path) -> bool {
    open_here().contains_key(&one_name(path))
}

/// Marks a database as open in this process, until it is dropped.
#[derive(Debug)]
pub(super) struct OpenHere(PathBuf);

impl OpenHere {
    fn new(path: &Path) -> Self {
        let path = one_name(path);
        *open_here().entry(path.clone()).or_default() += 1;
        Self(path)
    }
}

impl Drop for OpenHere {
    fn drop(&mut self) {
        let mut open = open_here();
        if let Some(count) = open.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.0);
            }
        }
    }
}

/// The connection that writes. The file is checked, created if it is missing, and migrated.
pub(super) fn open_writer(
    path: &Path,
    durability: Durability,
    busy: Duration,
) -> Result<(Connection, OpenHere), Fault> {
    let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    let mark = loss_mark::read(path)?;
    if let Some(mark) = &mark {
        check_files(path, mark)?;
    }
    file::prepare(path)?;
    look(path, busy, mark.as_ref())?;
    if let Err(error) = file::make_private(path) {
        tracing::warn!(path = %path.display(), %error, "others may read the database");
    }
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, busy)?;
    use_log(&connection, busy)?;
    connection.pragma_update(None, "synchronous", durability.synchronous())?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Erased data is overwritten if that needs no extra page.
    connection.pragma_update(None, "secure_delete", "FAST")?;
    migrate(&mut connection, MIGRATIONS)?;
    Ok((connection, OpenHere::new(path)))
}

/// Checks that the files exist as the mark states. Must run before SQLite opens them: SQLite makes a new database of an
/// empty file, and drops the part of a log that it cannot read.
fn check_files(path: &Path, mark: &Mark) -> Result<(), Fault> {
    let what = match fs::metadata(path) {
        Ok(found) if found.is_file() && found.len() == 0 => "the file is empty",
        Ok(_) => return check_log(path, mark),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "the file is gone",
        Err(error) => return Err(error.into()),
    };
    Err(loss_mark::lost(mark, what.into()))
}

/// Checks that the log is complete. Data that the system itself did not write before it crashed is no damage.
fn check_log(path: &Path, mark: &Mark) -> Result<(), Fault> {
    if mark.boot.is_none() || mark.boot != loss_mark::boot() || is_open_here(path) {
        return Ok(());
    }
    match log_check::missing(path)? {
        None => Ok(()),
        Some((missing, of)) => {
            let log = file::beside(path, "-wal");
            let what = format!(
                "its log {} is damaged or gone: {missing} of {of} changed pages are missing",
                log.display()
            );
            Err(loss_mark::lost(mark, what))
        }
    }
}

/// Migrates a database to the version of this build.
pub(super) fn bring_up_to_date(connection: &mut Connection) -> Result<(), Fault> {
    migrate(connection, MIGRATIONS)
}

/// Checks all pages.
pub(super) fn check_pages(connection: &Connection) -> Result<(), Fault> {
    let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if said == "ok" { Ok(()) } else { Err(Fault::Unsound(said)) }
}

/// Opens a database that may replace another: a complete database of rbee.
pub(super) fn open_backup(path: &Path, busy: Duration) -> Result<Connection, Fault> {
    if fs::metadata(path)?.len() == 0 {
        return Err(Fault::NotADatabase);
    }
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, busy)?;
    if check(&connection, MIGRATIONS.len() as i32)? == 0 {
        return Err(Fault::Foreign { found: 0 });
    }
    check_pages(&connection)?;
    Ok(connection)
}

/// Checks that the database is one of rbee and that it contains what its mark states, on a connection that cannot
/// write, so that a refused file stays as it is.
fn look(path: &Path, busy: Duration, mark: Option<&Mark>) -> Result<(), Fault> {
    let known = MIGRATIONS.len() as i32;
    let is_small = fs::metadata(path)?.len() <= CHECKED_BYTES;
    let check = |access| {
        let connection = connect(path, access, busy)?;
        check(&connection, known)?;
        if let Some(mark) = mark {
            loss_mark::compare(mark, loss_mark::identity(&connection)?.as_ref())?;
        }
        if is_small { check_pages(&connection) } else { Ok(()) }
    };
    let checked = check(OpenFlags::SQLITE_OPEN_READ_ONLY);
    let Err(Fault::Sqlite(error)) = &checked else {
        return checked;
    };
    let code = error.sqlite_error().map(|error| error.extended_code);
    if code != Some(rusqlite::ffi::SQLITE_READONLY_ROLLBACK) {
        return checked;
    }
    // A process died in the middle of a change without the log (here: while it created the database). Before anything
    // can be read, the unfinished change must be rolled back, as every opening does.
    check(OpenFlags::SQLITE_OPEN_READ_WRITE)
}

/// A connection that can only read.
pub(super) fn open_reader(path: &Path, busy: Duration) -> Result<Connection, Fault> {
    connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, busy)
}

fn connect(path: &Path, access: OpenFlags, busy: Duration) -> Result<Connection, Fault> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(busy)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    Ok(connection)
}

/// Switches to the write-ahead log. If two processes create the same database at once, SQLite does not wait for the
/// lock of this step, so this function does.
fn use_log(connection: &Connection, busy: Duration) -> Result<(), Fault> {
    let step = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        let set = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get::<_, String>(0));
        match set {
            Ok(_) => return Ok(()),
            Err(error)
                if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DatabaseBusy)
                    && waited < busy =>
            {
                std::thread::sleep(step);
                waited += step;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

fn number(connection: &Connection, pragma: &str) -> Result<i32, Fault> {
    let read = connection.pragma_query_value(None, pragma, |row| row.get(0));
    read.map_err(|error| match error.sqlite_error_code() {
        Some(rusqlite::ErrorCode::NotADatabase) => Fault::NotADatabase,
        _ => error.into(),
    })
}

/// Checks the application and the version of a database. Returns the version.
fn check(connection: &Connection, known: i32) -> Result<i32, Fault> {
    let (application, version) =
        (number(connection, "application_id")?, number(connection, "user_version")?);
    if application != APPLICATION_ID {
        let tables: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if application != 0 || version != 0 || tables != 0 {
            return Err(Fault::Foreign { found: application });
        }
    } else if version > known {
        return Err(Fault::Newer { found: version, known });
    }
    Ok(version)
}

/// Runs the missing migrations, each in its own transaction: a step that fails leaves the previous version.
fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), Fault> {
    let known = i32::try_from(steps.len()).unwrap_or(i32::MAX);
    loop {
        let step = Transaction::new(connection, TransactionBehavior::Immediate)?;
        // Read under the lock: another process may have run the step in the meantime.
        let version = check(&step, known)?;
        let Some(sql) = usize::try_from(version).ok().and_then(|v| steps.get(v)) else {
            return Ok(());
        };
        step.execute_batch(sql)?;
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", version + 1)?;
        step.commit()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it_whole() {
        let mut db = Connection::open_in_memory().unwrap();
        let bad = "CREATE TABLE b (x); INSERT INTO nowhere VALUES (1);";
        migrate(&mut db, &["CREATE TABLE a (x)", bad]).unwrap_err();
        assert_eq!(number(&db, "user_version").unwrap(), 1);
        let tables: i64 =
            db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).unwrap();
        assert_eq!(tables, 1, "half of the second step was kept");

        migrate(&mut db, &["CREATE TABLE a (x)", "CREATE TABLE b (x)"]).unwrap();
        assert_eq!(number(&db, "user_version").unwrap(), 2);
    }

    #[test]
    fn a_job_that_an_older_version_has_kept_is_read_with_its_answer() {
        use super::super::{rows, token_chunks};
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &MIGRATIONS[..5]).unwrap();
        let job = crate::id::JobId::random();
        db.execute(
            "INSERT INTO jobs (job_id, model_ref, priority, state, submitted_at, started_at, completed_at, error_code,
                               error, attempts, tokens_generated, owner, queue_order, correlation_id, task)
             VALUES (?1, 'bee', 'batch', 'failed', 1, 2, 3, 'WORKER_LOST', 'gone', 1, 1, 1, 1, 'c', 'generate')",
            [job.to_string()],
        )
        .unwrap();
        let chunk =
            crate::registry::TokenChunk { id: Some(7), text: "honey".into(), logprobs: None };
        db.execute(
            "INSERT INTO pieces (job_id, at, data) VALUES (?1, 0, ?2)",
            rusqlite::params![job.to_string(), token_chunks::encode(std::slice::from_ref(&chunk))],
        )
        .unwrap();
        migrate(&mut db, MIGRATIONS).unwrap();
        let sql = format!("SELECT {} FROM jobs", rows::JOB_COLUMNS);
        let mut record = db.query_row(&sql, [], |row| Ok(rows::job(row).unwrap())).unwrap();
        rows::read_answer(&db, &mut record).unwrap();
        assert_eq!((record.id, &record.chunks[..]), (job, &[chunk][..]));
        assert!(!record.output_kept && record.has_whole_output() && record.vectors.is_none());
    }

    #[test]
    fn an_older_program_refuses_what_a_newer_one_wrote() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &["CREATE TABLE a (x)", "CREATE TABLE b (x)"]).unwrap();
        let refused = migrate(&mut db, &["CREATE TABLE a (x)"]).unwrap_err();
        assert!(matches!(refused, Fault::Newer { found: 2, known: 1 }), "{refused}");
    }
}
