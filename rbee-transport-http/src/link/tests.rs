use std::task::Context;

use bytes::BytesMut;
use futures_util::task::noop_waker_ref;
use proptest::prelude::*;
use rbee_core::event::{Logprobs, Output, TokenLogprob};

use super::*;

/// Gives these bytes to the buffer, as one read.
fn fill(buffer: &mut FrameBuffer, mut bytes: &[u8]) {
    let cx = &mut Context::from_waker(noop_waker_ref());
    while !bytes.is_empty() {
        let read = buffer.poll_fill(&mut bytes, cx);
        assert!(matches!(read, std::task::Poll::Ready(Ok(1..))), "{read:?}");
    }
}

/// The frames of these bytes, as they arrive in these parts. `None` at the end if the rest is not allowed.
fn read(parts: &[&[u8]]) -> Vec<Option<(u8, u32, Vec<u8>)>> {
    let mut buffer = FrameBuffer::new(b"");
    let mut frames = Vec::new();
    for part in parts {
        fill(&mut buffer, part);
        loop {
            match buffer.next_frame() {
                Ok(Some((frame, bytes))) => {
                    assert!(bytes.ends_with(frame.payload));
                    frames.push(Some((frame.kind, frame.run, frame.payload.to_vec())));
                }
                Ok(None) => break,
                Err(_) => {
                    frames.push(None);
                    return frames;
                }
            }
        }
    }
    frames
}

fn logprobs() -> impl Strategy<Value = Logprobs> {
    let bytes = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..5));
    let token = (any::<Option<u32>>(), ".{0,5}", bytes, -1e30_f32..=0.0).prop_map(
        |(id, text, bytes, logprob)| TokenLogprob {
            id,
            text: text.into(),
            bytes: bytes.map(Into::into),
            logprob,
        },
    );
    (token.clone(), proptest::collection::vec(token, 0..4))
        .prop_map(|(chosen, top)| Logprobs { chosen, top })
}

fn frames() -> impl Strategy<Value = Vec<(u8, u32, Vec<u8>)>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..40);
    proptest::collection::vec((any::<u8>(), any::<u32>(), payload), 0..8)
}

fn write(frames: &[(u8, u32, Vec<u8>)]) -> BytesMut {
    let mut out = BytesMut::new();
    for (kind, run, payload) in frames {
        assert!(put(&mut out, *kind, *run, payload));
    }
    out
}

