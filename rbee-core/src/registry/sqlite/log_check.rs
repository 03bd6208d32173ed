//! Checks that the write-ahead log is complete. Must run before SQLite opens it, because SQLite treats the readable
//! part of a damaged log as the whole log, without a report.
//!
//! The index of the log (`-shm`) survives the death of the processes that used it, though not always a crash of the
//! system, and it contains the number of committed frames. So after a crash of the process any missing committed frame
//! is noticed, and a frame that is torn only because the system crashed is not reported.
//!
//! Formats: <https://www.sqlite.org/walformat.html> and <https://www.sqlite.org/fileformat2.html#walformat>.

use std::{
    fs::File,
    io::{self, BufReader, Read},
    path::Path,
};

use super::file::beside;

const INDEX_HEADER: usize = 48;
const LOG_HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// The relevant values of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Index {
    /// Committed frames.
    frames: u32,
    /// The number of these that are in the database.
    in_database: u32,
    salt: [u8; 8],
}

/// The committed frames that are in neither the log nor the database, and the total of committed frames. `None` if
/// nothing is missing, or nothing is known.
///
/// The database must not be open in this process: closing the index drops the locks that SQLite holds on it.
pub(super) fn missing(database: &Path) -> io::Result<Option<(u32, u32)>> {
    let Some(index) = read_index(&beside(database, "-shm"))? else { return Ok(None) };
    if index.frames <= index.in_database {
        return Ok(None);
    }
    let found = frames(&beside(database, "-wal"), &index)?;
    Ok((found < index.frames).then(|| (index.frames - found.max(index.in_database), index.frames)))
}

fn read_index(path: &Path) -> io::Result<Option<Index>> {
    let mut bytes = [0; 2 * INDEX_HEADER + 4];
    match File::open(path).and_then(|mut file| file.read_exact(&mut bytes)) {
        Ok(()) => {}
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error),
    }
    let (one, rest) = bytes.split_at(INDEX_HEADER);
    let (other, checkpoint) = rest.split_at(INDEX_HEADER);
    let native = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap_or_default());
    let sums = sums(Order::NATIVE, (0, 0), &one[..40]);
    let is_whole =
        one == other && one[12] == 1 && sums == (native(&one[40..44]), native(&one[44..48]));
    Ok(is_whole.then(|| Index {
        frames: native(&one[16..20]),
        in_database: native(checkpoint),
        salt: one[32..40].try_into().unwrap_or_default(),
    }))
}

/// The number of valid frames of this log, up to the first invalid one, at most the number in the index.
fn frames(path: &Path, index: &Index) -> io::Result<u32> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut log = BufReader::with_capacity(1 << 16, file);
    let mut header = [0; LOG_HEADER];
    if !fill(&mut log, &mut header)? {
        return Ok(0);
    }
    let big = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap_or_default());
    let order = match big(&header[..4]) {
        0x377f_0682 => Order::Little,
        0x377f_0683 => Order::Big,
        _ => return Ok(0),
    };
    let mut running = sums(order, (0, 0), &header[..24]);
    let page = big(&header[8..12]) as usize;
    let is_sound = running == (big(&header[24..28]), big(&header[28..32]))
        && header[16..24] == index.salt
        && page.is_power_of_two()
        && (512..=65_536).contains(&page);
    if !is_sound {
        return Ok(0);
    }
    let mut frame = vec![0; FRAME_HEADER + page];
    for found in 0..index.frames {
        if !fill(&mut log, &mut frame)? || frame[8..16] != index.salt {
            return Ok(found);
        }
        running = sums(order, running, &frame[..8]);
        running = sums(order, running, &frame[FRAME_HEADER..]);
        if running != (big(&frame[16..20]), big(&frame[20..24])) {
            return Ok(found);
        }
    }
    Ok(index.frames)
}

/// Fills the buffer. Returns true if there was enough data.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match from.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

/// The byte order of the words in a checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Little,
    Big,
}

impl Order {
    const NATIVE: Self = if cfg!(target_endian = "big") { Self::Big } else { Self::Little };
}

/// SQLite's checksum of these bytes, continued.
fn sums(order: Order, (mut one, mut other): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let word = |bytes: &[u8]| {
        let bytes = bytes.try_into().unwrap_or_default();
        match order {
            Order::Little => u32::from_le_bytes(bytes),
            Order::Big => u32::from_be_bytes(bytes),
        }
    };
    for pair in bytes.chunks_exact(8) {
        one = one.wrapping_add(word(&pair[..4])).wrapping_add(other);
        other = other.wrapping_add(word(&pair[4..])).wrapping_add(one);
    }
    (one, other)
}
