//! A run of the engine as a file: the setup of the engine, every input with its time, and its effects. The same inputs
//! give the same effects, so a recorded run can be replayed and compared, byte for byte.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, Write},
};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    cluster::ClusterView,
    engine::{Advice, Decider, Effect, Engine, Input, Question},
    error::{Error, ErrorKind, Result},
    id::{Epoch, Ticket},
    model_ref::ModelRef,
    scheduler::{LeastLoaded, Scheduler},
    settings::Settings,
    time::Now,
};

/// The format version in the first line.
const FORMAT: u32 = 1;
/// The most bytes that are written: one gigabyte.
const MAX_BYTES: u64 = 1 << 30;

/// The arguments that an engine is created with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct EngineSetup {
    pub(crate) settings: Settings,
    pub(crate) epoch: Epoch,
    pub(crate) seed: u64,
    /// Hides the prefixes of prompts in what is recorded of jobs.
    pub(crate) secret: u64,
    pub(crate) aliases: BTreeMap<String, ModelRef>,
    pub(crate) built_in: LeastLoaded,
}

impl EngineSetup {
    pub(crate) fn engine(&self) -> Engine {
        Engine::new(self.settings.clone(), self.epoch, self.seed)
            .with_aliases(self.aliases.clone())
            .with_sizing(*self.built_in.sizing())
            .with_secret(self.secret)
    }
}

/// Records a run while it goes on: one line of JSON for each input.
///
/// It stops at a limit, and when the first write fails; the run goes on without it.
#[derive(Debug)]
pub(crate) struct RunRecorder<W> {
    out: W,
    line: Vec<u8>,
    bytes_left: u64,
    /// Why it has stopped.
    stopped: Option<String>,
}

impl<W: Write> RunRecorder<W> {
    pub(crate) fn new(out: W, setup: &EngineSetup) -> Self {
        let mut recorder = Self { out, line: Vec::new(), bytes_left: MAX_BYTES, stopped: None };
        recorder.put(b"{\"format\":");
        recorder.put_json(&FORMAT);
        recorder.put(b",\"engine\":");
        recorder.put_json(setup);
        recorder.end_line();
        recorder
    }

    /// Records an input that the engine is about to get. The effects follow.
    pub(crate) fn input(&mut self, now: Now, input: &Input) {
        self.put(b"{\"now\":");
        self.put_json(&now);
        self.put(b",\"input\":");
        self.put_json(input);
    }

    /// Records the effects of the input.
    pub(crate) fn effects(&mut self, effects: &[Effect]) {
        self.put(b",\"effects\":");
        if self.stopped.is_none() {
            self.put_json(&effects.iter().map(in_words).collect::<Vec<_>>());
        }
        self.end_line();
    }

    /// Records that the policy is asked at this point, with the cluster as it is now.
    pub(crate) fn asked(&mut self, ticket: Ticket) {
        self.put(b"{\"asked\":");
        self.put_json(&ticket);
        self.end_line();
    }

    fn put(&mut self, bytes: &[u8]) {
        if self.stopped.is_none() {
            self.line.extend_from_slice(bytes);
        }
    }

    fn put_json(&mut self, value: &impl Serialize) {
        if self.stopped.is_none()
            && let Err(cause) = serde_json::to_writer(&mut self.line, value)
        {
            self.stop(format!("an input cannot be written as JSON: {cause}"));
        }
    }

    fn end_line(&mut self) {
        if self.stopped.is_some() {
            return;
        }
        self.line.extend_from_slice(b"}\n");
        let bytes = self.line.len() as u64;
        if bytes > self.bytes_left {
            let _ = self.out.write_all(b"{\"cut\":true}\n");
            return self.stop(format!("it has {MAX_BYTES} bytes, the most that is written"));
        }
        self.bytes_left -= bytes;
        if let Err(cause) = self.out.write_all(&self.line) {
            return self.stop(cause.to_string());
        }
        self.line.clear();
    }

    fn stop(&mut self, why: String) {
        self.stopped = Some(why);
        self.line = Vec::new();
    }

    /// Why nothing more is written; `None` while it is recording.
    pub(crate) fn stopped(&self) -> Option<&str> {
        self.stopped.as_deref()
    }
}

/// An effect in the form that is compared.
fn in_words(effect: &Effect) -> String {
    format!("{effect:?}")
}

#[derive(Deserialize)]
struct Head {
    format: u32,
    engine: Value,
}

