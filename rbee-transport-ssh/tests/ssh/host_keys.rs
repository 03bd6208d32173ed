//! Host keys.

use std::fs;

use rbee_transport_ssh::{ConnectOptions, Connection, HostConfig, SshError};

use crate::{
    keys::{Key, mode, run, with_suffix},
    sshd::{Sshd, SshdOptions},
};

async fn error(config: &HostConfig, options: &ConnectOptions) -> SshError {
    match Connection::open(config, options).await {
        Ok(_) => panic!("the host key was accepted"),
        Err(cause) => cause,
    }
}

async fn refused(sshd: &Sshd) -> SshError {
    error(&sshd.config(), &ConnectOptions::default()).await
}

fn accept_new() -> ConnectOptions {
    let mut options = ConnectOptions::default();
    options.accept_new = true;
    options
}

#[tokio::test]
async fn an_unknown_key_is_refused_with_its_fingerprint_and_nothing_is_sent() {
    let sshd = Sshd::start();
    sshd.set_known_hosts("broken line\n");
    let cause = refused(&sshd).await;
    let SshError::HostKeyUnknown(unknown) = &cause else { panic!("{cause}") };
    assert_eq!(unknown.host, sshd.name());
    assert_eq!(unknown.fingerprint.algorithm(), "ssh-ed25519");
    assert_eq!(unknown.fingerprint.sha256(), sshd.host_keys[0].fingerprint());
    let text = cause.to_string();
    assert!(text.contains("ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"), "{text}");
    assert!(text.contains("--accept-new"), "{text}");
    assert!(text.contains("known_hosts:1: "), "{text}");
    assert!(!sshd.log().contains(&crate::keys::user()), "a user name was sent: {}", sshd.log());
}

