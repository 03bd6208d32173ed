//! Authentication.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use rbee_transport_ssh::{
    AuthenticationFailure, ConfigOptions, ConnectEvent, ConnectOptions, ConnectStep, Connection,
    HostConfig, Passphrase, Passphrases, SshError, SshTarget,
};

use crate::{
    dropbear::Dropbear,
    keys::{Agent, Given, Key, set_mode, user, with_suffix},
    sshd::Sshd,
};

/// The failure of an authentication.
async fn failure(config: &HostConfig, options: &ConnectOptions) -> AuthenticationFailure {
    match Connection::open(config, options).await {
        Err(SshError::Authentication(failure)) => *failure,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the server let it in"),
    }
}

/// Logs in, and returns which key was used.
async fn used_key(config: &HostConfig, options: &ConnectOptions) -> String {
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let mut options = options.clone();
    options.progress =
        Some(Arc::new(move |event: &ConnectEvent| seen.lock().unwrap().push(event.clone())));
    let connection = Connection::open(config, &options).await.unwrap();
    let output = connection.exec("echo hello").await.unwrap().output(100).await.unwrap();
    assert_eq!(output.stdout, b"hello\n");
    connection.close().await;
    let events = events.lock().unwrap();
    let used = events.iter().find_map(|event| match event {
        ConnectEvent::Finished { step: ConnectStep::Authentication, detail, .. } => {
            Some(detail.clone())
        }
        _ => None,
    });
    used.unwrap()
}

#[tokio::test]
async fn a_key_of_each_type_logs_in() {
    let sshd = Sshd::start();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let key = Key::new(sshd.directory.path(), &format!("id_{kind}"), kind);
        sshd.authorize(&key.public());
        let mut config = sshd.config();
        config.identity_files = vec![key.path.clone()];
        let used = used_key(&config, &ConnectOptions::default()).await;
        assert_eq!(used, key.path.display().to_string());
    }
    // RSA with SHA-1 is never used.
    assert!(!sshd.log().contains("ssh-rsa"), "{}", sshd.log());
}

#[tokio::test]
async fn a_passphrase_is_asked_only_for_a_key_that_the_server_accepts() {
    let sshd = Sshd::start();
    let directory = sshd.directory.path();
    let stranger = Key::with_passphrase(directory, "id_stranger", "ed25519", "unused");
    let mine = Key::with_passphrase(directory, "id_mine", "ed25519", "correct horse");
    sshd.authorize(&mine.public());
    let mut config = sshd.config();
    config.identity_files = vec![stranger.path.clone(), mine.path.clone()];
    let given = Given::new(&["wrong", "correct horse"]);
    let mut options = ConnectOptions::default();
    options.passphrases = given.clone();
    assert_eq!(used_key(&config, &options).await, mine.path.display().to_string());
    assert_eq!(*given.1.lock().unwrap(), [mine.path.clone(), mine.path.clone()]);
}

#[tokio::test]
async fn a_key_without_a_public_part_asks_first_and_three_wrong_passphrases_are_enough() {
    let sshd = Sshd::start();
    let directory = sshd.directory.path();
    // An encrypted PEM file shows nothing of the key.
    let key = Key::with_passphrase(directory, "id_pem", "ecdsa", "correct horse");
    let file = key.path.to_str().unwrap();
    crate::keys::run(
        "ssh-keygen",
        &["-p", "-m", "PKCS8", "-P", "correct horse", "-N", "correct horse", "-f", file],
    );
    sshd.authorize(&key.public());
    std::fs::remove_file(with_suffix(&key.path, ".pub")).unwrap();
    let mut config = sshd.config();
    config.identity_files = vec![key.path.clone()];

    let mut options = ConnectOptions::default();
    let given = Given::new(&["a", "b", "c", "correct horse"]);
    options.passphrases = given.clone();
    let failure = failure(&config, &options).await;
    assert_eq!(given.asked(), 3, "{failure}");
    assert!(failure.to_string().contains("the passphrase was wrong 3 times"), "{failure}");

    options.passphrases = Given::new(&["correct horse"]);
    assert_eq!(used_key(&config, &options).await, file);
}

