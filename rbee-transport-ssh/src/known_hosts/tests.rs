//! The matcher, by itself and against `ssh-keygen -F`.

use std::{fs, process::Command};

use proptest::prelude::*;
use russh::keys::PublicKey;
use tempfile::TempDir;

use super::*;

/// Keys made for these tests.
const ED_1: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBO7Qn8KZQ0y+zZ6oX5CTeRdkyKqIOKpUqa2jzA5OF74";
const ED_2: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILUTjZMxEXnFeqO+H+tzN99qOMc8HjnOkZ7mMwx0UB95";
const ECDSA: &str = "ecdsa-sha2-nistp256 \
     AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBCeAzamyxQUAeEECfD2Jt5jr1nu+XHZhwkOnt6U8KsSZvjBhE6xqGf5lyzA/zKW1RZCV44R0cvKKY+7MmCvX8oU=";

fn key(text: &str) -> KeyData {
    PublicKey::from_openssh(text).unwrap().key_data().clone()
}

fn known(text: &str) -> KnownHosts {
    let mut known = KnownHosts::default();
    known.add(Path::new("known_hosts"), text.as_bytes());
    known
}

/// `gpu.lan`, or `gpu.lan:2222`.
fn name(text: &str) -> LookupName {
    match text.split_once(':') {
        Some((host, port)) => LookupName::new(host, port.parse().unwrap(), None),
        None => LookupName::new(text, 22, None),
    }
}

