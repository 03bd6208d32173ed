//! [`TlsError`]: why there is no connection over TLS, as a sentence.

use std::{error, fmt, io};

/// TLS failed, or one side uses it and the other does not. The message says what is wrong and what to do.
#[derive(Clone, Debug)]
pub struct TlsError {
    message: String,
    is_untrusted: bool,
}

impl TlsError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), is_untrusted: false }
    }

    /// The error among the causes of another one.
    pub fn find<'a>(error: &'a (dyn error::Error + 'static)) -> Option<&'a Self> {
        std::iter::successors(Some(error), |error| error.source()).find_map(|error| {
            // The source of an `io::Error` is not the error that it wraps, but the source of that.
            let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            error.downcast_ref().or_else(|| wrapped?.downcast_ref())
        })
    }

    /// True if the certificate of the server, or the one that signed it, only has to be trusted.
    pub fn is_untrusted(&self) -> bool {
        self.is_untrusted
    }

    /// The other side speaks TLS, and this one does not.
    #[cfg(feature = "client")]
    pub(crate) fn unexpected() -> Self {
        Self::new(
            "the server speaks TLS, and this is plain HTTP; an address with https:// is needed",
        )
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl error::Error for TlsError {}

#[cfg(any(feature = "https", feature = "tls"))]
pub(crate) use of_rustls::{plain, plain_pem};

#[cfg(any(feature = "https", feature = "tls"))]
mod of_rustls {
    use rustls::{CertificateError, Error, OtherError, pki_types::pem};

    /// The error without the names of rustls' types.
    pub(crate) fn plain(error: &Error) -> String {
        match error {
            Error::InvalidCertificate(error) => certificate(error),
            Error::InconsistentKeys(_) => "the private key belongs to another certificate".into(),
            Error::AlertReceived(alert) => {
                format!("the other side refused: {}", words(&format!("{alert:?}")))
            }
            Error::General(why) => why.clone(),
            other => {
                // The names of variants are the only text that many errors have.
                let text = other.to_string();
                let (what, variant) = text.split_once(": ").unwrap_or((&text, ""));
                if variant.is_empty() { text } else { format!("{what}: {}", words(variant)) }
            }
        }
    }

    /// Why a text is not PEM.
    pub(crate) fn plain_pem(error: &pem::Error) -> String {
        match error {
            pem::Error::IllegalSectionStart { .. } => {
                "the first line of a section is malformed".into()
            }
            pem::Error::MissingSectionEnd { .. } => "the last line of a section is missing".into(),
            pem::Error::Base64Decode(_) => "a section is not encoded in base64".into(),
            other => other.to_string(),
        }
    }

    fn certificate(error: &CertificateError) -> String {
        match error {
            CertificateError::BadEncoding => "it is not encoded as a certificate".into(),
            CertificateError::Other(OtherError(cause)) => {
                let text = cause.to_string();
                if text == "UnsupportedCertVersion" {
                    return "it is a certificate of an old version; allowed is X.509 version 3"
                        .into();
                }
                words(&text)
            }
            other => words(&format!("{other:?}")),
        }
    }

    /// `CaUsedAsEndEntity` as `ca used as end entity`. What a variant contains is left out.
    pub(super) fn words(variant: &str) -> String {
        let name = variant.split(['(', '{', ' ']).next().unwrap_or_default();
        let mut text = String::new();
        let mut was_upper = true;
        for letter in name.chars() {
            if letter.is_ascii_uppercase() && !was_upper {
                text.push(' ');
            }
            was_upper = letter.is_ascii_uppercase();
            text.push(letter.to_ascii_lowercase());
        }
        text
    }
}

#[cfg(feature = "https")]
mod handshake {
    use std::io;

    use rustls::{CertificateError, Error, pki_types::UnixTime};

    use super::{TlsError, of_rustls};
    use crate::certificate;

    impl TlsError {
        /// Why the handshake with this host failed; `None` if it is not about TLS.
        pub(crate) fn of_handshake(cause: &io::Error, host: &str) -> Option<Self> {
            let inner = cause.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
            match inner {
                Some(Error::InvalidCertificate(error)) => Some(Self::of_certificate(error, host)),
                Some(Error::InvalidMessage(_)) => Some(Self::new(
                    "the server does not speak TLS; an address with http:// is needed if it is meant to be plain HTTP",
                )),
                Some(Error::PeerIncompatible(_)) => Some(Self::new(
                    "the server has no version or cipher of TLS in common with this program, which has TLS 1.2 and 1.3",
                )),
                Some(error) => Some(Self::new(format!("TLS failed: {}", of_rustls::plain(error)))),
                None if cause.kind() == io::ErrorKind::UnexpectedEof => Some(Self::new(
                    "the server closed the connection instead of answering in TLS; an address with http:// is needed if \
                     it is meant to be plain HTTP",
                )),
                None => None,
            }
        }

        fn of_certificate(error: &CertificateError, host: &str) -> Self {
            use CertificateError as C;

            let day = |time: &UnixTime| certificate::day(time.as_secs());
            let message = match error {
                C::ExpiredContext { not_after, .. } => format!(
                    "the certificate of the server expired on {}; renew it there, or set the clock of this machine",
                    day(not_after)
                ),
                C::NotValidYetContext { not_before, .. } => format!(
                    "the certificate of the server is valid only from {} on; set the clock of this machine or of the \
                     server",
                    day(not_before)
                ),
                C::NotValidForNameContext { presented, .. } => {
                    let kind = if host.parse::<std::net::IpAddr>().is_ok() { "IP" } else { "DNS" };
                    let names: Vec<_> = presented.iter().map(|name| bare(name)).collect();
                    let (names, instead) = match &*names {
                        [] => ("no host".to_owned(), String::new()),
                        names => (names.join(", "), "use an address with a name of it, or ".to_owned()),
                    };
                    format!(
                        "the certificate of the server names {names}, and not {host}; {instead}make one with `openssl req \
                         -x509` and -addext subjectAltName={kind}:{host}"
                    )
                }
                C::UnknownIssuer | C::BadSignature => {
                    let message = "the certificate of the server is not trusted: it is not one of the trusted certificates, \
                                   and none of them has signed it";
                    return Self { message: message.into(), is_untrusted: true };
                }
                C::Other(other) if other.to_string() == "CaUsedAsEndEntity" => {
                    let message = "the certificate of the server is not trusted: it is one of a CA, and not itself one of \
                                   the trusted certificates";
                    return Self { message: message.into(), is_untrusted: true };
                }
                C::InvalidPurposeContext { .. } | C::InvalidPurpose => {
                    "the certificate of the server is not made for a server (its extended key usage)".into()
                }
                other => format!(
                    "the certificate of the server is refused: {}",
                    of_rustls::plain(&Error::InvalidCertificate(other.clone()))
                ),
            };
            Self::new(message)
        }
    }

    /// The name in `DnsName("localhost")`.
    fn bare(presented: &str) -> &str {
        let inner = presented.split_once('(').map_or(presented, |(_, inner)| inner);
        inner.trim_end_matches(')').trim_matches('"')
    }
}

#[cfg(all(test, any(feature = "https", feature = "tls")))]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_found_below_others_and_in_an_io_error() {
        let error = TlsError::new("no trust");
        let within = io::Error::new(io::ErrorKind::InvalidData, error);
        let outer = rbee_core::Error::new(rbee_core::ErrorKind::Internal, "x").with_source(within);
        assert_eq!(TlsError::find(&outer).unwrap().to_string(), "no trust");
        assert!(TlsError::find(&io::Error::other("no trust")).is_none());
    }

    #[test]
    fn names_of_variants_become_words() {
        for (variant, text) in [
            ("CaUsedAsEndEntity", "ca used as end entity"),
            ("UnknownCA", "unknown ca"),
            ("KeyMismatch", "key mismatch"),
            ("Other(OtherError(X))", "other"),
            ("Context { time: 1 }", "context"),
        ] {
            assert_eq!(of_rustls::words(variant), text);
        }
        assert_eq!(
            plain(&rustls::Error::AlertReceived(rustls::AlertDescription::HandshakeFailure)),
            "the other side refused: handshake failure"
        );
    }
}
