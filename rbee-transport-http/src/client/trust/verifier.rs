//! [`Verifier`]: the check of a server's certificate.

use std::{sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::{ParsedCertificate, VerifierBuilderError},
};

use crate::certificate;

/// Accepts a certificate that a trusted one has signed, and a trusted certificate itself.
///
/// The second is for a self-signed certificate as `openssl req -x509` makes it. It is marked as the certificate of a
/// CA, which the usual check refuses as the certificate of a server, and often has its name only as the common name
/// (CN). If the server presents exactly the certificate that was chosen as trusted, and proves that it has its key,
/// then neither can deceive: nobody else can have issued it. So it is accepted, but only within its dates, and only
/// for its names. The common name counts only if there is no other name in it, and only if it is equal to the host.
#[derive(Debug)]
pub(super) struct Verifier {
    usual: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl Verifier {
    /// Trusts these certificates, whose anchors are `roots`.
    pub(super) fn new(
        roots: RootCertStore,
        trusted: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let usual = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
        Ok(Self { usual: usual.build()?, trusted })
    }

    /// Checks a certificate that is trusted itself.
    fn check_trusted(
        certificate: &CertificateDer<'_>,
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let valid = certificate::validity(certificate).ok_or(CertificateError::BadEncoding)?;
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let (not_before, not_after) = (at(valid.not_before), at(valid.not_after));
        if now < not_before {
            return Err(CertificateError::NotValidYetContext { time: now, not_before }.into());
        }
        if now > not_after {
            return Err(CertificateError::ExpiredContext { time: now, not_after }.into());
        }
        let refused = match verify_server_name(&ParsedCertificate::try_from(certificate)?, host) {
            Err(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                expected,
                presented,
            })) if presented.is_empty() => expected,
            other => return other,
        };
        match certificate::common_name(certificate) {
            Some(name) if name.eq_ignore_ascii_case(&host.to_str()) => Ok(()),
            name => {
                let presented = name.into_iter().map(|name| format!("CN={name}")).collect();
                let expected = refused;
                Err(CertificateError::NotValidForNameContext { expected, presented }.into())
            }
        }
    }
}

/// True if a certificate that was refused for this reason is accepted if it is itself trusted: it is marked as one of
/// a CA, or it is not signed by itself, or its name is only a common name.
fn is_about_the_issuer(error: &Error) -> bool {
    let Error::InvalidCertificate(error) = error else { return false };
    match error {
        // The second one is for an issuer that has the name of a trusted certificate and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => true,
        CertificateError::NotValidForNameContext { presented, .. } => presented.is_empty(),
        // rustls has no variant for it.
        CertificateError::Other(other) => other.to_string() == "CaUsedAsEndEntity",
        _ => false,
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let checked = self.usual.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match checked {
            Err(error) if is_about_the_issuer(&error) && self.trusted.contains(end_entity) => {
                Self::check_trusted(end_entity, server_name, now)?;
                Ok(ServerCertVerified::assertion())
            }
            checked => checked,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.usual.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.usual.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_certificate_that_is_trusted_itself_counts_within_its_dates_alone() {
        let mut params = rcgen::CertificateParams::new(["bee.test".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2030, 1, 1);
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let host = ServerName::try_from("bee.test").unwrap();
        let check = |seconds| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
            Verifier::check_trusted(made.der(), &host, now)
        };
        let (first, last) = (1_577_836_800, 1_893_456_000);
        assert!(check(first).is_ok() && check(last).is_ok());
        let refused = |seconds| match check(seconds) {
            Err(Error::InvalidCertificate(error)) => error,
            other => panic!("{other:?}"),
        };
        assert!(matches!(refused(first - 1), CertificateError::NotValidYetContext { .. }));
        assert!(matches!(refused(last + 1), CertificateError::ExpiredContext { .. }));
    }
}
