//! Names of models as people type them: with slashes and colons, with `:latest`, and wrong ones.

use crate::common::{self, Hall, Reply, chat, echo, job, model, request};
use http::{HeaderValue, Method, StatusCode, header};
use rbee_core::{Queen, Settings, settings::TenantReferences, worker::EchoWorker};
use rbee_transport_http::Token;
use serde_json::{Value, json};

const NAMES: [&str; 4] =
    ["llama3.2:3b", "org/model", "hf.co/org/model:Q4_K_M", "registry.local:5000/team/bee"];

async fn hall() -> Hall {
    let queen = NAMES.iter().fold(Queen::builder(), |queen, name| queen.alias(*name, "echo"));
    Hall::of(echo(), queen, |server| server).await
}

/// Every byte that is not a letter or digit is encoded.
fn encoded(name: &str) -> String {
    let byte = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    name.bytes().map(byte).collect()
}

fn message(reply: &Reply) -> String {
    reply.json()["error"]["message"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_name_with_slashes_and_colons_works_on_every_route() {
    let hall = hall().await;
    for name in NAMES.into_iter().chain(["org/model:latest", "bee:latest", "echo:latest"]) {
        let reply = hall.chat(json!({"model": name})).await;
        assert_eq!(reply.status, StatusCode::OK, "{name}: {}", reply.text());
        assert_eq!(reply.json()["model"], name);
        let body = json!({"model": name, "prompt": "Hi", "max_tokens": 2});
        let reply = hall.post("/v1/completions", body).await;
        assert_eq!(reply.status, StatusCode::OK, "{name}: {}", reply.text());
        let id = hall.submit(json!({"model": name})).await;
        hall.until(&id, |view| view["state"] == "complete").await;
        for id in
            [name.to_owned(), encoded(name), name.replace('/', "%2F"), name.replace('/', "%2f")]
        {
            let reply = hall.get(&format!("/v1/models/{id}")).await;
            assert_eq!(reply.status, StatusCode::OK, "{id}: {}", reply.text());
            assert_eq!(reply.json()["id"], name);
        }
        let reply = hall.get(&format!("/v1/catalog/model?model={}", encoded(name))).await;
        assert_eq!(reply.status, StatusCode::OK, "{name}: {}", reply.text());
        if NAMES.contains(&name) {
            assert_eq!(reply.json()["name"], name);
        }
        // It is on no disk, so there is nothing to remove; but the name is understood.
        let reply = hall.delete(&format!("/v1/catalog/model?model={}", encoded(name))).await;
        assert_eq!(reply.json()["error"]["code"], "MODEL_NOT_FOUND", "{name}");
    }
    let listed = hall.get("/v1/models").await.json();
    let listed: Vec<_> = listed["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| model["id"].as_str().unwrap())
        .collect();
    for name in NAMES {
        assert!(listed.contains(&name), "{listed:?}");
    }
    assert!(!listed.iter().any(|name| name.ends_with(":latest")), "{listed:?}");
}

#[tokio::test]
async fn an_estimate_takes_the_name_of_a_loaded_model_with_latest() {
    let hall = hall().await;
    for (name, model) in [
        ("bee:latest", "echo"),
        ("echo", "echo"),
        ("echo:latest", "echo"),
        ("org/model:latest", "echo"),
    ] {
        let reply = hall.post("/v1/estimate", json!({"model": name})).await;
        assert_eq!(reply.status, StatusCode::OK, "{name}: {}", reply.text());
        assert_eq!(reply.json()["model"], model, "{name}");
    }
    let reply = hall.post("/v1/estimate", json!({"model": "wasp:latest"})).await;
    assert_eq!(reply.status, StatusCode::NOT_FOUND, "{}", reply.text());
}

#[tokio::test]
async fn an_alias_with_latest_is_another_than_the_one_without() {
    let queen = Queen::builder().alias("bee:latest", "hf:none/such");
    let hall = Hall::of(echo(), queen, |server| server).await;
    assert_eq!(hall.chat(json!({"model": "bee"})).await.status, StatusCode::OK);
    let reply = hall.chat(json!({"model": "bee:latest"})).await;
    assert!(message(&reply).contains("hf:none/such"), "{}", reply.text());
}

#[tokio::test]
async fn an_unknown_name_is_404_on_every_route_whatever_it_looks_like() {
    let hall = hall().await;
    let long = "x".repeat(2_000);
    for name in [
        "gpt-4",
        "gpt 4",
        "org/other",
        "llama3.2:1b",
        "wasp:latest",
        "HF:a/b",
        "/models/x.gguf",
        "./x.gguf",
        "https://huggingface.co/a/b",
        "a//b",
        "é",
        "..",
        &long,
    ] {
        for (path, body) in [
            ("/v1/chat/completions", chat(json!({"model": name}))),
            ("/v1/completions", json!({"model": name, "prompt": "Hi"})),
            ("/v1/embeddings", json!({"model": name, "input": "Hi"})),
            ("/v1/rerank", json!({"model": name, "query": "Hi", "documents": ["Hello"]})),
            ("/v1/responses", json!({"model": name, "input": "Hi"})),
        ] {
            let reply = hall.post(path, body).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path} {name}: {}", reply.text());
            let error = &reply.json()["error"];
            assert_eq!(error["code"], "model_not_found", "{path} {name}");
            assert_eq!(error["param"], "model");
            assert!(message(&reply).contains("; known are "), "{}", message(&reply));
            assert!(message(&reply).len() < 700, "{}", message(&reply));
        }
        let body = json!({"model": name, "max_tokens": 5, "messages": [{"role": "user", "content": "Hi"}]});
        let reply = hall.post("/v1/messages", body).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{name}: {}", reply.text());
        assert_eq!(reply.json()["error"]["type"], "not_found_error", "{name}");
        for (path, body) in [
            ("/api/generate", json!({"model": name, "prompt": "Hi"})),
            ("/api/embed", json!({"model": name, "input": "Hi"})),
        ] {
            let reply = hall.post(path, body).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path} {name}: {}", reply.text());
            let told = reply.json()["error"].as_str().unwrap().to_owned();
            assert!(told.contains("; known are "), "{told}");
        }
        let reply = hall.get(&format!("/v1/models/{}", encoded(name))).await;
        assert_eq!(reply.status, StatusCode::NOT_FOUND, "{name}: {}", reply.text());
        assert_eq!(reply.json()["error"]["code"], "model_not_found", "{name}");
        for (path, body) in
            [("/v1/jobs", job(json!({"model": name}))), ("/v1/workers", json!({"model": name}))]
        {
            let reply = hall.post(path, body).await;
            assert_eq!(reply.status, StatusCode::NOT_FOUND, "{path} {name}: {}", reply.text());
            let error = &reply.json()["error"];
            assert_eq!(error["code"], "MODEL_NOT_FOUND", "{path} {name}");
            assert_eq!(error["details"]["param"], "model");
        }
        let reply = hall.get(&format!("/v1/catalog/model?model={}", encoded(name))).await;
        assert_eq!(reply.json()["error"]["code"], "MODEL_NOT_FOUND", "{name}: {}", reply.text());
    }
    // A reference that is malformed is the client's mistake, and the error says what is wrong with it.
    for name in ["hf:x", "file:relative", ""] {
        let reply = hall.chat(json!({"model": name})).await;
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{name}: {}", reply.text());
    }
    hall.quiet().await;
}

#[tokio::test]
async fn an_unknown_name_suggests_what_it_may_have_meant() {
    let hall = hall().await;
    for (name, suggested) in [
        ("llama3.2:1b", "; did you mean llama3.2:3b?"),
        ("org/modell", "; did you mean org/model?; to load it from the hub: hf:org/modell"),
        ("eco", "; did you mean echo?"),
        ("Qwen/Qwen3-8B", "; to load it from the hub: hf:Qwen/Qwen3-8B"),
        ("hf.co/Qwen/Qwen3-8B:Q8_0", "; to load it from the hub: hf:Qwen/Qwen3-8B"),
        ("/models/x.gguf", "; to load a file: file:/models/x.gguf"),
        ("./x.gguf", "; to load a file: file:/absolute/path"),
        ("wasp", "; allowed are also hf:org/repo and file:/absolute/path"),
        // Of more than five names the most similar ones.
        (
            "wasp",
            "; known are llama3.2:3b, registry.local:5000/team/bee, bee, echo, hf.co/org/model:Q4_K_M and 1 more; allowed are also hf:org/repo and file:/absolute/path",
        ),
    ] {
        let said = message(&hall.chat(json!({"model": name})).await);
        assert!(said.ends_with(suggested), "{name}: {said}");
    }
}

#[tokio::test]
async fn what_a_model_cannot_do_is_told_with_the_name_that_the_client_sent() {
    for reference in ["hf:org/repo", "file:/models/a bee.gguf"] {
        let echo = EchoWorker::builder(reference.parse().unwrap()).build();
        let queen =
            Queen::builder().worker(echo).alias("short", reference).alias("other", reference);
        let hall = Hall::of(common::echo(), queen, |server| server).await;
        for (path, body) in [
            ("/v1/embeddings", json!({"input": "Hi"})),
            ("/v1/completions", json!({"prompt": "a", "suffix": "b"})),
            ("/v1/completions", json!({"prompt": "a", "suffix": "b", "stream": true})),
            ("/api/embed", json!({"input": "Hi"})),
            ("/api/generate", json!({"prompt": "a", "suffix": "b"})),
        ] {
            for name in ["other", "other:latest"] {
                let reply =
                    hall.post(path, common::over(body.clone(), json!({"model": name}))).await;
                assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{path}: {}", reply.text());
                let told = reply.text();
                assert!(told.contains(&format!("model {name}")), "{path}: {told}");
                assert!(!told.contains(reference) && !told.contains("short"), "{path}: {told}");
            }
        }
    }
}

#[tokio::test]
async fn a_tenant_reads_no_name_that_is_not_for_it_and_no_path() {
    let file = model();
    let token = Token::random().unwrap();
    let operator = token.reveal().to_owned();
    for (references, hint) in [
        (TenantReferences::Off, ""),
        (TenantReferences::Public, "; to load it from the hub: hf:org/modle"),
    ] {
        let settings = Settings {
            tenant_references: references,
            tenant_models_budget: (references != TenantReferences::Off).then_some(1_000_000),
            ..Settings::default()
        };
        let queen = Queen::builder().settings(settings).alias("org/model", "echo");
        let queen = queen.alias("team/secret", "echo").alias("on-disk", &*file.reference);
        let given = token.clone();
        let hall = Hall::of(echo(), queen, |server| server.with_token(given)).await;
        let ask = async |key: &str, method: Method, path: &str, body: Option<Value>| {
            let mut request = request(method, path, body);
            let value = HeaderValue::try_from(format!("Bearer {key}")).unwrap();
            request.headers_mut().insert(header::AUTHORIZATION, value);
            hall.send(request).await
        };
        let key = async |name: &str, limits: Value| {
            let path = format!("/v1/tenants/{name}");
            let put = ask(&operator, Method::PUT, &path, Some(limits)).await;
            assert_eq!(put.status, StatusCode::OK, "{}", put.text());
            let body = Some(json!({"label": "test"}));
            let issued = ask(&operator, Method::POST, &format!("{path}/keys"), body).await;
            issued.json()["key"].as_str().unwrap().to_owned()
        };
        let narrow = key("narrow", json!({"models": ["bee:latest", "org/model"]})).await;
        let wide = key("wide", json!({})).await;
        let chat_with = async |key: &str, name: &str| {
            let body = Some(chat(json!({"model": name})));
            ask(key, Method::POST, "/v1/chat/completions", body).await
        };

        for name in ["bee", "bee:latest", "org/model", "org/model:latest"] {
            let reply = chat_with(&narrow, name).await;
            assert_eq!(reply.status, StatusCode::OK, "{name}: {}", reply.text());
        }
        for name in ["team/secret", "team/secret:latest", "on-disk:latest"] {
            let reply = chat_with(&narrow, name).await;
            // It is the same model for the two aliases of the one worker.
            let is_same = name.starts_with("team/");
            let expected = if is_same { StatusCode::OK } else { StatusCode::FORBIDDEN };
            assert_eq!(reply.status, expected, "{name}: {}", reply.text());
        }
        assert_eq!(chat_with(&wide, "echo:latest").await.status, StatusCode::OK);

        let said = message(&chat_with(&narrow, "org modle").await);
        let unknown = "the model \"org modle\" is not known here";
        let ours = "; known are bee, org/model, team/secret";
        assert_eq!(said, format!("{unknown}{ours}; did you mean org/model?"));
        let said = message(&chat_with(&wide, "on disk").await);
        let unknown = "the model \"on disk\" is not known here";
        let all = "; known are bee, on-disk, org/model, team/secret";
        assert_eq!(said, format!("{unknown}{all}; did you mean on-disk?"));
        let said = message(&chat_with(&narrow, "on disk").await);
        assert_eq!(said, format!("{unknown}{ours}"));
        let said = message(&chat_with(&wide, "org/modle").await);
        assert_eq!(
            said,
            format!(
                "the model org/modle is not known here; known are bee, echo, on-disk, org/model, team/secret; did you mean \
                 org/model?{hint}"
            )
        );
        for path in ["/models/x.gguf", "./x.gguf"] {
            let said = message(&chat_with(&wide, path).await);
            assert!(!said.contains("file:"), "{said}");
        }
        // The same answer, whether another tenant has it or nobody.
        let shown = async |name: &str| {
            let reply = ask(&narrow, Method::GET, &format!("/v1/models/{name}"), None).await;
            (reply.status, message(&reply).replace(name, "NAME"))
        };
        assert_eq!(shown("on-disk").await, shown("nothing").await);
        assert_eq!(shown("on-disk").await.0, StatusCode::NOT_FOUND);
        let whole = file.directory.path().to_str().unwrap();
        let reply = ask(&wide, Method::GET, "/v1/models/on-disk:latest", None).await;
        assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
        assert!(!reply.text().contains(whole), "{}", reply.text());
    }
}