/// The verdict as a word, with the line.
fn verdict(known: &KnownHosts, host: &str, shown: &str) -> String {
    match known.check(&name(host), &key(shown)) {
        Verdict::Known(place) => format!("known {}", place.line),
        Verdict::Unknown { others } if others.is_empty() => "unknown".into(),
        Verdict::Unknown { others } => format!("unknown, others {}", others[0].1.line),
        Verdict::Changed { recorded } => {
            let lines: Vec<String> =
                recorded.iter().map(|(_, place)| place.line.to_string()).collect();
            format!("changed {}", lines.join(" "))
        }
        Verdict::Revoked(place) => format!("revoked {}", place.line),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_are_matched_in_every_notation() {
    let hashed = |name: &str| names::hashed(name).unwrap();
    let cases = [
        ("gpu.lan", "gpu.lan", true),
        ("gpu.lan", "GPU.lan", true),
        ("GPU.LAN", "gpu.lan", true),
        ("gpu.lan", "gpu", false),
        ("a,gpu.lan,b", "gpu.lan", true),
        ("*.lan", "gpu.lan", true),
        ("*.lan", "lan", false),
        ("gpu?.lan", "gpu1.lan", true),
        ("*.lan,!gpu.lan", "gpu.lan", false),
        ("!gpu.lan,*.lan", "gpu.lan", false),
        ("!gpu.lan,*.lan", "cpu.lan", true),
        ("!cpu.lan", "gpu.lan", false),
        ("[gpu.lan]:2222", "gpu.lan:2222", true),
        ("[gpu.lan]:2222", "gpu.lan:2223", false),
        ("[gpu.lan]:2222", "gpu.lan", false),
        ("[*.lan]:*", "gpu.lan:2222", true),
        ("gpu.lan", "gpu.lan:2222", true),
        ("*", "gpu.lan:2222", true),
        (&hashed("gpu.lan"), "gpu.lan", true),
        (&hashed("gpu.lan"), "GPU.lan", true),
        (&hashed("gpu.lan"), "gpu", false),
        (&hashed("[gpu.lan]:2222"), "gpu.lan:2222", true),
        (&hashed("[gpu.lan]:2222"), "gpu.lan", false),
        (&hashed("gpu.lan"), "gpu.lan:2222", true),
        ("10.0.0.*", "10.0.0.7", true),
        ("2001:db8::7", "10.0.0.7", false),
    ];
    for (names, host, is_known) in cases {
        let known = known(&format!("{names} {ED_1}\n"));
        assert!(known.unusable().is_empty(), "{names}");
        let expected = if is_known { "known 1" } else { "unknown" };
        assert_eq!(verdict(&known, host, ED_1), expected, "{names} and {host}");
    }
    let address = LookupName::new("2001:DB8::7", 22, None);
    let known = known(&format!("2001:db8::7 {ED_1}\n"));
    assert!(matches!(known.check(&address, &key(ED_1)), Verdict::Known(_)));
}

#[test]
fn lines_are_read_in_every_notation_and_counted_right() {
    let text = format!(
        "# comment\r\n\r\n  \t# indented comment\n\t gpu.lan\t \t{tab}\tcomment with blanks\r\n\
         gpu.lan {ECDSA} # comment\ncpu.lan {ED_2}",
        tab = ED_1.replace(' ', "\t  "),
    );
    let known = known(&text);
    assert_eq!(known.unusable(), []);
    assert_eq!(verdict(&known, "gpu.lan", ED_1), "known 4");
    assert_eq!(verdict(&known, "gpu.lan", ECDSA), "known 5");
    assert_eq!(verdict(&known, "cpu.lan", ED_2), "known 6");
}

#[test]
fn broken_lines_are_reported_and_change_nothing_for_the_others() {
    let broken = [
        ("gpu.lan", "the key is missing"),
        ("gpu.lan ssh-ed25519", "the key is missing"),
        ("gpu.lan ssh-ed25519 !!!", "not in Base64"),
        ("gpu.lan ssh-ed25519 AAAA", "the key is broken"),
        ("gpu.lan ssh-rsa KEY", "the type is \"ssh-rsa\""),
        ("@revokd gpu.lan x", "the marker \"@revokd\" is unknown"),
        ("|1|AAAA|BBBB x y", "the hash of the host name is broken"),
        ("|2|x|y x y", "hashed in an unknown way"),
        ("gpu.lan 1024 35 1234567", "version 1"),
    ];
    let mut text: String = broken
        .iter()
        .map(|(line, _)| format!("{}\n", line.replace("KEY", ED_1.split(' ').nth(1).unwrap())))
        .collect();
    text += &format!("gpu.lan {ED_1}\n");
    let mut bytes = text.into_bytes();
    bytes.extend(b"cpu.lan ");
    bytes.extend(ED_2.as_bytes());
    bytes.extend(b" comment in Latin-1: \xe4\n\xff\xfe\x00\n");
    let mut known = KnownHosts::default();
    known.add(Path::new("known_hosts"), &bytes);
    assert_eq!(verdict(&known, "gpu.lan", ED_1), "known 10");
    assert_eq!(verdict(&known, "cpu.lan", ED_2), "known 11");
    assert_eq!(known.unusable().len(), broken.len() + 1);
    for ((line, reason), unusable) in broken.iter().zip(known.unusable()) {
        assert!(unusable.reason.contains(reason), "{line}: {unusable}");
    }
    assert_eq!(known.unusable()[9].place.line, 12);
}

#[test]
fn the_verdict_depends_on_type_and_rotation() {
    let cases: [(&[&str], &str, &str); 8] = [
        (&["gpu.lan ED1"], "gpu.lan", "known 1"),
        (&["gpu.lan ED2", "gpu.lan ED1"], "gpu.lan", "known 2"),
        (&["gpu.lan ED1", "gpu.lan ED2"], "gpu.lan", "known 1"),
        (&["gpu.lan ED2"], "gpu.lan", "changed 1"),
        (&["gpu.lan EC", "gpu.lan ED2", "*.lan ED2"], "gpu.lan", "changed 2 3"),
        (&["gpu.lan EC"], "gpu.lan", "unknown, others 1"),
        (&["cpu.lan ED1"], "gpu.lan", "unknown"),
        // Another machine may be behind this port of the address.
        (&["gpu.lan ED2"], "gpu.lan:2222", "unknown"),
    ];
    for (lines, host, expected) in cases {
        let text = lines.join("\n").replace("ED1", ED_1).replace("ED2", ED_2).replace("EC", ECDSA);
        assert_eq!(verdict(&known(&text), host, ED_1), expected, "{lines:?}");
    }
}

#[test]
fn a_revoked_key_is_revoked_wherever_the_line_stands() {
    for names in ["gpu.lan", "*", "*.lan", "[gpu.lan]:2222", &names::hashed("gpu.lan").unwrap()] {
        let revoked = format!("@revoked {names} {ED_1}\n");
        for (text, line) in
            [(format!("{revoked}* {ED_1}\n"), 1), (format!("* {ED_1}\n{revoked}"), 2)]
        {
            assert_eq!(verdict(&known(&text), "gpu.lan:2222", ED_1), format!("revoked {line}"));
        }
    }
    let text = format!(
        "@revoked cpu.lan {ED_1}\n@revoked * {ED_2}\n* {ED_1}\n@cert-authority * {ECDSA}\n"
    );
    assert_eq!(verdict(&known(&text), "gpu.lan", ED_1), "known 3");
    // The key of an authority is no host key.
    assert_eq!(verdict(&known(&text), "gpu.lan", ECDSA), "unknown, others 3");
}

#[test]
fn several_files_are_read_as_one_and_each_line_has_its_file() {
    let directory = TempDir::new().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("a"), format!("gpu.lan {ED_2}\n")).unwrap();
    fs::write(path("b"), format!("\ngpu.lan {ED_1}\n")).unwrap();
    let known = KnownHosts::read(&[path("a"), path("missing"), path("b")], None).unwrap();
    let Verdict::Known(place) = known.check(&name("gpu.lan"), &key(ED_1)) else { panic!() };
    assert_eq!(place.to_string(), format!("{}:2", path("b").display()));
    let error = KnownHosts::read(&[directory.path().into()], None).unwrap_err().to_string();
    assert!(error.contains(&directory.path().display().to_string()), "{error}");
}

#[test]
fn a_list_of_revoked_keys_must_be_read_completely() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("revoked");
    let read = |text: &[u8]| {
        fs::write(&path, text).unwrap();
        KnownHosts::read(&[], Some(&path))
    };
    let known = read(format!("# old\n{ED_1} comment\n").as_bytes()).unwrap();
    assert_eq!(verdict(&known, "gpu.lan:2222", ED_1), "revoked 2");
    let error = read(format!("{ED_1}\nbroken\n").as_bytes()).unwrap_err().to_string();
    assert!(error.contains("line 2"), "{error}");
    let error = read(b"SSHKRL\n\0rest").unwrap_err().to_string();
    assert!(error.contains("binary revocation list"), "{error}");
}

