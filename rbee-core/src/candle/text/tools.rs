//! Tools, for the chat templates that have a syntax of their own for them, and for the others.

use crate::{
    answer::{AnswerFormat, ReasoningFormat, ToolFormat},
    chat::{Chat, Message, Role, Tool, ToolCall},
};

/// What a model's chat template does with tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ToolSyntax {
    /// The format of calls in the answers.
    pub(super) format: ToolFormat,
    /// False if the template does not write tools, or writes them in another syntax: then they are
    /// [described](described) in the messages.
    pub(super) is_native: bool,
}

/// Each syntax, and texts in the templates that have it; all of them must be there. The first one counts.
const NATIVE: [(ToolFormat, &[&str]); 10] = [
    (ToolFormat::QwenXml, &["tools", "<tool_call>", "<function=", "<parameter="]),
    (ToolFormat::Glm, &["tools", "<tool_call>", "<arg_key>", "<arg_value>"]),
    (ToolFormat::Seed, &["tools", "<seed:tool_call>", "<function=", "<parameter="]),
    (ToolFormat::Minimax, &["tools", "<minimax:tool_call>", "<invoke name=", "<parameter name="]),
    (ToolFormat::MistralArgs, &["tools", "[TOOL_CALLS]", "[ARGS]"]),
    (ToolFormat::Mistral, &["tools", "[TOOL_CALLS]"]),
    (ToolFormat::Hermes, &["tools", "<tool_call>", "\"arguments\""]),
    (ToolFormat::Pythonic, &["tools", "func_name1(params_name1"]),
    (ToolFormat::Pythonic, &["tools", "<|python_start|>"]),
    (ToolFormat::Llama, &["tools", "\"parameters\": dictionary of argument name"]),
];

impl ToolSyntax {
    /// The syntax of a template.
    pub(super) fn of(source: &str) -> Self {
        let native =
            NATIVE.iter().find(|(_, texts)| texts.iter().all(|text| source.contains(text)));
        // Calls as a list in one pair of tags.
        let is_other = |format| format == ToolFormat::Hermes && source.contains("<tool_calls>");
        match native.filter(|(format, _)| !is_other(*format)) {
            Some((format, _)) => Self { format: *format, is_native: true },
            None => Self { format: ToolFormat::Hermes, is_native: false },
        }
    }
}

/// The format of answers, by the source of the template and the end of a prompt that it renders.
pub(super) fn answer_format(syntax: ToolSyntax, source: &str, prompt: &str) -> AnswerFormat {
    let reasoning = if prompt.trim_end().ends_with("<think>") {
        Some(ReasoningFormat::Thinking)
    } else if source.contains("</think>") {
        Some(ReasoningFormat::Think)
    } else {
        let others =
            [("[/THINK]", ReasoningFormat::Mistral), ("</seed:think>", ReasoningFormat::Seed)];
        others.into_iter().find_map(|(tag, format)| source.contains(tag).then_some(format))
    };
    AnswerFormat { tools: Some(syntax.format), reasoning, ..AnswerFormat::default() }
}

/// The same conversation for a template that does not write tools: the instructions describe them, and calls and
/// results are text.
/// Not every template has a place for instructions (`in_system`); then the first message of the user begins with them.
pub(super) fn described(chat: &Chat, in_system: bool) -> Chat {
    let mut messages: Vec<Message> = Vec::with_capacity(chat.messages.len() + 1);
    let mut instructions = chat.can_call().then(|| instructions(chat));
    for message in &chat.messages {
        let mut content = message.content.clone();
        let role = match message.role {
            Role::System if in_system && messages.is_empty() => {
                if let Some(instructions) = instructions.take() {
                    content = format!("{content}\n\n{instructions}");
                }
                Role::System
            }
            Role::User if !in_system => {
                if let Some(instructions) = instructions.take() {
                    content = format!("{instructions}\n\n{content}");
                }
                Role::User
            }
            Role::Tool => {
                content = format!("<tool_response>\n{content}\n</tool_response>");
                Role::User
            }
            role => role,
        };
        for call in &message.tool_calls {
            if !content.is_empty() {
                content.push('\n');
            }
            content.push_str(&written(call));
        }
        // Templates want the roles to alternate, and an answer can have several calls.
        match messages.last_mut() {
            Some(Message { role: Role::User, content: before, .. })
                if message.role == Role::Tool && before.ends_with("</tool_response>") =>
            {
                before.push('\n');
                before.push_str(&content);
            }
            _ => {
                let name = message.name.clone().filter(|_| message.role != Role::Tool);
                messages.push(Message { name, ..Message::new(role, content) });
            }
        }
    }
    if let Some(instructions) = instructions {
        messages.insert(0, Message::new(Role::System, instructions));
    }
    Chat { thinking: chat.thinking, ..messages.into() }
}

/// The same conversation with an empty description of each tool that has none; `None` if all have one.
pub(super) fn with_descriptions(chat: &Chat) -> Option<Chat> {
    if chat.tools.iter().all(|tool| tool.description.is_some()) {
        return None;
    }
    let mut chat = chat.clone();
    for tool in &mut chat.tools {
        tool.description.get_or_insert_default();
    }
    Some(chat)
}

/// The text of a call, in the format of [`ToolFormat::Hermes`].
fn written(call: &ToolCall) -> String {
    let name = serde_json::Value::from(call.name.as_str());
    format!("<tool_call>\n{{\"name\": {name}, \"arguments\": {}}}\n</tool_call>", call.arguments)
}

