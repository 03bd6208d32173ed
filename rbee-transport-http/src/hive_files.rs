//! The files by which a queen finds the hives of its own user on the same machine.

use std::{
    fs::{self, File},
    io::{self, Read},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use rbee_core::{Error, ErrorKind, Result, private_files::open_own};
use serde::{Deserialize, Serialize};

use crate::{
    process::{Identity, StateDir},
    token::Token,
};

/// The hive's token.
const TOKEN: &str = "token";
/// The address of the hive while it runs.
const ADDRESS: &str = "address";
/// The largest of these files that is read, in bytes.
const MOST_BYTES: u64 = 4 << 10;
/// The most state directories that are read.
const MOST_HIVES: usize = 1_000;

/// The files that a hive's daemon keeps in its state directory for queens of the same user: `token`, the token it
/// accepts, and `address`, where it listens. Only that user can read them.
///
/// [`ProcessHive::hive_files`](crate::ProcessHive::hive_files) gives those of a hive, and [`LocalDaemon::find`] looks
/// them up.
#[derive(Clone, Debug)]
pub struct HiveFiles(StateDir);

impl HiveFiles {
    pub(crate) fn new(state_dir: StateDir) -> Self {
        Self(state_dir)
    }

    /// The path of the token.
    pub fn token_path(&self) -> PathBuf {
        self.0.path(TOKEN)
    }

    /// The token of a previous run; a new one of 256 random bits if there is none. Call it when the hive starts: its
    /// lock keeps a second hive from making another token at the same time.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if the file cannot be read or holds something else, [`ErrorKind::Storage`] if it cannot
    /// be written.
    pub fn token(&self) -> Result<Token> {
        let path = self.token_path();
        if let Some(token) = read_token(&path)? {
            return Ok(token);
        }
        let token = Token::random()?;
        self.0.write_private(TOKEN, format!("{}\n", token.reveal()).as_bytes())?;
        tracing::info!(path = %path.display(), "made a token");
        Ok(token)
    }

    /// Announces to queens of the same user that this process listens here and accepts the [token](Self::token). The
    /// announcement ends when the returned value is dropped, and is valid for no other process.
    ///
    /// # Errors
    /// [`ErrorKind::Storage`] if the file cannot be written.
    pub fn announce(&self, address: SocketAddr) -> Result<Announced> {
        let gone = || Error::new(ErrorKind::Internal, "the system does not know this process");
        let process = Identity::of(std::process::id()).ok_or_else(gone)?;
        let listens = serde_json::to_vec(&Listens { process, address }).map_err(|cause| {
            Error::new(ErrorKind::Internal, format!("the address cannot be written: {cause}"))
        })?;
        self.0.write_private(ADDRESS, &listens)?;
        Ok(Announced(self.0.path(ADDRESS)))
    }

    /// Removes the announcement of a previous run: this run has a token of its own, which is in no file.
    pub fn withdraw(&self) {
        remove(&self.0.path(ADDRESS));
    }
}

/// Keeps the hive announced; dropping it ends the announcement.
#[derive(Debug)]
pub struct Announced(PathBuf);

impl Drop for Announced {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "cannot be removed");
    }
}

/// An announced process and its address.
#[derive(Debug, Serialize, Deserialize)]
struct Listens {
    process: Identity,
    address: SocketAddr,
}

/// A hive of this user that runs on this machine.
#[derive(Clone, Debug)]
pub struct LocalDaemon {
    /// The address to connect to.
    pub address: SocketAddr,
    /// The token it accepts.
    pub token: Token,
}

impl LocalDaemon {
    /// The hive that is reached at this port of this machine, if its state directory is in `directory`. `host` is a
    /// loopback address or `localhost`; no hive is found for any other.
    ///
    /// Returns a token only for a port of a process that is alive: otherwise another user who takes the port would
    /// get it. For the same reason the result has an address, not a name.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] with the name of the file, if the hive is there and its token cannot be read.
    pub fn find(directory: &Path, host: &str, port: u16) -> Result<Option<Self>> {
        let Some(wanted) = Wanted::of(host) else { return Ok(None) };
        let Ok(entries) = fs::read_dir(directory) else { return Ok(None) };
        for state_dir in entries.flatten().take(MOST_HIVES).map(|entry| entry.path()) {
            // A directory that is no state directory, or of a hive that is not announced, has no such file.
            let Ok(Some(text)) = read(&state_dir.join(ADDRESS)) else { continue };
            let Ok(Listens { process, address }) = serde_json::from_str(&text) else { continue };
            let Some(ip) = wanted.reaches(address.ip()) else { continue };
            if address.port() != port || !process.is_alive() {
                continue;
            }
            let path = state_dir.join(TOKEN);
            let token = read_token(&path)?.ok_or_else(|| {
                let missing = io::Error::from(io::ErrorKind::NotFound);
                unusable(&path, &missing)
            })?;
            return Ok(Some(Self { address: SocketAddr::new(ip, port), token }));
        }
        Ok(None)
    }
}

