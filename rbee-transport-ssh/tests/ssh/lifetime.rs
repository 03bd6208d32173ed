//! Time limits and the end of connections.

use std::time::{Duration, Instant};

use rbee_transport_ssh::{AddressFamily, ConnectOptions, Connection, HostConfig, SshError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use crate::sshd::Sshd;

const LIMIT: Duration = Duration::from_secs(30);

/// Gives up connecting soon.
fn hasty() -> ConnectOptions {
    let mut options = ConnectOptions::default();
    options.connect_timeout = Duration::from_millis(500);
    options
}

/// Notices soon that a machine hangs, after four times this interval.
fn watchful() -> ConnectOptions {
    let mut options = ConnectOptions::default();
    options.keep_alive_interval = Duration::from_millis(400);
    options
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up_and_its_connection_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = HostConfig::new("127.0.0.1", listener.local_addr().unwrap().port(), "ada");
    let options = hasty();
    let connecting = Connection::open(&config, &options);
    let accepting = async { listener.accept().await.unwrap().0 };
    let (result, mut stream) = tokio::join!(connecting, accepting);
    let cause = result.unwrap_err();
    assert!(matches!(cause, SshError::Handshake { .. }), "{cause}");
    assert!(cause.to_string().contains("silent for 0.5 s"), "{cause}");
    let mut said = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut said))
        .await
        .expect("the connection stays open")
        .unwrap();
    assert!(said.starts_with(b"SSH-2.0-"));
}

#[tokio::test]
async fn a_server_that_stops_within_the_key_exchange_is_given_up_and_its_connection_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = HostConfig::new("127.0.0.1", listener.local_addr().unwrap().port(), "ada");
    let options = hasty();
    let connecting = Connection::open(&config, &options);
    let accepting = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"Welcome\r\nSSH-2.0-Silence\r\n").await.unwrap();
        stream
    };
    let (result, mut stream) = tokio::join!(connecting, accepting);
    assert!(matches!(result.unwrap_err(), SshError::Handshake { .. }));
    let mut said = Vec::new();
    timeout(LIMIT, stream.read_to_end(&mut said))
        .await
        .expect("the connection stays open")
        .unwrap();
}

#[tokio::test]
async fn what_is_no_ssh_server_and_what_closes_at_once_are_named_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let config = HostConfig::new("127.0.0.1", listener.local_addr().unwrap().port(), "ada");
    for (answer, reason) in [("", "MaxStartups"), ("x\r\n".repeat(2000).as_str(), "no SSH server")]
    {
        let answering = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read_u8().await;
            let _ = stream.write_all(answer.as_bytes()).await;
        };
        let options = ConnectOptions::default();
        let (result, ()) = tokio::join!(Connection::open(&config, &options), answering);
        let cause = result.unwrap_err();
        assert!(matches!(cause, SshError::Handshake { .. }), "{cause}");
        assert!(cause.to_string().contains(reason), "{cause}");
    }
    drop(listener);
    let cause = Connection::open(&config, &hasty()).await.unwrap_err();
    assert!(matches!(cause, SshError::Unreachable { .. }), "{cause}");
    assert!(cause.to_string().contains("Connection refused"), "{cause}");
    let config = HostConfig::new("no-such-host.invalid", 22, "ada");
    let cause = Connection::open(&config, &ConnectOptions::default()).await.unwrap_err();
    assert!(cause.to_string().contains("its name cannot be looked up"), "{cause}");
}

