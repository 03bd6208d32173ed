//! What a program needs of a machine, from its ELF headers: [`Elf`].
//!
//! The facts are read from the programs themselves, so nothing that describes them can be wrong.

mod reader;

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom},
    path::Path,
};

use self::reader::Reader;
use super::{
    architecture::Architecture,
    facts::{Libc, LibcVersion, MachineFacts},
};

/// What a program needs of a machine.
///
/// ```
/// use rbee_transport_ssh::deploy::Elf;
///
/// let elf = Elf::read(&std::env::current_exe()?)?;
/// assert_eq!(elf.architecture.name(), std::env::consts::ARCH);
/// println!("needs glibc {:?} and {}", elf.glibc, elf.libraries.join(", "));
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Elf {
    /// The processor.
    pub architecture: Architecture,
    /// The program that loads it, such as `/lib64/ld-linux-x86-64.so.2`; `None` if it is static.
    pub interpreter: Option<String>,
    /// The least version of glibc; `None` if it needs none.
    pub glibc: Option<LibcVersion>,
    /// The shared libraries that it names, such as `libc.so.6`.
    pub libraries: Vec<String>,
}

impl Elf {
    /// Reads the headers of a program.
    ///
    /// # Errors
    /// The file cannot be read, is no ELF program, or is damaged.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let length = file.seek(SeekFrom::End(0))?;
        Reader::new(file, length)?.program()
    }

    /// Returns true if it needs no interpreter and no library.
    pub fn is_static(&self) -> bool {
        self.interpreter.is_none()
    }

    /// Returns true if it computes on NVIDIA GPUs: it needs CUDA's libraries.
    pub fn needs_cuda(&self) -> bool {
        self.libraries.iter().any(|name| is_cuda(name))
    }

    /// Returns `Ok` if the machine has what it needs, as far as is known.
    ///
    /// # Errors
    /// What is missing, in a few words.
    pub fn fits(&self, facts: &MachineFacts) -> Result<(), String> {
        if facts.os != "Linux" {
            return Err(format!("it is for Linux, and the machine runs {}", facts.os));
        }
        if self.architecture != facts.architecture {
            return Err(format!(
                "it is for {}, and the machine is {}",
                self.architecture, facts.architecture
            ));
        }
        if let Some(interpreter) = &self.interpreter
            && !facts.interpreters.contains(interpreter)
        {
            return Err(format!(
                "it needs {interpreter}, which is not on the machine (a static build needs none)"
            ));
        }
        if let (Some(needed), Some(Libc::Glibc(found))) = (self.glibc, facts.libc)
            && found < needed
        {
            return Err(format!(
                "it needs glibc {needed}, and the machine has {found} (a static build needs none)"
            ));
        }
        let Some(found) = &facts.cuda_libraries else { return Ok(()) };
        match self.libraries.iter().find(|name| is_cuda(name) && !found.contains(*name)) {
            Some(missing) => Err(format!("it needs {missing}, which is not on the machine")),
            None => Ok(()),
        }
    }
}

fn is_cuda(library: &str) -> bool {
    ["libcuda.", "libcudart.", "libcublas", "libcurand.", "libcudnn", "libnvrtc", "libnccl."]
        .iter()
        .any(|prefix| library.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read(bytes: Vec<u8>) -> io::Result<Elf> {
        let length = bytes.len() as u64;
        Reader::new(Cursor::new(bytes), length)?.program()
    }

    /// The header of a program without anything else.
    fn header(class: u8, order: u8, machine: u16) -> Vec<u8> {
        let mut bytes = vec![0; if class == 2 { 64 } else { 52 }];
        bytes[..6].copy_from_slice(&[0x7f, b'E', b'L', b'F', class, order]);
        let numbers = [(16, 2_u16), (18, machine), (if class == 2 { 54 } else { 42 }, 56)];
        for (at, number) in numbers {
            let number = if order == 2 { number.to_be_bytes() } else { number.to_le_bytes() };
            bytes[at..at + 2].copy_from_slice(&number);
        }
        bytes
    }

    #[test]
    fn this_program_needs_what_this_system_has() {
        let elf = Elf::read(&std::env::current_exe().unwrap()).unwrap();
        assert_eq!(elf.architecture.name(), std::env::consts::ARCH);
        assert!(!elf.needs_cuda());
        let interpreter = elf.interpreter.as_deref().unwrap();
        assert!(Path::new(interpreter).exists(), "{interpreter}");
        assert!(elf.libraries.iter().any(|name| name.starts_with("libc.")), "{elf:?}");
        let glibc = elf.glibc.unwrap();
        let output =
            std::process::Command::new("getconf").arg("GNU_LIBC_VERSION").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let here: LibcVersion = text.trim().strip_prefix("glibc ").unwrap().parse().unwrap();
        assert!(glibc <= here && glibc.major == 2 && glibc.minor >= 17, "{glibc} on {here}");
    }

    #[test]
    fn a_program_without_an_interpreter_is_static_and_its_processor_is_known() {
        for (class, order, machine, name) in [
            (2, 1, 62, "x86_64"),
            (2, 1, 183, "aarch64"),
            (1, 1, 40, "arm"),
            (1, 1, 3, "i686"),
            (2, 1, 243, "riscv64"),
            (2, 2, 22, "machine-22"),
            (1, 1, 62, "machine-62"),
        ] {
            let elf = read(header(class, order, machine)).unwrap();
            assert!(elf.is_static());
            assert_eq!((elf.architecture.name(), elf.glibc), (name, None));
        }
    }

    #[test]
    fn files_that_are_no_programs_are_refused_with_the_reason() {
        let refused = |bytes: Vec<u8>, reason: &str| {
            let error = read(bytes).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        };
        refused(Vec::new(), "no program in the ELF format");
        refused(b"#!/bin/sh\necho a script is no program".to_vec(), "no program in the ELF format");
        refused(header(3, 1, 62), "class is 3");
        let mut object = header(2, 1, 62);
        object[16] = 1;
        refused(object, "type is 1");
        let mut many = header(2, 1, 62);
        many[57] = 0xff;
        refused(many, "65280 program headers");
        let mut beyond = header(2, 1, 62);
        beyond[32..40].fill(0xff);
        beyond[56] = 1;
        refused(beyond, "beyond its end");
        refused(header(2, 1, 62)[..40].to_vec(), "byte 64 is needed");
    }

    #[test]
    fn a_damaged_program_is_an_error_and_never_a_panic() {
        let program = std::fs::read("/bin/true").unwrap();
        let whole = read(program.clone()).unwrap();
        for length in (0..program.len()).step_by(97) {
            let _ = read(program[..length].to_vec());
        }
        let mut rng = 0x2026_u64;
        let mut changed = 0;
        for _ in 0..3000 {
            let mut bytes = program.clone();
            for _ in 0..4 {
                rng = rng.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Most of what is read is near the beginning.
                let at = (rng >> 33) as usize % 4096.min(bytes.len());
                bytes[at] = (rng >> 20) as u8;
            }
            changed += usize::from(read(bytes).ok().as_ref() != Some(&whole));
        }
        assert!(changed > 100, "only {changed} of 3000 changes were noticed");
    }
}
