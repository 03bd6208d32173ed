//! Decodes compressed request bodies (`Content-Encoding`).
//!
//! A body of some kilobytes can stand for gigabytes. So the length of the decoded body is counted first, up to the limit,
//! and only then the body is decoded into a buffer of exactly this length, which is taken from the budget before. Each
//! coding of a body that has several is limited alike.

use std::io::{self, Read};

use flate2::{Decompress, FlushDecompress, Status, read::MultiGzDecoder};
use http::{HeaderMap, header};
use rbee_core::{Error, ErrorKind, Result};
use ruzstd::decoding::{
    BlockDecodingStrategy, FrameDecoder,
    errors::{FrameDecoderError, ReadFrameHeaderError},
};

use super::body_budget::BodyBudget;

/// The codings that are decoded, for `Accept-Encoding`.
pub(super) const ACCEPTED: &str = "gzip, deflate, zstd";
/// The most codings of one body.
const MOST_CODINGS: usize = 2;
/// The largest window of a zstd frame: the largest that senders may use for HTTP (RFC 9659).
const ZSTD_WINDOW: u64 = 8 << 20;
/// Bytes that are decoded at once.
const STEP: usize = 16 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Deflate,
    Zstd,
}

/// The codings of a body, in the order in which they were applied.
///
/// # Errors
/// [`ErrorKind::UnsupportedMediaType`] with the parameter `content-encoding` for one that is not decoded here, or too
/// many.
pub(super) fn of(headers: &HeaderMap) -> Result<Vec<Coding>> {
    let refuse = |message: String| {
        let error = Error::for_client(ErrorKind::UnsupportedMediaType, message);
        Err(error.with_param(header::CONTENT_ENCODING.as_str()))
    };
    let mut codings = Vec::new();
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes());
        for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            codings.push(match name.to_ascii_lowercase().as_str() {
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
            });
        }
    }
    if codings.len() > MOST_CODINGS {
        let count = codings.len();
        return refuse(format!(
            "the body has {count} content encodings; allowed are at most {MOST_CODINGS}"
        ));
    }
    Ok(codings)
}

