//! Tests of the sources together.

use std::{ffi::OsString, path::Path, time::Duration};

use rbee_core::{ErrorKind, Result, Settings};

use super::*;

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
    assert_eq!(config.retries, 2);
    assert_eq!(config.queue_capacity, 1);
    assert_eq!(*loaded.origin("listen_port").unwrap(), Origin::Flag("--listen-port".into()));
    assert_eq!(*loaded.origin("retries").unwrap(), Origin::Variable("RBEE_RETRIES".into()));
    assert!(matches!(loaded.origin("queue_capacity").unwrap(), Origin::File(_, 3)));
    assert_eq!(*loaded.origin("name").unwrap(), Origin::Default);
}

/// Every key that is a flag, with the value that `--print-config` shows for it.
fn shown(loaded: &Loaded) -> Vec<(String, String)> {
    let shown = loaded.show().unwrap();
    let lines = shown.lines().filter(|line| !line.starts_with('#'));
    let values = lines.map(|line| line.rsplit_once("  # ").unwrap().0.split_once(": ").unwrap());
    values.map(|(key, value)| (key.to_owned(), value.trim_end().to_owned())).collect()
}

#[test]
fn every_key_has_all_three_forms_and_reads_what_it_shows() {
    let defaults = load("", &[], &[]).unwrap();
    for (key, shown) in shown(&defaults) {
        let by_file = load(&format!("{key}: {shown}\n"), &[], &[]).unwrap();
        assert_eq!(by_file.config, defaults.config, "{key}");
        assert!(matches!(by_file.origin(&key), Some(Origin::File(_, 1))), "{key}");
        let text = shown.trim_matches('"');
        let variable = format!("RBEE_{}", key.to_ascii_uppercase());
        let by_variable = load("", &[(&variable, text)], &[]).unwrap();
        assert_eq!(by_variable.config, defaults.config, "{key}");
        let flag = format!("--{}", key.replace('_', "-"));
        let by_flag = load("", &[], &[&flag, text]).unwrap();
        assert_eq!(by_flag.config, defaults.config, "{key}");
        assert_eq!(by_flag.origin(&key), Some(&Origin::Flag(flag)));
    }
}

#[test]
fn every_setting_of_the_core_has_a_key_and_takes_its_value() {
    let settings = serde_json::to_value(Settings::default()).unwrap();
    let keys = shown(&load("", &[], &[]).unwrap());
    let mut text = String::new();
    for name in settings.as_object().unwrap().keys() {
        let (_, shown) =
            keys.iter().find(|(key, _)| key == name).unwrap_or_else(|| panic!("{name}"));
        // A number gets a value that is allowed and not the default.
        let value = match (&settings[name], shown.as_str()) {
            (serde_json::Value::Number(number), shown) if shown.ends_with('B') => {
                format!("{}B", number.as_u64().unwrap() + 1)
            }
            (serde_json::Value::Number(number), _) => (number.as_u64().unwrap() + 1).to_string(),
            (serde_json::Value::Bool(value), _) => (!value).to_string(),
            (_, shown) if shown.ends_with('s') || shown.ends_with('m') || shown.ends_with('h') => {
                format!("{shown}1ms")
            }
            _ => continue,
        };
        text += &format!("{name}: {value}\n");
    }
    let changed = load(&(text.clone() + "lease: 5m\n"), &[], &[]).unwrap().config.settings();
    let changed = serde_json::to_value(changed).unwrap();
    for name in text.lines().map(|line| line.split_once(':').unwrap().0) {
        assert_ne!(changed[name], settings[name], "{name}");
    }
    assert!(text.lines().count() > 30, "{text}");
}