fn instructions(chat: &Chat) -> String {
    let tools: Vec<String> = chat.tools.iter().map(signature).collect();
    format!(
        "You can call these functions. Each line describes one as a JSON object, with the JSON schema of its \
         parameters:\n<tools>\n{}\n</tools>\n\nTo call a function, write a JSON object with its name and its arguments \
         between these tags:\n<tool_call>\n{{\"name\": \"function name\", \"arguments\": {{\"parameter\": \"value\"}}}}\n\
         </tool_call>\n\nThe result comes between <tool_response> and </tool_response>.",
        tools.join("\n")
    )
}

fn signature(tool: &Tool) -> String {
    let [name, description] = [Some(&tool.name), tool.description.as_ref()]
        .map(|text| text.map(|text| serde_json::Value::from(text.as_str())));
    let description = description.map(|text| format!(", \"description\": {text}"));
    format!(
        "{{\"name\": {}{}, \"parameters\": {}}}",
        name.unwrap_or_default(),
        description.unwrap_or_default(),
        tool.parameters.as_deref().unwrap_or("{}")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syntax_of_a_template_is_found_and_another_one_is_described() {
        let qwen = "{% if tools %}<tool_call>\\n{\"name\": <n>, \"arguments\": <a>}{% endif %}";
        let cases = [
            (qwen, ToolFormat::Hermes, true),
            ("{% if tools %}[AVAILABLE_TOOLS]{% endif %}[TOOL_CALLS]", ToolFormat::Mistral, true),
            (
                "{{ tools }}{\"name\": function name, \"parameters\": dictionary of argument name and its value}",
                ToolFormat::Llama,
                true,
            ),
            ("{{ tools }}[func_name1(params_name1=params_value1...)]", ToolFormat::Pythonic, true),
            (
                "{% for tool in tools %}<tool_call><function=f><parameter=a>\"arguments\"",
                ToolFormat::QwenXml,
                true,
            ),
            ("{{ tools }}<tool_call>f<arg_key>a</arg_key><arg_value>1", ToolFormat::Glm, true),
            (
                "{{ tools }}'<minimax:tool_call>'<invoke name=\"f\"><parameter name=\"a\">",
                ToolFormat::Minimax,
                true,
            ),
            (
                "{{ tools }}<seed:tool_call><function=f><parameter=a>1</parameter>",
                ToolFormat::Seed,
                true,
            ),
            ("{{ tools }}[TOOL_CALLS]{{ name }}[ARGS]", ToolFormat::MistralArgs, true),
            // Calls of which rbee does not know the syntax.
            ("{{ tools }}<function=f>{}</function>", ToolFormat::Hermes, false),
            ("{{ tools }}<tool_call><arg_key>a</arg_key>", ToolFormat::Hermes, false),
            ("{{ tools }}<tool_call><tool_calls>[{\"arguments\"", ToolFormat::Hermes, false),
            ("{{ tools }}<｜tool▁calls▁begin｜>", ToolFormat::Hermes, false),
            ("{{ messages[0].content }}", ToolFormat::Hermes, false),
        ];
        for (source, format, is_native) in cases {
            assert_eq!(ToolSyntax::of(source), ToolSyntax { format, is_native }, "{source}");
        }
    }

    #[test]
    fn reasoning_is_found_in_the_template_and_where_a_prompt_ends_inside_of_it() {
        let syntax = ToolSyntax::of("");
        let of = |source, prompt| answer_format(syntax, source, prompt).reasoning;
        assert_eq!(of("{{ 'x' }}", "user: x"), None);
        assert_eq!(of("...split('</think>')", "user: x"), Some(ReasoningFormat::Think));
        assert_eq!(of("</think>", "assistant:<think>\n"), Some(ReasoningFormat::Thinking));
        assert_eq!(of("'</seed:think>'", "assistant\n"), Some(ReasoningFormat::Seed));
        assert_eq!(
            of("'[THINK]' + text + '[/THINK]'", "[INST]x[/INST]"),
            Some(ReasoningFormat::Mistral)
        );
    }

    #[test]
    fn tools_calls_and_results_are_described_in_messages_whose_roles_alternate() {
        let call = |id: &str| ToolCall {
            id: id.into(),
            name: "weather".into(),
            arguments: r#"{"city": "Bern"}"#.into(),
        };
        let mut chat: Chat = vec![
            Message::new(Role::User, "Rain?"),
            Message {
                tool_calls: vec![call("a"), call("b")],
                ..Message::new(Role::Assistant, "Let me look.")
            },
            Message::tool_result("a", "yes"),
            Message::tool_result("b", "no"),
        ]
        .into();
        chat.tools = vec![Tool::new("weather", "Says \"rain\".", r#"{"type": "object"}"#)];
        let plain = described(&chat, true);
        assert!(plain.tools.is_empty() && !plain.has_tools());
        let roles: Vec<Role> = plain.messages.iter().map(|message| message.role).collect();
        assert_eq!(roles, [Role::System, Role::User, Role::Assistant, Role::User]);
        let line = r#"{"name": "weather", "description": "Says \"rain\".", "parameters": {"type": "object"}}"#;
        assert!(plain.messages[0].content.contains(line), "{}", plain.messages[0].content);
        let called = "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Bern\"}}\n</tool_call>";
        assert_eq!(plain.messages[2].content, format!("Let me look.\n{called}\n{called}"));
        assert_eq!(
            plain.messages[3].content,
            "<tool_response>\nyes\n</tool_response>\n<tool_response>\nno\n</tool_response>"
        );
        chat.messages.insert(0, Message::new(Role::System, "Be kind."));
        let content = &described(&chat, true).messages[0].content;
        assert!(content.starts_with("Be kind.\n\nYou can call"), "{content}");
        let messages = described(&chat, false).messages;
        assert_eq!(messages[0].content, "Be kind.");
        let content = &messages[1].content;
        assert!(content.starts_with("You can call") && content.ends_with("\n\nRain?"), "{content}");
    }
}
