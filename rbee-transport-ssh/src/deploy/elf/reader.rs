//! Reading of ELF files. Each read is bounded, whatever the file says about its sizes.

use std::io::{self, Read, Seek, SeekFrom};

use super::Elf;
use crate::deploy::{architecture::Architecture, facts::LibcVersion};

const MAGIC: &[u8] = b"\x7fELF";
/// An executable, and a position-independent one.
const TYPES: [u16; 2] = [2, 3];
const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const PT_INTERP: u64 = 3;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_VERNEED: u64 = 0x6fff_fffe;
const DT_VERNEEDNUM: u64 = 0x6fff_ffff;
/// The most program headers.
const MOST_HEADERS: u64 = 128;
/// The most bytes of the table of dynamic entries.
const MOST_DYNAMIC: u64 = 64 << 10;
/// The most libraries, and versions of one library.
const MOST_NEEDED: u64 = 256;
/// The most bytes of a name.
const MOST_NAME: u64 = 4096;

/// Reads an ELF file.
pub(super) struct Reader<R> {
    file: R,
    length: u64,
    is_64: bool,
    is_big_endian: bool,
    /// The parts that are loaded into memory: address, offset in the file, and size.
    loaded: Vec<(u64, u64, u64)>,
}

impl<R: Read + Seek> Reader<R> {
    pub(super) fn new(file: R, length: u64) -> io::Result<Self> {
        let mut reader =
            Self { file, length, is_64: true, is_big_endian: false, loaded: Vec::new() };
        let start = reader.bytes(0, 16.min(length))?;
        if start.len() < 16 || !start.starts_with(MAGIC) {
            return Err(damaged("it is no program in the ELF format"));
        }
        reader.is_64 = match start[4] {
            1 => false,
            2 => true,
            class => return Err(damaged(&format!("its ELF class is {class}, not 1 or 2"))),
        };
        reader.is_big_endian = start[5] == 2;
        Ok(reader)
    }

    /// What the program needs.
    pub(super) fn program(mut self) -> io::Result<Elf> {
        let size = if self.is_64 { 64 } else { 52 };
        let header = self.bytes(0, size)?;
        let kind = self.number(&header, 16, 2)?;
        if !TYPES.iter().any(|known| u64::from(*known) == kind) {
            return Err(damaged(&format!("its ELF type is {kind}, which is no program")));
        }
        let machine = self.number(&header, 18, 2)?;
        let machine = u16::try_from(machine).unwrap_or_default();
        let (offset, entry, count) = match self.is_64 {
            true => (self.word(&header, 32)?, 54, 56),
            false => (self.word(&header, 28)?, 42, 44),
        };
        let (entry, count) = (self.number(&header, entry, 2)?, self.number(&header, count, 2)?);
        let least = if self.is_64 { 56 } else { 32 };
        if count > MOST_HEADERS || entry < least {
            return Err(damaged(&format!("it has {count} program headers of {entry} bytes")));
        }
        let (mut interpreter, mut dynamic) = (None, None);
        for index in 0..count {
            let at = index.checked_mul(entry).and_then(|at| at.checked_add(offset));
            let header = self.bytes(at.ok_or_else(overflow)?, least)?;
            let (offset, address, size) = match self.is_64 {
                true => (8, 16, 32),
                false => (4, 8, 16),
            };
            let part = (self.word(&header, offset)?, self.word(&header, size)?);
            match self.number(&header, 0, 4)? {
                PT_LOAD => self.loaded.push((self.word(&header, address)?, part.0, part.1)),
                PT_DYNAMIC => dynamic = Some(part),
                PT_INTERP => interpreter = Some(self.name(part.0)?),
                _ => {}
            }
        }
        let architecture = Architecture::from_elf(machine, self.is_64);
        let mut elf = Elf { architecture, interpreter, glibc: None, libraries: Vec::new() };
        if let Some((offset, size)) = dynamic {
            self.dynamic(offset, size, &mut elf)?;
        }
        Ok(elf)
    }

