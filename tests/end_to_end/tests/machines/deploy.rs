//! The files in `examples/deploy`: the programs understand what they say.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rbee_end_to_end::{built, built_program, private_tempdir};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/deploy")
}

fn read(name: &str) -> String {
    fs::read_to_string(deploy().join(name)).unwrap()
}

/// The values of this key in a unit.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

/// The command of a unit, with its directories in `home`, where this test has put what they hold.
fn command(unit: &str, program: &str, home: &Path) -> Command {
    let line = values(unit, "ExecStart")[0];
    let home = home.to_str().unwrap();
    let mut words = line.split_ascii_whitespace().map(|word| {
        word.replace("${STATE_DIRECTORY}", &format!("{home}/state"))
            .replace("/etc/rbee", &format!("{home}/etc"))
    });
    assert_eq!(words.next().unwrap(), format!("/usr/local/bin/{program}"));
    let mut command = Command::new(built(program));
    command.args(words.filter(|word| word != "$HIVE_FLAGS"));
    command.env_clear().env("HOME", home);
    command
}

/// What the services find on a machine that was set up as the documentation says.
fn machine() -> tempfile::TempDir {
    let home = private_tempdir();
    let etc = home.path().join("etc");
    fs::create_dir(&etc).unwrap();
    fs::create_dir(home.path().join("models")).unwrap();
    for token in ["queen.token", "hive.token"] {
        fs::write(etc.join(token), "0123456789abcdef".repeat(4)).unwrap();
    }
    let here =
        |text: String| text.replace("/srv/models", home.path().join("models").to_str().unwrap());
    fs::write(etc.join("queen.yaml"), here(read("queen.yaml"))).unwrap();
    home
}

fn succeeds(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8(output.stdout).unwrap() + said.as_str()
}

#[test]
fn the_queen_understands_the_command_of_its_unit_and_the_example_configuration() {
    let home = machine();
    let said = succeeds(
        command(&read("queen-rbee.service"), "queen-rbee", home.path()).arg("--check-config"),
    );
    assert!(said.contains("the configuration is valid"), "{said}");
    // Also the lines that are only suggested, if they need no file that this machine does not have.
    let path = home.path().join("etc/queen.yaml");
    let suggested = fs::read_to_string(&path)
        .unwrap()
        .replace("#models", "models")
        .replace("#  small", "  small");
    assert!(suggested.contains("\nmodels:\n"), "{suggested}");
    fs::write(&path, suggested).unwrap();
    fs::create_dir(home.path().join("models/small")).unwrap();
    succeeds(command(&read("queen-rbee.service"), "queen-rbee", home.path()).arg("--check-config"));
}

#[test]
fn the_example_configuration_is_reached_by_this_machine_alone_or_with_tls() {
    let text = read("queen.yaml");
    let set: Vec<_> = text.lines().filter(|line| line.starts_with("listen_host")).collect();
    assert_eq!(set, ["listen_host: 127.0.0.1"]);
    // The other form, without a certificate on this machine: it is the only thing that is missed.
    let other = text
        .replace("listen_host: 127.0.0.1\n", "")
        .replace("#listen_host", "listen_host")
        .replace("#tls_", "tls_");
    let home = machine();
    let here = |path: &Path| other.replace("/srv/models", path.to_str().unwrap());
    fs::write(home.path().join("etc/queen.yaml"), here(&home.path().join("models"))).unwrap();
    let mut check = command(&read("queen-rbee.service"), "queen-rbee", home.path());
    let output = check.arg("--check-config").output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("/etc/rbee/cert.pem"), "{said}");
}

#[test]
fn a_hive_and_its_workers_run_as_another_user_than_the_queen() {
    let (queen, hive) = (read("queen-rbee.service"), read("rbee-hive.service"));
    let users = read("rbee.sysusers");
    for (unit, user) in [(&queen, "rbee"), (&hive, "rbee-hive")] {
        assert_eq!((values(unit, "User"), values(unit, "Group")), (vec![user], vec![user]));
        let line = users.lines().find(|line| line.starts_with(&format!("u {user} ")));
        let home =
            values(unit, "Environment").into_iter().find_map(|line| line.strip_prefix("HOME="));
        assert!(line.unwrap().ends_with(home.unwrap()), "{line:?}");
    }
}

#[test]
fn a_hive_understands_the_command_of_its_unit() {
    let home = machine();
    // An unknown flag before it is refused.
    let unit = read("rbee-hive.service");
    succeeds(
        command(&unit, "rbee-hive", home.path()).args(["--host", "192.168.1.7"]).arg("--help"),
    );
    let refused = command(&unit, "rbee-hive", home.path()).args(["--nosuch", "--help"]).output();
    assert!(!refused.unwrap().status.success());
}

#[test]
fn the_units_are_understood_by_systemd() {
    let is_there = Command::new("systemd-analyze").arg("--version").output().is_ok();
    if !is_there {
        println!("!!! NOT CHECKED: systemd-analyze is not installed, so the units are not checked");
        return;
    }
    let home = private_tempdir();
    for name in ["queen-rbee", "rbee-hive"] {
        let unit = read(&format!("{name}.service"));
        // It checks that the program is there, and here it is not installed.
        let installed =
            unit.replace(&format!("/usr/local/bin/{name}"), built(name).to_str().unwrap());
        assert_ne!(installed, unit);
        let path = home.path().join(format!("{name}.service"));
        fs::write(&path, &installed).unwrap();
        let verify = || Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
        let output = verify();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        // It only warns of an unknown key.
        assert!(output.status.success() && !said.contains(name), "{said}");
        fs::write(&path, installed.replace("UMask=", "Umask=")).unwrap();
        let said = String::from_utf8_lossy(&verify().stderr).into_owned();
        assert!(said.contains("Umask"), "an unknown key is not found: {said}");
    }
}

