//! A model that always gives the same answer.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use rbee_core::{
    Finish, Job, Output, OutputStream, Queen, Result, Run, Usage, Worker, WorkerInfo,
    answer::{AnswerFormat, ReasoningFormat, ToolFormat},
    async_trait,
    event::Metrics,
    request::{Chat, Prompt, Sampling, Task},
    worker::WorkerHealth,
};

use crate::common::{self, Hall};

/// A worker with a given answer.
#[derive(Debug)]
pub(super) struct Scripted {
    info: Arc<WorkerInfo>,
    tokens: Vec<&'static str>,
    finish: Finish,
    last: Mutex<Option<Arc<Job>>>,
}

impl Scripted {
    /// The last prompt, and the sampling of its answer.
    pub(super) fn asked(&self) -> (Prompt, Sampling) {
        let job = self.last.lock().unwrap().take().unwrap();
        let Task::Generate { prompt, sampling } = job.task.clone() else { panic!("text") };
        (prompt, sampling)
    }

    /// The last conversation.
    pub(super) fn asked_chat(&self) -> Chat {
        let (Prompt::Chat(chat), _) = self.asked() else { panic!("a conversation") };
        chat
    }

    /// The seed of the last job.
    pub(super) fn asked_seed(&self) -> u64 {
        self.last.lock().unwrap().as_ref().unwrap().seed
    }
}

#[async_trait]
impl Worker for Scripted {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        *self.last.lock().unwrap() = Some(run.job);
        let metrics =
            Metrics { prompt_tokens: 9, prefill: Duration::from_nanos(1), cached_tokens: Some(5) };
        let token = |text: &&str| Output::Token { id: None, text: (*text).into(), logprobs: None };
        let usage = Usage {
            prompt_tokens: 9,
            completion_tokens: self.tokens.len() as u32,
            cached_tokens: Some(5),
        };
        let begin = [Output::Metrics(metrics)].into_iter();
        let end = Output::End { finish: self.finish, usage, stop_text: None };
        let outputs: Vec<_> =
            begin.chain(self.tokens.iter().map(token)).chain([end]).map(Ok).collect();
        Ok(Box::pin(futures_util::stream::iter(outputs)))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        Ok(WorkerHealth::default())
    }
}

/// A queen with the model `script`, which thinks and calls tools, and always answers this.
pub(super) async fn hall(tokens: &[&'static str], finish: Finish) -> (Hall, Arc<Scripted>) {
    let mut info = WorkerInfo::new("script".parse().unwrap(), "test");
    info.capabilities.answer = AnswerFormat {
        tools: Some(ToolFormat::Hermes),
        reasoning: Some(ReasoningFormat::Think),
        calls_alone: false,
    };
    info.capabilities.grammar = true;
    info.capabilities.infill = true;
    info.capabilities.penalties = true;
    info.capabilities.context_tokens = Some(4_096);
    let worker = Arc::new(Scripted {
        info: Arc::new(info),
        tokens: tokens.to_vec(),
        finish,
        last: Mutex::default(),
    });
    let queen = Queen::builder().worker(worker.clone());
    let hall = Hall::of(common::echo(), queen, |server| server).await;
    (hall, worker)
}
