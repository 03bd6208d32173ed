//! The output. In a terminal there is a progress bar and a prompt; elsewhere there are plain lines.

use std::{
    io::{BufRead, IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use queen_rbee::Running;
use rbee_core::{Error, JobId, Queen, Usage, queen::LoadProgress};

/// The interval at which the progress of a load is updated.
const TICK: Duration = Duration::from_millis(50);

pub(crate) struct Screen {
    /// All three standard streams are a terminal.
    interactive: bool,
    /// Standard error is a terminal.
    lively: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let lively = std::io::stderr().is_terminal();
        let interactive =
            lively && std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
        Self { interactive, lively }
    }

    pub(crate) fn line(&self, text: &str) {
        eprintln!("{text}");
    }

    pub(crate) fn title(&self, model: &str, running: &Running) {
        self.line(&format!("model  {model}"));
        self.line(&format!("queue  {}", running.database().display()));
        self.line(&format!("api    {}/v1\n", running.url()));
    }

    /// Prints the commands that a user can paste next.
    pub(crate) fn invite(&self, url: &str, model: &str) {
        let body = serde_json::json!({
            "model": model, "stream": true,
            "messages": [{"role": "user", "content": "Name three flowers."}],
        });
        self.line("It serves until Ctrl-C. From another terminal:\n");
        let kind = "-H 'content-type: application/json'";
        self.line(&format!("  curl -N {url}/v1/chat/completions {kind} -d '{body}'"));
        self.line(&format!("  export OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=none\n"));
    }

    pub(crate) fn question(&self, text: &str) {
        self.line(&format!("> {text}"));
    }

    pub(crate) fn chunk(&self, text: &str) {
        let mut out = std::io::stdout().lock();
        // A closed reader is not an error of the answer; the job continues to its recorded end.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }

    pub(crate) fn end_of_answer(&self) {
        self.chunk("\n");
    }

    /// Prints the text of a job of a previous run.
    pub(crate) fn aside(&self, text: &str) {
        eprint!("{text}");
    }

    pub(crate) fn end_of_aside(&self) {
        eprintln!();
    }

    pub(crate) fn restored(&self, job: JobId, tokens: usize) {
        self.line(&format!(
            "job {job} of a previous run had not ended, {tokens} of its tokens were recorded; it continues:"
        ));
    }

    pub(crate) fn summary(&self, answer: &Measured, job: JobId, database: &Path) {
        self.line(&answer.to_string());
        self.line(&format!("job {job} is recorded in {}\n", database.display()));
    }

    pub(crate) fn failure(&self, error: &Error) {
        let mut said = error.to_string();
        self.line(&format!("error: {said}"));
        let mut cause = std::error::Error::source(error);
        while let Some(because) = cause {
            // A cause that only repeats the message adds nothing.
            if because.to_string() != said {
                said = because.to_string();
                self.line(&format!("  because: {said}"));
            }
            cause = because.source();
        }
    }

    /// The next question. Waits forever if nobody can ask one.
    pub(crate) async fn ask(&self) -> String {
        if !self.interactive {
            return std::future::pending().await;
        }
        // A separate thread: at its end the runtime would wait for a read that only the user can end.
        let (typed, line) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            // The receiver may be gone.
            let _ = next_line().map(|line| typed.send(line));
        });
        match line.await {
            Ok(line) => line,
            // Standard input has ended.
            Err(_) => std::future::pending().await,
        }
    }

    pub(crate) fn loading(&self) -> Loading<'_> {
        Loading { screen: self, shown: false, announced: false }
    }
}

/// The next line that is not empty.
fn next_line() -> Option<String> {
    loop {
        eprint!("Ask something else: ");
        let _ = std::io::stderr().flush();
        let mut line = String::new();
        if std::io::stdin().lock().read_line(&mut line).ok()? == 0 {
            return None;
        }
        if !line.trim().is_empty() {
            return Some(line.trim().to_owned());
        }
    }
}

/// Shows the progress of a model while it loads.
pub(crate) struct Loading<'a> {
    screen: &'a Screen,
    /// A bar is on the screen.
    shown: bool,
    announced: bool,
}

