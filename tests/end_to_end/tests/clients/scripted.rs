//! A worker whose answers to conversations follow a script, for agents that need a model that does what they test.

use std::{fmt, sync::Arc};

use rbee_core::{
    Finish, Output, OutputStream, Result, Role, Run, Usage, Worker, WorkerInfo,
    answer::{AnswerFormat, ToolFormat},
    async_trait,
    request::{Chat, Prompt, Task},
    worker::WorkerHealth,
};
use serde_json::{Value, json};

type Answer = Box<dyn Fn(&Chat) -> String + Send + Sync>;

/// The model `scripted`, which calls tools in the syntax of Hermes.
pub(crate) struct Scripted {
    info: Arc<WorkerInfo>,
    answer: Answer,
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl Scripted {
    /// A worker that gives these answers.
    pub(crate) fn new(answer: impl Fn(&Chat) -> String + Send + Sync + 'static) -> Arc<Self> {
        let mut info = WorkerInfo::new("scripted".parse().unwrap(), "test");
        info.capabilities.answer =
            AnswerFormat { tools: Some(ToolFormat::Hermes), reasoning: None, calls_alone: false };
        Arc::new(Self { info: Arc::new(info), answer: Box::new(answer) })
    }
}

/// The text of an answer with a call of this tool.
pub(crate) fn call(name: &str, arguments: &Value) -> String {
    let call = json!({"name": name, "arguments": arguments});
    format!("I use a tool.<tool_call>{call}</tool_call>")
}

/// The results of tools in a conversation, in their order.
pub(crate) fn results(chat: &Chat) -> Vec<&str> {
    let results = chat.messages.iter().filter(|message| message.role == Role::Tool);
    results.map(|message| &*message.content).collect()
}

#[async_trait]
impl Worker for Scripted {
    fn info(&self) -> &Arc<WorkerInfo> {
        &self.info
    }

    async fn execute(&self, run: Run) -> Result<OutputStream> {
        let Task::Generate { prompt: Prompt::Chat(chat), .. } = &run.job.task else {
            panic!("agents send conversations")
        };
        let text = (self.answer)(chat).into();
        let usage = Usage { prompt_tokens: 1, completion_tokens: 1, cached_tokens: None };
        let outputs = [
            Output::Token { id: None, text, logprobs: None },
            Output::End { finish: Finish::Stop, usage, stop_text: None },
        ];
        Ok(Box::pin(futures_util::stream::iter(outputs.map(Ok))))
    }

    async fn health(&self) -> Result<WorkerHealth> {
        Ok(WorkerHealth::default())
    }
}
