//! Models that a request names by their path: whom the queen lets do so, and what it says of paths that are no models.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};

use crate::support::{Queen, command, end, request, until};
use serde_json::{Value, json};

/// The bundled model, at a path that no setting names.
fn bee() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/bee-tiny").canonicalize().unwrap()
}

fn files_of_bee() -> impl Iterator<Item = (PathBuf, std::ffi::OsString)> {
    let entries = fs::read_dir(bee()).unwrap().map(Result::unwrap);
    let files = entries.filter(|entry| entry.file_type().unwrap().is_file());
    files.map(|entry| (entry.path(), entry.file_name()))
}

fn reference(path: &Path) -> String {
    format!("file:{}", path.display())
}

fn completion(model: &str) -> Value {
    json!({"model": model, "prompt": "a", "max_tokens": 1, "temperature": 0})
}

/// Asks for a completion with these headers.
fn ask(queen: &Queen, model: &str, headers: &[(&str, &str)]) -> (u16, Value) {
    let body = completion(model).to_string();
    let (status, body) = request(queen.address, "POST", "/v1/completions", Some(&body), headers);
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

/// Asks, and checks that this is refused with a message that contains all of this.
fn refused(queen: &Queen, model: &str, headers: &[(&str, &str)], words: &[&str]) {
    let (status, answer) = ask(queen, model, headers);
    assert_eq!(status, 403, "{answer}");
    let error = &answer["error"];
    assert_eq!((&error["code"], &error["param"]), (&json!("permission_denied"), &json!("model")));
    for word in words {
        assert!(error["message"].as_str().unwrap().contains(word), "{word}: {answer}");
    }
}

const SETTINGS: [&str; 3] = ["file_roots", "--file-roots", "RBEE_FILE_ROOTS"];

#[test]
fn a_local_user_names_any_file_that_the_queen_can_read_without_a_setting() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &[]);
    let model = reference(&bee());
    let (status, estimate) = queen.post("/v1/estimate", &json!({"model": model}));
    assert_eq!((status, &estimate["fits"]), (200, &json!(true)), "{estimate}");
    let (status, answer) = ask(&queen, &model, &[]);
    assert_eq!(status, 200, "{answer}");
    for (path, body, expected) in [
        ("/v1/jobs", completion(&model), 202),
        ("/v1/workers", json!({"model": model}), 202),
        ("/v1/catalog/pull", json!({"model": model}), 200),
    ] {
        let (status, answer) = queen.post(path, &body);
        assert_eq!(status, expected, "{path}: {answer}");
    }
}