impl Loading<'_> {
    /// Waits a moment, then shows the progress.
    pub(crate) async fn tick(&mut self, queen: &Queen) {
        tokio::time::sleep(TICK).await;
        let Some(load) = queen.models().loading().into_iter().next() else {
            return;
        };
        if !std::mem::replace(&mut self.announced, true) && !self.screen.lively {
            self.screen.line(&format!("loading {}", load.model));
        }
        if self.screen.lively {
            self.show(&load);
        }
    }

    fn show(&mut self, load: &LoadProgress) {
        self.shown = true;
        eprint!("\r{}\x1b[K", bar(load.progress.done, load.progress.total));
    }

    pub(crate) fn done(&mut self) {
        if std::mem::take(&mut self.shown) {
            eprint!("\r\x1b[K");
        }
    }
}

/// How far the load has come, in one line.
fn bar(done: u64, total: Option<u64>) -> String {
    const WIDTH: usize = 30;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let Some(total) = total.filter(|total| *total > 0) else {
        return format!("loading the model: {}", mib(done));
    };
    let filled = WIDTH * done.min(total) as usize / total as usize;
    let filled = format!("{}>", "=".repeat(filled));
    format!("loading the model [{filled:<WIDTH$.WIDTH$}] {}/{}", mib(done), mib(total))
}

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        self.done();
    }
}

/// The shortest time in which a rate is measured.
const SHORTEST: Duration = Duration::from_millis(1);

/// An answer and its timings.
pub(crate) struct Measured {
    pub(crate) text: String,
    pub(crate) queue_wait: Duration,
    pub(crate) prefill: Option<Duration>,
    /// The model had to be loaded first.
    loaded: bool,
    asked: Instant,
    first: Option<Instant>,
    last: Option<Instant>,
    tokens: u32,
    took: Duration,
}

impl Measured {
    pub(crate) fn begin(loaded: bool) -> Self {
        Self {
            text: String::new(),
            queue_wait: Duration::ZERO,
            prefill: None,
            loaded,
            asked: Instant::now(),
            first: None,
            last: None,
            tokens: 0,
            took: Duration::ZERO,
        }
    }

    pub(crate) fn token(&mut self, text: &str) {
        let now = Instant::now();
        self.first.get_or_insert(now);
        self.last = Some(now);
        self.text.push_str(text);
    }

    pub(crate) fn end(&mut self, usage: Usage) {
        self.tokens = usage.completion_tokens;
        self.took = self.asked.elapsed();
    }

    /// Tokens per second from the first token to the last; `None` if the time is too short to be measured.
    fn decode_rate(&self) -> Option<f64> {
        let span = self.last?.saturating_duration_since(self.first?);
        let counted = self.tokens.checked_sub(1).filter(|after_the_first| *after_the_first > 0)?;
        (span >= SHORTEST).then(|| f64::from(counted) / span.as_secs_f64())
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let first = self.first.map_or(self.took, |first| first - self.asked);
        write!(
            f,
            "queue wait {:.1} ms{}, first token after {:.1} ms",
            milliseconds(self.queue_wait),
            if self.loaded { " (the model was loaded)" } else { "" },
            milliseconds(first)
        )?;
        if let Some(prefill) = self.prefill {
            write!(f, " (prompt {:.1} ms)", milliseconds(prefill))?;
        }
        write!(f, ", {} tokens", self.tokens)?;
        match self.decode_rate() {
            Some(rate) => write!(f, " at {rate:.0} tokens/s"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Measured, bar};

    #[test]
    fn the_rate_is_that_of_the_tokens_after_the_first() {
        let mut measured = Measured::begin(false);
        let first = Instant::now() + Duration::from_secs(5);
        measured.first = Some(first);
        measured.last = Some(first + Duration::from_secs(1));
        // The end is recorded later; this time is no part of the rate.
        (measured.tokens, measured.took) = (11, Duration::from_secs(60));
        assert!(measured.to_string().ends_with("11 tokens at 10 tokens/s"), "{measured}");
        measured.tokens = 1;
        assert!(measured.to_string().ends_with("1 tokens"), "{measured}");
        (measured.tokens, measured.last) = (11, Some(first));
        assert!(measured.to_string().ends_with("11 tokens"), "{measured}");
    }

    #[test]
    fn a_bar_is_as_full_as_the_load_has_come_far() {
        let third = bar(1 << 20, Some(3 << 20));
        assert_eq!(third, format!("loading the model [{:<30}] 1.0 MiB/3.0 MiB", "==========>"));
        let whole = bar(7, Some(7));
        assert!(whole.contains(&format!("[{}]", "=".repeat(30))), "{whole}");
        assert_eq!(bar(5 << 19, None), "loading the model: 2.5 MiB");
    }
}
