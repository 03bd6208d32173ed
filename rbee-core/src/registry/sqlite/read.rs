//! Listings of jobs, on separate connections and outside the async threads.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::{Connection, ToSql};
use tokio::sync::Semaphore;

use super::{fault::Fault, migrate, ops::stored, rows};
use crate::{
    error::Result,
    registry::{JobFilter, JobRecord, PolicyFilter, PolicyRecord},
};

/// The most listings that run at once; more listings wait.
const READERS: usize = 2;

/// Connections that are opened when they are first needed, and then reused.
#[derive(Debug)]
pub(super) struct Readers {
    path: Arc<Path>,
    busy: Duration,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn new(path: Arc<Path>, busy: Duration) -> Self {
        Self { path, busy, turns: Arc::new(Semaphore::new(READERS)), idle: Arc::default() }
    }

    pub(super) fn close(&self) {
        self.turns.close();
        lock(&self.idle).clear();
    }

    pub(super) async fn jobs(&self, filter: &JobFilter) -> Result<Vec<JobRecord>> {
        let filter = filter.clone();
        self.read("list the jobs in", move |db| list(db, &filter)).await
    }

    pub(super) async fn policies(&self, filter: &PolicyFilter) -> Result<Vec<PolicyRecord>> {
        let filter = *filter;
        // The name of the failed operation, for the error.
        let what = if filter.limit == 1 { "read a policy in" } else { "list the policies in" };
        self.read(what, move |db| rows::policies(db, &filter)).await
    }

    async fn read<T: Send + 'static>(
        &self,
        operation: &str,
        read: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let turn = self.turns.clone().acquire_owned().await;
        let turn = turn.map_err(|_| Fault::Stopped.during(operation, &self.path))?;
        let (path, idle) = (self.path.clone(), self.idle.clone());
        let busy = self.busy;
        let listed = tokio::task::spawn_blocking(move || {
            // Held until the read is over, even if its caller is gone by then.
            let _turn = turn;
            let reused = lock(&idle).pop();
            let db = match reused {
                Some(db) => db,
                None => migrate::open_reader(&path, busy)?,
            };
            // A connection that failed is not used again.
            let found = read(&db)?;
            lock(&idle).push(db);
            Ok::<_, Fault>(found)
        });
        match listed.await {
            Ok(found) => found.map_err(|fault| fault.during(operation, &self.path)),
            Err(_) => Err(Fault::Stopped.during(operation, &self.path)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn list(db: &Connection, filter: &JobFilter) -> Result<Vec<JobRecord>, Fault> {
    // One transaction, so that a job and its token chunks are from the same point in time.
    let moment = db.unchecked_transaction()?;
    let query = Query::new(filter);
    let mut select = moment.prepare_cached(&query.sql)?;
    let request_column = select.column_count() - 1;
    let values: Vec<&dyn ToSql> = query.values.iter().map(|value| &**value).collect();
    let mut rows = select.query(&*values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let mut record = rows::job(row)?;
        if filter.with_text {
            record.request = rows::request(row, request_column)?;
            rows::read_answer(&moment, &mut record)?;
        }
        found.push(record);
    }
    Ok(found)
}

/// A statement of constant parts, and the values of its parameters.
struct Query {
    sql: String,
    values: Vec<Box<dyn ToSql>>,
}

impl Query {
    fn new(filter: &JobFilter) -> Self {
        let request = if filter.with_text { "request" } else { "NULL" };
        let mut query = Self {
            sql: format!("SELECT {}, {request} FROM jobs", rows::JOB_COLUMNS),
            values: Vec::new(),
        };
        if let Some(id) = filter.id {
            query.and("job_id = ?", [id.text()]);
        }
        if let Some(tenant) = &filter.tenant {
            query.and("tenant_id = ?", [tenant.as_str().to_owned()]);
        }
        if !filter.states.is_empty() {
            let places = vec!["?"; filter.states.len()].join(", ");
            let names = filter.states.iter().map(|state| state.as_str());
            query.and(&format!("state IN ({places})"), names);
            if filter.states.iter().all(|state| state.is_live()) {
                // Lets SQLite use the index of the live jobs, which are few.
                query.and("completed_at IS NULL", [0; 0]);
            }
        }
        if let Some(before) = filter.before {
            query.and("queue_order < ?", [stored(before)]);
        }
        query.sql += " ORDER BY queue_order DESC, job_id DESC LIMIT ?";
        let limit = filter.limit.clamp(1, 1_000);
        query.values.push(Box::new(stored(limit as u64)));
        query
    }

    fn and<T: ToSql + 'static>(&mut self, condition: &str, values: impl IntoIterator<Item = T>) {
        self.sql += if self.sql.contains(" WHERE ") { " AND " } else { " WHERE " };
        self.sql += condition;
        for value in values {
            self.values.push(Box::new(value));
        }
    }
}
