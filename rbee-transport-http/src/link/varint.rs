//! Numbers in groups of seven bits, the lowest group first; the high bit is set on all groups but the last (unsigned
//! LEB128).

use bytes::{BufMut, BytesMut};

/// Appends a number.
pub(super) fn put(out: &mut BytesMut, mut number: u64) {
    while number >= 0x80 {
        out.put_u8(number as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

/// Takes a number from the front. `None` if it is cut off, or does not fit into 64 bits.
pub(super) fn take(data: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = data.split_first()?;
        *data = rest;
        let group = u64::from(byte & 0x7f);
        if group << shift >> shift != group {
            return None;
        }
        number |= group << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_the_documented_bytes() {
        for (number, bytes) in [
            (0, &[0][..]),
            (127, &[127]),
            (128, &[0x80, 1]),
            (300, &[0xac, 2]),
            (u64::MAX, &[255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
        ] {
            let mut out = BytesMut::new();
            put(&mut out, number);
            assert_eq!(&out[..], bytes);
            assert_eq!(take(&mut &out[..]), Some(number));
        }
    }

    #[test]
    fn a_number_that_is_too_large_or_cut_off_is_refused() {
        for bytes in [
            &[][..],
            &[0x80],
            &[255; 10],
            &[0x80; 11],
            &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
        ] {
            assert_eq!(take(&mut &bytes[..]), None, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn a_number_comes_back(number: u64, rest: Vec<u8>) {
            let mut out = BytesMut::new();
            put(&mut out, number);
            out.extend_from_slice(&rest);
            let mut data = &out[..];
            prop_assert_eq!(take(&mut data), Some(number));
            prop_assert_eq!(data, &rest[..]);
        }
    }
}
