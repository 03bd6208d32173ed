//! The turns of a conversation.

use rbee_core::{Error, ErrorKind, Message, Result, Role};
use serde_json::value::RawValue;

use super::{
    blocks::{self, Allowed, Block, CONTENT},
    places::Place,
    rules,
};
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, missing, parse},
};

/// How the block of instructions begins in which Claude Code identifies itself to the service. It is not for the model,
/// and if it changes, no later text is in the cache.
const BILLING: &str = "x-anthropic-billing-header:";

/// A conversation, with the place of each message in the request.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub(super) messages: Vec<Message>,
    pub(super) places: Vec<Place>,
}

impl Turns {
    /// Reads `system` and `messages`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the place: `messages[2].content[0].type`.
    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self> {
        const MESSAGES: &str = "a list of messages";
        let mut turns = Self::default();
        if let Some(system) = fields.take_raw("system") {
            turns.add_instructions(system, "system")?;
        }
        let messages = fields.take_raw("messages").ok_or_else(|| missing("messages", MESSAGES))?;
        let messages: Vec<&RawValue> = parse(messages, "messages", MESSAGES)?;
        if messages.is_empty() {
            let message = "messages is empty; allowed is at least one message";
            return Err(
                Error::for_client(ErrorKind::InvalidRequest, message).with_param("messages")
            );
        }
        for (at, message) in messages.into_iter().enumerate() {
            turns.add(message, &format!("messages[{at}]"))?;
        }
        Ok(turns)
    }

    /// Checks that the model is to answer.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the place of the last message, if it is the model's own.
    pub(super) fn check_end(&self) -> Result<()> {
        match (self.messages.last(), self.places.last()) {
            (Some(last), Some(place)) if last.role == Role::Assistant => {
                let place = format!("{}.role", place.message);
                let message = format!(
                    "{place} is \"assistant\"; allowed is \"user\" in the last message: rbee does not continue an \
                     answer that has begun"
                );
                Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place))
            }
            _ => Ok(()),
        }
    }

    fn add(&mut self, value: &RawValue, name: &str) -> Result<()> {
        let mut fields = Fields::of(value, name)?;
        let role = role(&mut fields)?;
        let content = fields.take_raw("content");
        finish(fields, &[rules::MESSAGE])?;
        let place = format!("{name}.content");
        let content = content.ok_or_else(|| missing(&place, CONTENT))?;
        match role {
            Role::System => self.add_instructions(content, &place),
            Role::Assistant => self.add_answer(content, name),
            Role::User | Role::Tool => self.add_user(content, name),
        }
    }

    fn add_instructions(&mut self, value: &RawValue, name: &str) -> Result<()> {
        for (_, block) in blocks::read(value, name, Allowed::Text)? {
            if let Block::Text(text) = block
                && !text.starts_with(BILLING)
            {
                self.add_paragraph(Role::System, &text, name);
            }
        }
        Ok(())
    }

    fn add_user(&mut self, value: &RawValue, name: &str) -> Result<()> {
        for (place, block) in blocks::read(value, &format!("{name}.content"), Allowed::User)? {
            match block {
                Block::Text(text) => self.add_paragraph(Role::User, &text, name),
                Block::Result { call, text } => {
                    self.push(Message::tool_result(call, text), place);
                }
                Block::Call(_) | Block::Thinking => {}
            }
        }
        Ok(())
    }

    /// Texts of the model follow each other without a break: they are parts of one answer.
    fn add_answer(&mut self, value: &RawValue, name: &str) -> Result<()> {
        let read = blocks::read(value, &format!("{name}.content"), Allowed::Assistant)?;
        if !matches!(self.messages.last(), Some(last) if last.role == Role::Assistant) {
            self.push(Message::new(Role::Assistant, ""), name.to_owned());
        }
        let (Some(message), Some(places)) = (self.messages.last_mut(), self.places.last_mut())
        else {
            return Ok(());
        };
        name.clone_into(&mut places.message);
        for (place, block) in read {
            match block {
                Block::Text(text) => message.content.push_str(&text),
                Block::Call(call) => {
                    message.tool_calls.push(call);
                    places.calls.push(place);
                }
                Block::Result { .. } | Block::Thinking => {}
            }
        }
        Ok(())
    }

    /// Adds text to the last message if it has the same role: many templates want the roles to alternate.
    fn add_paragraph(&mut self, role: Role, text: &str, place: &str) {
        match self.messages.last_mut() {
            Some(last) if last.role == role => blocks::add_text(&mut last.content, text),
            _ => self.push(Message::new(role, text), place.to_owned()),
        }
    }

    fn push(&mut self, message: Message, place: String) {
        self.messages.push(message);
        self.places.push(Place { message: place, calls: Vec::new() });
    }
}

fn role(fields: &mut Fields<'_>) -> Result<Role> {
    const ROLES: &str = "\"user\", \"assistant\" or \"system\"";
    let name: String = fields.require("role", ROLES)?;
    match name.as_str() {
        "user" => Ok(Role::User),
        "assistant" => Ok(Role::Assistant),
        "system" => Ok(Role::System),
        other => {
            let place = fields.name("role");
            let shown: String = other.chars().take(60).collect();
            let message = format!("{place} is {shown:?}; allowed is {ROLES}");
            Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place))
        }
    }
}
