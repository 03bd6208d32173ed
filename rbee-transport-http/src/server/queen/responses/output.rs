//! The items of an answer, found while it is written.

use rbee_core::{
    Finish, JobId, Role, Usage,
    answer::{AnswerOptions, AnswerParser, Delta, call_id},
    event::Logprobs,
    request::{Chat, ToolCall},
};

use super::{
    extras::{Extras, ToolInfo, hex},
    input::{Item as InputItem, is_object},
    tools::custom_input,
};
use crate::wire::responses::{
    ContentPart, InputTokensDetails, ItemStatus, OutputTokensDetails, ResponseItem, ResponseUsage,
};
use crate::{server::queen::openai::of_token, wire::openai::ChatTokenLogprob};

/// The kind of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ItemKind {
    /// What the model thought.
    Reasoning,
    /// Text for the user.
    Message,
    /// A call of a function, or of a custom tool.
    Call {
        call_id: String,
        /// The name in the prompt.
        full_name: String,
        /// The name without the namespace.
        name: String,
        namespace: Option<String>,
        is_custom: bool,
    },
}

/// An item of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct OutputItem {
    pub(super) id: String,
    pub(super) kind: ItemKind,
    /// The text so far; of a call its arguments.
    pub(super) text: String,
    /// The log probabilities of the tokens of a message.
    pub(super) logprobs: Vec<ChatTokenLogprob>,
    pub(super) status: ItemStatus,
}