/// The addresses of this machine that match.
enum Wanted {
    One(IpAddr),
    /// `localhost`.
    Any,
}

impl Wanted {
    fn of(host: &str) -> Option<Self> {
        if host.eq_ignore_ascii_case("localhost") {
            return Some(Self::Any);
        }
        host.parse().ok().filter(IpAddr::is_loopback).map(Self::One)
    }

    /// The address to reach a daemon that listens on this address, if it matches.
    fn reaches(&self, listens: IpAddr) -> Option<IpAddr> {
        let loopback = match listens {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        };
        match self {
            Self::One(ip) if listens.is_unspecified() => {
                (ip.is_ipv4() == listens.is_ipv4()).then_some(*ip)
            }
            Self::One(ip) => (*ip == listens).then_some(*ip),
            Self::Any if listens.is_unspecified() => Some(loopback),
            Self::Any => listens.is_loopback().then_some(listens),
        }
    }
}

/// The token in this file; `None` if there is no such file.
fn read_token(path: &Path) -> Result<Option<Token>> {
    let text = read(path).map_err(|cause| unusable(path, &cause))?;
    text.map(|text| text.trim().parse::<Token>().map_err(|error| unusable(path, &error)))
        .transpose()
}

fn read(path: &Path) -> io::Result<Option<String>> {
    let file = match open_own(path, File::options().read(true)) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(cause),
    };
    let mut text = String::new();
    file.take(MOST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(io::Error::other(format!("larger than {MOST_BYTES} bytes")));
    }
    Ok(Some(text))
}

