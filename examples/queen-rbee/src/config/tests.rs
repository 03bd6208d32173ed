//! What the sources say together.

use std::ffi::OsString;

use super::{
    table::{Forms, KEYS},
    *,
};

fn variables(pairs: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    pairs.iter().map(|(name, value)| (name.into(), value.into())).collect()
}

fn flags(arguments: &[&str]) -> Vec<(String, String)> {
    let arguments = std::iter::once(&"queen-rbee").chain(arguments).map(OsString::from);
    Arguments::parse(arguments).unwrap().flags
}

/// The sources, with a file of this text.
fn load(text: &str, environment: &[(&str, &str)], arguments: &[&str]) -> Result<Loaded> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("queen.yaml");
    std::fs::write(&file, text).unwrap();
    let (variables, flags) = (variables(environment), flags(arguments));
    Config::load(&Sources { file: Some(file), default_file: None, variables, flags })
}

fn refused(text: &str, environment: &[(&str, &str)], arguments: &[&str]) -> String {
    let error = load(text, environment, arguments).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    error.message().to_owned()
}

#[test]
fn a_flag_goes_before_a_variable_and_that_before_the_file() {
    let text = "listen_port: 1\nretries: 1\nqueue_capacity: 1\n";
    let environment = [("RBEE_LISTEN_PORT", "2"), ("RBEE_RETRIES", "2"), ("PATH", "/bin")];
    let loaded = load(text, &environment, &["--listen-port", "3"]).unwrap();
    let config = &loaded.config;
    assert_eq!(config.listen_port, 3);
    assert_eq!(config.settings.retries, 2);
    assert_eq!(config.settings.queue_capacity, 1);
    assert_eq!(*loaded.origin("listen_port").unwrap(), Origin::Flag("--listen-port".into()));
    assert_eq!(*loaded.origin("retries").unwrap(), Origin::Variable("RBEE_RETRIES".into()));
    assert!(matches!(loaded.origin("queue_capacity").unwrap(), Origin::File(_, 3)));
    assert_eq!(*loaded.origin("name").unwrap(), Origin::Default);
}

#[test]
fn every_key_has_all_three_forms_and_reads_what_it_shows() {
    let defaults = load("", &[], &[]).unwrap();
    for key in KEYS.iter().filter(|key| key.forms == Forms::All) {
        let shown = (key.show)(&defaults.config);
        if shown == "~" {
            continue;
        }
        let by_file = load(&format!("{}: {shown}\n", key.name), &[], &[]).unwrap();
        assert_eq!(by_file.config, defaults.config, "{}", key.name);
        let text = shown.trim_matches('"');
        let by_variable = load("", &[(&key.variable(), text)], &[]).unwrap();
        assert_eq!(by_variable.config, defaults.config, "{}", key.name);
        let by_flag = load("", &[], &[&format!("--{}", key.flag()), text]).unwrap();
        assert_eq!(by_flag.config, defaults.config, "{}", key.name);
        assert!(matches!(by_flag.origin(key.name), Some(Origin::Flag(_))));
    }
}

#[test]
fn every_setting_of_the_core_has_a_key() {
    let settings = serde_json::to_value(Settings::default()).unwrap();
    for name in settings.as_object().unwrap().keys() {
        assert!(table::find(name).is_some(), "{name} has no key");
    }
}

#[test]
fn what_is_shown_is_a_configuration_file_without_secrets() {
    let secret = "s".repeat(50);
    let text = "listen_port: 0\nmodels: {small: \"file:/m\"}\nhives: [{id: attic, url: \"http://attic\"}]\n";
    let loaded = load(text, &[("RBEE_TOKEN", &secret)], &["--lease", "2m"]).unwrap();
    let shown = loaded.show();
    assert!(!shown.contains(&secret), "{shown}");
    assert!(shown.contains("# token: (hidden)") && shown.contains("# RBEE_TOKEN"), "{shown}");
    assert!(shown.contains("lease: 2m ") && shown.contains("# --lease"), "{shown}");
    assert!(shown.contains("queen.yaml:2"), "{shown}");
    let again = load(&shown, &[("RBEE_TOKEN", &secret)], &[]).unwrap();
    assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config));
}

