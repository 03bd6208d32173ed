//! Compressed request bodies.

use std::io::Write as _;

use axum::body::Body;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use http::{HeaderValue, Request, StatusCode};
use rbee_core::Queen;
use rbee_transport_http::server::QueenLimits;
use ruzstd::encoding::{CompressionLevel, compress_to_vec};
use serde_json::json;

use crate::common::{Hall, chat, echo};

const CHAT: &str = "/v1/chat/completions";
const CODINGS: [&str; 3] = ["gzip", "deflate", "zstd"];

fn encoded(coding: &str, body: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut out = GzEncoder::new(Vec::new(), Compression::best());
            out.write_all(body).unwrap();
            out.finish().unwrap()
        }
        "deflate" => {
            let mut out = ZlibEncoder::new(Vec::new(), Compression::best());
            out.write_all(body).unwrap();
            out.finish().unwrap()
        }
        _ => compress_to_vec(body, CompressionLevel::Fastest),
    }
}

fn post(path: &str, coding: &str, body: impl Into<Body>) -> Request<Body> {
    let request = Request::post(path).header("content-type", "application/json");
    request
        .header("content-encoding", HeaderValue::from_str(coding).unwrap())
        .body(body.into())
        .unwrap()
}

#[tokio::test]
async fn a_compressed_body_is_read_as_the_same_without_compression() {
    let hall = Hall::new().await;
    let body = chat(json!({})).to_string();
    let plain = hall.send(post(CHAT, "identity", body.clone())).await;
    let answer = |reply: &crate::common::Reply| {
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        reply.json()["choices"].clone()
    };
    for one in CODINGS {
        let once = encoded(one, body.as_bytes());
        let reply = hall.send(post(CHAT, &one.to_uppercase(), once.clone())).await;
        assert_eq!(answer(&reply), answer(&plain));
        let reply = hall.send(post(CHAT, &format!("{one}, identity"), once.clone())).await;
        assert_eq!(answer(&reply), answer(&plain));
        // The queen's own routes read it too.
        let reply = hall.send(post("/v1/jobs", one, once)).await;
        assert_eq!(reply.status, StatusCode::ACCEPTED, "{}", reply.text());
    }
    hall.quiet().await;
}

#[tokio::test]
async fn a_coding_that_is_not_read_is_refused_with_those_that_are() {
    let hall = Hall::new().await;
    for coding in ["br", "compress", "gzip, br", "gzip;q=0.5", "gzip, gzip", "zstd, identity, gzip"]
    {
        for path in [CHAT, "/v1/embeddings", "/v1/jobs", "/v1/estimate", "/v1/policy/check"] {
            let reply = hall.send(post(path, coding, "{}")).await;
            assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{coding} {path}");
            assert_eq!(reply.header("accept-encoding"), Some("gzip, deflate, zstd"));
            assert!(reply.text().contains("content encoding"), "{}", reply.text());
        }
    }
    let mut other = post(CHAT, "identity", "{}");
    other.headers_mut().insert("content-type", HeaderValue::from_static("text/plain"));
    let reply = hall.send(other).await;
    assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(reply.header("accept-encoding"), None, "another reason");
}

#[tokio::test]
async fn a_damaged_body_is_refused() {
    let hall = Hall::new().await;
    for coding in CODINGS {
        let good = encoded(coding, chat(json!({})).to_string().as_bytes());
        for bad in [good[..good.len() / 2].to_vec(), b"{}".to_vec(), Vec::new()] {
            let reply = hall.send(post(CHAT, coding, bad)).await;
            assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{coding}: {}", reply.text());
            assert!(reply.text().contains(&format!("not valid {coding}")), "{}", reply.text());
        }
    }
}

#[tokio::test]
async fn the_limit_on_a_body_counts_what_it_is_decoded_to() {
    let limits = QueenLimits {
        body_bytes: 10_000,
        tenant_body_bytes: 0,
        total_body_bytes: 0,
        ..QueenLimits::default()
    };
    let hall = Hall::of(echo(), Queen::builder(), |server| server.with_limits(limits)).await;
    let of = |bytes: usize| {
        let mut body = chat(json!({})).to_string().into_bytes();
        body.resize(bytes, b' ');
        body
    };
    for coding in CODINGS {
        for _ in 0..5 {
            let reply = hall.send(post(CHAT, coding, encoded(coding, &of(10_000)))).await;
            assert_eq!(reply.status, StatusCode::OK, "{coding}: {}", reply.text());
        }
        for bytes in [10_001, 5_000_000] {
            let bomb = encoded(coding, &of(bytes));
            assert!(bomb.len() < 10_000, "{} bytes", bomb.len());
            let reply = hall.send(post(CHAT, coding, bomb)).await;
            assert_eq!(reply.status, StatusCode::PAYLOAD_TOO_LARGE, "{coding}: {}", reply.text());
        }
    }
    // Nothing of them is kept: the budget is only four times the limit.
    let reply = hall.send(post(CHAT, "identity", of(10_000))).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    hall.quiet().await;
}
