//! TLS to hives, in a build without the feature `tls`: there is none.

use std::{path::Path, sync::Arc};

use rbee_core::{Error, ErrorKind, Result};
use rbee_transport_http::dial::{Dial, Tcp};

fn unsupported() -> Error {
    let message = "this program was built without the feature `tls`; build it with that feature, or reach the hive by \
                   SSH or by a url that begins with http://";
    Error::new(ErrorKind::Unsupported, message).with_param("url")
}

#[derive(Clone, Debug)]
pub(crate) enum HiveTls {}

impl HiveTls {
    pub(crate) fn system() -> Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn only(_: &str) -> Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn open(_: &Path) -> Result<Self> {
        Err(unsupported())
    }

    pub(crate) fn path(&self) -> Option<&Path> {
        match *self {}
    }

    pub(crate) fn reload(&self) -> Result<bool> {
        match *self {}
    }

    pub(crate) fn dial(&self, _: Tcp, _: &str) -> Result<Arc<dyn Dial>> {
        match *self {}
    }
}
