//! The addition of a hive, and its progress.

use std::collections::BTreeMap;

use rbee_core::{Error, ErrorKind, HiveId, Result};
use serde::{Deserialize, Serialize};

use crate::{secret::Secret, token::Token};

/// A hive to add, by exactly one of `url` and `ssh`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct AddHive {
    /// The address of a daemon that runs already: `http://192.168.1.7:7835`, or `https://box:7835` if it has TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// The token that the daemon accepts. Not needed for a hive on the queen's machine that runs as the same user, with
    /// its state in the default directory. Only with `url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub token: Option<Token>,
    /// The daemon's own certificate in PEM, or that of the CA that signed it; trusted instead of those of the queen's
    /// system. At most 32 KiB. Only with a `url` that begins with `https://`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_cert: Option<String>,

    /// A machine that the queen's user can reach by SSH: `gpu-box` (a name of `ssh_config`), `ada@192.168.1.7:22`. The
    /// queen puts the programs there and starts the hive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh: Option<String>,
    /// The name of the hive; by default that of the machine. Only with `ssh`, as all that follows except `labels`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub id: Option<HiveId>,
    /// Accept and record the host key of a machine that has none recorded. A changed key is always refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub accept_new: bool,
    /// Only check whether the machine can be added. Nothing is changed there; the answer is a [`HiveDoctor`].
    ///
    /// [`HiveDoctor`]: super::HiveDoctor
    #[serde(default, skip_serializing_if = "is_false")]
    pub dry_run: bool,
    /// The directory on the machine for programs, state and models, absolute or beginning with `~/`; by default the
    /// first that can take them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// Arguments of `rbee-hive`, such as `--models-budget` and `200GiB`; nothing secret, because every user of the
    /// machine sees them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub arguments: Vec<String>,
    /// The passphrase of the key file that the machine accepts. The queen keeps it in memory for later connections and
    /// stores it nowhere. It is accepted only over TLS or from the queen's machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub passphrase: Option<Secret>,

    /// Labels set by its owner, for the policy: `region`, `cost`, `power` and so on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl AddHive {
    /// The longest [`ca_cert`](Self::ca_cert), in bytes.
    pub const MOST_CA_CERT: usize = 32 << 10;

    /// The hive whose daemon runs already at this address.
    pub fn by_url(url: impl Into<String>) -> Self {
        Self { url: Some(url.into()), ..Self::default() }
    }

    /// The hive on this machine, which is reached by SSH.
    pub fn by_ssh(target: impl Into<String>) -> Self {
        Self { ssh: Some(target.into()), ..Self::default() }
    }

    /// Checks that the fields are given that belong together.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the field that is missing or must not be given.
    pub fn check(&self) -> Result<()> {
        let others = match (&self.url, &self.ssh) {
            (Some(_), Some(_)) => {
                return Err(wrong("ssh", "url and ssh are both given; give one of them"));
            }
            (None, None) => {
                return Err(wrong(
                    "url",
                    "neither url nor ssh is given; give the address of a daemon that runs, or a machine to reach by SSH",
                ));
            }
            (Some(_), None) => vec![
                ("id", self.id.is_some()),
                ("accept_new", self.accept_new),
                ("dry_run", self.dry_run),
                ("directory", self.directory.is_some()),
                ("arguments", !self.arguments.is_empty()),
                ("passphrase", self.passphrase.is_some()),
            ],
            (None, Some(_)) => {
                vec![("token", self.token.is_some()), ("ca_cert", self.ca_cert.is_some())]
            }
        };
        match others.into_iter().find(|(_, is_given)| *is_given) {
            None => self.check_ca_cert(),
            Some((name, _)) => {
                let with = if self.url.is_some() { "url" } else { "ssh" };
                Err(wrong(name, format!("{name} cannot be given with {with}; leave it out")))
            }
        }
    }
}

impl AddHive {
    fn check_ca_cert(&self) -> Result<()> {
        let Some(pem) = &self.ca_cert else { return Ok(()) };
        let most = Self::MOST_CA_CERT;
        if !self.url.as_ref().is_some_and(|url| url.starts_with("https://")) {
            let message = "ca_cert can be given only with a url that begins with https://; change the url, or leave \
                           ca_cert out";
            return Err(wrong("ca_cert", message));
        }
        if pem.len() > most {
            let message = format!(
                "ca_cert has {} bytes; allowed are up to {most}: only the certificate of the hive, or of its CA, is needed",
                pem.len()
            );
            return Err(wrong("ca_cert", message));
        }
        Ok(())
    }
}

