//! The command line.

use std::path::PathBuf;

use clap::Parser;
use rbee_core::{ModelRef, Result};

/// Ask a model a question, through an rbee queen that then continues to serve.
///
/// The answer goes to standard output, everything else to standard error.
#[derive(Debug, Parser)]
#[command(name = "quickstart")]
pub(crate) struct Args {
    /// The first question.
    #[arg(long, default_value = "Tell me about a flower.")]
    pub(crate) prompt: String,

    /// The model: file:/absolute/path to a directory with a Llama model in safetensors. [default: the bundled bee-tiny]
    #[arg(long, value_name = "REFERENCE")]
    pub(crate) model: Option<ModelRef>,

    /// The longest answer, in tokens.
    #[arg(long, value_name = "TOKENS", default_value_t = 256)]
    pub(crate) max_tokens: u32,

    /// From 0 (always the most likely token) to 2.
    #[arg(long, default_value_t = 0.7, allow_negative_numbers = true)]
    pub(crate) temperature: f32,

    /// The same seed gives the same answer. [default: a new one each time]
    #[arg(long)]
    pub(crate) seed: Option<u64>,

    /// Ask once and end; without it the queen continues to serve until Ctrl-C.
    #[arg(long)]
    pub(crate) once: bool,

    /// The directory of the queue. [default: rbee/quickstart in the platform's data directory]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
}

impl Args {
    pub(crate) fn data_dir(&self) -> Result<PathBuf> {
        if let Some(dir) = &self.data_dir {
            return Ok(dir.clone());
        }
        // Not the data of the user's regular queen, which may be running.
        Ok(queen_rbee::default_data_dir()?.join("quickstart"))
    }
}
