//! Decodes compressed request bodies (`Content-Encoding`).
//!
//! A body of some kilobytes can stand for gigabytes, or for the work of seconds that yields nothing. So these are
//! limited:
//!
//! - The length of the decoded body is counted first, up to the limit, and only then the body is decoded into a buffer
//!   of exactly this length, which is taken from the budget before.
//! - A body has one coding, of few parts, and its length is in proportion to what it is decoded to.
//! - Bodies are decoded beside the runtime's threads, only some at the same time.

use std::{
    io::{self, BufRead, Read},
    sync::{Arc, LazyLock},
    thread,
    time::Duration,
};

use flate2::{Decompress, FlushDecompress, Status, bufread::GzDecoder};
use http::{HeaderMap, header};
use rbee_core::{Error, ErrorKind, Result};
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::body_budget::BodyBudget;

/// The codings that are decoded, for `Accept-Encoding`.
pub(super) const ACCEPTED: &str = "gzip, deflate, zstd";
/// The largest window of a zstd frame: the largest that senders may use for HTTP (RFC 9659).
const ZSTD_WINDOW: u64 = 8 << 20;
/// Bytes that are decoded at once.
const STEP: usize = 16 << 10;
/// The most members of a gzip body, and frames of a zstd body, with those to skip. A sender makes one.
const MOST_PARTS: usize = 16;
/// The encoded bytes that may yield nothing: headers, and what a decoder holds back.
const OVERHEAD: usize = 64 << 10;
/// The blocks of a zstd body, in addition to one for each of the bytes below.
const BLOCKS: usize = 64;
/// The largest block. One is granted for each that fits into the limit on the decoded body: a decoder holds back a whole
/// window, so at first nothing is known of what blocks yield.
const BLOCK: usize = 128 << 10;
const ENCODED_OF_BLOCK: usize = 256;
const DECODED_OF_BLOCK: usize = 1_024;
/// How long a body may wait until others are decoded.
const MOST_WAIT: Duration = Duration::from_secs(5);

/// The bodies that are decoded at the same time: half of the cores, so that a burst leaves the others to the rest.
static PLACES: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new((cores / 2).max(1)))
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Zstd,
}

/// The coding of a body, if it has one.
///
/// # Errors
/// [`ErrorKind::UnsupportedMediaType`] with the parameter `content-encoding` for one that is not decoded here, or
/// several.
pub(super) fn of(headers: &HeaderMap) -> Result<Option<Coding>> {
    let refuse = |message: String| {
        let error = Error::for_client(ErrorKind::UnsupportedMediaType, message);
        Err(error.with_param(header::CONTENT_ENCODING.as_str()))
    };
    let mut found = None;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let coding = match name.to_ascii_lowercase().as_str() {
                "identity" => continue,
                "gzip" | "x-gzip" => Coding::Gzip,
                "deflate" => Coding::Deflate,
                "zstd" => Coding::Zstd,
                _ => {
                    let shown: String = name.chars().take(40).collect();
                    return refuse(format!(
                        "the content encoding is {shown:?}; allowed are {ACCEPTED} and identity"
                    ));
                }
            };
            if found.replace(coding).is_some() {
                return refuse(format!(
                    "the body has several content encodings; allowed is one of {ACCEPTED}"
                ));
            }
        }
    }
    Ok(found)
}

/// Decodes a body for which `held` bytes were taken from the budget. On return they are replaced by those of the result.
///
/// # Errors
/// [`ErrorKind::PayloadTooLarge`] if the decoded body has more than `most` bytes, [`ErrorKind::InvalidRequest`] if the
/// body is damaged or made of too many parts, [`ErrorKind::SystemAtCapacity`] if too many others are decoded, or the
/// error of the budget.
pub(super) async fn decode(
    (body, held): (Vec<u8>, usize),
    coding: Coding,
    most: usize,
    budget: &mut impl BodyBudget,
) -> Result<Vec<u8>> {
    let place = place(&PLACES).await?;
    let ((length, body), place) = beside(place, move || {
        let mut length = 0;
        coding.parts(&body, most, |part| length += part.len())?;
        Ok((length, body))
    })
    .await?;
    budget.take(length)?;
    let (decoded, _place) = beside(place, move || {
        let mut decoded = Vec::new();
        decoded.reserve_exact(length);
        coding.parts(&body, most, |part| decoded.extend_from_slice(part))?;
        Ok(decoded)
    })
    .await?;
    budget.give_back(held);
    Ok(decoded)
}

/// Waits for a place, but not long.
async fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit> {
    let place = tokio::time::timeout(MOST_WAIT, places.clone().acquire_owned()).await;
    place.ok().and_then(|place| place.ok()).ok_or_else(|| {
        let message = "too many compressed bodies arrive at once; try again later, or send them without a content \
                       encoding";
        Error::for_client(ErrorKind::SystemAtCapacity, message)
            .with_retry_after(Duration::from_secs(1))
    })
}

/// Works on a thread for such work. The place is taken until it ends, also if nobody waits for it any more.
async fn beside<T: Send + 'static>(
    place: OwnedSemaphorePermit,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<(T, OwnedSemaphorePermit)> {
    let done = tokio::task::spawn_blocking(move || work().map(|done| (done, place))).await;
    done.unwrap_or_else(|cause| {
        let message = "the body cannot be decoded";
        Err(Error::for_client(ErrorKind::Internal, message).with_source(cause))
    })
}