/// A line after the first: an input with its effects, a question to the policy, or the end of the recording.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    now: Option<Now>,
    input: Option<Input>,
    #[serde(default)]
    effects: Vec<String>,
    asked: Option<Ticket>,
    #[serde(default)]
    cut: bool,
}

/// The result of a replay of a recorded run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplayedRun {
    /// The number of inputs.
    pub steps: usize,
    /// Effects that were the same as in the recorded run: all of them.
    pub effects: usize,
    /// Questions that a scheduler was asked again, and answered as in the recorded run.
    pub questions: usize,
    /// The run went on after the recording had reached its limit.
    pub is_cut: bool,
}

/// Replays a run that was [recorded](crate::QueenBuilder::record_run), and compares the effects of every input.
///
/// The answers of the policy are inputs too, so its script is not needed. If `scheduler` is given, it is asked every
/// question to the policy again, with the same cluster, and must give the same answer. Use this only for a run under
/// this one policy; give its [`Scheduler::for_replay`], so that the answers do not depend on the clock. Answers that
/// were late are not compared.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] if the file is not a recorded run, and [`ErrorKind::Internal`] for the first line
/// whose effects or answer differ.
pub fn replay_run(
    recorded: impl BufRead,
    scheduler: Option<&dyn Scheduler>,
) -> Result<ReplayedRun> {
    let mut lines = recorded.split(b'\n').enumerate();
    let wrong = |line: usize, why: String| {
        Error::new(
            ErrorKind::InvalidRequest,
            format!("line {} of the recorded run: {why}", line + 1),
        )
    };
    let read = |line: usize, text: io::Result<Vec<u8>>| {
        text.map_err(|cause| wrong(line, cause.to_string()))
    };
    let Some((_, head)) = lines.next() else {
        return Err(wrong(0, "there is none".into()));
    };
    let head: Head = serde_json::from_slice(&read(0, head)?)
        .map_err(|cause| wrong(0, format!("it is not a valid first line: {cause}")))?;
    if head.format != FORMAT {
        let found = head.format;
        return Err(wrong(0, format!("its format is {found}; this build reads format {FORMAT}")));
    }
    let setup: EngineSetup =
        serde_json::from_value(head.engine).map_err(|cause| wrong(0, cause.to_string()))?;
    let mut run = Running { engine: setup.engine(), ..Running::new(scheduler) };
    let mut lines = lines.peekable();
    while let Some((number, text)) = lines.next() {
        let text = read(number, text)?;
        let line = match serde_json::from_slice(&text) {
            Ok(line) => line,
            // The process was killed while it wrote this line.
            Err(_) if lines.peek().is_none() => break,
            Err(cause) => return Err(wrong(number, cause.to_string())),
        };
        run.take(line).map_err(|error| error.context(format!("line {}", number + 1)))?;
    }
    Ok(run.replayed)
}

struct Running<'a> {
    engine: Engine,
    scheduler: Option<&'a dyn Scheduler>,
    /// Questions to the policy.
    questions: BTreeMap<Ticket, (Question, crate::scheduler::Ask)>,
    /// The answers to questions that were asked again.
    answers: BTreeMap<Ticket, Advice>,
    effects: Vec<Effect>,
    replayed: ReplayedRun,
}

impl<'a> Running<'a> {
    fn new(scheduler: Option<&'a dyn Scheduler>) -> Self {
        Self {
            engine: Engine::new(Settings::default(), Epoch::default(), 0),
            scheduler,
            questions: BTreeMap::new(),
            answers: BTreeMap::new(),
            effects: Vec::new(),
            replayed: ReplayedRun::default(),
        }
    }

    fn take(&mut self, line: Line) -> Result<()> {
        self.replayed.is_cut |= line.cut;
        if let Some(ticket) = line.asked {
            self.ask_again(ticket);
        }
        match (line.now, line.input) {
            (Some(now), Some(input)) => self.step(now, input, line.effects),
            _ => Ok(()),
        }
    }

    fn step(&mut self, now: Now, input: Input, recorded: Vec<String>) -> Result<()> {
        if let Input::Advised { ticket, advice } = &input {
            self.compare_advice(*ticket, advice)?;
        }
        self.replayed.steps += 1;
        self.engine.on(now, input, &mut self.effects);
        let mut recorded = recorded.into_iter();
        for effect in self.effects.drain(..) {
            let (now, then) = (in_words(&effect), recorded.next());
            if then.as_ref() != Some(&now) {
                let then = then.unwrap_or_else(|| "nothing more".into());
                return Err(differs("the effects differ", &then, &now));
            }
            self.replayed.effects += 1;
            if let Effect::Consult { ticket, question, ask } = effect
                && question != Question::Place(Decider::BuiltIn)
                && self.scheduler.is_some()
            {
                self.questions.insert(ticket, (question, ask));
            }
        }
        match recorded.next() {
            Some(then) => Err(differs("the effects differ", &then, "nothing more")),
            None => Ok(()),
        }
    }