#[tokio::test]
async fn an_error_lists_every_key_with_the_reason() {
    let sshd = Sshd::start();
    let directory = sshd.directory.path();
    let stranger = Key::new(directory, "id_stranger", "ed25519");
    let open = Key::new(directory, "id_open", "ed25519");
    set_mode(&open.path, 0o644);
    let encrypted = Key::with_passphrase(directory, "id_encrypted", "ed25519", "x");
    sshd.authorize(&encrypted.public());
    let broken = directory.join("id_broken");
    std::fs::write(&broken, "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n").unwrap();
    set_mode(&broken, 0o600);
    let mut config = sshd.config();
    config.identity_agent = Some(directory.join("no-agent"));
    config.identity_files = vec![
        stranger.path.clone(),
        open.path.clone(),
        encrypted.path.clone(),
        broken.clone(),
        directory.join("id_missing"),
    ];
    let failure = failure(&config, &ConnectOptions::default()).await;
    let reason = |path: &std::path::Path| {
        let what = path.display().to_string();
        let attempt = failure.attempts.iter().find(|attempt| attempt.what == what);
        attempt.map(|attempt| attempt.reason.clone()).unwrap_or_default()
    };
    assert_eq!(reason(&stranger.path), "not accepted");
    assert!(reason(&open.path).contains("chmod 600"), "{failure}");
    assert!(reason(&encrypted.path).contains("no passphrase"), "{failure}");
    assert!(reason(&broken).contains("no private key that can be read"), "{failure}");
    let text = failure.to_string();
    assert!(text.contains("no-agent: it cannot be reached"), "{text}");
    assert!(text.contains(&format!("accepts no key for user {}", user())), "{text}");
    assert!(text.contains("ssh-copy-id"), "{text}");
}