#[test]
fn a_snapshot_of_the_hubs_cache_whose_files_are_links_to_elsewhere_is_a_model_of_a_local_user() {
    let data = tempfile::tempdir().unwrap();
    let cache = data.path().join("hub/models--bee--tiny");
    let (blobs, snapshot) = (cache.join("blobs"), cache.join("snapshots/c0ffee"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    for (number, (file, name)) in files_of_bee().enumerate() {
        fs::copy(file, blobs.join(number.to_string())).unwrap();
        symlink(format!("../../blobs/{number}"), snapshot.join(name)).unwrap();
    }
    let queen = Queen::start(data.path(), &[]);
    let (status, answer) = ask(&queen, &reference(&snapshot), &[]);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_request_that_a_proxy_or_a_page_sent_names_no_file_even_if_the_connection_is_of_this_machine() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &["--allow-origins", "https://chat.example"]);
    let model = reference(&bee());
    for (name, value) in [
        ("x-forwarded-for", "192.168.1.7"),
        ("X-Forwarded-Proto", "https"),
        ("forwarded", "for=192.168.1.7"),
        ("via", "1.1 proxy"),
        ("x-real-ip", "127.0.0.1"),
    ] {
        let header = name.to_ascii_lowercase();
        refused(&queen, &model, &[(name, value)], &[&SETTINGS[..], &[&header]].concat());
    }
    let page = [("origin", "https://chat.example")];
    refused(&queen, &model, &page, &[&SETTINGS[..], &["web page"]].concat());
    for (path, body) in [
        ("/v1/jobs", completion(&model)),
        ("/v1/embeddings", json!({"model": model, "input": "a"})),
        ("/v1/workers", json!({"model": model})),
        ("/v1/estimate", json!({"model": model})),
        ("/v1/catalog/pull", json!({"model": model})),
    ] {
        let body = body.to_string();
        let (status, answer) = request(queen.address, "POST", path, Some(&body), &page);
        assert_eq!(status, 403, "{path}: {answer}");
    }
    // Nor by way of a tenant of its own, which may use what is in its limits.
    let limits = json!({"models": [model]}).to_string();
    let (status, answer) = request(queen.address, "PUT", "/v1/tenants/mine", Some(&limits), &page);
    assert_eq!(status, 403, "{answer}");
    assert!(answer.contains("RBEE_FILE_ROOTS"), "{answer}");
    assert_eq!(
        queen.json("/v1/jobs")["data"],
        json!([]),
        "nothing was recorded that could run later"
    );
    let (status, answer) = ask(&queen, "bee-tiny", &page);
    assert_eq!(status, 200, "a name is no file: {answer}");
}

#[test]
fn with_a_token_its_holder_on_this_machine_is_the_local_user_and_a_tenant_is_not() {
    let data = tempfile::tempdir().unwrap();
    let token = "t".repeat(43);
    let mut command = command(data.path(), &["--port", "0", "--log-format", "json"]);
    command.env("RBEE_TOKEN", &token);
    command.args(["--tenant-references", "public", "--tenant-models-budget", "1GiB"]);
    command.args(["--tenants", "{acme: {}}"]);
    let queen = Queen::spawn(command);
    let operator = format!("Bearer {token}");
    let operator = [("authorization", operator.as_str())];
    let (status, issued) = request(
        queen.address,
        "POST",
        "/v1/tenants/acme/keys",
        Some("{\"label\": \"a\"}"),
        &operator,
    );
    let issued: Value =
        serde_json::from_str(&issued).unwrap_or_else(|_| panic!("{status} {issued}"));
    let key = format!("Bearer {}", issued["key"].as_str().unwrap());
    let model = reference(&bee());
    refused(&queen, &model, &[("authorization", &key)], &["that this key may not name"]);
    let (_, answer) = ask(&queen, &model, &[("authorization", &key)]);
    for hidden in ["file_roots", "listen_host", "alias"] {
        assert!(!answer.to_string().contains(hidden), "{answer}");
    }
    let told = |line: &Value| line.to_string().contains("RBEE_FILE_ROOTS");
    until("the operator reads the reason in the log", || {
        queen.log().iter().any(told).then_some(())
    });

    let (status, answer) = ask(&queen, &model, &operator);
    assert_eq!(status, 200, "{answer}");
    let proxied = [operator[0], ("x-forwarded-for", "192.168.1.7")];
    let other = data.path().join("other");
    refused(&queen, &reference(&other), &proxied, &["x-forwarded-for"]);
    refused(&queen, &model, &[("authorization", &key)], &["that this key may not name"]);
}

#[test]
fn a_queen_that_other_machines_can_reach_has_no_local_users() {
    let data = tempfile::tempdir().unwrap();
    let token = data.path().join("queen.token");
    fs::write(&token, "t".repeat(43)).unwrap();
    let arguments = ["--listen-host", "0.0.0.0", "--token-file", token.to_str().unwrap()];
    let mut queen = Queen::start(data.path(), &arguments);
    queen.address.set_ip([127, 0, 0, 1].into());
    let operator = format!("Bearer {}", "t".repeat(43));
    let operator = [("authorization", operator.as_str())];
    let words = [&SETTINGS[..], &["listen_host"]].concat();
    refused(&queen, &reference(&bee()), &operator, &words);
    // With the setting that it names, it works.
    drop(queen);
    let roots = format!("[{}]", bee().display());
    let arguments = [&arguments[..], &["--file-roots", &roots]].concat();
    let mut queen = Queen::start(data.path(), &arguments);
    queen.address.set_ip([127, 0, 0, 1].into());
    let (status, answer) = ask(&queen, &reference(&bee()), &operator);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn with_tenants_and_without_a_token_nothing_shows_who_the_operator_is() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &["--tenants", "{acme: {}}"]);
    refused(&queen, &reference(&bee()), &[], &[&SETTINGS[..], &["token_file"]].concat());
}

