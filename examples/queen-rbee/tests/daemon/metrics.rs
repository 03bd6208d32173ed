//! What Prometheus reads from the daemon.

use std::{io::Write, os::unix::fs::OpenOptionsExt};

use crate::support::{Queen, chat, exposition, request};
use serde_json::{Value, json};

const TOKEN: &str = "operator-0123456789abcdef0123456789abcdef0123456789";

fn scrape(queen: &Queen) -> String {
    let (status, text) = queen.get("/metrics");
    assert_eq!(status, 200, "{text}");
    exposition::read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    text
}

#[test]
fn the_metrics_are_current_right_after_a_job() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &[]);
    let (status, answer) = queen.post("/v1/chat/completions", &chat("Hello!", 8));
    assert_eq!(status, 200, "{answer}");
    let text = scrape(&queen);
    for wanted in [
        "rbee_jobs_total{outcome=\"complete\",code=\"\"} 1",
        "rbee_spawns_total{outcome=\"ready\"} 1",
        "rbee_tokens_total{kind=\"completion\",model=\"bee-tiny\"} ",
        "rbee_queue_wait_seconds_count{priority=\"interactive\"} 1",
        "rbee_time_to_first_token_seconds_count{model=\"bee-tiny\"} 1",
        "rbee_scheduling_seconds_bucket{le=\"",
        "rbee_queue_depth{priority=\"batch\"} 0",
        "rbee_jobs_running 0",
        "rbee_hive_online{hive=\"local\"} 1",
        "rbee_device_memory_total_bytes{hive=\"local\",device=\"0\",kind=\"cpu\"}",
        "rbee_workers{state=\"idle\"} 1",
        "rbee_http_requests_total{route=\"/v1/chat/completions\",method=\"POST\",status=\"200\"} 1",
        "rbee_http_request_duration_seconds_count{route=\"/v1/chat/completions\",method=\"POST\"} 1",
        "process_cpu_seconds_total ",
        "process_threads ",
    ] {
        assert!(text.contains(wanted), "{wanted} is missing in:\n{text}");
    }
    let samples = exposition::read(&text).unwrap();
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let build = samples.keys().find(|id| id.starts_with("rbee_build_info")).unwrap();
    assert!(build.contains(&version) && samples[build] == 1.0, "{build}");
    // The first one may not be closed yet.
    assert!((1.0..=2.0).contains(&samples["rbee_http_connections"]), "{text}");
    assert!(samples["process_resident_memory_bytes"] > 1e6);
    assert!(samples["process_open_fds"] > 5.0);
    assert!(samples["process_open_fds"] < samples["process_max_fds"]);
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs_f64();
    let age = now - samples["process_start_time_seconds"];
    assert!((-2.0..300.0).contains(&age), "{age}");
    // No tenant, so nothing of tenants.
    assert!(!text.contains("rbee_tenant_"), "{text}");
}

#[test]
fn every_metric_of_the_alerts_exists_before_its_first_event() {
    let alerts = std::fs::read_to_string(
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/alerts.yaml"),
    )
    .unwrap();
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let names: std::collections::BTreeSet<_> = alerts
        .split(|c| !is_part(c))
        .filter(|word| word.starts_with("rbee_") || word.starts_with("process_"))
        // Those of tenants: this queen has none.
        .filter(|word| !word.starts_with("rbee_tenant_"))
        .collect();
    assert!(names.len() > 12, "{names:?}");
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &[]);
    // The first request for the metrics is counted when it has been answered.
    let text = crate::support::until("every metric of the alerts", || {
        let (status, text) = queen.get("/metrics");
        assert_eq!(status, 200, "{text}");
        let samples = exposition::read(&text).unwrap();
        let exists = |name: &&str| samples.keys().any(|id| id.split('{').next() == Some(*name));
        names.iter().all(exists).then_some(text)
    });
    let samples = exposition::read(&text).unwrap();
    for id in [
        "rbee_jobs_total{outcome=\"complete\",code=\"\"}",
        "rbee_jobs_total{outcome=\"cancelled\",code=\"\"}",
        "rbee_jobs_total{outcome=\"failed\",code=\"WORKER_LOST\"}",
        "rbee_jobs_refused_total{code=\"SYSTEM_AT_CAPACITY\"}",
        "rbee_jobs_refused_total{code=\"STORAGE\"}",
        "rbee_jobs_unrecorded_total",
        "rbee_retries_total{code=\"WORKER_LOST\"}",
        "rbee_spawns_total{outcome=\"ready\"}",
        "rbee_spawns_total{outcome=\"failed\"}",
        "rbee_evictions_total",
        "rbee_policy_faults_total",
        "rbee_worker_failures_total",
        "rbee_optimizer_total{what=\"scaled_up\"}",
        "rbee_optimizer_total{what=\"scaled_back\"}",
        "rbee_optimizer_total{what=\"expired\"}",
        "rbee_queue_wait_seconds_count{priority=\"interactive\"}",
    ] {
        assert_eq!(samples.get(id), Some(&0.0), "{id}\n{text}");
    }
}