    /// Reads the libraries and their versions.
    fn dynamic(&mut self, offset: u64, size: u64, elf: &mut Elf) -> io::Result<()> {
        if size > MOST_DYNAMIC {
            return Err(damaged(&format!("its table of dynamic entries has {size} bytes")));
        }
        let table = self.bytes(offset, size)?;
        let width = if self.is_64 { 8 } else { 4 };
        let (mut needed, mut strings, mut versions, mut files) = (Vec::new(), None, None, 0);
        for entry in table.chunks_exact(width * 2) {
            let value = self.word(entry, width)?;
            match self.word(entry, 0)? {
                0 => break,
                DT_NEEDED => needed.push(value),
                DT_STRTAB => strings = Some(value),
                DT_VERNEED => versions = Some(value),
                DT_VERNEEDNUM => files = value,
                _ => {}
            }
        }
        let Some(strings) = strings else { return Ok(()) };
        let strings = self.offset(strings)?;
        let at = |name: u64| strings.checked_add(name).ok_or_else(overflow);
        for name in needed.into_iter().take(MOST_NEEDED as usize) {
            let name = self.name(at(name)?)?;
            elf.libraries.push(name);
        }
        let Some(versions) = versions else { return Ok(()) };
        let mut file = self.offset(versions)?;
        for _ in 0..files.min(MOST_NEEDED) {
            // The number of versions, the first of them, and the next file; the last two are relative to this one.
            let entry = self.bytes(file, 16)?;
            let count = self.number(&entry, 2, 2)?;
            let mut version = file + self.number(&entry, 8, 4)?;
            for _ in 0..count.min(MOST_NEEDED) {
                let entry = self.bytes(version, 16)?;
                let name = self.name(at(self.number(&entry, 8, 4)?)?)?;
                let glibc: Option<LibcVersion> =
                    name.strip_prefix("GLIBC_").and_then(|version| version.parse().ok());
                elf.glibc = elf.glibc.max(glibc);
                match self.number(&entry, 12, 4)? {
                    0 => break,
                    next => version += next,
                }
            }
            match self.number(&entry, 12, 4)? {
                0 => break,
                next => file += next,
            }
        }
        Ok(())
    }

    /// The offset in the file of an address in memory.
    fn offset(&self, address: u64) -> io::Result<u64> {
        let found = self.loaded.iter().find_map(|(start, offset, size)| {
            let within = address.checked_sub(*start).filter(|within| within < size)?;
            offset.checked_add(within)
        });
        found.ok_or_else(|| damaged(&format!("its address {address:#x} is in no loaded part")))
    }

    /// The text at this offset, up to a zero.
    fn name(&mut self, offset: u64) -> io::Result<String> {
        let rest = self.length.saturating_sub(offset);
        let mut bytes = self.bytes(offset, rest.min(MOST_NAME))?;
        let end = bytes.iter().position(|byte| *byte == 0);
        bytes.truncate(end.ok_or_else(|| damaged("a name in it has no end"))?);
        String::from_utf8(bytes).map_err(|_| damaged("a name in it is not UTF-8"))
    }

    fn bytes(&mut self, offset: u64, count: u64) -> io::Result<Vec<u8>> {
        let end = offset.checked_add(count).ok_or_else(overflow)?;
        if end > self.length {
            let length = self.length;
            return Err(damaged(&format!("it has {length} bytes, and byte {end} is needed")));
        }
        self.file.seek(SeekFrom::Start(offset))?;
        let mut bytes = vec![0; usize::try_from(count).map_err(|_| overflow())?];
        self.file.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A number of the size of an address.
    fn word(&self, bytes: &[u8], at: usize) -> io::Result<u64> {
        self.number(bytes, at, if self.is_64 { 8 } else { 4 })
    }

    fn number(&self, bytes: &[u8], at: usize, width: usize) -> io::Result<u64> {
        let bytes = bytes.get(at..at + width).ok_or_else(overflow)?;
        let add = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Ok(match self.is_big_endian {
            true => bytes.iter().fold(0, add),
            false => bytes.iter().rev().fold(0, add),
        })
    }
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn overflow() -> io::Error {
    damaged("a position in it is beyond its end")
}
