//! Looking at a machine.

use super::local::LocalExec;
use crate::deploy::probe;

#[tokio::test]
async fn first() {
    let home = tempfile::tempdir().unwrap();
    let exec = LocalExec::new(home.path());
    let facts = probe(&exec, None, &()).await.unwrap();
    eprintln!("{facts:#?}");
}
