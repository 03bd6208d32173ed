//! Processors: [`Architecture`].

use std::fmt;

/// The kind of a processor.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Architecture {
    /// 64 bits of Intel and AMD.
    X86_64,
    /// 64 bits of ARM.
    Aarch64,
    /// 32 bits of Intel and AMD.
    X86,
    /// 32 bits of ARM.
    Arm,
    /// 64 bits of RISC-V.
    Riscv64,
    /// Another one, by the name that `uname -m` prints, or by its number in ELF files.
    Other(String),
}

impl Architecture {
    /// From what `uname -m` prints.
    pub(super) fn from_uname(text: &str) -> Self {
        match text {
            "x86_64" | "amd64" => Self::X86_64,
            "aarch64" | "arm64" => Self::Aarch64,
            "i386" | "i486" | "i586" | "i686" => Self::X86,
            "riscv64" => Self::Riscv64,
            _ if text.starts_with("armv") => Self::Arm,
            _ => Self::Other(text.into()),
        }
    }

    /// From the machine in the header of an ELF file, and whether it has 64 bits.
    pub(super) fn from_elf(machine: u16, is_64: bool) -> Self {
        match (machine, is_64) {
            (62, true) => Self::X86_64,
            (183, true) => Self::Aarch64,
            (3, false) => Self::X86,
            (40, false) => Self::Arm,
            (243, true) => Self::Riscv64,
            _ => Self::Other(format!("machine-{machine}")),
        }
    }

    /// The name that target triples and `uname -m` have.
    pub fn name(&self) -> &str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::X86 => "i686",
            Self::Arm => "arm",
            Self::Riscv64 => "riscv64",
            Self::Other(name) => name,
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