#[test]
fn a_value_that_may_be_absent_is_taken_back_from_every_source() {
    let text = "policy: mine.rhai\nkeep_alive: 5m\n";
    let config = load(text, &[], &[]).unwrap().config;
    assert!(config.policy.is_some() && config.keep_alive.is_some());
    let token = "t".repeat(43);
    let variables = [("RBEE_TOKEN", &*token), ("RBEE_POLICY", "~")];
    let loaded = load(text, &variables, &["--keep-alive", "null"]).unwrap();
    assert_eq!((&loaded.config.policy, loaded.config.keep_alive), (&None, None));
    assert_eq!(loaded.origin("policy"), Some(&Origin::Variable("RBEE_POLICY".into())));
    assert!(loaded.config.token.unwrap().matches(&token), "the others stay");
    assert!(load("policy: ~\n", &[], &[]).unwrap().config.policy.is_none());
    assert!(refused("", &[("RBEE_RETRIES", "~")], &[]).contains("retries is \"~\""));
}

#[test]
fn an_unknown_variable_is_a_warning_with_the_nearest_name() {
    let variables = [
        ("RBEE_LISTEN_PROT", "1"),
        ("RBEE_SERVICE_HOST", "10.0.0.1"),
        ("RBEE_HIVE_TOKEN", "x"),
        ("RBEE_API_KEY", "x"),
        ("RBEEHIVE", "x"),
    ];
    let loaded = load("", &variables, &[]).unwrap();
    assert_eq!(loaded.config.listen_port, 7833);
    let expected = [
        "RBEE_LISTEN_PROT: there is no such variable, so it is ignored; RBEE_LISTEN_PORT perhaps?",
        "RBEE_SERVICE_HOST: there is no such variable, so it is ignored",
    ];
    assert_eq!(loaded.warnings.len(), expected.len(), "{:?}", loaded.warnings);
    for (warning, expected) in loaded.warnings.iter().zip(expected) {
        assert!(warning.starts_with(expected), "{warning}");
    }
}

#[test]
fn relative_paths_in_the_file_are_relative_to_the_file() {
    let keys = arguments::keys();
    let is_path = |key: &&clap::Arg| key.get_value_hint() == clap::ValueHint::AnyPath;
    let keys: Vec<_> =
        keys.get_arguments().filter(is_path).map(|key| key.get_id().as_str()).collect();
    let text: String = keys.iter().map(|key| format!("{key}: some\n")).collect();
    let mut config: Config = yaml::read(&text).unwrap();
    let found: Vec<_> = config.paths().map(|(key, _)| key).collect();
    for key in keys {
        assert!(found.contains(&key), "{key} is no path: {found:?}");
    }
    let text = "tls_cert: c.pem\ntls_key: /k.pem\nfile_roots: [models]\ndata_dir: d\n";
    let loaded = load(text, &[("RBEE_MODELS_DIR", "m")], &[]).unwrap();
    let Some(Origin::File(file, _)) = loaded.origin("tls_cert") else { panic!("{loaded:?}") };
    let (directory, config) = (file.parent().unwrap(), &loaded.config);
    assert_eq!(config.tls_cert.as_deref().unwrap(), directory.join("c.pem"));
    assert_eq!(config.tls_key.as_deref().unwrap(), Path::new("/k.pem"));
    assert_eq!(
        (&config.file_roots[0], &config.data_dir),
        (&directory.join("models"), &directory.join("d"))
    );
    assert_eq!(config.models_dir.as_deref().unwrap(), Path::new("m"), "as it is given");
}

