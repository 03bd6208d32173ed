//! The floor of a gateway in Rust: a proxy of hyper and hyper-util that passes everything on, on one thread.

use std::io::Write;

use http_body_util::BodyExt;
use hyper::{Request, Response, Uri, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use tokio::net::TcpListener;

use crate::Result;

/// Unused connections to the worker.
const MOST_IDLE: usize = 512;

/// Serves in front of the worker with OpenAI's API on this port until it is killed.
pub(crate) fn serve(port: &str) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(MOST_IDLE)
            .build::<_, Incoming>(connector);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?.port());
        std::io::stdout().flush()?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (client, port) = (client.clone(), port.to_owned());
            let service = service_fn(move |mut request: Request<Incoming>| {
                let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                let uri = format!("http://127.0.0.1:{port}{path}").parse::<Uri>();
                let client = client.clone();
                async move {
                    *request.uri_mut() = uri?;
                    let answer: Response<Incoming> = client.request(request).await?;
                    Ok::<_, Box<dyn std::error::Error + Send + Sync>>(answer.map(BodyExt::boxed))
                }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}
