//! A run, as a worker in Python sees it: [`RunView`].

use pyo3::prelude::*;
use rbee_core::{
    Run,
    request::{EmbedInput, Prompt, Sampling, Task},
};
use tokio_util::sync::CancellationToken;

/// A run, as a worker sees it.
#[pyclass(frozen, name = "Run", module = "rbee._rbee")]
pub(crate) struct RunView {
    run: Run,
    cancelled: CancellationToken,
}

impl RunView {
    pub(crate) fn new(run: Run, cancelled: CancellationToken) -> Self {
        Self { run, cancelled }
    }

    fn sampling(&self) -> Sampling {
        match &self.run.job.task {
            Task::Generate { sampling, .. } => sampling.clone(),
            Task::Embed { .. } | Task::Rerank { .. } => Sampling::default(),
        }
    }

    fn prompt(&self) -> Option<&Prompt> {
        match &self.run.job.task {
            Task::Generate { prompt, .. } => Some(prompt),
            Task::Embed { .. } | Task::Rerank { .. } => None,
        }
    }
}

#[pymethods]
impl RunView {
    #[getter]
    fn job(&self) -> String {
        self.run.job.id.to_string()
    }
    #[getter]
    fn model(&self) -> &str {
        self.run.job.model.as_str()
    }
    #[getter]
    fn attempt(&self) -> u32 {
        self.run.attempt
    }
    #[getter]
    fn seed(&self) -> u64 {
        self.run.job.seed
    }
    #[getter]
    fn correlation_id(&self) -> &str {
        self.run.job.correlation_id.as_str()
    }
    /// The text to continue; `None` for a chat, for texts to embed and for documents to score.
    #[getter]
    fn prompt_text(&self) -> Option<&str> {
        match self.prompt()? {
            Prompt::Text(text) | Prompt::Raw(text) | Prompt::Infill { prefix: text, .. } => {
                Some(text)
            }
            Prompt::Chat(_) => None,
        }
    }
    /// The text after the gap that is to be filled; `None` if there is none.
    #[getter]
    fn suffix(&self) -> Option<&str> {
        match self.prompt()? {
            Prompt::Infill { suffix, .. } => Some(suffix),
            Prompt::Text(_) | Prompt::Raw(_) | Prompt::Chat(_) => None,
        }
    }
    #[getter]
    fn messages(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.prompt() {
            Some(Prompt::Chat(chat)) => crate::queen::plain(py, &chat.messages).map(Some),
            _ => Ok(None),
        }
    }
    /// The tools that the model may call.
    #[getter]
    fn tools(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.prompt() {
            Some(Prompt::Chat(chat)) => crate::queen::plain(py, &chat.tools).map(Some),
            _ => Ok(None),
        }
    }
    /// `auto`, `none`, `required`, or `{"named": …}`.
    #[getter]
    fn tool_choice(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        match self.prompt() {
            Some(Prompt::Chat(chat)) => crate::queen::plain(py, &chat.tool_choice).map(Some),
            _ => Ok(None),
        }
    }
    /// Whether the model thinks; `None` if that is up to the worker.
    #[getter]
    fn thinking(&self) -> Option<bool> {
        match self.prompt() {
            Some(Prompt::Chat(chat)) => chat.thinking,
            _ => None,
        }
    }
    #[getter]
    fn texts(&self) -> Option<Vec<String>> {
        let Task::Embed { inputs, .. } = &self.run.job.task else { return None };
        let text = |input: &EmbedInput| match input {
            EmbedInput::Text(text) => text.clone(),
            EmbedInput::Tokens(_) => String::new(),
        };
        Some(inputs.iter().map(text).collect())
    }
    /// The query that documents are scored for; `None` for others.
    #[getter]
    fn query(&self) -> Option<&str> {
        match &self.run.job.task {
            Task::Rerank { query, .. } => Some(query),
            Task::Generate { .. } | Task::Embed { .. } => None,
        }
    }
    /// The documents to score; `None` for others.
    #[getter]
    fn documents(&self) -> Option<Vec<String>> {
        match &self.run.job.task {
            Task::Rerank { documents, .. } => Some(documents.clone()),
            Task::Generate { .. } | Task::Embed { .. } => None,
        }
    }
    #[getter]
    fn dimensions(&self) -> Option<u32> {
        match &self.run.job.task {
            Task::Embed { dimensions, .. } => *dimensions,
            Task::Generate { .. } | Task::Rerank { .. } => None,
        }
    }
    #[getter]
    fn max_tokens(&self) -> Option<u32> {
        self.sampling().max_tokens
    }
    #[getter]
    fn stop(&self) -> Vec<String> {
        self.sampling().stop
    }
    #[getter]
    fn sampling_parameters(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let sampling = self.sampling();
        let logit_bias = sampling.logit_bias.clone();
        let mut plain = sampling;
        plain.logit_bias.clear();
        let parameters = crate::queen::plain(py, &plain)?;
        parameters.bind(py).set_item("logit_bias", logit_bias)?;
        Ok(parameters)
    }
    /// The ids of the tokens that earlier attempts gave. Continue after them.
    #[getter]
    fn resume_tokens(&self) -> Vec<u32> {
        self.run.resume.tokens.clone()
    }
    /// The bytes of the text that earlier attempts gave.
    #[getter]
    fn resume_text_bytes(&self) -> usize {
        self.run.resume.text_bytes
    }
    /// True once nobody wants the answer any more.
    #[getter]
    fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }
    fn __repr__(&self) -> String {
        format!("<rbee.Run of job {}>", self.run.job.id)
    }
}
