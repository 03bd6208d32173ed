//! Processes that are started here and may outlive this process.

mod identity;
mod log_file;
mod running;
mod state_dir;

pub(crate) use identity::Identity;
pub(crate) use log_file::LogFile;
pub(crate) use running::Running;
pub(crate) use state_dir::{Lock, StateDir};

use std::net::{IpAddr, SocketAddr, TcpListener};

use rbee_core::{Error, ErrorKind, Result};

/// A port on which no program listens now. One may by the time it is used, so the caller tries again then.
pub(crate) fn free_port(host: IpAddr) -> Result<u16> {
    let wrong = |cause: std::io::Error| {
        Error::new(ErrorKind::Config, format!("there is no free port on {host}: {cause}"))
            .with_source(cause)
    };
    let listener = TcpListener::bind(SocketAddr::new(host, 0)).map_err(wrong)?;
    Ok(listener.local_addr().map_err(wrong)?.port())
}