#[test]
fn values_by_name_are_read_from_every_source_and_shown_as_they_are_read() {
    let text = "hive_memory: {attic: 24GiB, cellar: 512MiB}\nmodel_keep_alive: {small: 10m}\n";
    let loaded = load(text, &[], &[]).unwrap();
    let settings = &loaded.config.settings;
    assert_eq!(settings.hive_memory["attic"], 24 << 30);
    assert_eq!(settings.hive_memory["cellar"], 512 << 20);
    assert_eq!(settings.model_keep_alive["small"], Duration::from_secs(600));
    let again = load(&loaded.show(), &[], &[]).unwrap();
    assert_eq!(again.config, loaded.config);
    let variables = [("RBEE_HIVE_MEMORY", "{attic: 24GiB, cellar: 512MiB}")];
    let elsewhere = load("", &variables, &["--model-keep-alive", "{small: 10m}"]).unwrap();
    assert_eq!(elsewhere.config, loaded.config);
}

#[test]
fn what_is_wrong_is_named_with_its_place_its_value_and_what_is_allowed() {
    for (text, said) in [
        ("\nlisten_prt: 1\n", "queen.yaml:2: there is no key \"listen_prt\"; listen_port perhaps?"),
        ("retries: many\n", "queen.yaml:1: retries is \"many\"; allowed is a whole number"),
        ("job_timeout: 90\n", "queen.yaml:1: job_timeout is \"90\"; allowed is a duration"),
        ("a: 1\n\nretries: 101\n", "queen.yaml:1: there is no key \"a\""),
        ("\nretries: 101\n", "queen.yaml:2: retries is 101; allowed is 0 to 100"),
        ("retries: [1]\n", "queen.yaml:1: retries is [1]; allowed is a whole number"),
        ("durability: ful\n", "durability is \"ful\"; allowed is normal|full"),
        ("token: 1234\n", "queen.yaml:1: token is not allowed in a file"),
        ("- 1\n", "queen.yaml:1: allowed are lines like"),
        ("a: [\n", "this is not YAML"),
        ("lease: 30s\n", "queen.yaml:1: lease is 30s; allowed is more than hive_lost_after"),
        ("tls_key: /x\n", "queen.yaml:1: tls_key is given without tls_cert"),
        ("log_level: loud\n", "queen.yaml:1: log_level is \"loud\""),
        (
            "hives:\n  - id: a\n    ulr: http://a\n",
            "queen.yaml:3: hives[0] has no \"ulr\"; allowed are id, url, token_file, labels; url perhaps?",
        ),
        (
            "hives:\n  - id: a\n    url: ftp://a\n",
            "queen.yaml:3: hives[0].url is \"ftp://a\"; allowed is http://HOST",
        ),
        ("hives:\n  - {id: a, url: http://a}\n  - {id: a, url: http://b}\n", "hives has a twice"),
        (
            "engines:\n  - {name: a, models: ['*'], command: 'x {port}', helth: /}\n",
            "queen.yaml:2: engines[0] is not understood: unknown field `helth`, expected one of",
        ),
        ("models: {m: 'x y'}\n", "queen.yaml:1: models: m: "),
        ("hive_memory: [1]\n", "queen.yaml:1: hive_memory is"),
        ("\nhive_memory: {attic: lots}\n", "queen.yaml:2: hive_memory.attic is \"lots\""),
        ("hive_memory: {attic: 0B}\n", "queen.yaml:1: hive_memory.attic is 0"),
        ("\nmodel_keep_alive: {m: 10}\n", "queen.yaml:2: model_keep_alive.m is \"10\""),
        ("model_keep_alive: {m: 900h}\n", "queen.yaml:1: model_keep_alive.m is"),
    ] {
        let message = refused(text, &[], &[]);
        assert!(message.contains(said), "{text:?}: {message:?} does not say {said:?}");
    }
    let message = refused("", &[("RBEE_LISTEN_PROT", "1")], &[]);
    assert!(message.starts_with("RBEE_LISTEN_PROT: there is no such variable; RBEE_LISTEN_PORT"));
    let message = refused("", &[("RBEE_RETRIES", "x")], &[]);
    assert!(message.starts_with("RBEE_RETRIES: retries is \"x\"; allowed is"), "{message}");
    let message = refused("", &[], &["--retries", "-1"]);
    assert!(message.starts_with("--retries: retries is \"-1\"; allowed is"), "{message}");
    let message = refused("", &[], &["--hives", "[{id: a"]);
    assert!(message.starts_with("--hives: hives is"), "{message}");
}