#[test]
fn a_key_is_recorded_once_and_not_over_another_one() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("known_hosts");
    let record = |host: &str, text: &str| record(&path, &name(host), &key(text), false);
    record("GPU.lan:2222", ED_1).unwrap();
    record("gpu.lan:2222", ED_1).unwrap();
    record("gpu.lan", ECDSA).unwrap();
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(text, format!("[gpu.lan]:2222 {ED_1}\ngpu.lan {ECDSA}\n"));
    let error = record("gpu.lan:2222", ED_2).unwrap_err().to_string();
    assert!(error.contains("another program has recorded something else"), "{error}");
    super::record(Path::new("/dev/null"), &name("gpu.lan"), &key(ED_1), true).unwrap();
}

/// The lines that `ssh-keygen -F` finds.
fn lines_by_keygen(path: &Path, host: &str) -> Vec<usize> {
    let output = Command::new("ssh-keygen").arg("-F").arg(host).arg("-f").arg(path).output();
    let output = output.expect("ssh-keygen is missing (Debian: apt-get install openssh-client)");
    let text = String::from_utf8(output.stdout).unwrap();
    let number = |line: &str| line.split("found: line ").nth(1)?.split(' ').next()?.parse().ok();
    text.lines().filter(|line| line.starts_with("# Host ")).filter_map(number).collect()
}

#[test]
fn the_names_that_ssh_keygen_finds_are_found() {
    let hashed = |name: &str| names::hashed(name).unwrap();
    let names = [
        "gpu.lan".to_owned(),
        "cpu.lan,gpu.lan,10.0.0.7".into(),
        "*.lan".into(),
        "gpu?lan".into(),
        "*.lan,!gpu.lan".into(),
        "!cpu.lan".into(),
        "[gpu.lan]:2222".into(),
        "[*]:2222".into(),
        "*".into(),
        "GPU.LAN".into(),
        hashed("gpu.lan"),
        hashed("[gpu.lan]:2222"),
        "2001:db8::7".into(),
    ];
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("known_hosts");
    let text: String = names.iter().map(|names| format!("{names} {ED_1}\n")).collect();
    fs::write(&path, &text).unwrap();
    let known = known(&text);
    for host in [
        "gpu.lan",
        "cpu.lan",
        "[gpu.lan]:2222",
        "[gpu.lan]:2223",
        "10.0.0.7",
        "2001:db8::7",
        "other",
    ] {
        let (plain, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
            Some((name, port)) => (name, port.parse().unwrap()),
            None => (host, 22),
        };
        let name = LookupName::new(plain, port, None);
        let ours: Vec<usize> = known
            .marked(Marker::HostKey)
            .filter(|line| name.is_in(&line.names))
            .map(|line| line.place.line)
            .collect();
        assert_eq!(ours, lines_by_keygen(&path, host), "{host}");
    }
}

proptest! {
    #[test]
    fn no_line_in_front_hides_a_key_or_a_revocation(
        line in prop::collection::vec(any::<u8>(), 0..80),
        fields in "(@revoked |@cert-authority |@)?[|a-z*,!]{1,6} (ssh-ed25519|ssh-rsa|1024) [A-Za-z0-9+/=]{0,80}",
    ) {
        let mut bytes = line;
        bytes.retain(|byte| *byte != b'\n');
        bytes.extend(format!("\n{fields}\n@revoked cpu.lan {ED_1}\ngpu.lan {ED_1}\n").bytes());
        let mut known = KnownHosts::default();
        known.add(Path::new("known_hosts"), &bytes);
        prop_assert_eq!(verdict(&known, "gpu.lan", ED_1), "known 4");
        prop_assert_eq!(verdict(&known, "cpu.lan", ED_1), "revoked 3");
    }
}