proptest! {
    #[test]
    fn frames_come_back_wherever_their_bytes_are_cut(
        frames in frames(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let bytes = write(&frames);
        let expected: Vec<_> = frames.into_iter().map(Some).collect();
        let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        at.extend([0, bytes.len()]);
        at.sort_unstable();
        let parts: Vec<_> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(&read(&parts), &expected);
        let single: Vec<_> = bytes.chunks(1).collect();
        prop_assert_eq!(&read(&single), &expected);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic_and_take_little_memory(
        frames in frames(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        random in proptest::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut mutated = write(&frames).to_vec();
        if !mutated.is_empty() {
            for (at, byte) in changes {
                let at = at.index(mutated.len());
                mutated[at] = byte;
            }
        }
        for bytes in [mutated, random] {
            let mut buffer = FrameBuffer::new(b"");
            fill(&mut buffer, &bytes);
            while let Ok(Some((frame, _))) = buffer.next_frame() {
                let mut payload = frame.payload;
                while take_token(&mut payload).is_some() {}
                if let Some(vectors) = read_vectors(frame.payload) {
                    let values: usize = vectors.iter().map(Vec::len).sum();
                    prop_assert!(values * size_of::<f32>() <= frame.payload.len());
                }
                read_u32(&mut payload);
            }
            prop_assert!(buffer.capacity() <= 128 << 10, "{} bytes", buffer.capacity());
        }
    }

    #[test]
    fn tokens_come_back_and_are_refused_if_they_are_cut(
        tokens in proptest::collection::vec((any::<Option<u32>>(), ".{0,30}", proptest::option::of(logprobs())), 1..6),
    ) {
        let mut payload = BytesMut::new();
        let mut ends = Vec::new();
        for (id, text, logprobs) in &tokens {
            put_token(&mut payload, *id, text, logprobs.as_ref());
            ends.push(payload.len());
        }
        let mut rest = &payload[..];
        for (id, text, logprobs) in tokens {
            let logprobs = logprobs.map(Box::new);
            let expected = Output::Token { id, text: text.into(), logprobs };
            prop_assert_eq!(take_token(&mut rest), Some(expected));
        }
        prop_assert!(rest.is_empty());
        for cut in 0..payload.len() {
            let mut rest = &payload[..cut];
            let whole = std::iter::from_fn(|| take_token(&mut rest)).count();
            prop_assert_eq!(whole, ends.iter().filter(|end| **end <= cut).count());
        }
    }

    #[test]
    fn vectors_come_back_to_the_bit(
        vectors in proptest::collection::vec(proptest::collection::vec(any::<u32>(), 0..20), 0..8),
    ) {
        let vectors: Vec<Vec<f32>> =
            vectors.into_iter().map(|one| one.into_iter().map(f32::from_bits).collect()).collect();
        let bits = |vectors: &[Vec<f32>]| -> Vec<Vec<u32>> {
            vectors.iter().map(|one| one.iter().map(|value| value.to_bits()).collect()).collect()
        };
        let mut payload = BytesMut::new();
        put_vectors(&mut payload, &vectors);
        prop_assert_eq!(bits(&read_vectors(&payload).unwrap()), bits(&vectors));
    }
}

#[test]
fn a_frame_that_is_too_large_is_not_written_and_a_length_that_is_not_allowed_is_refused() {
    let mut out = BytesMut::new();
    let largest = vec![0; MAX_FRAME_BYTES - 5];
    assert!(put(&mut out, kind::VECTORS, 1, &largest));
    let (frame, size) = split(&out).unwrap().unwrap();
    assert_eq!((frame.payload.len(), size), (largest.len(), out.len()));
    out.clear();
    put(&mut out, kind::PING, 0, b"");
    let before = out.clone();
    assert!(!put(&mut out, kind::VECTORS, 1, &vec![0; MAX_FRAME_BYTES - 4]));
    assert_eq!(out, before);
    for length in [0, 4, MAX_FRAME_BYTES as u32 + 1, u32::MAX] {
        assert!(split(&length.to_le_bytes()).is_err(), "{length}");
    }
    // It costs no memory until it is there.
    let mut buffer = FrameBuffer::new(&(MAX_FRAME_BYTES as u32).to_le_bytes());
    fill(&mut buffer, &[0; 100]);
    assert!(buffer.next_frame().unwrap().is_none());
    assert!(buffer.capacity() <= 128 << 10);
}

#[test]
fn the_memory_of_a_large_frame_is_released_after_it() {
    let mut out = BytesMut::new();
    put(&mut out, kind::VECTORS, 1, &vec![0; 4 << 20]);
    let mut buffer = FrameBuffer::new(b"");
    fill(&mut buffer, &out);
    assert!(buffer.next_frame().unwrap().is_some());
    assert!(buffer.next_frame().unwrap().is_none());
    fill(&mut buffer, &[0; 4]);
    assert!(buffer.capacity() <= 128 << 10);
}

/// The examples of `docs/worker-protocol.md`.
#[test]
fn the_examples_of_the_page_about_the_protocol_are_what_is_sent() {
    let page = include_str!("../../../docs/worker-protocol.md");
    let examples = page.split("```text frames\n").nth(1).unwrap().split("```").next().unwrap();
    let documented: Vec<Vec<u8>> = examples
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let byte = |pair: &str| u8::from_str_radix(pair, 16).expect(line);
            line.split_whitespace().map(byte).collect()
        })
        .collect();
    let mut sent = Vec::new();
    let mut frame = |kind, run, fill: &dyn Fn(&mut BytesMut)| {
        let mut out = BytesMut::new();
        let at = begin(&mut out, kind, run);
        fill(&mut out);
        assert!(finish(&mut out, at));
        sent.push(out.to_vec());
    };
    let text =
        |text: &'static str| move |out: &mut BytesMut| out.extend_from_slice(text.as_bytes());
    frame(kind::RUN, 1, &|out| out.extend_from_slice(b"\0\0\x01\0{}"));
    frame(kind::ACCEPTED, 1, &|_| {});
    frame(kind::TOKENS, 1, &|out| {
        put_token(out, Some(300), "Hi", None);
        put_token(out, None, "!", None);
    });
    frame(kind::HEARTBEAT, 1, &|_| {});
    frame(kind::CREDIT, 1, &|out| out.extend_from_slice(&32_768_u32.to_le_bytes()));
    frame(kind::VECTORS, 2, &|out| put_vectors(out, &[vec![1.0, -0.5]]));
    frame(kind::END, 2, &text("{}"));
    frame(kind::CANCEL, 1, &|_| {});
    frame(kind::PING, CONNECTION, &|_| {});
    frame(kind::PONG, CONNECTION, &|_| {});
    assert_eq!(documented, sent);
}
