//! An engine in a process of its own, which answers cases as lines of JSON.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use serde::{Deserialize, Serialize};

use crate::Result;

/// A measurement to make.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Case {
    /// True if the prompts without their last token are computed before, and not measured.
    pub(crate) warm: bool,
    /// The token ids of each sequence; all run at once.
    pub(crate) prompts: Vec<Vec<u32>>,
    /// The tokens that each of them generates.
    pub(crate) count: u32,
    /// A prompt that arrives when every other sequence has generated some tokens.
    pub(crate) arrival: Option<Vec<u32>>,
}

/// The answer of an engine.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// From the first request to the last answer, in seconds.
    pub(crate) wall: f64,
    /// The processor time of the engine's process, in seconds.
    pub(crate) cpu: f64,
    /// Prompt tokens that were computed.
    pub(crate) prompt_tokens: u64,
    /// The sequences of the case.
    #[serde(default)]
    pub(crate) sequences: u64,
    /// Generated tokens, and the time from the first to the last.
    pub(crate) tokens: u64,
    pub(crate) seconds: f64,
    /// The time to the first token of the arrival, and the longest gap of the others meanwhile, in seconds.
    #[serde(default)]
    pub(crate) arrival: Option<(f64, f64)>,
    /// The memory of the process now, in bytes.
    #[serde(default)]
    pub(crate) memory: u64,
}

/// The first line of an engine: it has loaded the model.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Ready {
    /// The time that it took, in seconds.
    pub(crate) loaded: f64,
    /// What it says about its kernels.
    pub(crate) system: String,
}

/// A running engine. It is killed when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) ready: Ready,
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Peer {
    /// Starts an engine with this model.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        model: &Path,
        threads: usize,
        sequences: usize,
        context: usize,
    ) -> Result<Self> {
        command.arg(model).args([threads, sequences, context].map(|number| number.to_string()));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let (to, from) = (child.stdin.take(), child.stdout.take());
        let (Some(to), Some(from)) = (to, from) else { return Err("no pipes".into()) };
        let mut peer =
            Self { name, ready: Ready::default(), child, to, from: BufReader::new(from) };
        peer.ready = peer.read()?;
        Ok(peer)
    }

    fn read<T: for<'a> Deserialize<'a>>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.from.read_line(&mut line)? == 0 {
            return Err(format!("{} ended: {:?}", self.name, self.child.wait()?).into());
        }
        Ok(serde_json::from_str(&line)?)
    }

    /// Runs a case.
    pub(crate) fn measure(&mut self, case: &Case) -> Result<Measured> {
        let mut line = serde_json::to_string(case)?;
        line.push('\n');
        self.to.write_all(line.as_bytes())?;
        let measured = self.read()?;
        Ok(Measured { memory: memory(self.child.id())?, ..measured })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The other side: answers the cases of the standard input until it ends.
pub(crate) fn answer(ready: &Ready, mut run: impl FnMut(Case) -> Result<Measured>) -> Result<()> {
    println!("{}", serde_json::to_string(ready)?);
    for line in std::io::stdin().lock().lines() {
        let measured = run(serde_json::from_str(&line?)?)?;
        println!("{}", serde_json::to_string(&measured)?);
    }
    Ok(())
}

/// The memory of a process, in bytes.
fn memory(process: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).unwrap_or("0");
    Ok(kib.trim().parse::<u64>()? << 10)
}

/// The processor time of this process, in seconds.
pub(crate) fn processor_time() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
