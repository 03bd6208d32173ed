//! Text inside a JSON string.

use bytes::{BufMut, BytesMut};

/// The escape of each byte in a JSON string: itself (0), a Unicode escape (`u`), or a backslash and this byte.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[b'\t' as usize] = b't';
    table[b'\n' as usize] = b'n';
    table[0x0c] = b'f';
    table[b'\r' as usize] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

/// Appends the text, escaped for a JSON string, without the surrounding quotes.
pub(super) fn put_escaped(out: &mut BytesMut, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 8);
    let mut from = 0;
    for (at, byte) in bytes.iter().enumerate() {
        let escape = ESCAPES[usize::from(*byte)];
        if escape == 0 {
            continue;
        }
        out.put_slice(&bytes[from..at]);
        from = at + 1;
        out.put_slice(&[b'\\', escape]);
        if escape == b'u' {
            out.put_slice(b"00");
            out.put_slice(&[HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
    out.put_slice(&bytes[from..]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_what_serde_writes(text in "[\\x00-\\x7f\u{e9}\u{1F41D}]{0,40}|.{0,40}") {
            let mut out = BytesMut::from(&b"\""[..]);
            put_escaped(&mut out, &text);
            out.put_u8(b'"');
            prop_assert_eq!(&out[..], &serde_json::to_vec(&text).unwrap()[..]);
        }
    }
}
