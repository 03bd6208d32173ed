//! Errors of SSH as answers to a client: each names the field of the request that can make it succeed.

use rbee_core::{Error, ErrorKind};
use rbee_transport_ssh::SshError;

use super::key_passphrase::KeyPassphrase;

/// The error with the field of the request that it is about.
pub(super) fn explain(error: Error, passphrase: &KeyPassphrase) -> Error {
    let cause =
        std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<SshError>());
    let Some(cause) = cause.filter(|cause| !cause.is_transient()) else { return error };
    let mut inner = cause;
    while let SshError::Jump { cause, .. } = inner {
        inner = cause;
    }
    let mut message = error.message().to_owned();
    let param = match inner {
        SshError::HostKeyUnknown(key) if key.others.is_empty() => "accept_new",
        SshError::Authentication(_) => match passphrase.missing() {
            Some(file) => {
                let file = file.display();
                let what = match passphrase.was_sent() {
                    true => format!("the passphrase is not that of the key file {file}"),
                    false => {
                        format!("the key file {file} is encrypted, and its passphrase is needed")
                    }
                };
                message = format!(
                    "{what}: send it with the request (`rbee hive add` and `rbee hive start` ask for it), or load the key into the agent that \
                     the queen uses (`ssh-add {file}`). {message}"
                );
                "passphrase"
            }
            None => "ssh",
        },
        _ => "ssh",
    };
    Error::new(ErrorKind::InvalidRequest, message).with_param(param).with_source(error)
}
