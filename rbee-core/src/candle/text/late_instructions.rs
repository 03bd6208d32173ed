//! Instructions as text of the user, for templates that allow them only as the first message, or not at all.

use crate::chat::{Chat, Message, Role};

/// The same conversation with all later instructions as text of the user; `None` if it has none. Instructions directly
/// after the first ones are added to these, and messages of the user that follow each other become one.
pub(super) fn of_user(chat: &Chat) -> Option<Chat> {
    let is_late = |(at, message): (usize, &Message)| at > 0 && message.role == Role::System;
    if !chat.messages.iter().enumerate().any(is_late) {
        return None;
    }
    Some(with_roles(chat, |before, role| match role {
        Role::System if before.iter().any(|before| before.role != Role::System) => Role::User,
        role => role,
    }))
}

/// The same conversation with all instructions as text of the user; `None` if it has none.
pub(super) fn all_of_user(chat: &Chat) -> Option<Chat> {
    let is_system = |role| role == Role::System;
    chat.messages
        .iter()
        .any(|message| is_system(message.role))
        .then(|| with_roles(chat, |_, role| if is_system(role) { Role::User } else { role }))
}

/// The same conversation with the role that `role_of` gives for the messages before one and its role. Neighboring
/// instructions, and neighboring messages of the user, become one.
fn with_roles(chat: &Chat, role_of: impl Fn(&[Message], Role) -> Role) -> Chat {
    let mut messages: Vec<Message> = Vec::with_capacity(chat.messages.len());
    for message in &chat.messages {
        let role = role_of(&messages, message.role);
        match messages.last_mut() {
            Some(last) if last.role == role && matches!(role, Role::System | Role::User) => {
                last.content.push_str("\n\n");
                last.content.push_str(&message.content);
            }
            _ => messages.push(Message { role, ..message.clone() }),
        }
    }
    Chat { messages, ..chat.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_instructions_become_text_of_the_user_and_the_first_ones_stay() {
        let turn = |role, text: &str| Message::new(role, text);
        let (system, user, answer) = (Role::System, Role::User, Role::Assistant);
        let chat = Chat::from(vec![
            turn(system, "a"),
            turn(system, "b"),
            turn(user, "c"),
            turn(system, "d"),
            turn(answer, "e"),
            turn(answer, "f"),
            turn(system, "g"),
            turn(user, "h"),
        ]);
        let expected = vec![
            turn(system, "a\n\nb"),
            turn(user, "c\n\nd"),
            turn(answer, "e"),
            turn(answer, "f"),
            turn(user, "g\n\nh"),
        ];
        assert_eq!(of_user(&chat).map(|chat| chat.messages), Some(expected));
        let plain = Chat::from(vec![turn(system, "a"), turn(user, "b"), turn(user, "c")]);
        assert_eq!(of_user(&plain), None);
        let all = all_of_user(&plain).map(|chat| chat.messages);
        assert_eq!(all, Some(vec![turn(user, "a\n\nb\n\nc")]));
        assert_eq!(all_of_user(&vec![turn(user, "b"), turn(user, "c")].into()), None);
    }
}