    fn ask_again(&mut self, ticket: Ticket) {
        if let Some(scheduler) = self.scheduler
            && let Some((question, ask)) = self.questions.remove(&ticket)
        {
            let view: &ClusterView = self.engine.view();
            self.answers.insert(ticket, question.put_to(scheduler, &ask, view));
        }
    }

    fn compare_advice(&mut self, ticket: Ticket, recorded: &Advice) -> Result<()> {
        let Some(again) = self.answers.remove(&ticket) else { return Ok(()) };
        if matches!(recorded, Advice::NoTime | Advice::Failed(_)) {
            return Ok(());
        }
        if again != *recorded {
            let (then, now) = (format!("{recorded:?}"), format!("{again:?}"));
            return Err(differs("the policy answers something else", &then, &now));
        }
        self.replayed.questions += 1;
        Ok(())
    }
}

fn differs(what: &str, recorded: &str, replayed: &str) -> Error {
    let message = format!("{what}\n  recorded: {recorded}\n  replayed: {replayed}");
    Error::new(ErrorKind::Internal, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{engine::HiveFact, id::HiveId};

    fn setup() -> EngineSetup {
        EngineSetup {
            settings: Settings::default(),
            epoch: Epoch(3),
            seed: 7,
            secret: 1,
            aliases: BTreeMap::new(),
            built_in: LeastLoaded::default(),
        }
    }

    fn record(out: &mut Vec<u8>) {
        let setup = setup();
        let (mut engine, mut recorder) = (setup.engine(), RunRecorder::new(out, &setup));
        for fact in [HiveFact::Started, HiveFact::Removed] {
            let input = Input::Hive { hive: HiveId::local(), fact };
            let mut effects = Vec::new();
            recorder.input(Now::default(), &input);
            engine.on(Now::default(), input, &mut effects);
            recorder.effects(&effects);
        }
    }

    #[test]
    fn a_run_that_has_other_effects_now_is_told_by_its_line() {
        let mut recorded = Vec::new();
        record(&mut recorded);
        let replayed = replay_run(&recorded[..], None).unwrap();
        assert_eq!((replayed.steps, replayed.is_cut), (2, false));
        let text = String::from_utf8(recorded).unwrap();
        let (first, last) = text.trim_end().rsplit_once("\"effects\":").unwrap();
        let other = format!("{first}\"effects\":[\"Drained\"]}}\n");
        assert_ne!(format!("[\"Drained\"]}}"), last);
        let error = replay_run(other.as_bytes(), None).unwrap_err();
        assert!(error.message().starts_with("line 3: the effects differ\n"), "{error}");
        assert!(error.message().contains("recorded: Drained"), "{error}");
    }

    #[test]
    fn what_is_no_recorded_run_is_refused_by_its_line() {
        let mut recorded = Vec::new();
        record(&mut recorded);
        let text = String::from_utf8(recorded).unwrap();
        let told = |text: &str| replay_run(text.as_bytes(), None).unwrap_err().message().to_owned();
        assert!(told("").starts_with("line 1 of the recorded run: "));
        assert!(told("hello\n").contains("it is not a valid first line"));
        let other = text.replacen("{\"format\":1", "{\"format\":2", 1);
        assert!(told(&other).contains("its format is 2; this build reads format 1"));
        let broken = text.replacen("{\"now\":", "{\"then\":", 1);
        assert!(told(&broken).starts_with("line 2 of the recorded run: "));
        // The process was killed while it wrote the last line.
        let torn = &text[..text.len() - 9];
        assert_eq!(replay_run(torn.as_bytes(), None).unwrap().steps, 1);
    }

    #[test]
    fn a_recording_ends_at_its_bound_and_says_so() {
        let (setup, mut out) = (setup(), Vec::new());
        let mut recorder = RunRecorder::new(&mut out, &setup);
        recorder.bytes_left = 200;
        for _ in 0..10 {
            recorder.input(Now::default(), &Input::Tick);
            recorder.effects(&[]);
        }
        let replayed = replay_run(&out[..], None).unwrap();
        assert!(replayed.is_cut && (1..10).contains(&replayed.steps), "{replayed:?}");
    }
}