#[tokio::test]
async fn the_addresses_of_a_name_are_tried_from_the_address_and_in_the_family_that_are_set() {
    let sshd = Sshd::start();
    let mut config = sshd.config();
    config.host_key_alias = Some(sshd.name());
    // It can be ::1 as well, where nothing listens.
    config.host_name = "localhost".into();
    Connection::open(&config, &ConnectOptions::default()).await.unwrap();
    config.address_family = AddressFamily::Inet;
    config.bind_address = Some("127.0.0.7".into());
    Connection::open(&config, &ConnectOptions::default()).await.unwrap();
    assert!(sshd.log().contains("from 127.0.0.7 port"), "{}", sshd.log());

    config.bind_address = Some("eth0".into());
    let cause = Connection::open(&config, &ConnectOptions::default()).await.unwrap_err();
    assert!(cause.to_string().contains("BindAddress \"eth0\""), "{cause}");
    config.host_name = "127.0.0.1".into();
    config.address_family = AddressFamily::Inet6;
    let cause = Connection::open(&config, &ConnectOptions::default()).await.unwrap_err();
    assert!(cause.to_string().contains("AddressFamily"), "{cause}");
}

#[tokio::test]
async fn keep_alive_messages_notice_a_machine_that_hangs() {
    let sshd = Sshd::start();
    let connection = Connection::open(&sshd.config(), &watchful()).await.unwrap();
    let mut channel = connection.exec("cat").await.unwrap();
    sshd.freeze();
    let begin = Instant::now();
    let cause = timeout(LIMIT, connection.closed()).await.expect("it was not noticed");
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    assert!(cause.to_string().contains("answers no keep-alive messages"), "{cause}");
    let read = timeout(LIMIT, channel.read_u8()).await.unwrap().unwrap_err();
    assert_eq!(read.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(connection.is_closed());
}

#[tokio::test]
async fn a_machine_that_hangs_while_much_is_sent_to_it_is_noticed_and_the_writer_gets_an_error() {
    let sshd = Sshd::start();
    let connection = Connection::open(&sshd.config(), &watchful()).await.unwrap();
    // So many that their windows hold more than the buffers of the system, and the session waits for the socket.
    let mut channels = Vec::new();
    for _ in 0..9 {
        channels.push(connection.exec("cat >/dev/null").await.unwrap());
    }
    sshd.freeze();
    let mut writers = tokio::task::JoinSet::new();
    for mut channel in channels {
        writers.spawn(async move {
            let bytes = vec![0; 1 << 20];
            loop {
                if let Err(cause) = channel.write_all(&bytes).await {
                    return cause;
                }
            }
        });
    }
    while let Some(cause) = timeout(LIMIT, writers.join_next()).await.expect("a writer waits") {
        assert_eq!(cause.unwrap().kind(), std::io::ErrorKind::ConnectionReset);
    }
    let cause = timeout(LIMIT, connection.closed()).await.expect("it was not noticed");
    assert!(matches!(cause, SshError::Closed { .. }), "{cause}");
}

#[tokio::test]
async fn a_closed_connection_is_closed_for_all_and_its_sessions_end() {
    let sshd = Sshd::start();
    let connection = sshd.connect().await.unwrap();
    let other = connection.clone();
    let mut channel = connection.exec("cat").await.unwrap();
    connection.close().await;
    assert!(other.is_closed());
    let cause = other.exec("true").await.unwrap_err();
    assert!(cause.to_string().contains("it was closed here"), "{cause}");
    assert!(channel.read_u8().await.is_err());
    assert!(channel.write_all(&vec![0; 1 << 20]).await.is_err());
}

#[tokio::test]
async fn a_channel_keeps_its_connection_and_the_last_user_ends_it() {
    let sshd = Sshd::start();
    let connection = sshd.connect().await.unwrap();
    let mut channel = connection.exec("cat").await.unwrap();
    drop(connection);
    channel.write_all(b"x").await.unwrap();
    assert_eq!(channel.read_u8().await.unwrap(), b'x');
    drop(channel);
    let ended = async {
        while !sshd.log().contains("Connection closed by 127.0.0.1") {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    if timeout(LIMIT, ended).await.is_err() {
        panic!("{}", sshd.log());
    }
}

#[tokio::test]
async fn an_end_by_the_server_is_noticed_at_once() {
    let sshd = Sshd::start();
    let connection = sshd.connect().await.unwrap();
    drop(sshd);
    let cause = timeout(LIMIT, connection.closed()).await.unwrap();
    assert!(matches!(cause, SshError::Closed { .. }), "{cause}");
}
