//! A server that does what no good server does.

use std::{sync::Arc, time::Duration};

use rbee_transport_ssh::{ConnectOptions, Connection, HostConfig, SshError, deploy::Exec};
use russh::{
    Channel, ChannelId, ChannelOpenFailure, CryptoVec, Disconnect, Error,
    keys::{Algorithm, PrivateKey},
    server::{Auth, Handle, Handler, Msg, Session, run_stream},
};
use tokio::{io::AsyncReadExt, net::TcpListener, sync::mpsc, time::timeout};

const LIMIT: Duration = Duration::from_secs(20);

/// Lets everybody in and passes the session to the test.
struct Server {
    sessions: mpsc::UnboundedSender<(Handle, ChannelId)>,
}

impl Handler for Server {
    type Error = Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: russh::server::ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Error> {
        if command == b"refuse" {
            return session.channel_failure(channel);
        }
        session.channel_success(channel)?;
        self.sessions.send((session.handle(), channel)).unwrap();
        Ok(())
    }
}

/// A connection to such a server, with a channel, and the server's side of both.
async fn connected() -> (Connection, rbee_transport_ssh::Channel, Handle, ChannelId) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let key = PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).unwrap();
    let (sessions, mut started) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let config = russh::server::Config { keys: vec![key], ..russh::server::Config::default() };
        let (stream, _) = listener.accept().await.unwrap();
        let session = run_stream(Arc::new(config), stream, Server { sessions }).await.unwrap();
        let _ = session.await;
    });
    let mut config = HostConfig::new("127.0.0.1", port, "ada");
    let directory = tempfile::tempdir().unwrap();
    config.user_known_hosts = vec![directory.path().join("known_hosts")];
    let mut options = ConnectOptions::default();
    options.accept_new = true;
    let connection = Connection::open(&config, &options).await.unwrap();
    let channel = connection.exec("anything").await.unwrap();
    let (handle, id) = started.recv().await.unwrap();
    (connection, channel, handle, id)
}

#[tokio::test]
async fn a_server_that_lets_everybody_in_is_used_without_a_key() {
    let (connection, ..) = connected().await;
    assert!(connection.server().contains("russh"), "{}", connection.server());
}

#[tokio::test]
async fn channels_that_the_server_opens_are_refused() {
    let (connection, _channel, server, _) = connected().await;
    let refused = |result: Result<Channel<Msg>, Error>| match result {
        Err(Error::ChannelOpenFailure(reason)) => {
            assert_eq!(reason, ChannelOpenFailure::AdministrativelyProhibited);
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("the channel was opened"),
    };
    let opening = async {
        refused(server.channel_open_session().await);
        refused(server.channel_open_agent().await);
        refused(server.channel_open_x11("a", 1).await);
        refused(server.channel_open_direct_tcpip("a", 1, "b", 2).await);
        refused(server.channel_open_forwarded_tcpip("a", 1, "b", 2).await);
        refused(server.channel_open_forwarded_streamlocal("/a").await);
    };
    timeout(LIMIT, opening).await.unwrap();
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn what_the_server_says_cannot_control_a_terminal() {
    let (connection, mut channel, server, _) = connected().await;
    let words = format!("go away\u{1b}[2J\n{}", "x".repeat(100_000));
    server.disconnect(Disconnect::ByApplication, words, String::new()).await.unwrap();
    let cause = timeout(LIMIT, connection.closed()).await.unwrap().to_string();
    assert!(cause.contains("go away\u{fffd}[2J\u{fffd}xxx"), "{cause}");
    assert!(cause.len() < 1000, "{}", cause.len());
    assert!(channel.read_u8().await.is_err());
}

#[tokio::test]
async fn bytes_after_the_end_of_the_output_are_dropped() {
    let (_connection, mut channel, server, id) = connected().await;
    server.data(id, CryptoVec::from(b"x".to_vec()).to_vec()).await.unwrap();
    server.eof(id).await.unwrap();
    server.data(id, b"more".to_vec()).await.unwrap();
    server.exit_status_request(id, 3).await.unwrap();
    server.close(id).await.unwrap();
    let mut bytes = Vec::new();
    timeout(LIMIT, channel.read_to_end(&mut bytes)).await.unwrap().unwrap();
    assert_eq!(bytes, b"x");
    let status = timeout(LIMIT, channel.wait()).await.unwrap();
    assert_eq!(status, rbee_transport_ssh::ExitStatus::Code(3));
}

#[tokio::test]
async fn a_refused_command_is_an_error_at_once_or_at_the_first_read() {
    let (connection, ..) = connected().await;
    let error = timeout(LIMIT, connection.exec("refuse")).await.unwrap().unwrap_err();
    assert!(matches!(error, SshError::ChannelRefused { .. }), "{error}");
    assert!(error.to_string().contains("login shell"), "{error}");

    let exec: &dyn Exec = &connection;
    let mut session = exec.exec("refuse").await.unwrap();
    let error = timeout(LIMIT, session.read_u8()).await.unwrap().unwrap_err();
    assert!(error.to_string().contains("login shell"), "{error}");
}