/// A change of the items.
pub(super) enum Change<'a> {
    /// An item was added.
    Added(usize, &'a OutputItem),
    /// The text of the last item has grown by this, with the log probabilities of these tokens.
    Text(usize, &'a OutputItem, &'a str, &'a [ChatTokenLogprob]),
    /// The last item has ended.
    Done(usize, &'a OutputItem),
}

/// The items of an answer.
#[derive(Debug)]
pub(super) struct Output {
    job: JobId,
    /// The tools that the model was offered, by their names in the prompt.
    tools: Vec<(String, ToolInfo)>,
    /// Reasoning is given as a summary.
    has_summary: bool,
    items: Vec<OutputItem>,
    /// The call that began last is complete.
    is_complete: bool,
    /// The log probabilities of tokens whose text belongs to no item yet.
    logprobs: Vec<ChatTokenLogprob>,
    /// No more text follows.
    is_over: bool,
}

impl Output {
    /// The items of the answer of a job, so far none.
    pub(super) fn new(job: JobId, chat: &Chat, extras: &Extras) -> Self {
        let infos = extras.tools.iter().cloned();
        let tools = chat.tools.iter().map(|tool| tool.name.clone()).zip(infos).collect();
        let has_summary = extras.summary.is_some();
        Self {
            job,
            tools,
            has_summary,
            items: Vec::new(),
            is_complete: true,
            logprobs: Vec::new(),
            is_over: false,
        }
    }

    /// The items of a whole answer, from its tokens. `finish` is `None` if it was not completed.
    pub(super) fn of_tokens<'a>(
        mut self,
        tokens: impl IntoIterator<Item = (&'a str, Option<&'a Logprobs>)>,
        options: Option<AnswerOptions>,
        finish: Option<Finish>,
    ) -> Self {
        let mut parser = AnswerParser::new(options.unwrap_or_default());
        let mut deltas = Vec::new();
        for (text, logprobs) in tokens {
            if let Some(logprobs) = logprobs {
                self.next_logprobs(logprobs);
            }
            parser.push(text, &mut deltas);
            for delta in deltas.drain(..) {
                self.push(delta, &mut |_| {});
            }
        }
        match finish {
            Some(Finish::Stop) => parser.finish(&mut deltas),
            Some(Finish::Length) | None => parser.cut_off(&mut deltas),
        }
        for delta in deltas {
            self.push(delta, &mut |_| {});
        }
        self.finish(finish, &mut |_| {});
        self
    }

    /// Takes the log probabilities of the next token. They belong to the message that its text is a part of.
    pub(super) fn next_logprobs(&mut self, logprobs: &Logprobs) {
        self.logprobs.push(of_token(logprobs));
    }

    /// Adds a part of the answer, and passes each change to `on`.
    pub(super) fn push(&mut self, delta: Delta, on: &mut impl FnMut(Change<'_>)) {
        match delta {
            Delta::Content(text) => self.text(ItemKind::Message, &text, on),
            Delta::Reasoning(text) => self.text(ItemKind::Reasoning, &text, on),
            Delta::CallBegin { index, name } => {
                self.end_last(self.last_status(), on);
                self.is_complete = false;
                self.logprobs.clear();
                let found = self.tools.iter().find(|(full, _)| *full == name);
                let info = found.map(|(_, info)| info);
                let kind = ItemKind::Call {
                    call_id: call_id(self.job, index),
                    name: info.map_or(&*name, |info| info.own_name(&name)).to_owned(),
                    namespace: info.and_then(|info| info.namespace.clone()),
                    is_custom: info.is_some_and(|info| info.custom.is_some()),
                    full_name: name,
                };
                self.add(kind, on);
            }
            Delta::CallArguments { json, .. } => self.grow(&json, on),
            Delta::CallEnd { .. } => {
                self.is_complete = true;
                self.logprobs.clear();
                self.end_last(ItemStatus::Completed, on);
            }
        }
    }

    /// The answer has ended; `None` if it was not completed. An answer without any item has an empty message.
    pub(super) fn finish(&mut self, finish: Option<Finish>, on: &mut impl FnMut(Change<'_>)) {
        self.is_over = true;
        if self.items.is_empty() && finish.is_some() {
            self.add(ItemKind::Message, on);
        }
        let status = match finish {
            Some(Finish::Stop) => self.last_status(),
            Some(Finish::Length) | None => ItemStatus::Incomplete,
        };
        self.end_last(status, on);
    }

    /// The status with which the last item ends, if the model has ended it.
    fn last_status(&self) -> ItemStatus {
        if self.is_complete { ItemStatus::Completed } else { ItemStatus::Incomplete }
    }

    fn text(&mut self, kind: ItemKind, text: &str, on: &mut impl FnMut(Change<'_>)) {
        if text.is_empty() {
            return;
        }
        let is_same = self
            .items
            .last()
            .is_some_and(|last| last.kind == kind && last.status == ItemStatus::InProgress);
        if !is_same {
            self.end_last(self.last_status(), on);
            // Text after a call that is malformed.
            self.is_complete = true;
            self.add(kind, on);
        }
        self.grow(text, on);
    }

    fn add(&mut self, kind: ItemKind, on: &mut impl FnMut(Change<'_>)) {
        let index = self.items.len();
        let prefix = match &kind {
            ItemKind::Reasoning => "rs",
            ItemKind::Message => "msg",
            ItemKind::Call { is_custom: true, .. } => "ctc",
            ItemKind::Call { .. } => "fc",
        };
        let id = format!("{prefix}_{}_{index}", hex(self.job));
        let item = OutputItem {
            id,
            kind,
            text: String::new(),
            logprobs: Vec::new(),
            status: ItemStatus::InProgress,
        };
        on(Change::Added(index, &item));
        self.items.push(item);
    }

    fn grow(&mut self, text: &str, on: &mut impl FnMut(Change<'_>)) {
        let index = self.items.len().saturating_sub(1);
        if let Some(last) = self.items.last_mut() {
            last.text.push_str(text);
            let mut logprobs = std::mem::take(&mut self.logprobs);
            // Tokens before those of the text were a tag or white space, which is left out.
            let mut bytes = 0;
            let first = logprobs.iter().rposition(|token| {
                bytes += token.bytes.len();
                bytes >= text.len()
            });
            logprobs.drain(..first.unwrap_or(0));
            match last.kind {
                ItemKind::Message => {
                    on(Change::Text(index, last, text, &logprobs));
                    last.logprobs.extend(logprobs);
                }
                ItemKind::Reasoning | ItemKind::Call { .. } => {
                    on(Change::Text(index, last, text, &[]));
                }
            }
        }
    }

    fn end_last(&mut self, status: ItemStatus, on: &mut impl FnMut(Change<'_>)) {
        let index = self.items.len().saturating_sub(1);
        if let Some(last) = self.items.last_mut()
            && last.status == ItemStatus::InProgress
        {
            last.status = status;
            if last.kind == ItemKind::Message && self.is_over {
                // Tokens without a text of their own: the end of the answer, a part of a stop text.
                last.logprobs.append(&mut self.logprobs);
            }
            on(Change::Done(index, last));
        }
    }

    /// The items, as they are sent.
    pub(super) fn to_wire(&self) -> Vec<ResponseItem> {
        self.items.iter().map(|item| item.to_wire(self.has_summary)).collect()
    }

    /// The items as those of a later request: reasoning is left out, and calls that were cut off are.
    pub(super) fn to_input(&self) -> Vec<(usize, InputItem)> {
        let items = self.items.iter().enumerate();
        items.filter_map(|(index, item)| Some((index, item.to_input()?))).collect()
    }

    /// The number of items.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The tokens. Those of the reasoning are estimated by its share of the text.
    pub(super) fn usage(&self, usage: Usage) -> ResponseUsage {
        let bytes = |item: &OutputItem| item.text.len() as u64;
        let all: u64 = self.items.iter().map(bytes).sum();
        let is_reasoning = |item: &&OutputItem| item.kind == ItemKind::Reasoning;
        let reasoning: u64 = self.items.iter().filter(is_reasoning).map(bytes).sum();
        let share = u64::from(usage.completion_tokens) * reasoning / all.max(1);
        ResponseUsage {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputTokensDetails {
                cached_tokens: usage.cached_tokens.unwrap_or(0),
                cache_write_tokens: 0,
            },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputTokensDetails {
                reasoning_tokens: u32::try_from(share).unwrap_or(usage.completion_tokens),
            },
            total_tokens: usage.prompt_tokens.saturating_add(usage.completion_tokens),
        }
    }
}

impl OutputItem {
    /// The item, as it is sent.
    pub(super) fn to_wire(&self, has_summary: bool) -> ResponseItem {
        let (id, status) = (self.id.clone(), self.status);
        let parts = || match self.part(has_summary) {
            // A part is added after the item.
            _ if self.status == ItemStatus::InProgress && self.text.is_empty() => Vec::new(),
            part => part.into_iter().collect(),
        };
        match &self.kind {
            ItemKind::Message => {
                ResponseItem::Message { id, status, role: "assistant".into(), content: parts() }
            }
            ItemKind::Reasoning => {
                let (summary, content) =
                    if has_summary { (parts(), Vec::new()) } else { (Vec::new(), parts()) };
                ResponseItem::Reasoning { id, status, summary, content }
            }
            ItemKind::Call { call_id, name, namespace, is_custom, .. } => {
                let (call_id, name, namespace) = (call_id.clone(), name.clone(), namespace.clone());
                if *is_custom {
                    let input = custom_input(&self.text);
                    ResponseItem::CustomToolCall { id, status, call_id, name, namespace, input }
                } else {
                    let arguments = self.text.clone();
                    ResponseItem::FunctionCall { id, status, call_id, name, namespace, arguments }
                }
            }
        }
    }

    /// Its part, if it has parts.
    pub(super) fn part(&self, has_summary: bool) -> Option<ContentPart> {
        let text = self.text.clone();
        match &self.kind {
            ItemKind::Message => Some(ContentPart::OutputText {
                text,
                annotations: [],
                logprobs: self.logprobs.clone(),
            }),
            ItemKind::Reasoning if has_summary => Some(ContentPart::SummaryText { text }),
            ItemKind::Reasoning => Some(ContentPart::ReasoningText { text }),
            ItemKind::Call { .. } => None,
        }
    }

    fn to_input(&self) -> Option<InputItem> {
        match &self.kind {
            ItemKind::Reasoning => None,
            ItemKind::Message => Some(InputItem::Message(Role::Assistant, self.text.clone())),
            ItemKind::Call { call_id, full_name, .. } => {
                let arguments = if self.text.trim().is_empty() { "{}" } else { &*self.text };
                is_object(arguments).then(|| {
                    InputItem::Call(ToolCall {
                        id: call_id.clone(),
                        name: full_name.clone(),
                        arguments: arguments.to_owned(),
                    })
                })
            }
        }
    }
}
