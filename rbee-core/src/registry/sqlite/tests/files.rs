//! The files that are created and their modes, and the files that are refused.

use std::{fs, path::Path};

use rusqlite::Connection;

use super::*;
use crate::error::ErrorKind;

#[cfg(unix)]
fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[cfg(unix)]
#[tokio::test]
async fn everything_it_makes_is_its_owners_alone() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("state/rbee");
    let registry = SqliteRegistry::open(below.join("rbee.db")).unwrap();
    begin(&registry, "a").await;
    assert_eq!(mode(&below), 0o700);
    assert_eq!(mode(below.parent().unwrap()), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&below).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    for suffix in ["rbee.db", "rbee.db-wal", "rbee.db-shm"] {
        assert!(names.iter().any(|name| name == suffix), "{names:?}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_database_that_others_could_read_is_made_private() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    drop(SqliteRegistry::open(&path).unwrap());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let registry = SqliteRegistry::open(&path).unwrap();
    begin(&registry, "a").await;
    for suffix in ["", "-wal", "-shm"] {
        let file = super::super::file::beside(&path, suffix);
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

/// Opens the file and expects a refusal with these words, and an unchanged file.
fn refused(path: &Path, words: &str) {
    let before = fs::read(path).ok();
    let error = SqliteRegistry::open(path).expect_err(words);
    assert_eq!(error.kind(), ErrorKind::Storage);
    let message = error.message();
    assert!(message.contains(words), "{message}");
    assert!(message.contains(&path.display().to_string()), "{message}");
    assert!(std::error::Error::source(&error).is_some());
    assert_eq!(fs::read(path).ok(), before, "the file was changed");
}

#[test]
fn what_is_no_database_of_ours_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    refused(dir.path(), "it is a directory");

    let text = dir.path().join("text");
    for content in ["hi", &"not a database, but long ".repeat(1_000)] {
        fs::write(&text, content).unwrap();
        refused(&text, "not an SQLite database");
    }

    let foreign = dir.path().join("foreign");
    let db = Connection::open(&foreign).unwrap();
    db.execute_batch("CREATE TABLE theirs (x)").unwrap();
    refused(&foreign, "another application");
    db.execute_batch("PRAGMA application_id = 7; DROP TABLE theirs").unwrap();
    drop(db);
    refused(&foreign, "0x00000007");

    let below_a_file = text.join("rbee.db");
    let error = SqliteRegistry::open(&below_a_file).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    drop(SqliteRegistry::open(&path).unwrap());
    let db = Connection::open(&path).unwrap();
    db.execute_batch("PRAGMA user_version = 99").unwrap();
    drop(db);
    refused(&path, "version 99");
    refused(&path, &format!("versions up to {}", super::super::schema::MIGRATIONS.len()));
}

#[tokio::test]
async fn an_empty_file_becomes_a_database() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rbee.db");
    fs::write(&path, "").unwrap();
    let registry = SqliteRegistry::open(&path).unwrap();
    assert_eq!(begin(&registry, "a").await.epoch, Epoch(1));
}

#[test]
fn two_that_make_the_same_database_at_once_both_succeed() {
    for _ in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rbee.db");
        std::thread::scope(|scope| {
            let both = [0, 1].map(|_| scope.spawn(|| SqliteRegistry::open(&path)));
            for opened in both {
                opened.join().unwrap().unwrap();
            }
        });
    }
}

#[tokio::test]
async fn the_durability_asked_for_is_set() {
    use crate::registry::Durability;
    let dir = tempfile::tempdir().unwrap();
    for (durability, expected) in [(Durability::ProcessCrash, 1), (Durability::PowerLoss, 2)] {
        let options = SqliteRegistry::options().durability(durability);
        let registry = options.open(dir.path().join("rbee.db")).unwrap();
        let check = move |db: &Connection| {
            let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            assert_eq!(pragma("synchronous").unwrap(), expected);
            assert_eq!(pragma("foreign_keys").unwrap(), 1);
            let journal =
                db.pragma_query_value(None, "journal_mode", |row| row.get::<_, String>(0));
            assert_eq!(journal.unwrap(), "wal");
        };
        registry.on_writer(check).await;
    }
}

#[tokio::test]
async fn a_database_whose_first_moments_were_cut_short_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, torn) = (dir.path().join("rbee.db"), dir.path().join("torn.db"));
    let db = Connection::open(&path).unwrap();
    // A half-finished change is in the file, next to the journal that can roll it back.
    db.execute_batch(
        "PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN; CREATE TABLE t (x);
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500)
         INSERT INTO t SELECT randomblob(1000) FROM n",
    )
    .unwrap();
    fs::copy(&path, &torn).unwrap();
    fs::copy(dir.path().join("rbee.db-journal"), dir.path().join("torn.db-journal")).unwrap();
    assert!(fs::metadata(&torn).unwrap().len() > 100_000);
    let registry = SqliteRegistry::open(&torn).unwrap();
    assert_eq!(begin(&registry, "a").await.epoch, Epoch(1));
}
