//! `--check-config`: it finds what the start would find, in the same words and with the exit code of a configuration
//! that is wrong, and changes nothing.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use crate::support::{Queen, command};

/// The exit code, and the last line that the program says.
fn outcome(data: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = command(data, arguments).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.code(), said.lines().last().unwrap_or_default().to_owned())
}

/// Everything below the directory.
fn tree(directory: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree(&entry.path()));
        }
        found.insert(entry.path());
    }
    found
}

/// A directory with files to name in a configuration.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let names = vec!["localhost".to_owned()];
        for name in ["one", "two"] {
            let signed = rcgen::generate_simple_self_signed(names.clone()).unwrap();
            files.write(&format!("{name}.crt"), &signed.cert.pem());
            files.write(&format!("{name}.key"), &signed.signing_key.serialize_pem());
        }
        files.write("short.token", "hunter2");
        files.write("hub.token", "two words");
        files.write("bad.rhai", "fn schedule(job, workers, hives) { workers.idel() }");
        files.write("file", "");
        files
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.0.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }
}

#[test]
fn a_broken_configuration_fails_the_check_and_the_start_alike() {
    let files = Files::new();
    let path = |name: &str| files.path(name);
    let hives = |token: &str| {
        format!("[{{id: attic, url: 'http://127.0.0.1:1', token_file: {}}}]", path(token))
    };
    let (none, file) = (path("none"), path("file"));
    let (one, two, short) = (path("one.crt"), path("two.key"), path("short.token"));
    let (below, hub, bad) = (path("file/data"), path("hub.token"), path("bad.rhai"));
    let (no_token, short_token) = (hives("none"), hives("short.token"));
    let placeholder = "[{name: x, models: ['*'], command: 'x {port} {prot}'}]";
    let table: &[(&[&str], &str)] = &[
        // Files: they exist, can be read, and hold what they should.
        (&["--token-file", &none], "none"),
        (&["--token-file", &short], "7 characters"),
        (&["--hives", &no_token], "hives: attic"),
        (&["--hives", &short_token], "hives: attic"),
        (&["--hives", "[{id: gpu, ssh: '-oProxyCommand=x'}]"], "hives: gpu: "),
        (&["--programs-dir", &file], "programs_dir is"),
        (&["--ssh-config", &none], "ssh_config is"),
        (&["--hub-token-file", &none], "hub_token_file"),
        (&["--hub-token-file", &hub], "hub_token_file"),
        (&["--tls-cert", &none, "--tls-key", &two], "tls_cert, tls_key: "),
        (&["--tls-cert", &one, "--tls-key", &none], "tls_cert, tls_key: "),
        (&["--tls-cert", &one, "--tls-key", &two], "cannot be used with the key"),
        (&["--tls-cert", &file, "--tls-key", &two], "no certificates in PEM"),
        (&["--worker-program", &none], "worker_program is"),
        (&["--local-hive", "daemon", "--hive-program", &none], "hive_program is"),
        (&["--file-roots", &format!("[{none}]")], "file_roots"),
        (&["--file-roots", &format!("[{file}]")], "file_roots"),
        (&["--models-dir", &below], "models_dir"),
        // Aliases.
        (&["--models", "{a: b, b: c, c: a}"], "a -> b -> c -> a"),
        (&["--models", "{fast: quick}"], "fast stands for \"quick\""),
        (&["--models", "{fast: 'hf:org'}"], "models: fast"),
        (&["--models", "{'hf:a/b': 'hf:org/repo'}"], "hf:a/b"),
        (&["--models", "{'a b': 'hf:org/repo'}"], "a b"),
        // Tenants and settings that name models.
        (&["--tenants", "{acme: {models: ['hf:org']}}"], "tenants"),
        (&["--default-limits", "{models: ['hf:org']}"], "default_limits"),
        (&["--batch-limits", "{lines_in_flight: 0}"], "lines_in_flight"),
        // The policy is compiled.
        (&["--policy", &none], "setting policy"),
        (&["--policy", &bad], "idel"),
        // Engines and the address of the hub.
        (&["--engines", placeholder], "{prot}"),
        (&["--hub-endpoint", "ftp://hub"], "hub_endpoint"),
        // Rules between keys, and values.
        (&["--host", "0.0.0.0"], "there is no token"),
        (&["--listen-port", "65536"], "listen_port"),
        (&["--mode", "platform"], "mode is platform"),
    ];
    for (arguments, part) in table {
        let arguments = [&["--port", "0"], *arguments].concat();
        let arguments: &[&str] = match arguments.contains(&"--listen-port") {
            true => &arguments[2..],
            false => &arguments,
        };
        let data = tempfile::tempdir().unwrap();
        let before = tree(files.0.path());
        let (code, said) = outcome(data.path(), &[&["--check-config"], arguments].concat());
        assert!(said.contains(part) && said.starts_with("queen-rbee: "), "{arguments:?}: {said}");
        assert_eq!(tree(data.path()), BTreeSet::new(), "{arguments:?}: the check changes nothing");
        assert_eq!(code, Some(2), "{arguments:?}: {said}");
        let (start_code, start_said) = outcome(data.path(), arguments);
        assert_eq!((code, said), (start_code, start_said), "{arguments:?}");
        assert_eq!(tree(files.0.path()), before, "{arguments:?}");
    }
}

