//! The bits of an identifier that is derived from a name, as in UUIDs of version 5 (RFC 9562): a SHA-1 of both.
//!
//! The hash has no security purpose. The same name must lead to the same job for as long as there are databases, so the
//! function never changes. It is written out here because a crate for it would be part of every application's build.

/// The namespace of object identifiers (RFC 9562, section 6.6).
const NAMESPACE: u128 = 0x6ba7_b812_9dad_11d1_80b4_00c0_4fd4_30c8;

/// The 128 bits of this name, without the version and the variant of an identifier.
pub(super) fn bits(name: &str) -> u128 {
    let hash = sha1(&[&NAMESPACE.to_be_bytes(), name.as_bytes()].concat());
    hash.into_iter().take(4).fold(0, |bits, word| bits << 32 | u128::from(word))
}

/// SHA-1 (FIPS 180-4).
fn sha1(text: &[u8]) -> [u32; 5] {
    let mut state: [u32; 5] = [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = text.to_vec();
    padded.push(0x80);
    padded.resize((text.len() + 9).next_multiple_of(64) - 8, 0);
    padded.extend_from_slice(&(text.len() as u64 * 8).to_be_bytes());
    let (blocks, _) = padded.as_chunks::<64>();
    for block in blocks {
        let mut words = [0; 80];
        for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
            *word = u32::from_be_bytes(*bytes);
        }
        for at in 16..80 {
            words[at] =
                (words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16]).rotate_left(1);
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.into_iter().enumerate() {
            let (mixed, constant) = match at / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6_u32),
            };
            let next = [a.rotate_left(5), mixed, e, constant, word];
            let next = next.into_iter().fold(0, u32::wrapping_add);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (sum, word) in state.iter_mut().zip([a, b, c, d, e]) {
            *sum = sum.wrapping_add(word);
        }
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From RFC 3174.
    #[test]
    fn the_hash_is_sha_1() {
        let words = |text: &str| sha1(text.as_bytes()).map(|word| format!("{word:08x}")).concat();
        assert_eq!(words(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
        assert_eq!(words("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let long = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
        assert_eq!(words(long), "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
    }

    /// All lengths around the boundaries of one block, two blocks and three blocks.
    #[test]
    fn a_name_has_the_identifier_that_the_standard_gives_it() {
        for length in 0..200 {
            let name = "key/é ".repeat(40).chars().take(length).collect::<String>();
            let known = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, name.as_bytes());
            let own = uuid::Builder::from_sha1_bytes(bits(&name).to_be_bytes()).into_uuid();
            assert_eq!(own, known, "{name:?}");
        }
    }
}