#[test]
fn the_tenants_that_a_client_without_a_key_removes_leave_no_local_users_until_the_next_start() {
    let data = tempfile::tempdir().unwrap();
    let mut queen = Queen::start(data.path(), &[]);
    let (status, answer) = request(queen.address, "PUT", "/v1/tenants/acme", Some("{}"), &[]);
    assert_eq!(status, 200, "{answer}");
    let (status, answer) = request(queen.address, "DELETE", "/v1/tenants/acme", None, &[]);
    assert_eq!(status, 204, "{answer}");
    refused(&queen, &reference(&bee()), &[], &[&SETTINGS[..], &["token_file"]].concat());
    queen.signal("-TERM");
    queen.wait();
    let queen = Queen::start(data.path(), &[]);
    let (status, answer) = ask(&queen, &reference(&bee()), &[]);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn a_queen_with_other_host_names_or_with_local_files_off_has_no_local_users() {
    for (arguments, word) in [
        (["--allow-hosts", "llm.home.arpa"], "allow_hosts"),
        (["--local-files", "false"], "local_files"),
    ] {
        let data = tempfile::tempdir().unwrap();
        let queen = Queen::start(data.path(), &arguments);
        refused(&queen, &reference(&bee()), &[], &[&SETTINGS[..], &[word]].concat());
        drop(queen);
        let roots = format!("[{}]", bee().display());
        let queen =
            Queen::start(data.path(), &[&arguments[..], &["--file-roots", &roots]].concat());
        let (status, answer) = ask(&queen, &reference(&bee()), &[]);
        assert_eq!(status, 200, "{answer}");
    }
}

#[test]
fn what_is_said_of_a_file_that_is_no_model_is_not_its_size() {
    let data = tempfile::tempdir().unwrap();
    let secret = data.path().join("secret");
    fs::write(&secret, [b'x'; 4_321]).unwrap();
    let queen = Queen::start(data.path(), &[]);
    let model = reference(&secret);
    let path = format!("/v1/catalog/model?model={model}");
    let (status, shown) = request(queen.address, "GET", &path, None, &[]);
    assert!(status == 422 && shown.contains("is not a model of a known form"), "{status} {shown}");
    let (_, estimate) = queen.post("/v1/estimate", &json!({"model": model}));
    for said in [shown, estimate.to_string()] {
        assert!(!said.replace(&model, "").contains("4321"), "{said}");
    }
}

#[test]
fn a_local_user_goes_beyond_file_roots_and_others_do_not() {
    let data = tempfile::tempdir().unwrap();
    let root = data.path().join("models");
    fs::create_dir_all(root.join("inside")).unwrap();
    for (file, name) in files_of_bee() {
        fs::copy(file, root.join("inside").join(name)).unwrap();
    }
    let roots = format!("[{}]", root.display());
    let queen = Queen::start(data.path(), &["--file-roots", &roots]);
    let proxied = [("x-forwarded-for", "192.168.1.7")];
    let (status, answer) = ask(&queen, &reference(&root.join("inside")), &proxied);
    assert_eq!(status, 200, "{answer}");
    refused(&queen, &reference(&bee()), &proxied, &SETTINGS);
    let (status, answer) = ask(&queen, &reference(&bee()), &[]);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn an_accepted_job_of_a_local_user_runs_after_a_restart_under_stricter_settings() {
    let data = tempfile::tempdir().unwrap();
    // No hive: it waits.
    let mut queen = Queen::start(data.path(), &["--local-hive", "off"]);
    let (status, job) = queen.post("/v1/jobs", &completion(&reference(&bee())));
    assert_eq!(status, 202, "{job}");
    let job = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let children = queen.children();
    queen.signal("-KILL");
    queen.wait();
    children.into_iter().for_each(end);

    let token = data.path().join("queen.token");
    fs::write(&token, "t".repeat(43)).unwrap();
    let arguments = ["--mode", "platform", "--token-file", token.to_str().unwrap()];
    let queen = Queen::start(data.path(), &arguments);
    let operator = format!("Bearer {}", "t".repeat(43));
    let operator = [("authorization", operator.as_str())];
    let ended = until("the job ends", || {
        let (_, body) = request(queen.address, "GET", &job, None, &operator);
        let job: Value = serde_json::from_str(&body).unwrap();
        let is_live = ["queued", "running"].contains(&job["state"].as_str().unwrap());
        (!is_live).then_some(job)
    });
    assert_eq!(ended["state"], "complete", "{ended}");
    refused(
        &queen,
        &reference(&data.path().join("new")),
        &operator,
        &["mode of this queen is platform"],
    );
}

#[test]
fn a_path_that_is_no_model_is_an_error_that_names_the_path_and_what_is_wrong() {
    let data = tempfile::tempdir().unwrap();
    let place = data.path().join("place");
    fs::create_dir_all(place.join("empty")).unwrap();
    fs::create_dir_all(place.join("letters")).unwrap();
    fs::write(place.join("letters/letter.txt"), "dear bee").unwrap();
    fs::write(place.join("notes.gguf"), "no weights").unwrap();
    fs::write(place.join("notes.txt"), "no model").unwrap();
    symlink(place.join("gone"), place.join("broken")).unwrap();
    let queen = Queen::start(data.path(), &[]);
    let locked = place.join("locked.safetensors");
    fs::write(&locked, "").unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o000)).unwrap();
    // Everybody may not read it, but the superuser.
    let is_locked = fs::File::open(&locked).is_err();
    let is_locked =
        is_locked.then_some(("locked.safetensors", "model_not_found", "cannot be read"));
    let wrong = [
        ("missing", "model_not_found", "does not exist"),
        ("broken", "model_not_found", "does not exist"),
        ("notes.txt/below", "model_not_found", "cannot be read"),
        ("empty", "model_incompatible", "has no files in it"),
        ("letters", "model_", "config.json"),
        ("notes.gguf", "model_incompatible", "GGUF"),
        ("notes.txt", "model_incompatible", ""),
    ];
    for (name, code, words) in wrong.into_iter().chain(is_locked) {
        let path = place.join(name);
        let (status, answer) = ask(&queen, &reference(&path), &[]);
        let error = &answer["error"];
        assert!((400..500).contains(&status), "{name}: {status} {answer}");
        assert!(error["code"].as_str().unwrap().starts_with(code), "{name}: {answer}");
        for words in [path.to_str().unwrap(), words] {
            assert!(error["message"].as_str().unwrap().contains(words), "{name}: {answer}");
        }
    }
    // Nor does a job for a mistyped path wait for a machine that may come.
    drop(queen);
    let queen = Queen::start(data.path(), &["--local-hive", "off"]);
    let (status, answer) = ask(&queen, &reference(&place.join("missing")), &[]);
    assert_eq!((status, &answer["error"]["code"]), (404, &json!("model_not_found")), "{answer}");
}

