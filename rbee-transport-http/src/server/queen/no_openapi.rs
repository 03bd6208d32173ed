//! Replaces the description of the routes in a build without it.

use rbee_core::{Error, ErrorKind};

use super::middleware::Refused;

pub(super) async fn serve() -> Refused {
    let message = "this build has no description of its API; build it with the feature `openapi`";
    Error::for_client(ErrorKind::NotFound, message).into()
}