/// Decodes a body for which `held` bytes were taken from the budget. On return they are replaced by those of the result.
///
/// # Errors
/// [`ErrorKind::PayloadTooLarge`] if a decoded body has more than `most` bytes, [`ErrorKind::InvalidRequest`] if the body
/// is damaged, or the error of the budget.
pub(super) fn decode(
    (mut body, mut held): (Vec<u8>, usize),
    codings: &[Coding],
    most: usize,
    budget: &mut impl BodyBudget,
) -> Result<Vec<u8>> {
    for coding in codings.iter().rev() {
        let mut length = 0;
        coding.parts(&body, most, |part| length += part.len())?;
        budget.take(length)?;
        let mut decoded = Vec::new();
        decoded.reserve_exact(length);
        coding.parts(&body, most, |part| decoded.extend_from_slice(part))?;
        drop(std::mem::replace(&mut body, decoded));
        budget.give_back(std::mem::replace(&mut held, length));
    }
    Ok(body)
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
            Self::Gzip => read_all(MultiGzDecoder::new(body), &mut take),
            Self::Deflate => inflate(body, &mut take),
            Self::Zstd => zstd(body, &mut take),
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

impl From<io::Error> for Stop {
    fn from(cause: io::Error) -> Self {
        Self::Damaged(cause.to_string())
    }
}

type Take<'a> = &'a mut dyn FnMut(&[u8]) -> Result<(), Stop>;

fn read_all(mut decoder: impl Read, take: Take<'_>) -> Result<(), Stop> {
    let mut part = [0; STEP];
    loop {
        match decoder.read(&mut part)? {
            0 => return Ok(()),
            length => take(&part[..length])?,
        }
    }
}

/// `deflate` in HTTP is the zlib format.
fn inflate(mut body: &[u8], take: Take<'_>) -> Result<(), Stop> {
    let mut decoder = Decompress::new(true);
    let mut part = [0; STEP];
    loop {
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let status = decoder
            .decompress(body, &mut part, FlushDecompress::None)
            .map_err(|cause| Stop::Damaged(cause.to_string()))?;
        // Neither is more than the length of its slice.
        let (read, written) =
            ((decoder.total_in() - read) as usize, (decoder.total_out() - written) as usize);
        body = &body[read..];
        take(&part[..written])?;
        match status {
            Status::StreamEnd if body.is_empty() => return Ok(()),
            Status::StreamEnd => return Err(Stop::Damaged("there is more after its end".into())),
            _ if read == 0 && written == 0 => return Err(Stop::Damaged("it breaks off".into())),
            _ => {}
        }
    }
}

/// All frames, one after the other.
fn zstd(mut body: &[u8], take: Take<'_>) -> Result<(), Stop> {
    if body.is_empty() {
        return Err(Stop::Damaged("it breaks off".into()));
    }
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW);
    while !body.is_empty() {
        match decoder.init(&mut body) {
            Ok(()) => {}
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                length,
                ..
            })) => {
                let rest = usize::try_from(length).ok().and_then(|length| body.get(length..));
                body = rest.ok_or_else(|| Stop::Damaged("it breaks off".into()))?;
                continue;
            }
            Err(cause) => return Err(Stop::Damaged(cause.to_string())),
        }
        while !decoder.is_finished() {
            decoder
                .decode_blocks(&mut body, BlockDecodingStrategy::UptoBlocks(1))
                .map_err(|cause| Stop::Damaged(cause.to_string()))?;
            read_all(&mut decoder, take)?;
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
mod tests {
    use std::io::Write as _;

    use flate2::{
        Compression,
        write::{GzEncoder, ZlibEncoder},
    };
    use http::HeaderValue;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn encoded(coding: Coding, body: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut out = GzEncoder::new(Vec::new(), Compression::best());
                out.write_all(body).unwrap();
                out.finish().unwrap()
            }
            Coding::Deflate => {
                let mut out = ZlibEncoder::new(Vec::new(), Compression::best());
                out.write_all(body).unwrap();
                out.finish().unwrap()
            }
            Coding::Zstd => compress_to_vec(body, CompressionLevel::Fastest),
        }
    }

    const ALL: [Coding; 3] = [Coding::Gzip, Coding::Deflate, Coding::Zstd];

    /// Notes the largest amount that was taken at once.
    #[derive(Debug, Default)]
    struct Budget {
        held: usize,
        most: usize,
    }

    impl BodyBudget for Budget {
        fn check(&self, _: usize) -> Result<()> {
            Ok(())
        }

        fn take(&mut self, bytes: usize) -> Result<()> {
            self.held += bytes;
            self.most = self.most.max(self.held);
            Ok(())
        }

        fn give_back(&mut self, bytes: usize) {
            self.held -= bytes;
        }
    }

    fn decode_all(body: Vec<u8>, codings: &[Coding], most: usize) -> (Result<Vec<u8>>, Budget) {
        let mut budget = Budget::default();
        budget.take(body.len()).unwrap();
        let held = body.len();
        let decoded = decode((body, held), codings, most, &mut budget);
        (decoded, budget)
    }

    #[test]
    fn a_body_is_decoded_from_each_coding_and_from_two_of_them() {
        let body: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for length in [0, 1, 1_000, body.len()] {
            let body = &body[..length];
            for one in ALL {
                assert_eq!(decode_all(encoded(one, body), &[one], 1 << 20).0.unwrap(), body);
                for two in ALL {
                    let twice = encoded(two, &encoded(one, body));
                    let (decoded, budget) = decode_all(twice, &[one, two], 1 << 20);
                    assert_eq!(decoded.unwrap(), body);
                    assert_eq!(budget.held, length, "the rest was given back");
                }
            }
        }
        // As the command zstd writes it: with a checksum, after a frame to skip.
        let frame = *b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc\x28\xb5\x2f\xfd\x04\x58\x11\x00\x00{}\xd1\x94\xf2\x7a";
        let decoded = decode_all(frame.to_vec(), &[Coding::Zstd], 2).0;
        assert_eq!(decoded.unwrap(), b"{}");
    }

    #[test]
    fn a_bomb_is_refused_at_the_limit_and_takes_no_memory() {
        let bomb = vec![b' '; 32 << 20];
        for one in ALL {
            let small = encoded(one, &bomb);
            for (body, codings) in [
                (small.clone(), vec![one]),
                (encoded(Coding::Gzip, &small), vec![one, Coding::Gzip]),
            ] {
                let length = body.len();
                let (decoded, budget) = decode_all(body, &codings, 1 << 20);
                let error = decoded.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::PayloadTooLarge, "{one:?}");
                assert!(budget.most <= length + small.len(), "{} bytes were taken", budget.most);
            }
            let exact = encoded(one, &bomb[..1 << 20]);
            assert!(decode_all(exact, &[one], 1 << 20).0.is_ok());
        }
        // A window of 128 MiB would be allocated before anything is decoded.
        let window = *b"\x28\xb5\x2f\xfd\x00\x88\x11\x00\x00{}";
        let error = decode_all(window.to_vec(), &[Coding::Zstd], 1 << 20).0.unwrap_err();
        assert!(error.message().contains("window"), "{error}");
    }

    #[test]
    fn a_damaged_body_is_refused_by_the_name_of_its_coding() {
        let body = b"{\"model\": \"bee\"}".repeat(50);
        for coding in ALL {
            let good = encoded(coding, &body);
            let mut changed = good.clone();
            let last = changed.len() - 1;
            changed[last] ^= 1;
            let short = good[..good.len() - 5].to_vec();
            let longer = [&good[..], b"abcdef"].concat();
            for bad in [changed, short, longer, Vec::new(), b"{}".to_vec()] {
                let error = decode_all(bad.clone(), &[coding], 1 << 20).0.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{coding:?} {bad:?}");
                let begin = format!("the body is not valid {}: ", coding.name());
                assert!(error.message().starts_with(&begin), "{error}");
            }
        }
    }

    #[test]
    fn codings_are_read_in_their_order_and_unknown_ones_are_refused_by_name() {
        let read = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, HeaderValue::from_str(value).unwrap());
            }
            of(&headers)
        };
        assert_eq!(read(&[]).unwrap(), []);
        assert_eq!(read(&["", "identity, Identity"]).unwrap(), []);
        assert_eq!(read(&["X-GZip , identity", "zstd"]).unwrap(), [Coding::Gzip, Coding::Zstd]);
        for bad in [&["br"][..], &["gzip;q=1"], &["gzip, compress"], &["gzip", "gzip, deflate"]] {
            let error = read(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UnsupportedMediaType, "{bad:?}");
            assert_eq!(error.param(), Some("content-encoding"));
        }
    }
}