fn wrong(param: &'static str, message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::for_client(ErrorKind::InvalidRequest, message).with_param(param)
}

/// The start of a hive that was stopped.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct StartHive {
    /// The passphrase of the key file with which the queen reaches the machine by SSH, as in [`AddHive::passphrase`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>))]
    pub passphrase: Option<Secret>,
}

/// Events of an addition.
pub mod add_event {
    /// An [`AddStep`](super::AddStep).
    pub const STEP: &str = "step";
    /// An [`AddSent`](super::AddSent).
    pub const SENT: &str = "sent";
    /// The last event: the [`HiveView`](super::super::HiveView) of the new hive.
    pub const DONE: &str = "done";
    /// The last event of a dry run: a [`HiveDoctor`](super::super::HiveDoctor).
    pub const CHECKED: &str = "checked";
    /// The last event: the [`ErrorInfo`](crate::wire::ErrorInfo). The hive was not added.
    pub const ERROR: &str = "error";
}

/// The state of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// It began.
    Started,
    /// It succeeded. A step that fails has no such event: the last event is the error.
    Finished,
}

/// A step of an addition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddStep {
    /// The machine; jump hosts have steps of their own.
    pub host: String,
    /// The step: `configuration`, `host_key`, `authentication`, `probe`, `programs`, `upload`, `clean_up`, `start`,
    /// `tunnel`, `health`. More may be added.
    pub step: String,
    /// Its state.
    pub state: StepState,
    /// How long it took, once it has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// Its result in a few words, once it has finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// The progress of an upload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AddSent {
    /// The machine.
    pub host: String,
    /// The name of the file that is being sent.
    pub file: String,
    /// The bytes of all files that were sent so far.
    pub done: u64,
    /// The bytes of all files to send.
    pub total: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(body: &str) -> Result<AddHive> {
        let request: AddHive = serde_json::from_str(body).unwrap();
        request.check().map(|()| request)
    }

    #[test]
    fn a_machine_is_named_in_exactly_one_way_with_the_fields_that_belong_to_it() {
        checked(r#"{"url":"http://attic","labels":{"region":"eu"}}"#).unwrap();
        checked(r#"{"ssh":"ada@attic:22","id":"attic","accept_new":true,"dry_run":true}"#).unwrap();
        let with_certificate =
            |bytes| format!(r#"{{"url":"https://a","ca_cert":"{}"}}"#, "x".repeat(bytes));
        checked(&with_certificate(AddHive::MOST_CA_CERT)).unwrap();
        let token = "t".repeat(50);
        for (body, param) in [
            ("{}".to_owned(), "url"),
            (r#"{"url":"http://a","ssh":"a"}"#.to_owned(), "ssh"),
            (r#"{"url":"http://a","accept_new":true}"#.to_owned(), "accept_new"),
            (r#"{"url":"http://a","id":"b"}"#.to_owned(), "id"),
            (r#"{"url":"http://a","arguments":["--x"]}"#.to_owned(), "arguments"),
            (r#"{"url":"http://a","passphrase":"x"}"#.to_owned(), "passphrase"),
            (format!(r#"{{"ssh":"a","token":"{token}"}}"#), "token"),
            (r#"{"ssh":"a","ca_cert":"x"}"#.to_owned(), "ca_cert"),
            (r#"{"url":"http://a","ca_cert":"x"}"#.to_owned(), "ca_cert"),
            (with_certificate(AddHive::MOST_CA_CERT + 1), "ca_cert"),
        ] {
            let error = checked(&body).unwrap_err();
            assert_eq!(
                (error.kind(), error.param()),
                (ErrorKind::InvalidRequest, Some(param)),
                "{body}"
            );
        }
    }

    #[test]
    fn a_passphrase_is_sent_and_never_shown() {
        let request = checked(r#"{"ssh":"a","passphrase":"correct horse"}"#).unwrap();
        assert!(!format!("{request:?}").contains("correct"), "{request:?}");
        let sent = serde_json::to_string(&request).unwrap();
        assert_eq!(sent, r#"{"ssh":"a","passphrase":"correct horse"}"#);
    }
}