#[test]
fn every_relative_path_in_the_configuration_starts_at_the_directory_of_the_file() {
    let data = tempfile::tempdir().unwrap();
    // The start may be anywhere, and the file be named by a relative path.
    let place = data.path().canonicalize().unwrap();
    fs::create_dir_all(place.join("etc/rbee")).unwrap();
    fs::create_dir_all(place.join("models/bee")).unwrap();
    for (file, name) in files_of_bee() {
        fs::copy(file, place.join("models/bee").join(name)).unwrap();
    }
    fs::write(place.join("etc/rbee/queen.token"), "t".repeat(43)).unwrap();

    fs::write(
        place.join("etc/rbee/queen.yaml"),
        "file_roots: [../../models]\nmodels: {small: \"file:../../models/bee\"}\ntoken_file: queen.token\n\
         hub_cache: ./hub\nmodels_dir: store\n",
    )
    .unwrap();
    let arguments = ["--config", "etc/rbee/queen.yaml", "--port", "0", "--log-format", "json"];
    let mut command = command(data.path(), &arguments);
    command.current_dir(&place);
    let queen = Queen::spawn(command);
    let operator = format!("Bearer {}", "t".repeat(43));
    // Not a local user, so that the setting decides.
    let remote = [("authorization", operator.as_str()), ("via", "1.1 proxy")];
    for model in ["small", &reference(&place.join("models/bee"))] {
        let (status, answer) = ask(&queen, model, &remote);
        assert_eq!(status, 200, "{model}: {answer}");
    }
    refused(&queen, &reference(&place.join("elsewhere")), &remote, &SETTINGS);
    assert!(place.join("etc/rbee/store").is_dir(), "models_dir is next to the file");
}
