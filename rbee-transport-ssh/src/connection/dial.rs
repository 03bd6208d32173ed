//! The byte stream to a machine: TCP, or the input and output of a `ProxyCommand`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream, lookup_host},
    process::{Child, Command},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

use crate::{
    config::{AddressFamily, HostConfig},
    error::SshError,
    printable::printable,
    socket::Io,
};

/// How long one address is tried before the next one is tried at the same time.
const STAGGER: Duration = Duration::from_millis(250);
/// The most addresses that are tried.
const MOST_ADDRESSES: usize = 16;
/// How long a proxy may take to say why it ends.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// The bytes of a proxy's messages that are kept.
const MOST_MESSAGES: usize = 4096;

/// Connects to the first address that answers.
pub(super) async fn tcp(config: &HostConfig, limit: Duration) -> Result<TcpStream, SshError> {
    let host = config.address();
    let unreachable = |reason| SshError::Unreachable { host: host.clone(), reason };
    let too_long = |what: &str| {
        unreachable(format!(
            "{what} within {:.1} s; check that the machine is on, that the address is right, and that no firewall \
             drops packets to port {}",
            limit.as_secs_f32(),
            config.port
        ))
    };
    let lookup = timeout(limit, lookup_host((config.host_name.as_str(), config.port)));
    let found = lookup.await.map_err(|_| too_long("its name could not be looked up"))?;
    let found = found.map_err(|cause| {
        unreachable(format!("its name cannot be looked up ({cause}); check HostName in ssh_config"))
    })?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found.filter(|address| is_wanted(address, config.address_family)) {
        if addresses.len() < MOST_ADDRESSES && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(unreachable(
            "it has no address of the kind that AddressFamily asks for".into(),
        ));
    }
    let from = match &config.bind_address {
        Some(text) => Some(text.parse::<IpAddr>().map_err(|_| {
            unreachable(format!(
                "BindAddress {text:?} is no address of this machine; write the address"
            ))
        })?),
        None => None,
    };
    let trying = first(addresses, from);
    match timeout(limit, trying).await {
        Err(_) => Err(too_long("no address answered")),
        Ok(Err(failures)) => {
            let said: Vec<String> =
                failures.iter().map(|(address, cause)| format!("{address}: {cause}")).collect();
            Err(unreachable(format!(
                "{}; check that its SSH server runs and listens on port {}",
                said.join(", "),
                config.port
            )))
        }
        Ok(Ok(stream)) => Ok(stream),
    }
}

fn is_wanted(address: &SocketAddr, family: AddressFamily) -> bool {
    match family {
        AddressFamily::Any => true,
        AddressFamily::Inet => address.is_ipv4(),
        AddressFamily::Inet6 => address.is_ipv6(),
    }
}

/// Tries the addresses in their order, each a little later than the one before, or when that one has failed.
async fn first(
    addresses: Vec<SocketAddr>,
    from: Option<IpAddr>,
) -> Result<TcpStream, Vec<(SocketAddr, io::Error)>> {
    let mut addresses = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut failures = Vec::new();
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(async move { (address, connect(address, from).await) });
        }
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = sleep(STAGGER), if addresses.len() > 0 => continue,
        };
        match ended {
            Some(Ok((_, Ok(stream)))) => return Ok(stream),
            Some(Ok((address, Err(cause)))) => failures.push((address, cause)),
            Some(Err(_)) => {}
            None if addresses.len() == 0 => return Err(failures),
            None => {}
        }
    }
}

async fn connect(address: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A running `ProxyCommand`. It is killed when this is dropped.
pub(super) struct Proxy {
    messages: Arc<Mutex<Vec<u8>>>,
    /// Ends when all messages were read.
    listening: JoinHandle<()>,
    child: Child,
}

impl Drop for Proxy {
    /// Ends the command and the processes that it has started.
    fn drop(&mut self) {
        // There is no number if it has ended already.
        let group = self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
        if let Some(group) = group {
            let _ = kill_process_group(group, Signal::TERM);
        }
    }
}

impl Proxy {
    /// What the command has said, for an error. If it has closed its output, it is given a moment to say why.
    pub(super) async fn said(&mut self) -> String {
        let _ = timeout(LAST_WORDS, &mut self.listening).await;
        let messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        printable(&String::from_utf8_lossy(&messages))
    }
}

/// Starts a `ProxyCommand`, as OpenSSH does it: by the shell, which it replaces.
pub(super) fn proxy(config: &HostConfig, command: &str) -> Result<(Box<dyn Io>, Proxy), SshError> {
    let failed = |reason: String| SshError::Unreachable {
        host: config.address(),
        reason: format!("ProxyCommand {command:?} cannot be started: {reason}"),
    };
    let mut shell = Command::new("/bin/sh");
    shell.arg("-c").arg(format!("exec {command}"));
    shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    shell.process_group(0).kill_on_drop(true);
    let mut child = shell.spawn().map_err(|cause| failed(cause.to_string()))?;
    let (Some(input), Some(output), Some(mut errors)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(failed("it has no pipes".into()));
    };
    let messages = Arc::new(Mutex::new(Vec::new()));
    let kept = messages.clone();
    // It ends with the command.
    let listening = tokio::spawn(async move {
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = errors.read(&mut buffer).await {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            let room = MOST_MESSAGES.saturating_sub(kept.len());
            kept.extend_from_slice(&buffer[..count.min(room)]);
        }
    });
    Ok((Box::new(tokio::io::join(output, input)), Proxy { messages, listening, child }))
}
