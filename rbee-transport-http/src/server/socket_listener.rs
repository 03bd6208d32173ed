//! Unix sockets of servers: [`SocketListener`].

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

/// A Unix socket that only its user can reach. It is removed when this is dropped.
#[derive(Debug)]
pub(super) struct SocketListener {
    pub(super) listener: UnixListener,
    path: PathBuf,
}

impl SocketListener {
    /// Listens there. A socket that nobody listens on any more is replaced.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        // Under another name first, so that nobody reaches it before its permissions are set, and the old one is
        // replaced in one step.
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => {
                let message = "another program listens there";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                let message = format!("{error}; choose a directory with a shorter path");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            Err(_) => {}
        }
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&new)?;
        let placed = fs::set_permissions(&new, PermissionsExt::from_mode(0o600))
            .and_then(|()| fs::rename(&new, path));
        if let Err(error) = placed {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        Ok(Self { listener, path: path.to_owned() })
    }
}

impl Drop for SocketListener {
    fn drop(&mut self) {
        // If it is gone already, there is nothing to do.
        let _ = fs::remove_file(&self.path);
    }
}