#[test]
fn a_service_lets_the_daemon_end_its_workers_and_hand_them_over() {
    let queen = read("queen-rbee.service");
    for unit in [&queen, &read("rbee-hive.service")] {
        // Otherwise systemd would kill the workers of a restart, or of a daemon that was killed.
        assert_eq!(values(unit, "KillMode"), ["process"]);
        assert_eq!(values(unit, "StateDirectoryMode"), ["0700"]);
    }
    assert_eq!(values(&queen, "RestartKillSignal"), ["SIGUSR1"]);
}

/// Where the programs define their metrics.
const DEFINED: [&str; 4] = [
    include_str!("../../../../rbee-core/src/metrics.rs"),
    include_str!("../../../../rbee-transport-http/src/server/measurements.rs"),
    include_str!("../../../../rbee-transport-http/src/server/process_metrics.rs"),
    include_str!("../../../../rbee-transport-http/src/server/request_metrics.rs"),
];

/// The metrics in this text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let is_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
    text.split(|c| !is_of_name(c))
        .filter(|word| word.starts_with("rbee_") || word.starts_with("process_"))
        .filter(|word| !word.ends_with('_'))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word))
        .collect()
}

#[test]
fn the_alerts_and_the_documentation_name_only_metrics_that_exist() {
    let alerts = read("alerts.yaml");
    let page = page("operations.md");
    let is_defined =
        |name: &str| DEFINED.iter().any(|source| source.contains(&format!("\"{name}\"")));
    assert!(metrics(&alerts).len() >= 10, "{alerts}");
    let unknown: Vec<_> =
        metrics(&alerts).union(&metrics(&page)).copied().filter(|name| !is_defined(name)).collect();
    assert!(unknown.is_empty(), "there is no metric {unknown:?}");
    for alert in alerts.lines().filter_map(|line| line.split_once("alert: ")) {
        assert!(page.contains(&format!("`{}`", alert.1)), "{} is not explained", alert.1);
    }
}

fn page(name: &str) -> String {
    fs::read_to_string(deploy().join("../../docs").join(name)).unwrap()
}

/// The text outside and inside of blocks of code.
fn split(page: &str) -> (String, String) {
    let (mut text, mut code, mut is_code) = (String::new(), String::new(), false);
    for line in page.lines() {
        if line.starts_with("```") {
            is_code = !is_code;
            continue;
        }
        let into = if is_code { &mut code } else { &mut text };
        *into += line;
        into.push('\n');
    }
    (text, code)
}

/// The command and the flags, if this code is a command of `rbee`.
fn command_line(code: &str) -> Option<(Vec<&str>, Vec<&str>)> {
    let words = code.strip_prefix("rbee ")?;
    let is_verb = |word: &&str| word.chars().all(|c| c.is_ascii_lowercase()) && !word.is_empty();
    let verbs = words.split(' ').take_while(is_verb).collect();
    Some((verbs, words.split(' ').filter(|word| word.starts_with("--")).collect()))
}

#[test]
fn the_pages_for_operators_name_only_commands_and_keys_that_exist() {
    let keeper = built_program("rbee-keeper", "rbee");
    let keys = succeeds(Command::new(built("queen-rbee")).arg("--help"));
    let (mut commands, mut settings) = (0, 0);
    for name in ["operations.md", "coming-from.md"] {
        let page = page(name);
        let (text, _) = split(&page);
        for code in text.split('`').skip(1).step_by(2) {
            if let Some((verbs, flags)) = command_line(code) {
                let help = succeeds(Command::new(&keeper).args(&verbs).arg("--help"));
                for flag in flags {
                    assert!(help.contains(flag), "{name}: {code}: there is no {flag}");
                }
                commands += 1;
            }
            let key = code.strip_suffix(':').filter(|key| {
                !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_')
            });
            if let Some(key) = key {
                let flag = format!("--{} ", key.replace('_', "-"));
                assert!(keys.contains(&flag), "{name}: there is no key {key}");
                settings += 1;
            }
        }
    }
    assert!(commands > 20 && settings > 15, "{commands} commands, {settings} keys");
}

#[test]
fn the_example_configurations_for_newcomers_are_valid() {
    let page = page("coming-from.md");
    let (_, code) = split(&page);
    assert!(code.contains("engines:"), "{code}");
    let home = machine();
    let path = home.path().join("queen.yaml");
    fs::write(home.path().join("models/qwen3-8b.gguf"), b"GGUF").unwrap();
    let here = code.replace("/srv/models", home.path().join("models").to_str().unwrap());
    fs::write(&path, here).unwrap();
    let mut queen = Command::new(built("queen-rbee"));
    queen.env_clear().env("HOME", home.path()).arg("--config").arg(&path);
    succeeds(queen.arg("--check-config"));
}