#[test]
fn a_request_is_counted_by_the_pattern_of_its_route_and_by_its_status() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &["--local-hive", "off"]);
    for n in 0..3 {
        queen.get(&format!("/v1/jobs/00000000-0000-4000-8000-00000000000{n}"));
        queen.get(&format!("/no/such/path/{n}"));
    }
    queen.get("/v1/models/secret/name");
    request(queen.address, "BREW", "/v1/jobs", Some("{}"), &[]);
    request(queen.address, "GET", "/v1/jobs", None, &[("origin", "http://elsewhere.example")]);
    let text = scrape(&queen);
    let samples = exposition::read(&text).unwrap();
    let count = |route: &str, method: &str, status: u16| {
        let id = format!(
            "rbee_http_requests_total{{route=\"{route}\",method=\"{method}\",status=\"{status}\"}}"
        );
        samples.get(&id).copied().unwrap_or_else(|| panic!("{id} is missing in:\n{text}"))
    };
    assert_eq!(count("/v1/jobs/{id}", "GET", 404), 3.0);
    assert_eq!(count("other", "GET", 404), 3.0);
    assert_eq!(count("/v1/jobs", "other", 405), 1.0);
    assert_eq!(count("/v1/jobs", "GET", 403), 1.0);
    for hidden in ["secret", "00000000-", "/no/such"] {
        assert!(!text.contains(hidden), "{hidden} is in:\n{text}");
    }
}

