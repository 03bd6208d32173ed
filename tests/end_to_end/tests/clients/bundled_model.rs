//! Scripts of clients against the bundled model in a real worker.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rbee_core::{HiveId, ModelRef, Queen};
use rbee_end_to_end::{Program, built};
use rbee_transport_http::{
    ProcessHive,
    server::{QueenServer, Server},
};
use tokio_util::sync::CancellationToken;

/// The time limit of a script.
const TIMEOUT: Duration = Duration::from_secs(180);

/// The path of a script.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// Runs a script against a queen with the bundled model.
pub(crate) async fn run(program: Program) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/bee-tiny");
    let data = tempfile::tempdir().unwrap();
    let hive = ProcessHive::new(HiveId::local(), data.path().into())
        .with_program(built("llm-worker-rbee"))
        // What a failing test leaves behind ends soon.
        .with_lease(Duration::from_secs(10));
    let reference = ModelRef::file(model.canonicalize().unwrap()).unwrap();
    let queen =
        Queen::builder().hive(hive).alias("bee-tiny", reference.as_str()).build().await.unwrap();
    let stop = CancellationToken::new();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}", server.address());
    let router = QueenServer::new(queen.clone()).router();
    tokio::spawn(server.run(router, stop.clone(), Duration::ZERO));
    let program = program
        .env("OPENAI_BASE_URL", format!("{url}/v1"))
        .env("OPENAI_API_KEY", "none")
        .env("ANTHROPIC_BASE_URL", url)
        .env("ANTHROPIC_API_KEY", "none")
        // No client may connect to any other server.
        .env("NO_PROXY", "*");
    eprintln!("{}", program.succeed(TIMEOUT).await);
    queen.shutdown(Duration::from_secs(5)).await.unwrap();
    stop.cancel();
}
