//! The parts of an answer: content, reasoning and tool calls.

use std::collections::VecDeque;

use pyo3::{IntoPyObjectExt, prelude::*};
use rbee_core::{
    Finish, JobId,
    answer::{AnswerFormat, AnswerParser, Delta, ParsedAnswer, call_id},
    request::{CallableTool, Prompt, Task, ToolCall},
};

use crate::job::object;

/// Finds the parts of the answer to one job.
pub(crate) struct Parts {
    job: JobId,
    /// The tools that the model may call; `None` if the prompt is no conversation.
    tools: Option<Vec<CallableTool>>,
    parser: Option<AnswerParser>,
    found: VecDeque<Delta>,
    /// The name of the open call.
    name: String,
}

/// A part of an answer that was read.
pub(crate) enum Part {
    Content(String),
    Reasoning(String),
    Call { index: u32, id: String, name: String, arguments: String },
}

/// The tools that the model may call in this task; `None` if its prompt is no conversation.
pub(crate) fn tools(task: &Task) -> Option<Vec<CallableTool>> {
    match task {
        Task::Generate { prompt: Prompt::Chat(chat), .. } => Some(chat.callable()),
        Task::Generate { .. } | Task::Embed { .. } | Task::Rerank { .. } => None,
    }
}

impl Parts {
    pub(crate) fn new(job: JobId, tools: Option<Vec<CallableTool>>) -> Self {
        Self { job, tools, parser: None, found: VecDeque::new(), name: String::new() }
    }

    /// Takes the next text of an answer in this format.
    pub(crate) fn push(&mut self, text: &str, format: AnswerFormat) {
        let mut found = Vec::new();
        let tools = &self.tools;
        let options = || tools.clone().map(|tools| format.options(tools)).unwrap_or_default();
        let parser = self.parser.get_or_insert_with(|| AnswerParser::new(options()));
        parser.push(text, &mut found);
        self.found.extend(found);
    }

    /// The text has ended. No effect the second time.
    pub(crate) fn finish(&mut self, finish: Finish) {
        let mut found = Vec::new();
        match (&mut self.parser, finish) {
            (Some(parser), Finish::Stop) => parser.finish(&mut found),
            (Some(parser), Finish::Length) => parser.cut_off(&mut found),
            (None, _) => {}
        }
        self.found.extend(found);
    }

    /// The next part.
    pub(crate) fn next(&mut self) -> Option<Part> {
        loop {
            return Some(match self.found.pop_front()? {
                Delta::Content(text) => Part::Content(text),
                Delta::Reasoning(text) => Part::Reasoning(text),
                Delta::CallBegin { index, name } => {
                    self.name = name;
                    self.call(index, String::new())
                }
                Delta::CallArguments { index, json } => self.call(index, json),
                Delta::CallEnd { .. } => continue,
            });
        }
    }

    fn call(&self, index: u32, arguments: String) -> Part {
        Part::Call { index, id: call_id(self.job, index), name: self.name.clone(), arguments }
    }

    /// The parts of the whole text.
    pub(crate) fn of_whole(
        &self,
        text: &str,
        format: AnswerFormat,
        finish: Finish,
    ) -> ParsedAnswer {
        let options = self.tools.clone().map(|tools| format.options(tools)).unwrap_or_default();
        ParsedAnswer::of(text, options, self.job, finish == Finish::Length)
    }
}

impl Part {
    pub(crate) fn into_python(self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let made = match self {
            Self::Content(text) => object(py, "ContentDelta", (text,)),
            Self::Reasoning(text) => object(py, "ReasoningDelta", (text,)),
            Self::Call { index, id, name, arguments } => {
                object(py, "ToolCallDelta", (index, id, name, arguments))
            }
        };
        made?.into_py_any(py)
    }
}

/// A call as an object of Python.
pub(crate) fn tool_call<'py>(py: Python<'py>, call: ToolCall) -> PyResult<Bound<'py, PyAny>> {
    object(py, "ToolCall", (call.id, call.name, call.arguments))
}
