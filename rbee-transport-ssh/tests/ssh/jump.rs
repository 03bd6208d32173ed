//! Jump hosts and proxies.

use std::{path::Path, time::Duration};

use rbee_transport_ssh::{
    ConfigOptions, ConfigSource, ConnectOptions, Connection, SshError, SshTarget,
};

use crate::{keys::user, sshd::Sshd};

/// Two jump hosts and a machine, and the configuration of a person who names them.
fn three_machines() -> (Sshd, Sshd, Sshd, tempfile::TempDir) {
    let (first, second, last) = (Sshd::start(), Sshd::start(), Sshd::start());
    let directory = tempfile::tempdir().unwrap();
    let mut text = String::new();
    let jumps = [("first", &first, ""), ("second", &second, "first"), ("last", &last, "second")];
    for (name, sshd, jump) in jumps {
        text += &format!(
            "Host {name}\n  HostName 127.0.0.1\n  Port {}\n  IdentityFile {}\n  UserKnownHostsFile {}\n",
            sshd.port,
            sshd.client_key.path.display(),
            sshd.path("known_hosts").display()
        );
        if !jump.is_empty() {
            text += &format!("  ProxyJump {jump}\n");
        }
    }
    text +=
        &format!("Host *\n  User {}\n  IdentityAgent none\n  GlobalKnownHostsFile none\n", user());
    std::fs::write(directory.path().join("config"), text).unwrap();
    (first, second, last, directory)
}

#[tokio::test]
async fn two_jump_hosts_lead_to_a_machine_and_each_checks_its_own_host_key() {
    let (_first, second, last, directory) = three_machines();
    let target: SshTarget = "last".parse().unwrap();
    let mut options = ConfigOptions::file(directory.path().join("config"));
    for source in [ConfigSource::Automatic, ConfigSource::Files] {
        options.source = source;
        let connection =
            Connection::connect(&target, &options, &ConnectOptions::default()).await.unwrap();
        let hops: Vec<&str> =
            connection.config().jump.iter().map(|hop| hop.target.as_str()).collect();
        assert_eq!(hops, ["first", "second"]);
        assert_eq!(connection.host_key().unwrap().sha256(), last.host_keys[0].fingerprint());
        let output =
            connection.exec("echo $SSH_CONNECTION").await.unwrap().output(200).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.trim().ends_with(&format!("127.0.0.1 {}", last.port)), "{text}");
    }

    second.set_known_hosts("");
    let cause =
        Connection::connect(&target, &options, &ConnectOptions::default()).await.unwrap_err();
    let SshError::Jump { target, cause } = &cause else { panic!("{cause}") };
    assert_eq!(target, "last");
    let SshError::HostKeyUnknown(unknown) = &**cause else { panic!("{cause}") };
    assert_eq!(unknown.target, "second");
}

#[tokio::test]
async fn the_end_of_a_jump_host_ends_the_connections_behind_it() {
    let (first, _second, _last, directory) = three_machines();
    let options = ConfigOptions::file(directory.path().join("config"));
    let target: SshTarget = "last".parse().unwrap();
    let connection =
        Connection::connect(&target, &options, &ConnectOptions::default()).await.unwrap();
    drop(first);
    let cause = tokio::time::timeout(Duration::from_secs(20), connection.closed()).await;
    assert!(cause.unwrap().is_transient());
    assert!(connection.exec("true").await.is_err());
}

#[tokio::test]
async fn a_jump_host_that_forbids_forwarding_is_named() {
    let jump = Sshd::with_lines(&["AllowTcpForwarding no"]);
    let last = Sshd::start();
    let mut config = last.config();
    config.jump = vec![jump.config()];
    let cause = Connection::open(&config, &ConnectOptions::default()).await.unwrap_err();
    assert!(matches!(cause, SshError::Jump { .. }), "{cause}");
    assert!(cause.to_string().contains("AllowTcpForwarding"), "{cause}");

    // Nothing listens behind this one.
    let jump = Sshd::start();
    config.jump = vec![jump.config()];
    let port = last.port;
    drop(last);
    let cause = Connection::open(&config, &ConnectOptions::default()).await.unwrap_err();
    assert!(cause.to_string().contains(&format!("127.0.0.1:{port}")), "{cause}");
    assert!(cause.to_string().contains("Connection refused"), "{cause}");
}

#[tokio::test]
async fn the_input_and_output_of_a_proxy_command_are_the_connection() {
    let sshd = Sshd::start();
    let mut config = sshd.config();
    config.host_name = "no-such-host.invalid".into();
    config.host_key_alias = Some(sshd.name());
    let bash = |body: &str| format!("bash -c '{body}'");
    // Its input is read by a process below it, which must end as well.
    let pid = sshd.path("pid");
    let relay = "exec 3<>/dev/tcp/127.0.0.1/PORT; cat <&3 & echo $! >PID; cat >&3";
    let relay = relay.replace("PORT", &sshd.port.to_string());
    config.proxy_command = Some(bash(&relay.replace("PID", pid.to_str().unwrap())));
    let connection = Connection::open(&config, &ConnectOptions::default()).await.unwrap();
    let output = connection.exec("echo hello").await.unwrap().output(100).await.unwrap();
    assert_eq!(output.stdout, b"hello\n");
    let pid = std::fs::read_to_string(pid).unwrap();
    let process = Path::new("/proc").join(pid.trim());
    assert!(process.exists());
    drop(connection);
    let ended = async {
        while process.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), ended).await.unwrap();

    config.proxy_command = Some(bash("exec 1>&-; sleep 0.1; echo no way >&2; exit 1"));
    let cause = Connection::open(&config, &ConnectOptions::default()).await.unwrap_err();
    assert!(cause.to_string().contains("no way"), "{cause}");
}
