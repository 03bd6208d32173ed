//! The payload of a `VECTORS` frame: for each vector the number of its values, then the values in four bytes each,
//! little-endian.

use bytes::{BufMut, BytesMut};

use super::varint;

/// Appends vectors.
pub(crate) fn put_vectors(out: &mut BytesMut, vectors: &[Vec<f32>]) {
    let bytes = |vector: &Vec<f32>| size_of_val(&vector[..]) + 4;
    out.reserve(vectors.iter().map(bytes).sum());
    for vector in vectors {
        varint::put(out, vector.len() as u64);
        vector.iter().for_each(|value| out.put_f32_le(*value));
    }
}

/// Reads the vectors of a payload. `None` if it is malformed.
pub(crate) fn read_vectors(mut payload: &[u8]) -> Option<Vec<Vec<f32>>> {
    let mut vectors = Vec::new();
    while !payload.is_empty() {
        let length = usize::try_from(varint::take(&mut payload)?).ok()?;
        let (values, rest) = payload.split_at_checked(length.checked_mul(size_of::<f32>())?)?;
        payload = rest;
        vectors.push(values.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect());
    }
    Some(vectors)
}
