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

async fn decoded(body: Vec<u8>, coding: Coding, most: usize) -> (Result<Vec<u8>>, Budget) {
    let mut budget = Budget::default();
    budget.take(body.len()).unwrap();
    let held = body.len();
    let decoded = decode((body, held), coding, most, &mut budget).await;
    (decoded, budget)
}

#[tokio::test]
async fn a_body_is_decoded_from_each_coding() {
    let body: Vec<u8> = (0..100_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
    for length in [0, 1, 1_000, body.len()] {
        let body = &body[..length];
        for one in ALL {
            let (decoded, budget) = decoded(encoded(one, body), one, 1 << 20).await;
            assert_eq!(decoded.unwrap(), body);
            assert_eq!(budget.held, length, "the rest was given back");
        }
    }
    // As the command zstd writes it: with a checksum, after a frame to skip.
    let frame = *b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc\x28\xb5\x2f\xfd\x04\x58\x11\x00\x00{}\xd1\x94\xf2\x7a";
    let decoded = decoded(frame.to_vec(), Coding::Zstd, 2).await.0;
    assert_eq!(decoded.unwrap(), b"{}");
}

#[tokio::test]
async fn a_body_that_cannot_be_compressed_is_decoded_too() {
    let mut state = 1_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    let body: Vec<u8> = (0..1 << 20).map(|_| random()).collect();
    for coding in ALL {
        let small = encoded(coding, &body);
        assert!(small.len() >= body.len(), "{coding:?}");
        assert_eq!(decoded(small, coding, 1 << 20).await.0.unwrap(), body, "{coding:?}");
    }
}

#[tokio::test]
async fn a_bomb_is_refused_at_the_limit_and_takes_no_memory() {
    let bomb = vec![b' '; 32 << 20];
    for one in ALL {
        let small = encoded(one, &bomb);
        let length = small.len();
        let (refused, budget) = decoded(small, one, 1 << 20).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::PayloadTooLarge, "{one:?}");
        assert!(budget.most <= length, "{} bytes were taken", budget.most);
        let exact = encoded(one, &bomb[..1 << 20]);
        assert!(decoded(exact, one, 1 << 20).await.0.is_ok());
    }
    // A window of 128 MiB would be allocated before anything is decoded.
    let window = *b"\x28\xb5\x2f\xfd\x00\x88\x11\x00\x00{}";
    let error = decoded(window.to_vec(), Coding::Zstd, 1 << 20).await.0.unwrap_err();
    assert!(error.message().contains("window"), "{error}");
}

#[tokio::test]
async fn a_body_of_many_parts_that_yield_nothing_is_refused() {
    const FRAME: &[u8] = b"\x28\xb5\x2f\xfd\x00\x00";
    let member = encoded(Coding::Gzip, b"");
    let empty = |count: usize| b"\x00\x00\x00\xff\xff".repeat(count);
    let zlib =
        |count: usize| [b"\x78\x9c", &empty(count)[..], b"\x03\x00\x00\x00\x00\x01"].concat();
    // The header of a member, and its end after no bytes.
    let blocks = [&member[..10], &empty(100_000), b"\x03\x00", &[0; 8]].concat();
    // A frame of blocks without bytes, of which the last says that it is the last.
    let frame = |count| [FRAME, &[0; 3].repeat(count), b"\x01\x00\x00"].concat();
    let skipped = b"\x50\x2a\x4d\x18\x00\x00\x00\x00";
    for (coding, body, what) in [
        (Coding::Gzip, member.repeat(MOST_PARTS + 1), "members"),
        (Coding::Gzip, member.repeat(420_000), "members"),
        (Coding::Gzip, blocks, "blocks"),
        (Coding::Deflate, zlib(100_000), "blocks"),
        (Coding::Zstd, frame(1_000), "blocks"),
        (Coding::Zstd, frame(0).repeat(MOST_PARTS + 1), "frames"),
        (Coding::Zstd, skipped.repeat(MOST_PARTS + 1), "frames"),
    ] {
        let error = decoded(body, coding, 1 << 20).await.0.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{coding:?}");
        let words = format!("it has too many {what} for what it is decoded to");
        assert!(error.message().contains(&words), "{coding:?}: {error}");
    }
    for (coding, body) in [
        (Coding::Gzip, member.repeat(MOST_PARTS)),
        (Coding::Deflate, zlib(100)),
        (Coding::Zstd, frame(50)),
        (Coding::Zstd, frame(0).repeat(MOST_PARTS)),
    ] {
        let few = decoded(body, coding, 0).await.0;
        assert_eq!(few.unwrap(), b"", "{coding:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_waits_for_others_to_be_decoded_but_not_for_ever() {
    let places = Arc::new(Semaphore::new(1));
    let taken = place(&places).await.unwrap();
    let begun = tokio::time::Instant::now();
    let error = place(&places).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SystemAtCapacity);
    assert_eq!(error.retry_after(), Some(Duration::from_secs(1)));
    assert_eq!(begun.elapsed(), MOST_WAIT);
    let waiting = tokio::spawn(async move { place(&places).await.is_ok() });
    tokio::task::yield_now().await;
    // Work that nobody waits for any more keeps its place until it ends.
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let work = tokio::spawn(beside(taken, move || Ok(ended.recv().is_ok())));
    tokio::task::yield_now().await;
    work.abort();
    assert!(work.await.is_err() && !waiting.is_finished());
    end.send(()).unwrap();
    assert!(waiting.await.unwrap());
}

#[tokio::test]
async fn a_damaged_body_is_refused_by_the_name_of_its_coding() {
    let body = b"{\"model\": \"bee\"}".repeat(50);
    for coding in ALL {
        let good = encoded(coding, &body);
        let mut changed = good.clone();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        let short = good[..good.len() - 5].to_vec();
        let longer = [&good[..], b"abcdef"].concat();
        for bad in [changed, short, longer, Vec::new(), b"{}".to_vec()] {
            let error = decoded(bad.clone(), coding, 1 << 20).await.0.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{coding:?} {bad:?}");
            let begin = format!("the body is not valid {}: ", coding.name());
            assert!(error.message().starts_with(&begin), "{error}");
        }
    }
}

#[test]
fn one_coding_is_read_and_several_or_unknown_ones_are_refused_by_name() {
    let read = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_str(value).unwrap());
        }
        of(&headers)
    };
    assert_eq!(read(&[]).unwrap(), None);
    assert_eq!(read(&["", "identity, Identity"]).unwrap(), None);
    assert_eq!(read(&["X-GZip , identity", ""]).unwrap(), Some(Coding::Gzip));
    for bad in
        [&["br"][..], &["gzip;q=1"], &["gzip, compress"], &["gzip", "deflate"], &["zstd, gzip"]]
    {
        let error = read(bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnsupportedMediaType, "{bad:?}");
        assert_eq!(error.param(), Some("content-encoding"));
    }
}