fn operator(queen: &Queen, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    let key = format!("Bearer {TOKEN}");
    let body = body.map(Value::to_string);
    let headers = [("authorization", key.as_str())];
    let (status, text) = request(queen.address, method, path, body.as_deref(), &headers);
    (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

/// The metrics as this client reads them.
fn seen_by(queen: &Queen, key: Option<&str>) -> (u16, String) {
    let key = key.map(|key| format!("Bearer {key}"));
    let headers: Vec<_> = key.iter().map(|key| ("authorization", key.as_str())).collect();
    request(queen.address, "GET", "/metrics", None, &headers)
}

#[test]
fn each_tenant_is_counted_and_only_the_operator_reads_it() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("token");
    let mut options = std::fs::OpenOptions::new();
    let mut file_of_token = options.write(true).create_new(true).mode(0o600).open(&file).unwrap();
    file_of_token.write_all(TOKEN.as_bytes()).unwrap();
    let tenants = "{acme: {daily_tokens: 100000}, zeta: {concurrent_jobs: 1}}";
    let file = file.to_str().unwrap();
    let open = [
        "--token-file",
        file,
        "--tenants",
        tenants,
        "--open-metrics",
        "true",
        "--mode",
        "platform",
    ];
    let queen = Queen::start(data.path(), &open);
    let key = |tenant: &str| {
        let path = format!("/v1/tenants/{tenant}/keys");
        let (status, key) = operator(&queen, "POST", &path, Some(&json!({})));
        assert_eq!(status, 201, "{key}");
        key["key"].as_str().unwrap().to_owned()
    };
    let (acme, zeta) = (key("acme"), key("zeta"));
    let as_tenant = |key: &str, body: &Value| {
        let key = format!("Bearer {key}");
        let headers = [("authorization", key.as_str())];
        let body = body.to_string();
        request(queen.address, "POST", "/v1/chat/completions", Some(&body), &headers)
    };
    let (status, answer) = as_tenant(&acme, &chat("Hello!", 8));
    assert_eq!(status, 200, "{answer}");
    let mut two = chat("Hello!", 8);
    two["n"] = json!(2);
    let (status, answer) = as_tenant(&zeta, &two);
    assert_eq!(status, 403, "two jobs together are more than the limit: {answer}");

    let (status, text) = seen_by(&queen, Some(TOKEN));
    assert_eq!(status, 200);
    let samples = exposition::read(&text).unwrap();
    for (id, value) in [
        ("rbee_tenant_jobs_total{tenant=\"acme\",outcome=\"complete\",code=\"\"}", 1.0),
        ("rbee_tenant_tokens_total{tenant=\"acme\",kind=\"completion\"}", 8.0),
        ("rbee_tenant_queue_wait_seconds_count{tenant=\"acme\"}", 1.0),
        ("rbee_tenant_jobs_open{tenant=\"acme\"}", 0.0),
        ("rbee_tenant_daily_tokens_limit{tenant=\"acme\"}", 100_000.0),
        ("rbee_tenant_jobs_refused_total{tenant=\"zeta\",code=\"QUOTA_EXCEEDED\"}", 2.0),
    ] {
        assert_eq!(samples.get(id), Some(&value), "{id}\n{text}");
    }
    assert!(samples["rbee_tenant_tokens_today{tenant=\"acme\"}"] > 8.0, "{text}");

    // `open_metrics` gives everybody what is no tenant's.
    for (who, key) in [("a stranger", None), ("a tenant", Some(acme.as_str()))] {
        let (status, text) = seen_by(&queen, key);
        assert_eq!(status, 200, "{who}: {text}");
        exposition::read(&text).unwrap();
        assert!(text.contains("rbee_jobs_total"), "{who}: {text}");
        for hidden in ["rbee_tenant_", "acme", "zeta"] {
            assert!(!text.contains(hidden), "{who} reads {hidden}:\n{text}");
        }
    }
}

#[test]
fn a_model_without_an_alias_is_counted_without_its_path() {
    let data = tempfile::tempdir().unwrap();
    let models = std::fs::canonicalize(concat!(env!("CARGO_MANIFEST_DIR"), "/../models")).unwrap();
    let (model, models) = (models.join("bee-tiny"), models.to_str().unwrap());
    let arguments = ["--bundled-model", "false", "--file-roots", &format!("[{models}]")];
    let queen = Queen::start(data.path(), &arguments);
    let mut body = chat("Hello!", 8);
    body["model"] = json!(format!("file:{}", model.display()));
    let (status, answer) = queen.post("/v1/chat/completions", &body);
    assert_eq!(status, 200, "{answer}");
    // It parses only without paths.
    let text = scrape(&queen);
    assert!(text.contains("rbee_tokens_total{kind=\"completion\",model=\"bee-tiny~"), "{text}");
    for hidden in [models, data.path().to_str().unwrap()] {
        assert!(!text.contains(hidden), "{hidden} is in:\n{text}");
    }
}

#[test]
fn metrics_that_prometheus_would_not_take_are_found() {
    let good = "# HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\"} 1\n";
    assert_eq!(exposition::read(good).unwrap().len(), 1);
    let half = "# HELP h x\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum 1\nh_count 2\n";
    for bad in ["a 1\n", "# TYPE a_total counter\na_total 1\n", &good.repeat(2), half] {
        exposition::read(bad).unwrap_err();
    }
    let milliseconds = "# HELP a_ms x\n# TYPE a_ms gauge\na_ms 1\n";
    exposition::read(milliseconds).unwrap_err();
    for value in ["/srv/m", "file:/srv/m", "hf://x", "7d0d6a3e-6f9b-4d0e-9a53-1f7d8d7c1b2a"] {
        exposition::read(&good.replace("\"c\"", &format!("\"{value}\""))).unwrap_err();
    }
    let quoted = good.replace("\"c\"", "\"q\\\"}, /x\",route=\"/v1/jobs/{id}\"");
    assert_eq!(exposition::read(&quoted).unwrap().len(), 1);
}
