//! Hub tokens go to their own endpoint, and nowhere else.
//!
//! What a hive reads from its environment is tested in a child: this test binary again, running only
//! [`the_child_provisions`].

use std::{
    env,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use crate::hub::{HubServer, Seen, TOKEN};
use rbee_core::{
    Error, ErrorKind, InProcessHive, ModelRef,
    hive::{ModelHost, ModelOrigin, Progress},
    models::{Hub, HubAccess, HubToken, ModelStore, StoreOptions},
};

const DIR: &str = "RBEE_TEST_HUB_DIR";
const ENDPOINT: &str = "RBEE_TEST_HUB_ENDPOINT";
const ORDER_TOKEN: &str = "RBEE_TEST_HUB_TOKEN";
const ANONYMOUS: &str = "RBEE_TEST_HUB_ANONYMOUS";
/// The token that the child has in its environment, for its own endpoint.
const OWN: &str = "hf_own";

fn tiny() -> ModelRef {
    "hf:bee/tiny".parse().unwrap()
}

fn store(dir: &Path) -> ModelStore {
    let hub_cache = Some(dir.join("hub"));
    let options = StoreOptions { hub_cache, head_room: 0, ..StoreOptions::default() };
    ModelStore::open(dir.join("store"), options).unwrap()
}

async fn provision(dir: &Path, access: HubAccess) -> Result<(), Error> {
    let hive = InProcessHive::new().with_store(store(dir));
    hive.start().await.unwrap();
    // Without a factory the files are not checked; only this request is refused.
    match hive.provision(&tiny(), ModelOrigin::Hub(access), Progress::ignore()).await {
        Err(error) if error.message().contains("factory") => Ok(()),
        provisioned => provisioned.map(drop),
    }
}

#[tokio::test]
async fn the_child_provisions() {
    let Ok(dir) = env::var(DIR) else { return };
    let access = HubAccess {
        endpoint: env::var(ENDPOINT).ok(),
        token: env::var(ORDER_TOKEN).ok().map(Into::into),
        anonymous: env::var(ANONYMOUS).is_ok(),
        ..HubAccess::default()
    };
    // The file that is fetched is not a loadable model; only where the token went matters here.
    let _ = provision(dir.as_ref(), access).await;
}

/// Gives an order to a hive that has a token of its own.
fn order(own: &HubServer, order: &[(&str, &str)]) {
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", "hub_tokens::the_child_provisions"]).stdout(Stdio::null());
    child.env("HF_ENDPOINT", own.endpoint()).env("HF_TOKEN", OWN).env("HF_HOME", dir.path());
    child.env(DIR, dir.path()).envs(order.iter().copied());
    assert!(child.status().unwrap().success());
}

fn tokens(server: &HubServer) -> Vec<Option<String>> {
    let seen = server.seen().into_iter().filter(|seen: &Seen| !seen.cdn);
    let mut tokens: Vec<_> = seen.map(|seen| seen.authorization).collect();
    tokens.dedup();
    tokens
}

fn bearer(token: &str) -> Vec<Option<String>> {
    vec![Some(format!("Bearer {token}"))]
}

#[test]
fn a_hive_sends_its_own_token_to_its_own_endpoint_and_to_no_other() {
    let (own, other) = (HubServer::with_model(10), HubServer::with_model(10));
    order(&own, &[]);
    assert_eq!(tokens(&own), bearer(OWN));
    order(&own, &[(ENDPOINT, &own.endpoint())]);
    assert_eq!(tokens(&own), bearer(OWN));
    order(&own, &[(ENDPOINT, &other.endpoint())]);
    assert_eq!(tokens(&other), [None], "asked, and without a token");
}

#[test]
fn a_token_in_an_order_goes_to_the_endpoint_in_that_order_alone() {
    let (own, other) = (HubServer::with_model(10), HubServer::with_model(10));
    order(&own, &[(ENDPOINT, &other.endpoint()), (ORDER_TOKEN, "hf_order")]);
    assert_eq!(tokens(&other), bearer("hf_order"));
    assert_eq!(tokens(&own), []);
    order(&own, &[(ORDER_TOKEN, "hf_order")]);
    assert_eq!(tokens(&own), [], "a token without its endpoint is refused");
}

#[test]
fn an_anonymous_order_sends_no_token_also_not_to_the_hives_own_endpoint() {
    let own = HubServer::with_model(10);
    order(&own, &[(ANONYMOUS, "1"), (ENDPOINT, &own.endpoint())]);
    assert_eq!(tokens(&own), [None]);
}

#[tokio::test]
async fn a_token_without_its_endpoint_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let access = HubAccess { token: Some("hf_order".into()), ..HubAccess::default() };
    let error = provision(dir.path(), access).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidRequest);
    assert!(error.message().contains("send both, or neither"), "{error}");
    assert!(!format!("{error:?}").contains("hf_order"));
}

#[tokio::test]
async fn a_redirection_to_another_port_of_the_same_host_is_followed_without_the_token() {
    let (own, other) = (HubServer::start(), HubServer::with_model(10));
    own.move_to(other.endpoint());
    let dir = tempfile::tempdir().unwrap();
    let hub = Hub::builder()
        .endpoint(own.endpoint())
        .cache(dir.path().join("hub"))
        .token(Some(HubToken::new(TOKEN).unwrap()))
        .stall(Duration::from_secs(5))
        .build()
        .unwrap();
    store(dir.path()).download(&hub, &tiny(), Progress::ignore()).await.unwrap();
    assert_eq!(tokens(&own), bearer(TOKEN));
    assert_eq!(tokens(&other), [None]);
}
