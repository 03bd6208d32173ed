use futures_util::{FutureExt, StreamExt};
use tracing_subscriber::layer::SubscriberExt;

use super::*;

fn logged(ring: &LogRing, log: impl FnOnce()) {
    tracing::subscriber::with_default(tracing_subscriber::registry().with(ring.clone()), log);
}

fn messages(ring: &LogRing, query: &LogQuery) -> Vec<String> {
    ring.tail(query).unwrap().into_iter().map(|line| line.message).collect()
}

#[test]
fn a_line_carries_the_fields_of_every_span_around_it_and_the_nearest_wins() {
    let ring = LogRing::new(10, 1 << 20);
    logged(&ring, || {
        let _job = tracing::info_span!("job", job = 7, worker = "a").entered();
        let attempt = tracing::info_span!("attempt", worker = "b", late = tracing::field::Empty);
        attempt.record("late", true);
        attempt.in_scope(|| tracing::info!(tokens = 3, "said {}", "something"));
        tracing::error!(error = %Error::new(ErrorKind::Internal, "boom"), "failed");
    });
    let lines = ring.tail(&LogQuery::default()).unwrap();
    let fields: Vec<_> = lines[0].fields.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(fields, [("job", "7"), ("late", "true"), ("tokens", "3"), ("worker", "b")]);
    assert_eq!((&*lines[0].level, &*lines[0].message), ("info", "said something"));
    assert_eq!((&*lines[1].fields["worker"], &*lines[1].fields["error"]), ("a", "boom"));
    assert!(lines[1].target.starts_with("rbee_transport_http::server::logs"));
}

#[test]
fn only_what_is_wanted_is_given() {
    let ring = LogRing::new(10, 1 << 20);
    logged(&ring, || {
        tracing::debug!("one");
        tracing::warn!(correlation_id = "x", "two");
        tracing::error!("three");
        tracing::info!(correlation_id = "x", "four");
    });
    let query = |lines, level: Option<&str>, id: Option<&str>| LogQuery {
        lines,
        level: level.map(Into::into),
        correlation_id: id.map(Into::into),
        follow: false,
    };
    assert_eq!(messages(&ring, &query(None, None, None)), ["one", "two", "three", "four"]);
    assert_eq!(messages(&ring, &query(Some(2), None, None)), ["three", "four"]);
    assert_eq!(messages(&ring, &query(None, Some("warn"), None)), ["two", "three"]);
    assert_eq!(messages(&ring, &query(None, None, Some("x"))), ["two", "four"]);
    assert_eq!(messages(&ring, &query(Some(1), Some("warn"), Some("x"))), ["two"]);
    for (bad, param) in [
        (query(Some(0), None, None), "lines"),
        (query(Some(1_001), None, None), "lines"),
        (query(None, Some("loud"), None), "level"),
    ] {
        let error = ring.tail(&bad).unwrap_err();
        assert_eq!((error.kind(), error.param()), (ErrorKind::InvalidRequest, Some(param)));
        assert!(ring.follow(&bad).is_err());
    }
}

#[test]
fn lines_and_bytes_are_bounded_and_the_oldest_go_first() {
    let ring = LogRing::new(3, 1 << 20);
    logged(&ring, || (0..10).for_each(|n| tracing::info!("{n}")));
    assert_eq!(messages(&ring, &LogQuery::default()), ["7", "8", "9"]);

    let ring = LogRing::new(1_000, 64 << 10);
    let long = "é".repeat(10_000);
    logged(&ring, || (0..100).for_each(|_| tracing::info!("{long}")));
    let inner = ring.lock();
    assert!(inner.bytes <= 64 << 10 && inner.lines.len() > 5, "{} lines", inner.lines.len());
    assert!(inner.lines[0].0.message.len() <= MOST_VALUE_BYTES + 3);
    assert_eq!(inner.bytes, inner.lines.iter().map(|(_, bytes)| bytes).sum::<usize>());
}

#[tokio::test]
async fn who_follows_gets_the_last_lines_and_then_each_new_one_once() {
    let ring = LogRing::new(10, 1 << 20);
    logged(&ring, || tracing::info!("before"));
    let mut follow = Box::pin(ring.follow(&LogQuery::default()).unwrap());
    logged(&ring, || tracing::info!("after"));
    for expected in ["before", "after"] {
        let Some(Followed::Line(line)) = follow.next().await else { panic!("a line") };
        assert_eq!(line.message, expected);
    }
    assert!(follow.next().now_or_never().is_none(), "it waits for more");
    logged(&ring, || (0..MOST_BEHIND + 5).for_each(|n| tracing::info!("{n}")));
    assert_eq!(follow.next().await, Some(Followed::Missed(5)));
    let Some(Followed::Line(line)) = follow.next().await else { panic!("a line") };
    assert_eq!(line.message, "5");
    drop(ring);
    assert_eq!(follow.count().await, MOST_BEHIND - 1, "and it ends with the ring");
}
