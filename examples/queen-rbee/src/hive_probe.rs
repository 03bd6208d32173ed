//! What listens at the address of a hive that could not be added.

use std::time::Duration;

use rbee_core::{Error, ErrorKind};
use rbee_transport_http::client::TlsError;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{HiveUrl, hive_access::HiveAccess};

/// How long the program there may take to answer.
const TIMEOUT: Duration = Duration::from_secs(2);
/// The most bytes of its answer that are read.
const MOST_BYTES: u64 = 8 << 10;
/// The first byte of a record of TLS: an alert, or a handshake.
const TLS_RECORDS: [u8; 2] = [0x15, 0x16];
/// The header that a queen sends with every answer, and a hive with none.
const OF_QUEENS: &str = "x-request-id:";

/// What listens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Nothing,
    Silence,
    Tls,
    Queen,
    /// Possibly a hive.
    Daemon,
    Other,
}

/// The error of a hive that could not be added, with what is at its address if that is no hive.
pub(crate) async fn explain(access: &HiveAccess, error: Error) -> Error {
    let url = access.url();
    if url.is_tls()
        && let Some(tls) = TlsError::find(&error)
    {
        // It is about the request, and says what to do.
        let param = if tls.is_untrusted() { "ca_cert" } else { "url" };
        let message = format!("{url}: {tls}");
        return Error::new(ErrorKind::InvalidRequest, message).with_param(param).with_source(error);
    }
    if !matches!(
        error.kind(),
        ErrorKind::HiveUnreachable | ErrorKind::Unauthorized | ErrorKind::NotFound
    ) {
        return error;
    }
    let what = match tokio::time::timeout(TIMEOUT, look(access)).await.unwrap_or(Found::Silence) {
        Found::Daemon => return error,
        Found::Silence => {
            format!("the program at {url} does not answer as a hive does: {}", error.message())
        }
        Found::Nothing => format!(
            "no hive can be reached at {url}: {}. Start rbee-hive on that machine; it listens on 127.0.0.1 alone, \
             unless --host says otherwise",
            error.message()
        ),
        Found::Queen => format!(
            "a queen listens at {url}, and no hive; rbee-hive listens on port {} by default",
            rbee_transport_http::wire::HIVE_PORT
        ),
        Found::Tls => format!(
            "the program at {url} speaks TLS; if it is a hive with a certificate, its address is https://{}",
            url.authority()
        ),
        Found::Other => format!("another program listens at {url}, and no hive"),
    };
    let kind = match error.kind() {
        ErrorKind::HiveUnreachable => ErrorKind::HiveUnreachable,
        _ => ErrorKind::InvalidRequest,
    };
    Error::new(kind, what).with_param("url").with_source(error)
}

/// Asks for the health of what listens there, without a token.
async fn look(access: &HiveAccess) -> Found {
    let url: &HiveUrl = access.url();
    let Ok(mut stream) = access.dial().dial(url.port()).await else {
        return Found::Nothing;
    };
    let authority = url.authority();
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\r\n",
        rbee_transport_http::wire::HEALTH
    );
    if stream.write_all(request.as_bytes()).await.is_err() {
        return Found::Other;
    }
    let mut answer = Vec::new();
    // What has arrived before the connection broke says enough.
    let _ = stream.take(MOST_BYTES).read_to_end(&mut answer).await;
    judge(&answer)
}

fn judge(answer: &[u8]) -> Found {
    if answer.first().is_some_and(|first| TLS_RECORDS.contains(first)) {
        return Found::Tls;
    }
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n").filter(|_| text.starts_with("HTTP/1."))
    else {
        return Found::Other;
    };
    let head = head.to_ascii_lowercase();
    if head.lines().any(|line| line.starts_with(OF_QUEENS)) && body.contains("\"status\"") {
        Found::Queen
    } else if body.contains("\"status\"") {
        Found::Daemon
    } else {
        Found::Other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_there_is_known_by_its_answer() {
        let ok = |head: &str, body: &str| format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{body}");
        let up = r#"{"status":"ok"}"#;
        for (answer, found) in [
            (ok("x-correlation-id: a\r\nX-Request-Id: a", up), Found::Queen),
            (ok("x-correlation-id: a", up), Found::Daemon),
            (ok("x-request-id: a", "<h1>hello</h1>"), Found::Other),
            ("SSH-2.0-OpenSSH_9\r\n".into(), Found::Other),
            (String::new(), Found::Other),
            ("\x15\x03\x01\x00\x02\x02F".into(), Found::Tls),
        ] {
            assert_eq!(judge(answer.as_bytes()), found, "{answer:?}");
        }
    }

    #[tokio::test]
    async fn an_error_that_has_another_cause_stays_as_it_is() {
        let url: HiveUrl = "http://127.0.0.1:1".parse().unwrap();
        let access = HiveAccess::new(url, None, None, None).unwrap();
        let error = explain(&access, Error::new(ErrorKind::Config, "another one")).await;
        assert_eq!((error.kind(), error.message()), (ErrorKind::Config, "another one"));
        let error = explain(&access, Error::new(ErrorKind::HiveUnreachable, "refused")).await;
        assert_eq!((error.kind(), error.param()), (ErrorKind::HiveUnreachable, Some("url")));
        assert!(error.message().contains("Start rbee-hive on that machine"), "{error}");
    }
}
