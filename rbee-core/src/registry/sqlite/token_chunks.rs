//! The stored form of an answer: tokens as one blob per checkpoint with a few bytes per token, vectors as one blob.
//!
//! Each token chunk has two numbers, the id plus 1 (0 if there is none) and the length of the text in bytes, then the
//! text. The log probabilities of a token, if it has some, follow as their length in bytes and their JSON; then 2^33 is
//! added to the first number, which is otherwise below. Numbers are little-endian groups of seven bits; the high bit is set on all groups but the last. A vector is
//! its length as such a number, then its values in four bytes each, little-endian.

use crate::registry::TokenChunk;

/// Added to the first number of a token with log probabilities.
const HAS_LOGPROBS: u64 = 1 << 33;

pub(super) fn encode(chunks: &[TokenChunk]) -> Vec<u8> {
    let mut data = Vec::with_capacity(chunks.iter().map(|chunk| chunk.text.len() + 4).sum());
    for chunk in chunks {
        // Numbers and text always become JSON.
        let logprobs = chunk.logprobs.as_ref().and_then(|all| serde_json::to_vec(all).ok());
        let mark = logprobs.as_ref().map_or(0, |_| HAS_LOGPROBS);
        put(&mut data, chunk.id.map_or(0, |id| u64::from(id) + 1) | mark);
        put(&mut data, chunk.text.len() as u64);
        data.extend_from_slice(chunk.text.as_bytes());
        if let Some(logprobs) = logprobs {
            put(&mut data, logprobs.len() as u64);
            data.extend_from_slice(&logprobs);
        }
    }
    data
}

/// Appends the token chunks. Returns false if the blob is damaged.
pub(super) fn decode(mut data: &[u8], chunks: &mut Vec<TokenChunk>) -> bool {
    while !data.is_empty() {
        let Some(chunk) = take_chunk(&mut data) else {
            return false;
        };
        chunks.push(chunk);
    }
    true
}

/// The position of the vectors among the parts of an answer.
pub(super) const VECTORS: i64 = -1;

pub(super) fn encode_vectors(vectors: &[Vec<f32>]) -> Vec<u8> {
    let bytes = vectors.iter().map(|vector| size_of_val(&vector[..]) + 4).sum();
    let mut data = Vec::with_capacity(bytes);
    for vector in vectors {
        put(&mut data, vector.len() as u64);
        data.extend(vector.iter().flat_map(|value| value.to_le_bytes()));
    }
    data
}

/// The vectors; `None` if the blob is damaged.
pub(super) fn decode_vectors(mut data: &[u8]) -> Option<Vec<Vec<f32>>> {
    let mut vectors = Vec::new();
    while !data.is_empty() {
        let length = usize::try_from(take(&mut data)?).ok()?;
        let (values, rest) = data.split_at_checked(length.checked_mul(size_of::<f32>())?)?;
        data = rest;
        vectors.push(values.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect());
    }
    Some(vectors)
}

fn take_chunk(data: &mut &[u8]) -> Option<TokenChunk> {
    let first = take(data)?;
    let id = match first & !HAS_LOGPROBS {
        0 => None,
        id => Some(u32::try_from(id - 1).ok()?),
    };
    let text = std::str::from_utf8(take_bytes(data)?).ok()?.into();
    let logprobs = match first & HAS_LOGPROBS {
        0 => None,
        _ => Some(serde_json::from_slice(take_bytes(data)?).ok()?),
    };
    Some(TokenChunk { id, text, logprobs })
}

/// A length, and then this many bytes.
fn take_bytes<'a>(data: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take(data)?).ok()?;
    let (bytes, rest) = data.split_at_checked(length)?;
    *data = rest;
    Some(bytes)
}

fn put(data: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        data.push(number as u8 | 0x80);
        number >>= 7;
    }
    data.push(number as u8);
}

fn take(data: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Logprobs, TokenLogprob};
    use proptest::prelude::*;

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

    #[test]
    fn an_answer_of_an_older_version_is_read() {
        let blob = b"\xad\x02\x05honey\x00\x01!\x80\x80\x80\x80\x10\x00";
        let mut found = Vec::new();
        assert!(decode(blob, &mut found));
        let chunk = |id, text: &str| TokenChunk { id, text: text.into(), logprobs: None };
        let expected = [chunk(Some(300), "honey"), chunk(None, "!"), chunk(Some(u32::MAX), "")];
        assert_eq!(found, expected);
        assert_eq!(
            encode(&expected),
            blob,
            "an answer without log probabilities is stored as then"
        );
    }

    proptest! {
        #[test]
        fn chunks_come_back_as_they_were(
            stored in proptest::collection::vec((any::<Option<u32>>(), ".{0,200}", proptest::option::of(logprobs())), 0..20),
        ) {
            let chunk = |(id, text, logprobs): (Option<u32>, String, Option<Logprobs>)| {
                TokenChunk { id, text: text.into(), logprobs: logprobs.map(Box::new) }
            };
            let stored: Vec<TokenChunk> = stored.into_iter().map(chunk).collect();
            let mut found = Vec::new();
            prop_assert!(decode(&encode(&stored), &mut found));
            prop_assert_eq!(found, stored);
        }

        #[test]
        fn vectors_come_back_to_the_bit(stored in proptest::collection::vec(proptest::collection::vec(any::<f32>(), 0..20), 0..8)) {
            let found = decode_vectors(&encode_vectors(&stored)).unwrap();
            let bits = |vectors: &[Vec<f32>]| -> Vec<Vec<u32>> {
                vectors.iter().map(|vector| vector.iter().map(|value| value.to_bits()).collect()).collect()
            };
            prop_assert_eq!(bits(&found), bits(&stored));
        }

        #[test]
        fn a_damaged_blob_is_noticed_or_read_but_never_panics(data in proptest::collection::vec(any::<u8>(), 0..64)) {
            decode(&data, &mut Vec::new());
            decode_vectors(&data);
        }
    }

    #[test]
    fn a_blob_that_was_cut_is_damaged() {
        let chosen = TokenLogprob { id: None, text: "h".into(), bytes: None, logprob: -1.0 };
        let logprobs = Some(Box::new(Logprobs { chosen, top: Vec::new() }));
        let whole = encode(&[TokenChunk { id: Some(300), text: "honey".into(), logprobs }]);
        for cut in 1..whole.len() {
            assert!(!decode(&whole[..cut], &mut Vec::new()), "cut at {cut}");
        }
        let whole = encode_vectors(&[vec![1.0, 2.0]]);
        for cut in 1..whole.len() {
            assert!(decode_vectors(&whole[..cut]).is_none(), "cut at {cut}");
        }
    }
}
