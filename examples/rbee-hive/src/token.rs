//! The token that queens need, and its file.

use std::net::SocketAddr;

use rbee_core::Result;
use rbee_transport_http::{Announced, HiveFiles, SharedToken};

/// The token that the hive accepts: the given one, or the one in its state directory, where queens of the same user
/// find it.
pub(crate) fn choose(
    given: Option<SharedToken>,
    files: &HiveFiles,
    address: SocketAddr,
) -> Result<(SharedToken, Option<Announced>)> {
    if let Some(token) = given {
        files.withdraw();
        return Ok((token, None));
    }
    let token = files.token()?;
    let token_file = files.token_path();
    tracing::info!(token_file = %token_file.display(), "the token that queens need is in this file");
    // The hive works without it too, but then queens must be given the token.
    let announced = files.announce(address).inspect_err(|error| {
        tracing::warn!(%error, "queens on this machine do not find the token by themselves");
    });
    Ok((token.into(), announced.ok()))
}