#[tokio::test]
async fn accept_new_records_a_key_once_for_its_owner_alone_and_accepts_it_from_then_on() {
    let sshd = Sshd::start();
    let path = sshd.path("home/.ssh/known_hosts");
    let mut config = sshd.config();
    config.user_known_hosts = vec![path.clone()];
    let connect = || async { Connection::open(&config, &accept_new()).await.unwrap() };
    // At the same time, so that each of them finds nothing first.
    tokio::join!(connect(), connect(), connect());
    assert_eq!(fs::read_to_string(&path).unwrap(), sshd.known_hosts_line(&sshd.host_keys[0]));
    assert_eq!((mode(path.parent().unwrap()), mode(&path)), (0o700, 0o600));
    Connection::open(&config, &ConnectOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_recorded_name_is_hashed_if_the_configuration_says_so_and_follows_a_line_without_an_end()
{
    let sshd = Sshd::start();
    sshd.set_known_hosts("# a comment without an end");
    let mut config = sshd.config();
    config.hash_known_hosts = true;
    Connection::open(&config, &accept_new()).await.unwrap();
    let known = sshd.known_hosts();
    assert!(known.starts_with("# a comment without an end\n|1|"), "{known}");
    let file = sshd.path("known_hosts");
    let found = run("ssh-keygen", &["-F", &sshd.name(), "-f", file.to_str().unwrap()]);
    assert!(found.contains("found: line 2"), "{found}");
    Connection::open(&config, &ConnectOptions::default()).await.unwrap();
}

#[tokio::test]
async fn a_key_that_ssh_keyscan_recorded_with_hashed_names_is_known() {
    let sshd = Sshd::start();
    let port = sshd.port.to_string();
    sshd.set_known_hosts(&run("ssh-keyscan", &["-H", "-p", &port, "127.0.0.1"]));
    assert!(sshd.known_hosts().contains("|1|"));
    sshd.connect().await.unwrap();
}

#[tokio::test]
async fn a_changed_key_is_refused_with_the_line_of_the_old_one_whatever_is_accepted() {
    let sshd = Sshd::start();
    let old = Key::new(sshd.directory.path(), "old", "ed25519");
    sshd.set_known_hosts(&format!("\n# old\n{}", sshd.known_hosts_line(&old)));
    for options in [ConnectOptions::default(), accept_new()] {
        let cause = error(&sshd.config(), &options).await;
        let SshError::HostKeyChanged(changed) = &cause else { panic!("{cause}") };
        assert_eq!(changed.fingerprint.sha256(), sshd.host_keys[0].fingerprint());
        let [(fingerprint, place)] = &changed.recorded[..] else { panic!("{cause}") };
        assert_eq!(fingerprint.sha256(), old.fingerprint());
        assert_eq!((&*place.file, place.line), (&*sshd.path("known_hosts"), 3));
        let text = cause.to_string();
        assert!(text.contains(&format!("ssh-keygen -R '{}' -f '", sshd.name())), "{text}");
    }
    assert!(!sshd.known_hosts().contains(&sshd.host_keys[0].public()));
}

#[tokio::test]
async fn a_key_of_a_new_type_is_not_accepted_as_new_if_others_are_recorded() {
    let sshd = Sshd::start();
    let old = Key::new(sshd.directory.path(), "old", "ecdsa");
    sshd.set_known_hosts(&sshd.known_hosts_line(&old));
    let cause = error(&sshd.config(), &accept_new()).await;
    let SshError::HostKeyUnknown(unknown) = &cause else { panic!("{cause}") };
    assert_eq!(unknown.others.len(), 1);
    assert!(cause.to_string().contains("the server has none of them"), "{cause}");
}

#[tokio::test]
async fn the_server_is_asked_for_the_types_that_are_recorded() {
    let sshd = Sshd::start_with(&SshdOptions {
        host_keys: &["ed25519", "ecdsa", "rsa"],
        ..SshdOptions::default()
    });
    for key in &sshd.host_keys {
        sshd.set_known_hosts(&sshd.known_hosts_line(key));
        let connection = sshd.connect().await.unwrap();
        assert_eq!(connection.host_key().unwrap().sha256(), key.fingerprint());
    }
}

#[tokio::test]
async fn an_old_and_a_new_key_of_one_type_are_both_accepted() {
    let sshd = Sshd::start();
    let old = Key::new(sshd.directory.path(), "old", "ed25519");
    let (old, new) = (sshd.known_hosts_line(&old), sshd.known_hosts_line(&sshd.host_keys[0]));
    for lines in [old.clone() + new.as_str(), new + old.as_str()] {
        sshd.set_known_hosts(&lines);
        sshd.connect().await.unwrap();
    }
}

#[tokio::test]
async fn a_revoked_key_is_refused_although_another_line_has_it() {
    let sshd = Sshd::start();
    let key = &sshd.host_keys[0];
    for names in [sshd.name(), "*".into(), "127.0.0.1".into()] {
        let line = sshd.known_hosts_line(key);
        sshd.set_known_hosts(&format!("{line}@revoked {names} {}\n", key.public()));
        let cause = error(&sshd.config(), &accept_new()).await;
        let SshError::HostKeyRevoked { place, .. } = &cause else { panic!("{names}: {cause}") };
        assert_eq!(place.line, 2);
    }
    sshd.set_known_hosts(&sshd.known_hosts_line(key));
    let mut config = sshd.config();
    config.revoked_host_keys = Some(with_suffix(&key.path, ".pub"));
    let cause = error(&config, &ConnectOptions::default()).await;
    assert!(matches!(cause, SshError::HostKeyRevoked { .. }), "{cause}");
    config.revoked_host_keys = Some(sshd.path("no-such-file"));
    let cause = error(&config, &ConnectOptions::default()).await;
    assert!(matches!(cause, SshError::HostKeyFile { .. }), "{cause}");
}

/// A server with a host certificate for these principals.
fn certified(arguments: &[&str]) -> (Sshd, Key) {
    let directory = tempfile::tempdir().unwrap().keep();
    let authority = Key::new(&directory, "ca", "ed25519");
    let key = Key::new(&directory, "certified", "ed25519");
    let certificate = authority.certify(&key, arguments);
    let sshd = Sshd::with_lines(&[
        &format!("HostKey {}", key.path.display()),
        &format!("HostCertificate {}", certificate.display()),
    ]);
    sshd.set_known_hosts(&format!("@cert-authority 127.0.0.* {}\n", authority.public()));
    (sshd, authority)
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_accepted() {
    for principals in ["127.0.0.1", "other,127.0.0.1", "127.*"] {
        let (sshd, authority) = certified(&["-h", "-I", "host", "-n", principals]);
        sshd.connect().await.unwrap();
        sshd.set_known_hosts(&format!("@cert-authority other.lan {}\n", authority.public()));
        assert!(matches!(refused(&sshd).await, SshError::HostKeyUnknown(_)));
        let line = format!("@cert-authority * {0}\n@revoked * {0}\n", authority.public());
        sshd.set_known_hosts(&line);
        assert!(matches!(refused(&sshd).await, SshError::HostKeyRevoked { .. }));
    }
}

#[tokio::test]
async fn the_key_in_a_certificate_of_a_stranger_counts_like_a_plain_key() {
    let (sshd, _) = certified(&["-h", "-I", "host", "-n", "127.0.0.1"]);
    let other = Key::new(sshd.directory.path(), "other_ca", "ed25519");
    let trusted = format!("@cert-authority * {}\n", other.public());
    sshd.set_known_hosts(&trusted);
    assert!(matches!(refused(&sshd).await, SshError::HostKeyUnknown(_)));
    let key = refused(&sshd).await;
    let SshError::HostKeyUnknown(unknown) = key else { panic!("{key}") };
    let shown = run("ssh-keyscan", &["-p", &sshd.port.to_string(), "127.0.0.1"]);
    sshd.set_known_hosts(&(trusted + shown.as_str()));
    let connection = sshd.connect().await.unwrap();
    assert_eq!(connection.host_key(), Some(unknown.fingerprint));
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_is_refused_with_the_reason() {
    let cases: [(&[&str], &str); 4] = [
        (&["-h", "-I", "x", "-n", "other.lan"], "it is for other.lan, not for 127.0.0.1"),
        (&["-h", "-I", "x", "-V", "20200101:20200102"], "it expired"),
        (&["-h", "-I", "x", "-V", "20900101:20910101"], "from now only"),
        (&["-I", "x", "-n", "127.0.0.1"], "a certificate of a user"),
    ];
    for (arguments, reason) in cases {
        let (sshd, _) = certified(arguments);
        let cause = refused(&sshd).await;
        let SshError::HostCertificate { .. } = &cause else { panic!("{arguments:?}: {cause}") };
        assert!(cause.to_string().contains(reason), "{cause}");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_an_error_that_names_it() {
    let sshd = Sshd::start();
    let mut config = sshd.config();
    config.global_known_hosts = vec![sshd.directory.path().into()];
    let cause = error(&config, &accept_new()).await;
    let SshError::HostKeyFile { path, .. } = &cause else { panic!("{cause}") };
    assert_eq!(path, sshd.directory.path());

    config.global_known_hosts = vec![sshd.path("missing")];
    Connection::open(&config, &ConnectOptions::default()).await.unwrap();
}

#[tokio::test]
async fn an_alias_replaces_host_and_port() {
    let sshd = Sshd::start();
    sshd.set_known_hosts(&format!("gpu-key {}\n", sshd.host_keys[0].public()));
    let mut config = sshd.config();
    config.host_key_alias = Some("GPU-key".into());
    Connection::open(&config, &ConnectOptions::default()).await.unwrap();
    let recorded = sshd.known_hosts();
    sshd.set_known_hosts("");
    Connection::open(&config, &accept_new()).await.unwrap();
    assert_eq!(sshd.known_hosts(), recorded);
    config.host_key_alias = None;
    let cause = error(&config, &ConnectOptions::default()).await;
    assert!(matches!(cause, SshError::HostKeyUnknown(_)), "{cause}");
}

#[tokio::test]
async fn an_accepted_key_that_cannot_be_recorded_is_an_error() {
    let sshd = Sshd::start();
    let mut config = sshd.config();
    config.user_known_hosts.clear();
    let cause = error(&config, &accept_new()).await;
    assert!(matches!(cause, SshError::HostKeyRecord { .. }), "{cause}");
    // A file in a file.
    config.user_known_hosts = vec![sshd.path("known_hosts").join("x")];
    let cause = error(&config, &accept_new()).await;
    assert!(matches!(cause, SshError::HostKeyRecord { .. }), "{cause}");
}