#[test]
fn the_token_is_no_flag_and_never_repeated() {
    let arguments = ["queen-rbee", "--token", "x"].map(OsString::from);
    let said = Arguments::parse(arguments).unwrap_err().to_string();
    assert!(said.contains("--token-file"), "{said}");
    let message = refused("", &[("RBEE_TOKEN", "hunter2")], &[]);
    assert!(message.contains("RBEE_TOKEN") && !message.contains("hunter2"), "{message}");
}

#[test]
fn other_machines_are_let_in_only_with_a_token() {
    let message = refused("", &[], &["--host", "0.0.0.0"]);
    assert!(message.starts_with("--listen-host: listen_host is 0.0.0.0"), "{message}");
    assert!(message.contains("openssl rand -hex 32") && message.contains("--token-file"));
    let token = "t".repeat(43);
    load("", &[("RBEE_TOKEN", &token)], &["--host", "0.0.0.0"]).unwrap();
    load("", &[], &["--host", "::1"]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    std::fs::write(&file, format!("{token}\n")).unwrap();
    let path = file.to_str().unwrap();
    let loaded = load("", &[], &["--host", "::", "--token-file", path]).unwrap();
    assert!(loaded.config.client_token().unwrap().unwrap().matches(&token));
    assert!(refused("", &[("RBEE_TOKEN", &token)], &["--token-file", path]).contains("both"));
    std::fs::write(&file, "short").unwrap();
    assert!(refused("", &[], &["--token-file", path]).contains("43 to 512"));
}

#[test]
fn a_platform_needs_an_operators_token_and_has_a_policy_of_its_own() {
    let message = refused("mode: platform\n", &[], &[]);
    assert!(
        message.contains("queen.yaml:1: mode is platform, and there is no token: "),
        "{message}"
    );
    assert!(message.contains("token_file") && message.contains("RBEE_TOKEN"), "{message}");
    let token = "t".repeat(43);
    load("mode: platform\n", &[("RBEE_TOKEN", &token)], &[]).unwrap();
    let text = "mode: platform\npolicy: mine.rhai\n";
    let message = refused(text, &[("RBEE_TOKEN", &token)], &[]);
    assert!(message.contains("queen.yaml:2: policy is "), "{message}");
    assert!(message.contains("mine.rhai, and mode is platform"), "{message}");
}

#[test]
fn tenants_name_references_only_within_a_disk_budget() {
    let why = refused("tenant_references: public", &[], &[]);
    assert!(why.contains("tenant_models_budget is not set"), "{why}");
    let text = "tenant_references: with_hub_token\ntenant_models_budget: 5GiB";
    let settings = load(text, &[], &[]).unwrap().config.settings;
    assert_eq!(settings.tenant_references, rbee_core::TenantReferences::WithHubToken);
    assert_eq!(settings.tenant_models_budget, Some(5 << 30));
    let why = refused("tenant_references: yes", &[], &[]);
    assert!(why.contains("off|public|with_hub_token") || why.contains("off, public"), "{why}");
}

#[test]
fn the_users_own_file_is_read_where_it_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("queen.yaml");
    let mut sources = Sources { default_file: Some(file.clone()), ..Sources::default() };
    assert_eq!(Config::load(&sources).unwrap().config.listen_port, 7833);
    std::fs::write(&file, "listen_port: 5\ntls_cert: c.pem\ntls_key: k.pem\n").unwrap();
    let config = Config::load(&sources).unwrap().config;
    assert_eq!(config.listen_port, 5);
    assert_eq!(config.tls_cert.unwrap(), directory.path().join("c.pem"), "beside the file");
    sources.file = Some(directory.path().join("missing.yaml"));
    assert!(Config::load(&sources).unwrap_err().message().contains("missing.yaml"));
}