#[test]
fn references_and_programs_in_the_file_are_relative_to_the_file_too() {
    let text = "\
models: {dot: \"file:./bee\", bare: \"file:bee\", up: \"file:../bee\", whole: \"file:/bee\", hub: \"hf:a/b\"}
model_keep_alive: {\"file:bee\": 5m}
tenants: {acme: {models: [\"file:bee\", dot]}}
default_limits: {models: [\"file:bee\"]}
file_roots: [../models, .]
hives: [{id: attic, url: \"https://attic\", token_file: attic.token, ca_cert: attic.pem}]
engines:
  - {name: near, models: [\"*\"], command: \"./engine --port {port} ./x\"}
  - {name: far, models: [\"*\"], command: \"engine --port {port}\"}
";
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().canonicalize().unwrap();
    std::fs::create_dir(place.join("etc")).unwrap();
    std::fs::write(place.join("etc/queen.yaml"), text).unwrap();
    std::fs::write(place.join("etc/attic.token"), "t".repeat(43)).unwrap();
    let file = place.join("etc/queen.yaml");
    let sources = Sources { file: Some(file), ..Sources::default() };
    let refused = Config::load(&sources).unwrap_err();
    assert!(refused.message().contains("hives: attic: "), "{refused}");
    assert!(refused.message().contains("etc/attic.pem: cannot be read"), "{refused}");
    let made = rcgen::generate_simple_self_signed(["attic".to_owned()]).unwrap();
    std::fs::write(place.join("etc/attic.pem"), made.cert.pem()).unwrap();
    let config = Config::load(&sources).unwrap().config;
    let at = |path: &str| format!("file:{}", place.join(path).display());
    let models: Vec<_> = config.models.iter().map(|(name, model)| (&**name, &**model)).collect();
    let (near, up) = (at("etc/bee"), at("bee"));
    let expected =
        [("bare", &*near), ("dot", &near), ("hub", "hf:a/b"), ("up", &up), ("whole", "file:/bee")];
    assert_eq!(models, expected);
    assert!(config.model_keep_alive.contains_key(&near));
    let tenant = config.tenants.values().next().unwrap().models.as_ref().unwrap();
    assert!(tenant.contains(&near) && tenant.contains("dot"), "{tenant:?}");
    assert!(config.default_limits.models.as_ref().unwrap().contains(&near));
    assert_eq!(config.file_roots[..], [place.join("models"), place.join("etc")]);
    assert_eq!(config.hives[0].token_file.as_deref().unwrap(), place.join("etc/attic.token"));
    assert_eq!(config.hives[0].ca_cert.as_deref().unwrap(), place.join("etc/attic.pem"));
    let programs: Vec<_> = config.engines.iter().map(|engine| &*engine.command.0[0]).collect();
    assert_eq!(programs, [place.join("etc/engine").to_str().unwrap(), "engine"]);
    assert_eq!(&*config.engines[0].command.0[3], "./x", "the engine's own");
}

#[test]
fn references_of_variables_and_flags_are_relative_to_the_current_directory() {
    let here = std::env::current_dir().unwrap().join("bee");
    let here = format!("file:{}", here.display());
    let given = "{small: \"file:./bee\"}";
    let by_flag = load("", &[], &["--models", given]).unwrap().config;
    let by_variable = load("", &[("RBEE_MODELS", given)], &[]).unwrap().config;
    for config in [by_flag, by_variable] {
        assert_eq!(config.models["small"], here);
    }
}

#[test]
fn a_path_in_the_file_may_begin_at_the_home_directory() {
    let home = std::env::home_dir().unwrap();
    let text = "data_dir: ~/bees\nmodels: {small: \"file:~/bee\"}\n";
    let config = load(text, &[], &[]).unwrap().config;
    assert_eq!(config.data_dir, home.join("bees"));
    assert_eq!(config.models["small"], format!("file:{}", home.join("bee").display()));
}

#[test]
fn what_is_shown_is_a_configuration_file_without_secrets() {
    let secret = "s".repeat(50);
    let text = "listen_port: 0\nmodels: {small: \"file:/m\"}\ntenants: {acme: {daily_tokens: 9}}\nhives: [{id: attic, url: \"http://attic\"}]\n";
    let loaded = load(text, &[("RBEE_TOKEN", &secret)], &["--lease", "2m"]).unwrap();
    let shown = loaded.show().unwrap();
    assert!(!shown.contains(&secret), "{shown}");
    assert!(shown.contains("# token: (hidden)") && shown.contains("# RBEE_TOKEN"), "{shown}");
    assert!(shown.contains("lease: 2m ") && shown.contains("# --lease"), "{shown}");
    assert!(shown.contains("queen.yaml:2"), "{shown}");
    assert!(shown.contains(r#"tenants: {"acme":{"daily_tokens":9,"weight":1}}"#), "{shown}");
    let again = load(&shown, &[("RBEE_TOKEN", &secret)], &[]).unwrap();
    assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config));
}

#[test]
fn values_by_name_are_read_from_every_source_and_shown_as_they_are_read() {
    let text = "hive_memory: {attic: 24GiB, cellar: 512MiB}\nmodel_keep_alive: {small: 10m}\n";
    let loaded = load(text, &[], &[]).unwrap();
    let settings = loaded.config.settings();
    assert_eq!(settings.hive_memory["attic"], 24 << 30);
    assert_eq!(settings.hive_memory["cellar"], 512 << 20);
    assert_eq!(settings.model_keep_alive["small"], Duration::from_secs(600));
    let again = load(&loaded.show().unwrap(), &[], &[]).unwrap();
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
        (
            "token: 1234\n",
            "queen.yaml:1: token: not allowed in a file that may be copied; use token_file",
        ),
        ("- 1\n", "queen.yaml:1: allowed are lines like"),
        ("models: {a: b\n", "this is not YAML"),
        ("lease: 30s\n", "queen.yaml:1: lease is 30s; allowed is more than hive_lost_after"),
        ("tls_key: /x\n", "queen.yaml:1: tls_key is given without tls_cert"),
        ("log_level: loud\n", "queen.yaml:1: log_level is \"loud\""),
        (
            "hives:\n  - id: a\n    ulr: http://a\n",
            "queen.yaml:3: hives[0] has no \"ulr\"; allowed are id, url, token_file, ca_cert, labels, ssh, directory, arguments; url \
             perhaps?",
        ),
        (
            "hives:\n  - id: a\n    url: ftp://a\n",
            "queen.yaml:3: hives[0].url is \"ftp://a\"; allowed is http://HOST",
        ),
        ("hives:\n  - {id: a, url: http://a}\n  - {id: a, url: http://b}\n", "hives has a twice"),
        (
            "engines:\n  - name: a\n    models: ['*']\n    command: 'x {port}'\n    helth: /\n",
            "queen.yaml:5: engines[0] has no \"helth\"; allowed are name, models, command",
        ),
        (
            "engines:\n\n  - {name: a, models: ['*'], command: x}\n",
            "queen.yaml:3: engines[0]: engine \"a\": command does not contain {port}",
        ),
        (
            "local_hive: inside\nengines:\n  - {name: a, models: ['*'], command: 'x {port}'}\n",
            "queen.yaml:2: engines are for workers that are processes on this machine, and local_hive is inside",
        ),
        ("hives:\n  - id: a\n", "queen.yaml:2: hives[0]: there is no url"),
        ("hives:\n  - {id: a, url: http://a, ssh: a}\n", "hives[0]: url and ssh are both given"),
        (
            "hives:\n  - {id: a, ssh: a, token_file: t}\n",
            "queen.yaml:2: hives[0]: token_file belongs to url",
        ),
        (
            "hives:\n  - {id: a, url: http://a, ca_cert: c}\n",
            "queen.yaml:2: hives[0]: ca_cert belongs to a url that begins with https://",
        ),
        (
            "hives:\n  - {id: a, url: http://a, directory: ~/x}\n",
            "directory and arguments belong to ssh",
        ),
        (
            "hives:\n  - {id: a, url: http://a, labels: b}\n",
            "queen.yaml:2: hives[0].labels: \"b\" is not a label",
        ),
        (
            "hives: {a: 1}\n",
            "queen.yaml:1: hives is {a: 1}; allowed is a list like [{id: NAME, url: URL",
        ),
        (
            "tenants:\n  acme:\n    priority: [batch]\n",
            "queen.yaml:3: tenants.acme has no \"priority\"; allowed are daily_tokens, concurrent_jobs, \
             requests_per_minute, tokens_per_minute, priorities, models, weight; priorities perhaps?",
        ),
        (
            "tenants:\n  acme: {priorities: [bach]}\n",
            "queen.yaml:2: tenants.acme.priorities[0] is \"bach\"",
        ),
        (
            "tenants:\n  acme: {daily_tokens: few}\n",
            "queen.yaml:2: tenants.acme.daily_tokens is \"few\"; allowed is a whole number",
        ),
        (
            "tenants:\n  acme: {weight: 0}\n",
            "queen.yaml:2: tenants.acme: weight is 0; allowed is 1 to 1000000",
        ),
        (
            "allow_origins:\n  - https://a\n  - b\n",
            "queen.yaml:3: allow_origins[1]: \"b\" is not an origin",
        ),
        ("models: {a: {b: [c]}, d: e}\n", "queen.yaml:1: models.a is {b: [c]}; allowed is text"),
        ("tenants:\n  acme:\n    - a\n", "queen.yaml:3: tenants.acme is - a; allowed is a map"),
        ("lease:\n", "queen.yaml:1: lease is ~; allowed is a duration"),
        ("offline: yes\n", "queen.yaml:1: offline is \"yes\"; allowed is true or false"),
        (
            "listen_port: 65536\n",
            "queen.yaml:1: listen_port is \"65536\"; allowed is 0 (the operating",
        ),
        ("listen_host: here\n", "queen.yaml:1: listen_host is \"here\"; allowed is an IP address"),
        ("policy: ''\n", "queen.yaml:1: policy is \"\"; allowed is a path"),
        ("retries: 1\na: &x [1]\n", "queen.yaml:2: there is no key \"a\""),
        (
            "retries: 1\noffline: true\nretries: 2\n",
            "queen.yaml:3: retries is given twice, on line 1",
        ),
        ("retries: 1\n---\nretries: 2\n", "a second document"),
        ("file_roots: &x [a]\n", "anchors and aliases are not allowed"),
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
    let long = format!("retries: {}\n", "x".repeat(200));
    assert!(refused(&long, &[], &[]).contains("xxx…; allowed is"), "a long value is cut");
}

#[test]
fn variables_and_flags_are_refused_in_the_same_words_as_the_file() {
    for (key, value, said) in [
        ("retries", "-1", "retries is \"-1\"; allowed is a whole number"),
        ("lease", "90", "lease is \"90\"; allowed is a duration with its unit"),
        ("mode", "hom", "mode is \"hom\"; allowed is home|platform"),
        ("offline", "yes", "offline is \"yes\"; allowed is true or false"),
        ("listen_port", "65536", "listen_port is \"65536\"; allowed is 0 (the operating"),
        ("policy", "", "policy is \"\"; allowed is a path"),
        ("name", "a b", "name is \"a b\"; allowed is 1 to 64 letters"),
        ("hives", "[{id: a", "hives: this is not YAML"),
        ("hives", "x", "hives is \"x\"; allowed is a list like [{id: NAME, url: URL"),
        ("hives", "[{id: a, url: ftp://a}]", "hives[0].url is \"ftp://a\"; allowed is http://HOST"),
        (
            "hives",
            "[{id: a, ulr: http://a}]",
            "hives[0] has no \"ulr\"; allowed are id, url, token_file, ca_cert, labels, ssh, directory, arguments; url \
             perhaps?",
        ),
        ("hive_memory", "{attic: lots}", "hive_memory.attic is \"lots\"; allowed is a size"),
        ("default_limits", "{weight: 0}", "default_limits: weight is 0; allowed is"),
        (
            "batch_limits",
            "{tenant_active: 0}",
            "batch_limits: tenant_active is 0; allowed is 1 to 1000",
        ),
        (
            "batch_limits",
            "{file_bytes: lots}",
            "batch_limits.file_bytes is \"lots\"; allowed is a size",
        ),
        (
            "batch_limits",
            "{file_byte: 1MiB}",
            "batch_limits has no \"file_byte\"; allowed are file_bytes",
        ),
        ("allow_origins", "*", "allow_origins: \"*\" is not an origin that can be allowed"),
    ] {
        let variable = format!("RBEE_{}", key.to_ascii_uppercase());
        let message = refused("", &[(&variable, value)], &[]);
        assert!(message.starts_with(&format!("{variable}: {said}")), "{message}");
        let flag = format!("--{}", key.replace('_', "-"));
        let message = refused("", &[], &[&flag, value]);
        assert!(message.starts_with(&format!("{flag}: {said}")), "{message}");
    }
    let said = Arguments::parse(["queen-rbee", "--retrys", "1"].map(OsString::from)).unwrap_err();
    assert!(said.to_string().contains("--retries"), "the nearest flag is named: {said}");
    let help = Arguments::parse(["queen-rbee", "-h"].map(OsString::from)).unwrap_err().to_string();
    let place = |flag: &str| help.find(flag).unwrap_or_else(|| panic!("{flag}: {help}"));
    assert!(place("--print-config") < place("--listen-host"), "{help}");
    assert!(place("--listen-host") < place("--continue-across-numerics"), "{help}");
    assert!(help.contains("--lease <DURATION>") && help.contains("[default: 1m30s]"), "{help}");
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
    let host = |text: &str| load(text, &[], &[]).unwrap().config.listen_host;
    assert_eq!(
        (host(""), host("listen_host: localhost\n")),
        (ListenHost::Localhost, ListenHost::Localhost)
    );
    assert_eq!(host("listen_host: 127.0.0.1\n").to_string(), "127.0.0.1");
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
    let settings = load(text, &[], &[]).unwrap().config.settings();
    assert_eq!(settings.tenant_references, rbee_core::settings::TenantReferences::WithHubToken);
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
    assert_eq!(config.tls_cert.unwrap(), directory.path().join("c.pem"), "relative to the file");
    sources.file = Some(directory.path().join("missing.yaml"));
    assert!(Config::load(&sources).unwrap_err().message().contains("missing.yaml"));
}

#[test]
fn lists_are_read_from_yaml_and_from_text_with_commas() {
    let two = ["https://chat.example", "http://localhost:3000"];
    for text in [
        "https://chat.example, http://localhost:3000",
        "[https://chat.example, 'http://localhost:3000']",
    ] {
        let by_file = load(&format!("allow_origins: {text}\n"), &[], &[]).unwrap().config;
        let by_flag = load("", &[], &["--allow-origins", text]).unwrap().config;
        assert_eq!(by_file, by_flag);
        let origins: Vec<_> = by_file.allow_origins.iter().map(ToString::to_string).collect();
        assert_eq!(origins, two, "{text}");
    }
    for text in ["[https://chat.example, chat.example]", "[[https://chat.example]]", "{a: b}"] {
        let said = refused("", &[], &["--allow-origins", text]);
        assert!(said.contains("allow_origins") && !said.contains("YAML"), "{said}");
    }
}

#[test]
fn durations_and_sizes_have_a_unit_and_are_read_as_they_are_shown() {
    for (text, milliseconds) in
        [("90s", 90_000), ("1h30m", 5_400_000), ("250ms", 250), ("7d", 604_800_000), ("0s", 0)]
    {
        let duration: HumanDuration = text.parse().unwrap();
        assert_eq!(*duration, Duration::from_millis(milliseconds), "{text}");
        assert_eq!(duration.to_string().parse(), Ok(duration));
    }
    assert_eq!(HumanDuration::from(Duration::from_secs(90)).to_string(), "1m30s");
    for text in ["", "90", "s", "-5s", "5 s", "1.5s", "99999999999999999999s", "5x", "5m3"] {
        assert_eq!(text.parse::<HumanDuration>(), Err(HumanDuration::ALLOWED), "{text}");
    }
    for (text, bytes) in [("64MiB", 64 << 20), ("1 GiB", 1 << 30), ("500MB", 500_000_000), ("7", 7)]
    {
        let size: ByteSize = text.parse().unwrap();
        assert_eq!(u64::from(size), bytes, "{text}");
        assert_eq!(size.to_string().parse(), Ok(size));
    }
    assert_eq!(ByteSize::from(64_u64 << 20).to_string(), "64MiB");
    for text in ["", "MiB", "-1", "1XB", "99999999999999999999TiB"] {
        assert_eq!(text.parse::<ByteSize>(), Err(ByteSize::ALLOWED), "{text}");
    }
}