impl Coding {
    const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// Passes on the decoded body part by part.
    fn parts(self, body: &[u8], most: usize, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut length = 0;
        let mut take = |part: &[u8]| {
            length += part.len();
            if length > most {
                return Err(Stop::TooLarge);
            }
            take(part);
            Ok(())
        };
        let done = match self {
            Self::Gzip => gunzip(body, &mut take),
            Self::Deflate => inflate(body, &mut take),
            Self::Zstd => zstd(body, most, &mut take),
        };
        done.map_err(|stop| match stop {
            Stop::TooLarge => {
                let message = format!("the decoded body is larger than {most} bytes");
                Error::for_client(ErrorKind::PayloadTooLarge, message)
            }
            Stop::Damaged(why) => {
                let message = format!("the body is not valid {}: {why}", self.name());
                Error::for_client(ErrorKind::InvalidRequest, message)
            }
        })
    }
}

/// Why a body is not decoded any further.
enum Stop {
    TooLarge,
    Damaged(String),
}

impl Stop {
    fn too_many(parts: &str) -> Self {
        Self::Damaged(format!("it has too many {parts} for what it is decoded to"))
    }
}

impl From<io::Error> for Stop {
    fn from(cause: io::Error) -> Self {
        Self::Damaged(cause.to_string())
    }
}

type Take<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Stop>;

/// A body that ends with an error if too much of it was read for what it has yielded. A decoder reads on until it has
/// something to return, so that one call could take as long as the whole body.
struct Metered<'a> {
    body: &'a [u8],
    allowed: usize,
}

impl<'a> Metered<'a> {
    const fn new(body: &'a [u8]) -> Self {
        Self { body, allowed: OVERHEAD }
    }

    /// The body has yielded this much. Data that cannot be compressed grow by less than this.
    const fn has_yielded(&mut self, bytes: usize) {
        self.allowed = self.allowed.saturating_add(bytes + bytes / 8);
    }
}

impl BufRead for Metered<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.allowed == 0 && !self.body.is_empty() {
            return Err(io::Error::other("it has too many blocks for what it is decoded to"));
        }
        Ok(&self.body[..self.body.len().min(self.allowed)])
    }

    fn consume(&mut self, bytes: usize) {
        self.body = &self.body[bytes..];
        self.allowed -= bytes;
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

/// All members, one after the other.
fn gunzip(body: &[u8], take: Take<'_>) -> Result<(), Stop> {
    let mut rest = Metered::new(body);
    let mut part = [0; STEP];
    for _ in 0..MOST_PARTS {
        let mut member = GzDecoder::new(rest);
        loop {
            match member.read(&mut part)? {
                0 => break,
                length => {
                    take(&part[..length])?;
                    member.get_mut().has_yielded(length);
                }
            }
        }
        rest = member.into_inner();
        if rest.body.is_empty() {
            return Ok(());
        }
    }
    Err(Stop::too_many("members"))
}

/// `deflate` in HTTP is the zlib format.
fn inflate(body: &[u8], take: Take<'_>) -> Result<(), Stop> {
    let mut decoder = Decompress::new(true);
    let mut rest = Metered::new(body);
    let mut part = [0; STEP];
    loop {
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let status = decoder
            .decompress(rest.fill_buf()?, &mut part, FlushDecompress::None)
            .map_err(|cause| Stop::Damaged(cause.to_string()))?;
        // Neither is more than the length of its slice.
        let (read, written) =
            ((decoder.total_in() - read) as usize, (decoder.total_out() - written) as usize);
        rest.consume(read);
        take(&part[..written])?;
        rest.has_yielded(written);
        match status {
            Status::StreamEnd if rest.body.is_empty() => return Ok(()),
            Status::StreamEnd => return Err(Stop::Damaged("there is more after its end".into())),
            _ if read == 0 && written == 0 => return Err(Stop::Damaged("it breaks off".into())),
            _ => {}
        }
    }
}

/// All frames, one after the other.
fn zstd(body: &[u8], most: usize, take: Take<'_>) -> Result<(), Stop> {
    if body.is_empty() {
        return Err(Stop::Damaged("it breaks off".into()));
    }
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW);
    let (mut rest, mut part) = (body, [0; STEP]);
    let (mut frames, mut blocks, mut decoded) = (0, 0, 0);
    while !rest.is_empty() {
        frames += 1;
        if frames > MOST_PARTS {
            return Err(Stop::too_many("frames"));
        }
        match decoder.init(&mut rest) {
            Ok(()) => {}
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let after = usize::try_from(length).ok().and_then(|length| rest.get(length..));
                rest = after.ok_or_else(|| Stop::Damaged("it breaks off".into()))?;
                continue;
            }
            Err(cause) => return Err(Stop::Damaged(cause.to_string())),
        }
        while !decoder.is_finished() {
            blocks += 1;
            let read = body.len() - rest.len();
            let granted = BLOCKS + most / BLOCK;
            if blocks > granted + read / ENCODED_OF_BLOCK + decoded / DECODED_OF_BLOCK {
                return Err(Stop::too_many("blocks"));
            }
            decoder
                .decode_blocks(&mut rest, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(|cause| Stop::Damaged(cause.to_string()))?;
            loop {
                match decoder.read(&mut part)? {
                    0 => break,
                    length => {
                        take(&part[..length])?;
                        decoded += length;
                    }
                }
            }
        }
        let (given, computed) =
            (decoder.get_checksum_from_data(), decoder.get_calculated_checksum());
        if given.is_some() && given != computed {
            return Err(Stop::Damaged("its checksum is wrong".into()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
