//! Opening the database: refuse what is not ours, then bring it to the version of this build.

use std::{
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{
    Durability,
    fault::Fault,
    file,
    schema::{APPLICATION_ID, MIGRATIONS},
};

/// Statements kept prepared: more than there are in the code.
const STATEMENTS: usize = 64;

/// The log is cut back to this size after a burst, in bytes.
const LOG_BYTES: i64 = 64 << 20;

/// One opening at a time in this process (see file.rs).
static OPENING: Mutex<()> = Mutex::new(());

/// The connection that writes. The file is checked, made where it is missing, and migrated.
pub(super) fn open_writer(
    path: &Path,
    durability: Durability,
    busy: Duration,
) -> Result<Connection, Fault> {
    let _alone = OPENING.lock().unwrap_or_else(PoisonError::into_inner);
    file::prepare(path)?;
    look(path, busy)?;
    if let Err(error) = file::make_private(path) {
        tracing::warn!(path = %path.display(), %error, "others may read the database");
    }
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, busy)?;
    use_log(&connection, busy)?;
    connection.pragma_update(None, "synchronous", durability.synchronous())?;
    connection.pragma_update(None, "journal_size_limit", LOG_BYTES)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What is erased is overwritten where that costs no further page.
    connection.pragma_update(None, "secure_delete", "FAST")?;
    migrate(&mut connection, MIGRATIONS)?;
    Ok(connection)
}

/// Checks whose database it is, on a connection that cannot write, so that what is refused stays as it is.
fn look(path: &Path, busy: Duration) -> Result<(), Fault> {
    let known = MIGRATIONS.len() as i32;
    let checked = check(&connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY, busy)?, known);
    let Err(Fault::Sqlite(error)) = &checked else {
        return checked.map(drop);
    };
    let code = error.sqlite_error().map(|error| error.extended_code);
    if code != Some(rusqlite::ffi::SQLITE_READONLY_ROLLBACK) {
        return checked.map(drop);
    }
    // Somebody died in the middle of a change without the log (here: in the first moments of a new database). Before
    // anything can be read, what there is of it must be taken back, as anyone who opens it would.
    check(&connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE, busy)?, known).map(drop)
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

/// Switches to the write-ahead log. Where two processes make the same new database at once, SQLite does not wait for
/// the lock of this one step, so this does.
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

/// Whose database it is, and of which version. Gives the version.
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

/// Runs the steps that are missing, each in a transaction of its own: a step that fails leaves the version before it.
fn migrate(connection: &mut Connection, steps: &[&str]) -> Result<(), Fault> {
    let known = i32::try_from(steps.len()).unwrap_or(i32::MAX);
    loop {
        let step = Transaction::new(connection, TransactionBehavior::Immediate)?;
        // Read under the lock: another process may have run the step meanwhile.
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
        use super::super::{pieces, rows};
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db, &MIGRATIONS[..5]).unwrap();
        let job = crate::JobId::random();
        db.execute(
            "INSERT INTO jobs (job_id, model_ref, priority, state, submitted_at, started_at, completed_at, error_code,
                               error, attempts, tokens_generated, owner, queue_order, correlation_id, task)
             VALUES (?1, 'bee', 'batch', 'failed', 1, 2, 3, 'WORKER_LOST', 'gone', 1, 1, 1, 1, 'c', 'generate')",
            [job.to_string()],
        )
        .unwrap();
        let piece = crate::Piece { id: Some(7), text: "honey".into() };
        db.execute(
            "INSERT INTO pieces (job_id, at, data) VALUES (?1, 0, ?2)",
            rusqlite::params![job.to_string(), pieces::encode(std::slice::from_ref(&piece))],
        )
        .unwrap();
        migrate(&mut db, MIGRATIONS).unwrap();
        let sql = format!("SELECT {} FROM jobs", rows::JOB_COLUMNS);
        let mut record = db.query_row(&sql, [], |row| Ok(rows::job(row).unwrap())).unwrap();
        rows::read_answer(&db, &mut record).unwrap();
        assert_eq!((record.id, &record.pieces[..]), (job, &[piece][..]));
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
