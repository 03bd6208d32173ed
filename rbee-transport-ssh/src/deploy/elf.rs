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
