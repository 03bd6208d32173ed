//! A web application with a queen inside: `curl -N -d 'Tell me a story.' localhost:3000/ask` streams an answer.
//!
//! Closing the connection drops the job's handle, which cancels the job. Ctrl-C and SIGTERM stop the queen in order, and
//! then the server.

use std::{path::Path, time::Duration};

use axum::{Router, body::Body, extract::State, http::StatusCode, routing::post};
use futures_util::StreamExt;
use rbee_core::{CandleFactory, EventKind, InProcessHive, ModelRef, Queen, Request};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/bee-tiny").canonicalize()?;
    let queen = Queen::builder()
        .hive(InProcessHive::new().with_factory(CandleFactory::default()))
        .alias("bee-tiny", ModelRef::file(model)?.as_str())
        .build()
        .await?;
    let app = Router::new().route("/ask", post(ask)).with_state(queen.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, app).with_graceful_shutdown(shutdown(queen)).await?;
    Ok(())
}

/// Waits for the signal, and then for the queen: present jobs have ten seconds to end. The server stops after that, so
/// that it does not wait for streams that only the queen can end.
async fn shutdown(queen: Queen) {
    if let Err(error) = stop_signal().await {
        eprintln!("signals cannot be received ({error}); only kill ends this program");
        std::future::pending::<()>().await;
    }
    if let Err(error) = queen.shutdown(Duration::from_secs(10)).await {
        eprintln!("{error}");
    }
}

#[cfg(unix)]
async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = term.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn stop_signal() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}

async fn ask(State(queen): State<Queen>, question: String) -> Result<Body, (StatusCode, String)> {
    let job = queen.submit(Request::chat("bee-tiny").user(question)).await.map_err(|error| {
        let status = StatusCode::from_u16(error.kind().http_status());
        (status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), error.redacted().to_string())
    })?;
    Ok(Body::from_stream(job.filter_map(async |event| match event.kind {
        EventKind::Token { text, .. } => Some(Ok(String::from(text))),
        EventKind::Error(error) => Some(Err(error)),
        _ => None,
    })))
}
