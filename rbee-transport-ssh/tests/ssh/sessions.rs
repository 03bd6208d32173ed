//! Commands and channels.

use std::time::{Duration, Instant};

use rbee_transport_ssh::{ExitStatus, SshError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::timeout,
};

use crate::sshd::Sshd;

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_command_gets_its_input_and_returns_its_output_errors_and_status() {
    let sshd = Sshd::start();
    let connection = sshd.connect().await.unwrap();
    let command = "read line; echo \"got $line\"; echo oops >&2; exit 7";
    let mut channel = connection.exec(command).await.unwrap();
    channel.write_all(b"hello\n").await.unwrap();
    let output = channel.output(1000).await.unwrap();
    assert_eq!(output.stdout, b"got hello\n");
    assert_eq!((output.stderr.as_str(), &output.status), ("oops\n", &ExitStatus::Code(7)));

    let killed = connection.exec("kill -9 $$").await.unwrap().output(10).await.unwrap();
    assert_eq!(killed.status, ExitStatus::Signal("KILL".into()));
    let much = connection.exec("printf 12345").await.unwrap().output(4).await.unwrap_err();
    assert_eq!(much.kind(), std::io::ErrorKind::FileTooLarge);
    let loud = "i=0; while [ $i -lt 20000 ]; do echo line$i >&2; i=$((i+1)); done";
    let loud = connection.exec(loud).await.unwrap().output(10).await.unwrap();
    assert_eq!(loud.stderr.len(), 64 << 10);
    assert!(loud.stderr.ends_with("line19999\n"));
}

#[tokio::test]
async fn many_bytes_go_both_ways_unchanged_with_the_fastest_cipher() {
    let sshd = Sshd::with_lines(&["LogLevel DEBUG1"]);
    let connection = sshd.connect().await.unwrap();
    for direction in ["client->server", "server->client"] {
        let line = format!("kex: {direction} cipher: aes256-gcm@openssh.com");
        assert!(sshd.log().contains(&line), "{}", sshd.log());
    }
    let channel = connection.exec("cat").await.unwrap();
    let bytes: Vec<u8> = (0..20_000_000_u32).map(|index| (index % 251) as u8).collect();
    let (mut reader, mut writer) = tokio::io::split(channel);
    let sending = async {
        writer.write_all(&bytes).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let receiving = async {
        let mut received = Vec::new();
        reader.read_to_end(&mut received).await.unwrap();
        received
    };
    let ((), received) = timeout(LIMIT, async { tokio::join!(sending, receiving) }).await.unwrap();
    assert!(received == bytes, "{} of {} bytes", received.len(), bytes.len());
}

#[tokio::test]
async fn the_only_session_is_used_again_as_soon_as_the_server_allows_it() {
    let sshd = Sshd::with_lines(&["MaxSessions 1"]);
    let connection = sshd.connect().await.unwrap();
    for round in 0..10 {
        let command = format!("echo {round}");
        let output = connection.exec(&command).await.unwrap().output(100).await.unwrap();
        assert_eq!(output.stdout, format!("{round}\n").into_bytes());
    }
}

#[tokio::test]
async fn a_server_that_opens_no_further_session_is_named_after_a_bounded_time() {
    let sshd = Sshd::with_lines(&["MaxSessions 1"]);
    let connection = sshd.connect().await.unwrap();
    let first = connection.exec("cat").await.unwrap();
    let begin = Instant::now();
    let cause = connection.exec("true").await.unwrap_err();
    assert!(matches!(cause, SshError::SessionsFull { .. }), "{cause}");
    assert!(cause.to_string().contains("MaxSessions"), "{cause}");
    assert!(begin.elapsed() < Duration::from_secs(10));
    assert!(cause.is_transient());
    // The end of the first makes room for another, which is asked for already.
    let (second, ()) = tokio::join!(connection.exec("echo hello"), async { drop(first) });
    assert_eq!(second.unwrap().output(100).await.unwrap().stdout, b"hello\n");
}

#[tokio::test]
async fn a_server_without_sessions_and_a_closed_shell_are_errors() {
    let sshd = Sshd::with_lines(&["MaxSessions 0"]);
    let cause = sshd.connect().await.unwrap().exec("true").await.unwrap_err();
    assert!(matches!(cause, SshError::SessionsFull { .. }), "{cause}");

    let sshd = Sshd::with_lines(&["ForceCommand exit 3"]);
    let connection = sshd.connect().await.unwrap();
    let output = connection.exec("true").await.unwrap().output(10).await.unwrap();
    assert_eq!(output.status, ExitStatus::Code(3));
}

#[tokio::test]
async fn a_dropped_channel_ends_its_command() {
    let sshd = Sshd::start();
    let connection = sshd.connect().await.unwrap();
    let file = sshd.path("ended");
    // It does not read its input, so it is its output that must have ended.
    let loops = "trap '' PIPE; while echo x 2>/dev/null; do sleep 0.02; done";
    let command = format!("{loops}; echo yes >'{}'", file.display());
    drop(connection.exec(&command).await.unwrap());
    let ended = async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LIMIT, ended).await.unwrap();
}

#[tokio::test]
async fn a_channel_that_nobody_reads_is_closed_and_the_others_go_on() {
    let sshd = Sshd::start();
    let connection = sshd.connect().await.unwrap();
    let mut stalled = connection.exec("cat /dev/zero").await.unwrap();
    let mut other = connection.exec("cat").await.unwrap();
    let exchange = async {
        for _ in 0..14 {
            other.write_all(b"x").await.unwrap();
            assert_eq!(other.read_u8().await.unwrap(), b'x');
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    timeout(LIMIT, exchange).await.expect("the other channel stands still");
    // What has arrived is there, then comes the error.
    let mut received = 0;
    let mut buffer = vec![0; 1 << 16];
    let cause = loop {
        match timeout(LIMIT, stalled.read(&mut buffer)).await.unwrap() {
            Ok(count) => received += count,
            Err(cause) => break cause,
        }
        assert!(received < 64 << 20, "{received} bytes were kept");
    };
    assert!(cause.to_string().contains("nothing was read from it for 5 s"), "{cause}");
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_port_of_the_machine_is_reached_and_a_closed_one_is_an_error() {
    let sshd = Sshd::start();
    let connection = sshd.connect().await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let byte = stream.read_u8().await.unwrap();
        stream.write_u8(byte + 1).await.unwrap();
    };
    let ask = async {
        let mut channel = connection.open_tcp("127.0.0.1", port).await.unwrap();
        channel.write_u8(1).await.unwrap();
        assert_eq!(channel.read_u8().await.unwrap(), 2);
        channel.shutdown().await.unwrap();
        assert_eq!(channel.wait().await, ExitStatus::Unknown);
    };
    tokio::join!(serve, ask);
    drop(listener);
    let cause = connection.open_tcp("127.0.0.1", port).await.unwrap_err();
    assert!(cause.to_string().contains("Connection refused"), "{cause}");
}
