//! Tests of TLS with certificates as people make them, against a server that presents them.

use std::{process::Command, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::{
    client::{TlsError, Trust},
    server::Server,
};

/// The certificate and the key that `openssl req -x509` makes with these additional arguments.
fn openssl(more: &[&str]) -> (String, String) {
    let place = tempfile::tempdir().unwrap();
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "365"]);
    command.args(["-keyout", "key.pem", "-out", "cert.pem"]).args(more);
    let made = command.current_dir(place.path()).output();
    let made = made.expect("this test needs the program openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let read = |name| std::fs::read_to_string(place.path().join(name)).unwrap();
    (read("cert.pem"), read("key.pem"))
}

/// A certificate for `localhost` that is valid in these years, and marked as one of a CA if `is_ca`.
fn valid_in(years: (i32, i32), is_ca: bool) -> (String, String) {
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let key = KeyPair::generate().unwrap();
    let made = params.self_signed(&key).unwrap();
    (made.pem(), key.serialize_pem())
}

/// A server with this certificate.
struct Presents {
    port: u16,
    _stop: DropGuard,
    _place: TempDir,
}

impl Presents {
    async fn this((certificate, key): &(String, String)) -> Self {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name);
        std::fs::write(path("cert.pem"), certificate).unwrap();
        std::fs::write(path("key.pem"), key).unwrap();
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let server = server.with_tls(&path("cert.pem"), &path("key.pem")).unwrap();
        let port = server.address().port();
        let stop = CancellationToken::new();
        let _stop = stop.clone().drop_guard();
        let router = axum::Router::new().route("/", axum::routing::get(|| async { "honey" }));
        tokio::spawn(server.run(router, stop, Duration::ZERO));
        Self { port, _stop, _place: place }
    }

    /// The answer that a client gets which trusts only these certificates.
    async fn asked(&self, host: &str, trusted: &str) -> Result<String, TlsError> {
        let trust = Trust::only(trusted.as_bytes()).unwrap();
        self.asked_with(host, trust).await
    }

    async fn asked_with(&self, host: &str, trust: Trust) -> Result<String, TlsError> {
        let url = format!("https://{host}:{}/", self.port);
        answer(&url, Some(trust)).await
    }
}

/// The body of an answer, or what is wrong with TLS.
async fn answer(url: &str, trust: Option<Trust>) -> Result<String, TlsError> {
    let client = HttpClient::with_proxies(trust, Matcher::builder().build());
    match client.send(Request::get(url).body(Bytes::new()).unwrap()).await {
        Ok(mut answer) => {
            let bytes = answer.body_mut().read(64).await.unwrap();
            Ok(String::from_utf8(bytes.into()).unwrap())
        }
        Err(error) => {
            let said = crate::client::chain(&error);
            let tls = TlsError::find(&error).unwrap_or_else(|| panic!("not about TLS: {said}"));
            // It is the whole text, or the end of it.
            assert!(said.ends_with(&tls.to_string()), "{said}");
            assert_eq!(said.matches(&tls.to_string()).count(), 1, "{said}");
            Err(tls.clone())
        }
    }
}

#[tokio::test]
async fn a_plain_certificate_of_openssl_is_accepted_for_the_name_that_it_has() {
    let plain = openssl(&["-subj", "/CN=localhost"]);
    let server = Presents::this(&plain).await;
    assert_eq!(server.asked("localhost", &plain.0).await.unwrap(), "honey");
    let error = server.asked("127.0.0.1", &plain.0).await.unwrap_err();
    let said = error.to_string();
    for part in ["CN=localhost", "not 127.0.0.1", "-addext subjectAltName=IP:127.0.0.1"] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!error.is_untrusted());
}

#[tokio::test]
async fn a_certificate_of_openssl_with_names_is_accepted_for_these_alone() {
    let names = "subjectAltName=DNS:localhost,IP:127.0.0.1";
    let named = openssl(&["-subj", "/CN=bee", "-addext", names]);
    let server = Presents::this(&named).await;
    for host in ["localhost", "127.0.0.1"] {
        assert_eq!(server.asked(host, &named.0).await.unwrap(), "honey", "{host}");
    }
    // The common name does not count beside other names.
    let elsewhere = openssl(&["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:bee.test"]);
    let error = Presents::this(&elsewhere).await.asked("localhost", &elsewhere.0).await;
    let said = error.unwrap_err().to_string();
    assert!(said.contains("names bee.test, and not localhost"), "{said}");
    // A common name that no host can match, and one of two.
    for subject in ["/CN=*.test", "/CN=localhost/CN=bee", "/O=localhost"] {
        let odd = openssl(&["-subj", subject]);
        let said = Presents::this(&odd).await.asked("localhost", &odd.0).await.unwrap_err();
        assert!(said.to_string().contains("not localhost"), "{subject}: {said}");
    }
}