/// A key file of a FIDO device, in OpenSSH's format. No device has this key.
fn fido_key() -> String {
    fn string(bytes: &[u8]) -> Vec<u8> {
        [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
    }
    let public =
        [string(b"sk-ssh-ed25519@openssh.com"), string(&[7; 32]), string(b"ssh:")].concat();
    let handle = [&[1_u8][..], &string(b"handle"), &string(b""), &string(b"comment")].concat();
    let mut private = [&[0; 8][..], &public, &handle].concat();
    private.extend((1..=8).take((8 - private.len() % 8) % 8));
    let none = string(b"none");
    let one = 1_u32.to_be_bytes().to_vec();
    let file = [
        b"openssh-key-v1\0".to_vec(),
        none.clone(),
        none,
        string(b""),
        one,
        string(&public),
        string(&private),
    ];
    let text = STANDARD.encode(file.concat());
    format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n")
}

#[tokio::test]
async fn a_fido_key_is_refused_by_name() {
    let sshd = Sshd::start();
    let path = sshd.path("id_ed25519_sk");
    std::fs::write(&path, fido_key()).unwrap();
    set_mode(&path, 0o600);
    let mut config = sshd.config();
    config.identity_files = vec![path];
    let failure = failure(&config, &ConnectOptions::default()).await;
    assert!(failure.to_string().contains("FIDO key"), "{failure}");
}

#[tokio::test]
async fn the_agent_is_asked_first_for_the_keys_that_the_configuration_names() {
    let sshd = Sshd::with_lines(&["MaxAuthTries 2"]);
    let directory = sshd.directory.path();
    let others: Vec<Key> =
        (0..6).map(|index| Key::new(directory, &format!("id_{index}"), "ed25519")).collect();
    let mut keys: Vec<&Key> = others.iter().collect();
    keys.push(&sshd.client_key);
    let agent = Agent::start(directory, &keys);
    let mut config = sshd.config();
    config.identity_agent = Some(agent.socket.clone());
    // The private key is with the agent alone: the configuration names the public one.
    config.identity_files = vec![with_suffix(&sshd.client_key.path, ".pub")];
    let used = used_key(&config, &ConnectOptions::default()).await;
    assert!(
        used.starts_with("agent key ssh-ed25519 SHA256:") && used.ends_with("id_client"),
        "{used}"
    );

    // Without a name, the keys of strangers use the tries up.
    config.identity_files.clear();
    let failure = failure(&config, &ConnectOptions::default()).await;
    assert!(failure.to_string().contains("Too many authentication failures"), "{failure}");
    assert!(failure.to_string().contains("IdentitiesOnly yes"), "{failure}");
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_no_refusal_and_the_limit_of_the_server_is_one() {
    let sshd = Sshd::with_lines(&["MaxAuthTries 1"]);
    let mut config = sshd.config();
    config.identity_files = vec![Key::new(sshd.directory.path(), "id_stranger", "ed25519").path];
    let failure = failure(&config, &ConnectOptions::default()).await;
    assert!(failure.to_string().contains("IdentitiesOnly yes"), "{failure}");

    let encrypted = Key::with_passphrase(sshd.directory.path(), "id_mine", "ed25519", "x");
    sshd.authorize(&encrypted.public());
    config.identity_files = vec![encrypted.path];
    let sshd = Mutex::new(Some(sshd));
    let mut options = ConnectOptions::default();
    options.passphrases = Arc::new(Ending(sshd));
    let cause = Connection::open(&config, &options).await.unwrap_err();
    assert!(matches!(cause, SshError::Closed { .. }), "{cause}");
    assert!(cause.is_transient());

    // A server that ends the connection after it has refused a key would do it again.
    let sshd = Sshd::start();
    let mut config = sshd.config();
    let directory = tempfile::tempdir().unwrap();
    let stranger = Key::new(directory.path(), "id_stranger", "ed25519");
    let encrypted = Key::with_passphrase(directory.path(), "id_mine", "ed25519", "x");
    sshd.authorize(&encrypted.public());
    config.identity_files = vec![stranger.path, encrypted.path];
    options.passphrases = Arc::new(Ending(Mutex::new(Some(sshd))));
    let cause = Connection::open(&config, &options).await.unwrap_err();
    assert!(matches!(cause, SshError::Authentication(_)), "{cause}");
}

/// Ends the server instead of giving a passphrase.
struct Ending(Mutex<Option<Sshd>>);

#[async_trait::async_trait]
impl Passphrases for Ending {
    async fn passphrase(&self, _key_file: &Path, _attempt: u32) -> Option<Passphrase> {
        drop(self.0.lock().unwrap().take());
        Some(Passphrase::new("x".into()))
    }
}

#[tokio::test]
async fn identities_only_offers_no_other_keys_of_the_agent() {
    let sshd = Sshd::start();
    let directory = sshd.directory.path();
    let stranger = Key::new(directory, "id_stranger", "ed25519");
    let agent = Agent::start(directory, &[&stranger, &sshd.client_key]);
    let mut config = sshd.config();
    config.identity_agent = Some(agent.socket.clone());
    // It is with the agent and in the file, and is offered once.
    config.identity_files = vec![stranger.path.clone()];
    config.identities_only = true;
    let failure = failure(&config, &ConnectOptions::default()).await;
    assert_eq!(failure.attempts.len(), 1, "{failure}");
    config.identities_only = false;
    assert!(used_key(&config, &ConnectOptions::default()).await.starts_with("agent key"));
    drop(agent);
    let _agent = Agent::start(directory, &[&stranger]);
    assert_eq!(self::failure(&config, &ConnectOptions::default()).await.attempts.len(), 1);
}

#[tokio::test]
async fn an_rsa_key_of_the_agent_logs_in_with_sha2() {
    let sshd = Sshd::start();
    let key = Key::new(sshd.directory.path(), "id_rsa", "rsa");
    sshd.authorize(&key.public());
    let agent = Agent::start(sshd.directory.path(), &[&key]);
    let mut config = sshd.config();
    config.identity_files.clear();
    config.identity_agent = Some(agent.socket.clone());
    assert!(used_key(&config, &ConnectOptions::default()).await.starts_with("agent key ssh-rsa"));
}

#[tokio::test]
async fn a_certificate_of_the_user_logs_in_from_a_file_and_with_a_key_of_the_agent() {
    let authority = tempfile::tempdir().unwrap();
    let authority = Key::new(authority.path(), "ca", "ed25519");
    let trusted = format!("TrustedUserCAKeys {}", with_suffix(&authority.path, ".pub").display());
    let sshd = Sshd::with_lines(&[&trusted]);
    let directory = sshd.directory.path();
    for kind in ["ed25519", "rsa"] {
        let key = Key::new(directory, &format!("id_{kind}"), kind);
        authority.certify(&key, &["-I", "me", "-n", &user()]);
        let mut config = sshd.config();
        config.identity_files = vec![key.path.clone()];
        let used = used_key(&config, &ConnectOptions::default()).await;
        assert_eq!(used, format!("{} with certificate \"me\"", key.path.display()));

        // The agent gets the key, and the certificate stays in the file.
        let certificate = with_suffix(&key.path, "-cert.pub");
        let elsewhere = directory.join(format!("{kind}.certificate"));
        std::fs::rename(&certificate, &elsewhere).unwrap();
        let agent = Agent::start(&tempfile::tempdir().unwrap().keep(), &[&key]);
        config.identity_agent = Some(agent.socket.clone());
        config.certificate_files = vec![elsewhere];
        let used = used_key(&config, &ConnectOptions::default()).await;
        assert!(
            used.starts_with("agent key") && used.ends_with("with certificate \"me\""),
            "{used}"
        );
    }
}

#[tokio::test]
async fn a_server_that_takes_passwords_alone_is_named_so_and_gets_none() {
    let sshd = Sshd::with_lines(&["PubkeyAuthentication no", "PasswordAuthentication yes"]);
    let failure = failure(&sshd.config(), &ConnectOptions::default()).await;
    assert_eq!(failure.accepted_methods, ["password"]);
    assert!(failure.attempts.is_empty(), "{failure}");
    assert!(failure.to_string().contains("It accepts only password"), "{failure}");
}

#[tokio::test]
async fn a_server_that_asks_for_more_than_a_key_is_named_so() {
    let sshd = Sshd::with_lines(&[
        "AuthenticationMethods publickey,password",
        "PasswordAuthentication yes",
    ]);
    let failure = failure(&sshd.config(), &ConnectOptions::default()).await;
    assert!(failure.to_string().contains("the server asks for more than a key"), "{failure}");
}

#[tokio::test]
async fn the_steps_and_the_banner_are_reported() {
    let directory = tempfile::tempdir().unwrap();
    let banner = directory.path().join("banner");
    std::fs::write(&banner, "Authorized users only.\n".repeat(1000)).unwrap();
    let sshd = Sshd::with_lines(&[&format!("Banner {}", banner.display())]);
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = events.clone();
    let mut options = ConnectOptions::default();
    options.progress = Some(Arc::new(move |event: &ConnectEvent| {
        let line = match event {
            ConnectEvent::Started { step, .. } => format!("started {step:?}"),
            ConnectEvent::Finished { step, detail, .. } => format!("finished {step:?} {detail}"),
            _ => String::new(),
        };
        seen.lock().unwrap().push(line);
    }));
    let config = directory.path().join("config");
    let text = format!(
        "Host gpu\n  HostName 127.0.0.1\n  Port {}\n  IdentityFile {}\n  IdentityAgent none\n  UserKnownHostsFile {}\n",
        sshd.port,
        sshd.client_key.path.display(),
        sshd.path("known_hosts").display(),
    );
    std::fs::write(&config, text).unwrap();
    let target: SshTarget = "gpu".parse().unwrap();
    let config = ConfigOptions::file(config);
    let connection = Connection::connect(&target, &config, &options).await.unwrap();
    assert_eq!(connection.host(), "gpu");
    let host_key = connection.host_key().unwrap();
    assert_eq!(host_key.sha256(), sshd.host_keys[0].fingerprint());
    assert_eq!(
        *events.lock().unwrap(),
        [
            "started Configuration".to_owned(),
            format!("finished Configuration {}@127.0.0.1:{}", user(), sshd.port),
            "started HostKey".to_owned(),
            format!("finished HostKey ssh-ed25519 {}", host_key.sha256()),
            "started Authentication".to_owned(),
            format!("finished Authentication {}", sshd.client_key.path.display()),
        ]
    );
    assert!(connection.banner().starts_with("Authorized users only.\n"));
    assert_eq!(connection.banner().len(), 16 << 10);
    assert!(connection.server().starts_with("SSH-2.0-OpenSSH"), "{}", connection.server());
}

#[tokio::test]
async fn another_kind_of_server_has_its_host_key_checked_and_refuses_a_stranger() {
    let directory = tempfile::tempdir().unwrap();
    let dropbear = Dropbear::start(directory.path());
    let mut config = HostConfig::new("127.0.0.1", dropbear.port, user());
    config.user_known_hosts = vec![directory.path().join("known_hosts")];
    config.identity_files = vec![
        Key::new(directory.path(), "id_rsa", "rsa").path,
        Key::new(directory.path(), "id_ed25519", "ed25519").path,
    ];
    let cause = Connection::open(&config, &ConnectOptions::default()).await.unwrap_err();
    assert!(matches!(cause, SshError::HostKeyUnknown(_)), "{cause}");
    let mut options = ConnectOptions::default();
    options.accept_new = true;
    let failure = failure(&config, &options).await;
    let reasons: Vec<&str> =
        failure.attempts.iter().map(|attempt| attempt.reason.as_str()).collect();
    assert_eq!(reasons[1..], ["not accepted", "not accepted"], "{failure}");
}
