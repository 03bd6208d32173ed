//! The command line.

use std::path::PathBuf;

use clap::Parser;
use etcetera::BaseStrategy;
use rbee_core::{Error, ErrorKind, ModelRef, Result};

/// Ask a model a question, through an rbee queen inside this process.
///
/// The answer goes to standard output, everything else to standard error.
#[derive(Debug, Parser)]
#[command(name = "quickstart")]
pub(crate) struct Args {
    /// What to ask first.
    #[arg(long, default_value = "Tell me about a flower.")]
    pub(crate) prompt: String,

    /// The model: file:/absolute/path to a directory with a Llama model in safetensors. [default: the bundled bee-tiny]
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) model: Option<ModelRef>,

    /// The longest answer, in tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 256)]
    pub(crate) max_tokens: u32,

    /// 0 (always the likeliest token) to 2.
    #[arg(long, default_value_t = 0.7, allow_negative_numbers = true)]
    pub(crate) temperature: f32,

    /// The same seed gives the same answer. [default: a new one each time]
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// Ask once and end, also in a terminal.
    #[arg(long)]
    pub(crate) once: bool,

    /// Where the queue is kept. [default: rbee in the platform's data directory]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
}

impl Args {
    pub(crate) fn data_dir(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.data_dir {
            return Ok(dir.clone());
        }
        let base = etcetera::choose_base_strategy().map_err(|cause| {
            let message =
                "there is no home directory to keep the queue in; name one with --data-dir";
            Error::new(ErrorKind::Config, message).with_source(cause)
        })?;
        Ok(base.data_dir().join("rbee"))
    }
}