#[tokio::test]
async fn only_exactly_the_trusted_certificate_is_accepted_as_itself() {
    let (ours, theirs) =
        (openssl(&["-subj", "/CN=localhost"]), openssl(&["-subj", "/CN=localhost"]));
    let error = Presents::this(&theirs).await.asked("localhost", &ours.0).await.unwrap_err();
    assert!(error.is_untrusted(), "{error}");
    assert!(error.to_string().contains("is not trusted"), "{error}");
    // It works beside others.
    let both = format!("{}{}", theirs.0, ours.0);
    assert_eq!(Presents::this(&ours).await.asked("localhost", &both).await.unwrap(), "honey");
}

#[tokio::test]
async fn a_certificate_of_a_ca_is_accepted_through_the_ca_and_by_itself() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = params.self_signed(&ca_key).unwrap();
    let issuer = Issuer::new(params, ca_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let server = Presents::this(&(leaf.pem(), key.serialize_pem())).await;
    for trusted in [ca.pem(), leaf.pem()] {
        assert_eq!(server.asked("localhost", &trusted).await.unwrap(), "honey");
        let error = server.asked("127.0.0.1", &trusted).await.unwrap_err();
        assert!(error.to_string().contains("names localhost, and not 127.0.0.1"), "{error}");
    }
    let other = valid_in((2020, 2100), true);
    assert!(server.asked("localhost", &other.0).await.unwrap_err().is_untrusted());
}

#[tokio::test]
async fn a_certificate_is_accepted_only_within_its_dates() {
    for is_ca in [false, true] {
        for (years, part) in [
            ((2001, 2002), "expired on 2002-01-01; renew it"),
            ((2090, 2091), "valid only from 2090-01-01"),
        ] {
            let made = valid_in(years, is_ca);
            let error = Presents::this(&made).await.asked("localhost", &made.0).await.unwrap_err();
            assert!(error.to_string().contains(part), "{is_ca}: {error}");
        }
        let made = valid_in((2001, 2100), is_ca);
        assert!(Presents::this(&made).await.asked("localhost", &made.0).await.is_ok());
    }
}

#[tokio::test]
async fn a_side_without_tls_is_named() {
    let made = valid_in((2001, 2100), false);
    let server = Presents::this(&made).await;
    let error = answer(&format!("http://localhost:{}/", server.port), None).await.unwrap_err();
    assert!(
        error.to_string().contains("speaks TLS") && error.to_string().contains("https://"),
        "{error}"
    );

    let plain = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let port = plain.address().port();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    tokio::spawn(plain.run(axum::Router::new(), stop, Duration::ZERO));
    let trust = Trust::only(made.0.as_bytes()).unwrap();
    let error = answer(&format!("https://localhost:{port}/"), Some(trust)).await.unwrap_err();
    assert!(error.to_string().contains("http:// is needed"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_is_asked_in_plain_http_and_speaks_tls_is_named() {
    use std::sync::Arc;

    let server = Presents::this(&valid_in((2001, 2100), false)).await;
    let endpoint =
        crate::client::Endpoint::new(Arc::new(crate::dial::Tcp::loopback()), server.port, None);
    let error =
        endpoint.get::<serde_json::Value>("/health", Duration::from_secs(5)).await.unwrap_err();
    assert!(error.message().contains("the server speaks TLS"), "{error}");
    assert_eq!(error.message().matches("speaks TLS").count(), 1, "{error}");
}

#[test]
fn a_file_that_is_no_certificate_is_refused_in_words() {
    let wrong = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let error = Trust::only(wrong.as_bytes()).unwrap_err();
    assert_eq!(error.message(), "certificate 1 cannot be used: it is not encoded as a certificate");
}
