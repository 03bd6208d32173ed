//! The floor of a durable gateway: it reads a request, writes it to a table as a queen's, asks a native worker, reads
//! the events of the answer, writes the end, and answers. One thread; requests that arrive together share a commit.
//! It has no queue, no limits, no retries and no streams.

use std::{cell::RefCell, io::Write, rc::Rc, sync::Arc, time::Duration};

use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use rbee_core::{
    CorrelationId, Job, JobId, Priority,
    request::{Prompt, Sampling, Task},
    worker::Resume,
};
use rbee_transport_http::wire::{
    sse,
    worker::{EXECUTE, Execute, Token, frame},
};
use rusqlite::{Connection, params};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::oneshot, task::LocalSet};

use crate::{Result, upstream::TOKEN};

/// Unused connections to the worker.
const MOST_IDLE: usize = 512;

/// As large as a queen's table of jobs, with the same indexes.
const TABLE: &str = "
    PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
    CREATE TABLE jobs (
        job_id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT, model_ref TEXT NOT NULL, priority TEXT NOT NULL,
        state TEXT NOT NULL, worker_id TEXT, submitted_at INTEGER NOT NULL, started_at INTEGER,
        completed_at INTEGER, error TEXT, finish TEXT, attempts INTEGER NOT NULL, prompt_tokens INTEGER,
        tokens_generated INTEGER NOT NULL, owner INTEGER NOT NULL, queue_order INTEGER NOT NULL,
        correlation_id TEXT NOT NULL, request TEXT
    );
    CREATE INDEX jobs_by_order ON jobs (queue_order);
    CREATE INDEX jobs_live     ON jobs (owner)        WHERE completed_at IS NULL;
    CREATE INDEX jobs_ended    ON jobs (completed_at) WHERE completed_at IS NOT NULL;
";
const INSERT: &str = "INSERT INTO jobs VALUES
    (?1, NULL, 'fast', 'interactive', 'running', '0', ?2, ?2, NULL, NULL, NULL, 1, NULL, 0, 1, ?2, ?3, ?4)";
const UPDATE: &str =
    "UPDATE jobs SET state = 'complete', completed_at = ?2, finish = 'length', prompt_tokens = 5,
    tokens_generated = 16, request = NULL WHERE job_id = ?1 AND owner = 1 AND completed_at IS NULL";

/// A row to write: of a new job with its request, or of one that has ended.
struct Row {
    job: String,
    request: Option<String>,
    reply: oneshot::Sender<()>,
}

/// The rows that the next commit writes.
type Rows = Rc<RefCell<Vec<Row>>>;

struct Gateway {
    client: Client<HttpConnector, Full<Bytes>>,
    worker: String,
    rows: Rows,
    database: Rc<Connection>,
}

/// Serves in front of the native worker on this port until it is killed.
pub(crate) fn serve(port: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let files = tempfile::tempdir()?;
    let database = Connection::open(files.path().join("jobs.db"))?;
    database.execute_batch(TABLE)?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let gateway = Rc::new(Gateway {
        client: Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(MOST_IDLE)
            .build(connector),
        worker: format!("http://127.0.0.1:{port}{EXECUTE}"),
        rows: Rows::default(),
        database: Rc::new(database),
    });
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        std::io::stdout().flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let gateway = gateway.clone();
            let service = service_fn(move |request| {
                let gateway = gateway.clone();
                async move { gateway.answer(request).await }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::task::spawn_local(connection);
        }
    })
}

impl Gateway {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>> {
        let body: Value = serde_json::from_slice(&request.into_body().collect().await?.to_bytes())?;
        let execute = execute(&body)?;
        let job = execute.job.id.to_string();
        let run = serde_json::to_string(&execute)?;
        self.write(&job, Some(run.clone())).await?;
        let request = Request::post(&self.worker)
            .header("authorization", format!("Bearer {TOKEN}"))
            .header("content-type", "application/json")
            .body(Full::from(run))?;
        let mut events = self.client.request(request).await?.into_body();
        let (mut parser, mut text, mut tokens) = (sse::Parser::default(), String::new(), 0);
        while let Some(frame) = events.frame().await {
            parser.push(frame?.data_ref().unwrap_or(&Bytes::new()));
            while let Some(event) = parser.next_event()? {
                if &*event.name == frame::TOKEN {
                    let token: Token<'_> = serde_json::from_slice(&event.data)?;
                    text.push_str(&token.text);
                    tokens += 1;
                }
            }
        }
        self.write(&job, None).await?;
        let answer = json!({
            "id": format!("chatcmpl-{job}"), "object": "chat.completion", "created": 1_700_000_000, "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "length", "logprobs": null,
                "message": {"role": "assistant", "content": text}}],
            "usage": {"prompt_tokens": 5, "completion_tokens": tokens, "total_tokens": tokens + 5},
        });
        let response = Response::builder().header("content-type", "application/json");
        Ok(response.body(Full::from(answer.to_string()))?)
    }

    /// Writes a row. The first of several that arrive together lets the others come, and commits all.
    async fn write(&self, job: &str, request: Option<String>) -> Result<()> {
        let (reply, written) = oneshot::channel();
        self.rows.borrow_mut().push(Row { job: job.to_owned(), request, reply });
        if self.rows.borrow().len() == 1 {
            let (rows, database) = (self.rows.clone(), self.database.clone());
            tokio::task::spawn_local(async move { commit(&database, rows.take()) });
        }
        Ok(written.await?)
    }
}

fn commit(database: &Connection, rows: Vec<Row>) {
    let write = || {
        database.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        for Row { job, request, .. } in &rows {
            let now = 1_700_000_000_000_i64;
            match request {
                Some(request) => {
                    database.prepare_cached(INSERT)?.execute(params![job, now, job, request])?
                }
                None => database.prepare_cached(UPDATE)?.execute(params![job, now])?,
            };
        }
        database.prepare_cached("COMMIT")?.execute([])
    };
    write().expect("the database can be written");
    for row in rows {
        let _ = row.reply.send(());
    }
}

/// The run of a request.
fn execute(request: &Value) -> Result<Execute> {
    let max_tokens = request["max_tokens"].as_u64().unwrap_or(16) as u32;
    let sampling = Sampling { max_tokens: Some(max_tokens), ..Sampling::default() };
    let messages = serde_json::from_value(request["messages"].clone())?;
    let job = Job {
        id: JobId::random(),
        model: request["model"].as_str().unwrap_or_default().parse()?,
        priority: Priority::Interactive,
        task: Task::Generate { prompt: Prompt::Chat(messages), sampling },
        seed: 1,
        prefix: [].into(),
        timeout: Duration::from_secs(300),
        deadline: None,
        detached: false,
        stored: false,
        metadata: None,
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::random(),
        idempotency: None,
        streamed: true,
    };
    Ok(Execute { job: Arc::new(job), attempt: 1, resume: Resume::default() })
}
