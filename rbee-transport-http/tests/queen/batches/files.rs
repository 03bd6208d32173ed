//! Uploads, and what is left of those that fail.

use super::{Post, chat_line, file, form, limits, multipart, upload};
use crate::common::{Hall, echo};
use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use rbee_core::ErrorKind;
use rbee_transport_http::server::{BatchLimits, QueenServer};
use serde_json::json;

/// What is in the directory of a server without files.
const EMPTY: [&str; 1] = ["batches.lock"];

#[tokio::test]
async fn a_file_is_uploaded_listed_read_and_deleted() {
    let post = Post::new().await;
    // Larger than what is written at once, with line ends and edges that could be taken for the end.
    let content = "\r\n--edg\r\n{\"a\": 1}\n".repeat(40_000);
    let id = file(&post.hall, &content, None).await;
    let view = post.hall.get(&format!("/v1/files/{id}")).await.json();
    let created = view["created_at"].as_u64().unwrap();
    assert_eq!(
        view,
        json!({
            "id": id, "object": "file", "bytes": content.len(), "created_at": created,
            "expires_at": created + 30 * 24 * 60 * 60, "filename": "in.jsonl", "purpose": "batch",
            "status": "processed",
        })
    );
    let read = post.hall.get(&format!("/v1/files/{id}/content")).await;
    assert_eq!(read.text(), content);
    assert_eq!(read.header("x-content-type-options"), Some("nosniff"));
    let hour = [("purpose", None, &b"batch"[..]), ("file", Some("b"), b"{}")];
    let anchor: (_, Option<&str>, &[u8]) = ("expires_after[anchor]", None, b"created_at");
    let seconds: (_, Option<&str>, &[u8]) = ("expires_after[seconds]", None, b"3600");
    let other = post.hall.send(form(&[hour[0], hour[1], anchor, seconds])).await.json();
    let life = other["expires_at"].as_u64().unwrap() - other["created_at"].as_u64().unwrap();
    assert_eq!(life, 3_600, "{other}");

    let list = post.hall.get("/v1/files?order=asc").await.json();
    let listed: Vec<_> = list["data"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
    assert_eq!(listed.len(), 2);
    let first = listed[0].as_str().unwrap();
    let rest = post.hall.get(&format!("/v1/files?order=asc&limit=1&after={first}")).await.json();
    assert_eq!((&rest["data"][0]["id"], &rest["has_more"]), (listed[1], &json!(false)));
    let none = post.hall.get("/v1/files?purpose=batch_output").await.json();
    assert_eq!((&none["data"], &none["first_id"]), (&json!([]), &json!(null)));

    for id in [&id, other["id"].as_str().unwrap()] {
        let deleted = post.hall.delete(&format!("/v1/files/{id}")).await;
        assert_eq!(deleted.json(), json!({"id": id, "object": "file", "deleted": true}));
        for path in [format!("/v1/files/{id}"), format!("/v1/files/{id}/content")] {
            assert_eq!(post.hall.get(&path).await.status, StatusCode::NOT_FOUND, "{path}");
        }
    }
    assert_eq!(post.names(), EMPTY);
}

#[tokio::test]
async fn a_form_that_is_wrong_is_refused_by_its_field_and_nothing_is_left_of_it() {
    let post = Post::new().await;
    let (purpose, content): ((_, Option<&str>, &[u8]), _) =
        (("purpose", None, b"batch"), ("file", Some("a"), &b"{}"[..]));
    let many = vec![("x", None, &b""[..]); 20];
    for (fields, param) in [
        (vec![content], "purpose"),
        (vec![content, ("purpose", None, b"fine-tune")], "purpose"),
        (vec![content, ("purpose", None, b"\xff")], "purpose"),
        (vec![content, ("purpose", None, &[b'x'; 2_000])], "purpose"),
        (vec![purpose], "file"),
        (vec![purpose, content, content], "file"),
        (vec![purpose, content, purpose], "purpose"),
        (vec![content, purpose, ("color", None, b"red")], "color"),
        (many, "x"),
    ] {
        let reply = post.hall.send(form(&fields)).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{}", reply.text());
        assert_eq!(reply.json()["error"]["param"], param, "{}", reply.text());
        assert_eq!(post.names(), EMPTY);
    }
    let head = "--edge\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n";
    for body in [
        String::new(),
        "not a form".into(),
        "--edge--\r\n".into(),
        format!("{head}\r\n{{\"cut off"),
        format!("{head}x: {}", "y".repeat(2 << 20)),
    ] {
        // In small parts, as from a connection.
        let parts: Vec<_> = body.as_bytes().chunks(4_096).map(Bytes::copy_from_slice).collect();
        let parts = parts.into_iter().map(Ok::<_, std::io::Error>);
        let reply =
            post.hall.send(multipart(Body::from_stream(futures_util::stream::iter(parts)))).await;
        let shown = &body[..body.len().min(100)];
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{shown}: {}", reply.text());
        assert_eq!(post.names(), EMPTY, "{shown}");
    }
}

#[tokio::test]
async fn an_upload_of_another_type_is_refused() {
    let post = Post::new().await;
    for (kind, coding) in [
        ("application/json", None),
        ("multipart/form-data", None),
        ("text/plain", None),
        ("multipart/form-data; boundary=edge", Some("gzip")),
    ] {
        let mut request = Request::post("/v1/files").header("content-type", kind);
        if let Some(coding) = coding {
            request = request.header("content-encoding", coding);
        }
        let reply = post.hall.send(request.body(Body::from("x")).unwrap()).await;
        assert_eq!(reply.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{kind}: {}", reply.text());
    }
    // A form on a web page can send this type, so its origin decides.
    let mut request = upload("{}");
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    let reply = post.hall.send(request).await;
    assert_eq!(reply.status, StatusCode::FORBIDDEN, "{}", reply.text());
    assert_eq!(post.names(), EMPTY);
}

#[tokio::test]
async fn content_that_is_removed_before_it_is_read_does_not_exist() {
    let post = Post::new().await;
    let id = file(&post.hall, "{}", None).await;
    std::fs::remove_file(post.directory.path().join(format!("batches/files/{id}.jsonl"))).unwrap();
    let reply = post.hall.get(&format!("/v1/files/{id}/content")).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND, "{}", reply.text());
    assert!(reply.text().contains("does not exist"), "{}", reply.text());
}

#[tokio::test]
async fn a_client_that_disconnects_leaves_nothing() {
    let post = Post::new().await;
    let (send, receive) = tokio::sync::mpsc::unbounded_channel::<Result<Bytes, std::io::Error>>();
    let head = "--edge\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
    send.send(Ok(head.into())).unwrap();
    send.send(Ok(vec![b'x'; 1 << 20].into())).unwrap();
    let parts = futures_util::stream::unfold(receive, async |mut receive| {
        receive.recv().await.map(|part| (part, receive))
    });
    let request = crate::common::with_host(multipart(Body::from_stream(parts)));
    let router = post.hall.router.clone();
    let asking = tokio::spawn(tower::ServiceExt::oneshot(router, request));
    let wait = async {
        while !post.names().iter().any(|name| name.ends_with(".part")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::common::TIMEOUT, wait).await.unwrap();
    asking.abort();
    assert!(asking.await.unwrap_err().is_cancelled());
    assert_eq!(post.names(), EMPTY);
    // The room that it took is free again.
    for _ in 0..limits().tenant_uploads + 1 {
        file(&post.hall, "{}", None).await;
    }
}

#[tokio::test]
async fn a_file_that_is_too_large_or_does_not_fit_on_the_disk_leaves_nothing() {
    for (limits, status, code) in [
        (BatchLimits { file_bytes: 999, ..limits() }, 413, "payload_too_large"),
        (BatchLimits { tenant_bytes: 999, ..limits() }, 403, "quota_exceeded"),
        (BatchLimits { free_bytes: u64::MAX, ..limits() }, 503, "storage"),
    ] {
        let post = Post::with(echo(), limits).await;
        let reply = post.hall.send(upload(&"x".repeat(1_000))).await;
        assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
        assert_eq!(reply.json()["error"]["code"], code);
        assert_eq!(post.names(), EMPTY);
        if status == 503 {
            assert!(reply.header("retry-after").is_some());
        } else {
            file(&post.hall, &"x".repeat(999), None).await;
        }
    }
}

#[tokio::test]
async fn a_server_without_a_directory_says_what_is_missing_and_one_directory_has_one_server() {
    let hall = Hall::new().await;
    for reply in [
        hall.send(upload("{}")).await,
        hall.get("/v1/files").await,
        hall.get("/v1/batches/batch_1").await,
    ] {
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        assert!(reply.text().contains("with_batches"), "{}", reply.text());
    }
    let post = Post::new().await;
    let path = post.directory.path().join("batches");
    let second = QueenServer::new(post.hall.queen.clone()).with_batches(path, limits());
    assert_eq!(second.unwrap_err().kind(), ErrorKind::Conflict);
    let id = post.begin("/v1/chat/completions", &chat_line("a", json!({}))).await;
    super::ended(&post.hall, &id).await;
}
