//! The queen that is measured.

use std::{io::Write, sync::Arc, time::Duration};

use rbee_core::{HiveId, Queen, Settings, SqliteRegistry, Worker};
use rbee_transport_http::{
    client::{Endpoint, HttpWorker, LinkWorker},
    dial::Tcp,
    server,
};

use crate::{Result, upstream::TOKEN};

/// Serves with a database file, in front of the two workers on these ports, until it is killed.
pub(crate) fn serve(options: &[&str], fast: &str, paced: &str) -> Result<()> {
    // The same worker over events of HTTP instead of the link.
    let over_http = options.contains(&"http");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let files = tempfile::tempdir()?;
        let settings = Settings { queue_capacity: 100_000, ..Settings::default() };
        let mut queen = Queen::builder()
            .registry(SqliteRegistry::open(files.path().join("queen.db"))?)
            .settings(settings);
        for port in [fast, paced] {
            let endpoint =
                Endpoint::new(Arc::new(Tcp::loopback()), port.parse()?, Some(TOKEN.parse()?));
            let worker: Arc<dyn Worker> = match over_http {
                true => Arc::new(HttpWorker::connect(endpoint).await?),
                false => Arc::new(LinkWorker::connect(endpoint).await?),
            };
            assert_eq!(worker.info().hive, HiveId::local());
            queen = queen.worker(worker);
        }
        let router = server::queen(queen.build().await?);
        let listener = server::Server::bind("127.0.0.1:0".parse()?).await?;
        println!("{}", listener.address().port());
        std::io::stdout().flush()?;
        listener.run(router, Default::default(), Duration::ZERO).await;
        Ok(())
    })
}