fn unusable(path: &Path, why: &dyn std::fmt::Display) -> Error {
    let message = format!(
        "the token of the hive in {} cannot be used: {why}; remove the file and start the hive again, which makes a \
         new one, or give the hive a token of your own with --token-file",
        path.display()
    );
    Error::new(ErrorKind::Config, message)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const PORT: u16 = 7835;

    struct Machine {
        dir: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap() }
        }

        fn hive(&self, name: &str) -> HiveFiles {
            let state_dir = StateDir::new(self.dir.path().join(name));
            state_dir.create().unwrap();
            HiveFiles::new(state_dir)
        }

        fn found(&self, host: &str) -> Option<LocalDaemon> {
            LocalDaemon::find(self.dir.path(), host, PORT).unwrap()
        }
    }

    #[test]
    fn a_token_is_made_once_for_its_user_alone_and_kept() {
        let machine = Machine::new();
        let files = machine.hive("attic");
        let token = files.token().unwrap();
        assert_eq!(token.reveal().len(), 64, "256 bits in hexadecimal");
        let metadata = fs::metadata(files.token_path()).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        assert_eq!(files.token().unwrap(), token);
        assert_ne!(machine.hive("cellar").token().unwrap(), token);
        let names = fs::read_dir(machine.dir.path().join("attic")).unwrap();
        assert_eq!(names.count(), 1, "no other file is left");
    }

    #[test]
    fn the_mode_holds_from_the_first_moment_whatever_was_left_there() {
        let machine = Machine::new();
        let files = machine.hive("attic");
        // Left by a run that was killed while it wrote.
        let left = machine.dir.path().join("attic/token.new");
        fs::write(&left, "x").unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o666)).unwrap();
        files.token().unwrap();
        let mode = fs::metadata(files.token_path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_token_file_that_is_none_is_named_and_not_repeated_or_replaced() {
        let machine = Machine::new();
        let files = machine.hive("attic");
        for text in ["hunter2", "", &"x".repeat(5_000)] {
            fs::write(files.token_path(), text).unwrap();
            let error = files.token().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            let message = error.message();
            assert!(
                message.contains("attic/token") && message.contains("remove the file"),
                "{message}"
            );
            assert!(!message.contains("hunter2"));
            assert_eq!(fs::read_to_string(files.token_path()).unwrap(), text);
        }
    }

    #[test]
    fn a_token_is_not_read_through_a_link_or_from_a_file_of_another_user() {
        let machine = Machine::new();
        let files = machine.hive("attic");
        let elsewhere = machine.dir.path().join("elsewhere");
        fs::write(&elsewhere, "x".repeat(64)).unwrap();
        std::os::unix::fs::symlink(&elsewhere, files.token_path()).unwrap();
        let refused = |why: &str| {
            let error = files.token().unwrap_err();
            for words in ["attic/token", why, "remove the file"] {
                assert!(error.message().contains(words), "{error}");
            }
        };
        refused("symbolic link");
        fs::remove_file(files.token_path()).unwrap();
        files.token().unwrap();
        match std::os::unix::fs::chown(files.token_path(), Some(65_534), None) {
            Ok(()) => refused("belongs to user 65534"),
            Err(error) => {
                eprintln!("NOT TESTED with a token of another user: {error}; run it as root")
            }
        }
    }

    #[test]
    fn a_hive_is_found_by_its_port_while_it_runs() {
        let machine = Machine::new();
        machine.hive("other").announce("127.0.0.1:1".parse().unwrap()).map(drop).unwrap();
        fs::write(machine.dir.path().join("note.json"), "{}").unwrap();
        assert!(machine.found("127.0.0.1").is_none());
        let files = machine.hive("attic");
        let token = files.token().unwrap();
        let announced = files.announce(format!("127.0.0.1:{PORT}").parse().unwrap()).unwrap();
        for host in ["127.0.0.1", "localhost", "LOCALHOST"] {
            let found = machine.found(host).unwrap();
            assert_eq!(found.token, token);
            assert_eq!(found.address.to_string(), format!("127.0.0.1:{PORT}"));
        }
        for elsewhere in ["::1", "127.0.0.2", "192.168.1.7", "example.org", ""] {
            assert!(machine.found(elsewhere).is_none(), "{elsewhere}");
        }
        assert!(LocalDaemon::find(machine.dir.path(), "127.0.0.1", PORT + 1).unwrap().is_none());
        assert!(LocalDaemon::find(Path::new("/nowhere"), "127.0.0.1", PORT).unwrap().is_none());
        drop(announced);
        assert!(machine.found("127.0.0.1").is_none());
    }

    #[test]
    fn a_hive_that_listens_everywhere_is_found_by_loopback() {
        let machine = Machine::new();
        let files = machine.hive("attic");
        files.token().unwrap();
        let announced = files.announce(format!("0.0.0.0:{PORT}").parse().unwrap()).unwrap();
        for (host, reached) in [("127.0.0.1", "127.0.0.1"), ("localhost", "127.0.0.1")] {
            let found = machine.found(host).unwrap();
            assert_eq!(found.address.ip().to_string(), reached);
        }
        assert!(machine.found("::1").is_none(), "another program may have that port");
        drop(announced);
        let announced = files.announce(format!("192.168.1.7:{PORT}").parse().unwrap()).unwrap();
        assert!(machine.found("localhost").is_none(), "it is not reached there");
        drop(announced);
    }

    #[test]
    fn a_token_is_not_given_away_for_a_port_whose_hive_has_ended() {
        let machine = Machine::new();
        let files = machine.hive("attic");
        files.token().unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let process = Identity::of(child.id()).unwrap();
        let address = format!("127.0.0.1:{PORT}").parse().unwrap();
        let listens = serde_json::to_vec(&Listens { process, address }).unwrap();
        fs::write(machine.dir.path().join("attic/address"), listens).unwrap();
        assert!(machine.found("127.0.0.1").is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(machine.found("127.0.0.1").is_none());
    }

    #[test]
    fn a_hive_with_a_token_of_its_own_is_not_told_of() {
        let machine = Machine::new();
        let files = machine.hive("attic");
        files.token().unwrap();
        let _announced = files.announce(format!("127.0.0.1:{PORT}").parse().unwrap()).unwrap();
        files.withdraw();
        files.withdraw();
        assert!(machine.found("127.0.0.1").is_none());
    }

    #[test]
    fn a_token_that_cannot_be_read_is_an_error_that_names_its_file() {
        let machine = Machine::new();
        let files = machine.hive("attic");
        let _announced = files.announce(format!("127.0.0.1:{PORT}").parse().unwrap()).unwrap();
        let error = LocalDaemon::find(machine.dir.path(), "127.0.0.1", PORT).unwrap_err();
        assert!(error.message().contains("attic/token"), "{error}");
    }
}
