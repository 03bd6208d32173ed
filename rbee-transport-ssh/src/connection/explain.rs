//! Errors of the SSH library in words for people.

use std::io;

use russh::{AlgorithmKind, Error};

use crate::printable::printable;

/// Why a session ended.
pub(super) fn session(cause: &Error) -> String {
    match cause {
        Error::KeepaliveTimeout => {
            "the machine answers no keep-alive messages; it is off, stopped or cut off".into()
        }
        Error::HUP | Error::Disconnect => "the server closed it".into(),
        Error::IO(cause) => cause.to_string(),
        Error::NoCommonAlgo { kind, ours, theirs } => {
            let what = match kind {
                AlgorithmKind::Kex => "key exchange",
                AlgorithmKind::Key => "host key",
                AlgorithmKind::Cipher => "encryption",
                AlgorithmKind::Compression => "compression",
                AlgorithmKind::Mac => "message authentication",
            };
            format!(
                "the server knows no algorithm for {what} that rbee accepts; it has {}, and rbee has {}; update its \
                 SSH server, or allow one of these algorithms there",
                printable(&theirs.join(", ")),
                ours.join(", ")
            )
        }
        Error::Version => "it is no SSH server; check the port".into(),
        Error::WrongServerSig => "the server could not prove that the host key is its own".into(),
        other => other.to_string(),
    }
}

/// Why no session came about.
pub(super) fn handshake(cause: &Error) -> String {
    match cause {
        Error::HUP | Error::Disconnect => {
            "the server closed the connection at once; it may be busy (MaxStartups in its sshd_config), may refuse \
             this address (PerSourcePenalties, a firewall), or may be no SSH server"
                .into()
        }
        Error::IO(cause) if is_closed(cause.kind()) => handshake(&Error::Disconnect),
        other => session(other),
    }
}

fn is_closed(kind: io::ErrorKind) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(kind, BrokenPipe | ConnectionReset | UnexpectedEof)
}