#[test]
fn a_data_directory_that_cannot_be_used_fails_the_check_and_the_start_alike() {
    let data = tempfile::tempdir().unwrap();
    let arguments = ["--port", "0", "--local-hive", "off"];
    let alike = |part: &str| {
        let (code, said) = outcome(data.path(), &[&["--check-config"][..], &arguments].concat());
        assert!(said.contains(part), "{said}");
        assert_eq!(code, Some(2), "{said}");
        assert_eq!((code, said), outcome(data.path(), &arguments));
    };
    let home = data.path().join("data");
    fs::write(&home, "a file").unwrap();
    alike("data_dir");
    fs::remove_file(&home).unwrap();
    fs::create_dir(&home).unwrap();
    fs::write(home.join("thesis.tex"), "").unwrap();
    fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).unwrap();
    alike("open to other users");
    let mode = fs::metadata(&home).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755, "it is not closed");
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(home.join("queen.id"), "not a name!").unwrap();
    alike("queen.id");
}

#[test]
fn a_running_queen_is_not_disturbed_by_the_check_of_its_configuration() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &["--local-hive", "off"]);
    let port = queen.address.port().to_string();
    let before = tree(data.path());
    let lock = fs::read(data.path().join("data/queen.lock")).unwrap();
    let checked = ["--check-config", "--local-hive", "off", "--port", &port];
    let output = command(data.path(), &checked).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"the configuration is valid\n");
    assert_eq!(tree(data.path()), before);
    assert_eq!(fs::read(data.path().join("data/queen.lock")).unwrap(), lock);
    assert_eq!(queen.json("/health")["status"], "ok");
}

#[test]
fn a_certificate_that_has_expired_is_warned_of_by_the_check_and_by_the_start() {
    let (files, data) = (Files::new(), tempfile::tempdir().unwrap());
    let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    parameters.not_before = rcgen::date_time_ymd(2020, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(2021, 2, 3);
    let key = rcgen::KeyPair::generate().unwrap();
    files.write("old.crt", &parameters.self_signed(&key).unwrap().pem());
    files.write("old.key", &key.serialize_pem());
    let (certificate, key) = (files.path("old.crt"), files.path("old.key"));
    let tls = ["--tls-cert", &certificate, "--tls-key", &key, "--local-hive", "off"];
    let expected = format!("tls_cert: {certificate}: the certificate expired on 2021-02-03");
    let output = command(data.path(), &[&["--check-config"][..], &tls].concat()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains(&expected), "{said}");
    let queen = Queen::start(data.path(), &tls);
    assert!(queen.said().join("\n").contains(&expected), "{:?}", queen.said());
}

#[test]
fn an_alias_may_stand_for_another_alias() {
    let data = tempfile::tempdir().unwrap();
    let queen = Queen::start(data.path(), &["--models", "{small: tiny, tiny: bee-tiny}"]);
    let (status, estimate) = queen.post("/v1/estimate", &serde_json::json!({"model": "small"}));
    assert_eq!(status, 200, "{estimate}");
    assert!(estimate["model"].as_str().unwrap().ends_with("/models/bee-tiny"), "{estimate}");
}

#[test]
fn a_configuration_in_the_current_directory_may_be_given_by_its_bare_name() {
    let files = Files::new();
    let token = "t".repeat(64);
    files.write("queen.token", &token);
    files.write("queen.yaml", "token_file: queen.token\nfile_roots: [models]\nlocal_hive: off\n");
    std::fs::create_dir(files.path("models")).unwrap();
    let data = tempfile::tempdir().unwrap();
    let place = std::path::PathBuf::from(files.path("queen.token"));
    let place = place.parent().unwrap();
    let by_name = ["--config", "queen.yaml"];
    for (arguments, variable) in [
        (&[&by_name[..], &["--check-config"]].concat(), None),
        (&vec!["--check-config"], Some("queen.yaml")),
        (&[&by_name[..], &["--print-config"]].concat(), None),
        (&[&by_name[..], &["--new-database"]].concat(), None),
    ] {
        let mut command = command(data.path(), arguments);
        if let Some(file) = variable {
            command.env("RBEE_CONFIG", file);
        }
        let output = command.current_dir(place).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        let said = String::from_utf8(output.stdout).unwrap();
        if arguments.contains(&"--print-config") {
            let (token, models) = (place.join("queen.token"), place.join("models"));
            for path in [token, models] {
                assert!(said.contains(path.to_str().unwrap()), "{said}");
            }
        }
    }
    let arguments = [&by_name[..], &["--port", "0", "--log-format", "json"]].concat();
    let mut serving = command(data.path(), &arguments);
    serving.current_dir(place);
    let queen = Queen::spawn(serving);
    assert_eq!(queen.get("/v1/jobs").0, 401, "the token is needed");
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", &*bearer)];
    assert_eq!(crate::support::request(queen.address, "GET", "/v1/jobs", None, &headers).0, 200);
}

#[test]
fn a_tenant_that_is_no_longer_in_the_configuration_is_warned_of() {
    let data = tempfile::tempdir().unwrap();
    let warnings = |tenants: &str| {
        let mut queen = Queen::start(data.path(), &["--local-hive", "off", "--tenants", tenants]);
        let said = queen.said().join("\n");
        queen.signal("-TERM");
        queen.wait();
        ["acme", "zeta"].map(|tenant| said.contains(&format!("`rbee tenants rm {tenant}`")))
    };
    assert_eq!(warnings("{acme: {}, zeta: {}}"), [false, false]);
    assert_eq!(warnings("{zeta: {}}"), [true, false]);
    assert_eq!(warnings("{}"), [false, false], "tenants are not kept in this configuration");
}
