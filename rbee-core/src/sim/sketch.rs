//! A description of a job.

use std::{sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, ErrorKind, Result, invalid},
    id::{CorrelationId, JobId, TenantId},
    job::Job,
    model_ref::ModelRef,
    prefix::{START, hash},
    priority::Priority,
    settings::Settings,
    task::{Prompt, Sampling, Task},
};

/// The placeholder text of one prompt token: as long as an average token of English.
const TOKEN: &str = "bee ";

/// The task of a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SketchTask {
    /// Generate text.
    #[default]
    Generate,
    /// Compute an embedding.
    Embed,
    /// Score documents by their relevance to a query.
    Rerank,
}

/// The description of a job without its text, in the form that `rbee policy check --job` reads.
///
/// ```
/// use rbee_core::{Settings, sim::JobSketch};
///
/// let sketch: JobSketch = serde_json::from_str(
///     r#"{ "model": "bee-tiny", "priority": "batch", "prompt_tokens": 200, "max_tokens": 64 }"#,
/// )?;
/// let job = sketch.job(&Settings::default(), 1)?;
/// assert_eq!(job.model, sketch.model);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSketch {
    /// `model`: the model, with aliases resolved.
    pub model: ModelRef,
    /// `task`: `generate` (the default), `embed` or `rerank`.
    #[serde(default)]
    pub task: SketchTask,
    /// `priority`: `interactive` (the default) or `batch`.
    #[serde(default)]
    pub priority: Priority,
    /// `tenant`: its tenant. None by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// `prompt_tokens`: the length of the prompt. 0 by default.
    #[serde(default)]
    pub prompt_tokens: u32,
    /// `max_tokens`: the longest answer. By default as long as the model's context allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// `deadline_ms`: the time for the whole job, in milliseconds. No limit by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// `prefix`: keys of the prompt's prefixes, shortest first. None by default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefix: Vec<u64>,
}

impl JobSketch {
    /// A job for this model that generates text, with default values for the rest.
    pub fn new(model: ModelRef) -> Self {
        Self {
            model,
            task: SketchTask::Generate,
            priority: Priority::default(),
            tenant: None,
            prompt_tokens: 0,
            max_tokens: None,
            deadline_ms: None,
            prefix: Vec::new(),
        }
    }

    /// The job, with a placeholder prompt of the right length. Its id and its seed are derived from `seed`; the keys of
    /// its prefixes are those of the description.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for a prompt longer than the settings allow and for any invalid value of a
    /// request, [`ErrorKind::DeadlineExceeded`] for a deadline of 0.
    pub fn job(&self, settings: &Settings, seed: u64) -> Result<Job> {
        let (bytes, most) = (self.prompt_tokens as usize * TOKEN.len(), settings.max_prompt_bytes);
        if bytes > most {
            return Err(invalid(format!(
                "prompt_tokens is {}, {bytes} bytes of text; allowed are at most {most} bytes (setting max_prompt_bytes)",
                self.prompt_tokens
            ))
            .with_param("prompt_tokens"));
        }
        self.arriving(settings, seed)
    }

    /// The same for a job that is known to have run: no prompt is too long. Its tokens may have been shorter than
    /// English ones, so its text is cut to what the settings allow.
    pub(super) fn arriving(&self, settings: &Settings, seed: u64) -> Result<Job> {
        if self.deadline_ms == Some(0) {
            return Err(Error::new(
                ErrorKind::DeadlineExceeded,
                "deadline_ms is 0; the job cannot be done by then",
            ));
        }
        let most = settings.max_prompt_bytes / TOKEN.len();
        let text = TOKEN.repeat(most.min(self.prompt_tokens as usize));
        let task = match self.task {
            SketchTask::Generate => {
                let sampling = Sampling { max_tokens: self.max_tokens, ..Sampling::default() };
                sampling.validate()?;
                Task::Generate { prompt: Prompt::Text(text), sampling }
            }
            SketchTask::Embed => Task::embed([text]),
            SketchTask::Rerank => Task::rerank("", [text]),
        };
        let high = hash(START, &seed.to_le_bytes());
        Ok(Job {
            // The seed itself is part of it, so that two seeds never give the same id.
            id: JobId::from_random_bits((u128::from(high) << 64) | u128::from(seed)),
            model: self.model.clone(),
            priority: self.priority,
            task,
            seed,
            prefix: Arc::from(self.prefix.as_slice()),
            timeout: settings.job_timeout,
            deadline: self.deadline_ms.map(Duration::from_millis),
            detached: false,
            stored: false,
            metadata: None,
            tenant: self.tenant.clone(),
            rank: 0,
            correlation_id: CorrelationId::new("simulated")?,
            idempotency: None,
            streamed: true,
        })
    }
}
