//! Answers with several calls, for templates that allow one call in each.

use crate::chat::{Chat, Message, Role};

/// The same conversation with one call in each answer, followed by its result; `None` if it is so already. Only the
/// first of the answers that come of one has its text.
pub(super) fn of_several(chat: &Chat) -> Option<Chat> {
    if chat.messages.iter().all(|message| message.tool_calls.len() < 2) {
        return None;
    }
    let mut messages = Vec::with_capacity(chat.messages.len());
    let mut rest = chat.messages.iter().peekable();
    while let Some(message) = rest.next() {
        if message.tool_calls.len() < 2 {
            messages.push(message.clone());
            continue;
        }
        let mut results: Vec<&Message> = Vec::new();
        while let Some(result) = rest.next_if(|next| next.role == Role::Tool) {
            results.push(result);
        }
        for (at, call) in message.tool_calls.iter().enumerate() {
            let content = if at == 0 { message.content.clone() } else { String::new() };
            messages.push(Message { content, tool_calls: vec![call.clone()], ..message.clone() });
            let is_of_call = |result: &Message| result.tool_call_id.as_ref() == Some(&call.id);
            messages.extend(results.extract_if(.., |result| is_of_call(result)).cloned());
        }
        messages.extend(results.into_iter().cloned());
    }
    Some(Chat { messages, ..chat.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::ToolCall;

    #[test]
    fn each_call_has_an_answer_of_its_own_and_its_result_after_it() {
        let call = |id: &str| ToolCall { id: id.into(), name: "f".into(), arguments: "{}".into() };
        let answer = |text: &str, ids: &[&str]| Message {
            tool_calls: ids.iter().map(|id| call(id)).collect(),
            ..Message::new(Role::Assistant, text)
        };
        let user = Message::new(Role::User, "x");
        let result = |id: &str| Message::tool_result(id, id);
        let chat = Chat::from(vec![
            user.clone(),
            answer("Let me look.", &["a", "b", "c"]),
            result("b"),
            result("a"),
            user.clone(),
        ]);
        let expected = vec![
            user.clone(),
            answer("Let me look.", &["a"]),
            result("a"),
            answer("", &["b"]),
            result("b"),
            answer("", &["c"]),
            user.clone(),
        ];
        assert_eq!(of_several(&chat).map(|chat| chat.messages), Some(expected));
        assert_eq!(of_several(&vec![user, answer("", &["a"]), result("a")].into()), None);
    }
}
