//! The answer to a client that begins with HTTP/2 although nothing says that this server speaks it.
//!
//! Such a client sends the preface of RFC 9113, section 3.4, and waits for a frame of the server. It gets `SETTINGS`,
//! which must be the first frame, and `GOAWAY` with the error code that stands for this case. So it knows at once that
//! it must use HTTP/1.1; an answer in HTTP/1.1 would be unreadable for it.

use std::{io, time::Duration};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// How long the client may take to read the answer and to close its side.
const LINGER: Duration = Duration::from_secs(1);
/// What is read of a client that goes on sending, in bytes.
const MOST_READ: usize = 64 << 10;
/// The error code `HTTP_1_1_REQUIRED` of RFC 9113, section 7.
const HTTP_1_1_REQUIRED: u32 = 0x0d;
const SETTINGS: u8 = 0x04;
const GOAWAY: u8 = 0x07;
/// What clients show to their users.
const WHY: &[u8] = b"this server speaks HTTP/1.1, not HTTP/2";

/// Refuses HTTP/2, and closes the connection.
pub(super) async fn refuse(mut io: impl AsyncRead + AsyncWrite + Unpin) {
    let refusal = async {
        io.write_all(&frames()).await?;
        io.shutdown().await?;
        // If the socket is closed while something is unread, the system tells the client so before it has read the
        // answer.
        let (mut sink, mut left) = ([0; 1_024], MOST_READ);
        while left > 0 {
            match io.read(&mut sink).await? {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        Ok::<_, io::Error>(())
    };
    // A client that does not close is closed.
    let _ = tokio::time::timeout(LINGER, refusal).await;
    tracing::debug!("a client began with HTTP/2, and was refused");
}

fn frames() -> Vec<u8> {
    let mut bytes = Vec::new();
    put_frame(&mut bytes, SETTINGS, &[]);
    // No stream was handled.
    let goaway = [&0_u32.to_be_bytes(), &HTTP_1_1_REQUIRED.to_be_bytes(), WHY].concat();
    put_frame(&mut bytes, GOAWAY, &goaway);
    bytes
}

/// A frame without flags about the whole connection; the length has three bytes.
fn put_frame(bytes: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&[kind, 0, 0, 0, 0, 0]);
    bytes.extend_from_slice(payload);
}
