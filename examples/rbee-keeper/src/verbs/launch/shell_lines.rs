//! The variables and the command of a client as lines for a POSIX shell, or as JSON.

use std::{borrow::Cow, ffi::OsString};

use super::{
    clients::ClientKind,
    setup::{Setting, Setup},
};
use crate::{
    Keeper,
    failure::{Exit, Failure},
};

/// The variable from which the lines take the key, if no file has it.
const KEY: &str = "RBEE_API_KEY";

/// Prints them. The key itself is not printed: the lines read it from where `rbee` has it.
pub(super) fn print(
    keeper: &Keeper,
    client: ClientKind,
    setup: &Setup,
    arguments: &[OsString],
) -> Result<Exit, Failure> {
    let arguments: Vec<Cow<'_, str>> = setup
        .arguments
        .iter()
        .map(|argument| Cow::from(&**argument))
        .chain(arguments.iter().map(|argument| argument.to_string_lossy()))
        .collect();
    if keeper.screen.is_json() {
        keeper.screen.document(&document(client, setup, &arguments))?;
        return Ok(Exit::Ok);
    }
    let file = keeper.files.token.as_ref().map(|file| super::absolute(file)).transpose()?;
    let key = match file {
        Some(file) => format!("\"$(cat {})\"", quoted(&file.to_string_lossy())),
        None => format!("\"${KEY}\""),
    };
    keeper.screen.chunk(&lines(client, setup, &arguments, &key))?;
    if keeper.typed.api_key.is_some() {
        keeper.screen.note(&format!("the lines take the key from {KEY}; set it first"));
    }
    Ok(Exit::Ok)
}

/// The lines, with this expression for the key.
fn lines(client: ClientKind, setup: &Setup, arguments: &[Cow<'_, str>], key: &str) -> String {
    let mut lines = String::new();
    for name in &setup.removed {
        lines += &format!("unset {name}\n");
    }
    for (name, setting) in &setup.variables {
        let value = match setting {
            Setting::Text(text) => quoted(text),
            Setting::Key => key.into(),
        };
        lines += &format!("export {name}={value}\n");
    }
    lines += client.program();
    for argument in arguments {
        lines += " ";
        lines += &quoted(argument);
    }
    lines + "\n"
}

fn document(client: ClientKind, setup: &Setup, arguments: &[Cow<'_, str>]) -> serde_json::Value {
    let text = |(name, setting): &(&'static str, Setting)| match setting {
        Setting::Text(text) => Some(((*name).to_owned(), text.clone().into())),
        Setting::Key => None,
    };
    let environment: serde_json::Map<_, _> = setup.variables.iter().filter_map(text).collect();
    let mut keys = setup.variables.iter().filter(|(_, setting)| *setting == Setting::Key);
    serde_json::json!({
        "program": client.program(),
        "arguments": arguments,
        "environment": environment,
        "unset": setup.removed,
        // The variable that must have the key.
        "key_variable": keys.next().map(|(name, _)| name),
    })
}

/// The text as one word of a POSIX shell.
fn quoted(text: &str) -> Cow<'_, str> {
    let is_plain = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '_' | '-' | '.' | '/' | ':' | '@' | '%' | '+' | ',')
    };
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.into(),
        false => format!("'{}'", text.replace('\'', r"'\''")).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::clients::tests::target, *};

    #[test]
    fn every_text_is_one_word_of_the_shell() {
        for (text, word) in [
            ("a-b/c:1", "a-b/c:1"),
            ("", "''"),
            ("a b", "'a b'"),
            ("$(rm x)`y`\"", "'$(rm x)`y`\"'"),
            ("it's", r"'it'\''s'"),
            ("a\nb", "'a\nb'"),
        ] {
            assert_eq!(quoted(text), word);
        }
    }

    #[test]
    fn the_lines_set_the_variables_and_run_the_client_without_showing_the_key() {
        let setup = ClientKind::Aider.setup(&target());
        let arguments: Vec<_> = setup.arguments.iter().map(|text| Cow::from(&**text)).collect();
        assert_eq!(
            lines(ClientKind::Aider, &setup, &arguments, "\"$(cat /key)\""),
            "export OPENAI_API_BASE=http://127.0.0.1:7833/v1\n\
             export OPENAI_API_KEY=\"$(cat /key)\"\n\
             aider --model openai/org/bee:7b --weak-model openai/org/bee:7b --model-metadata-file \
             /data/launch/aider-org_bee_7b.json --no-show-model-warnings\n"
        );
        let claude = ClientKind::Claude.setup(&target());
        let first = lines(ClientKind::Claude, &claude, &[], "x");
        assert!(first.starts_with("unset ANTHROPIC_API_KEY\n"), "{first}");
    }

    #[test]
    fn as_json_the_variable_of_the_key_is_named() {
        let setup = ClientKind::Codex.setup(&target());
        let document = document(ClientKind::Codex, &setup, &["exec".into()]);
        assert_eq!(document["key_variable"], "RBEE_TOKEN");
        assert_eq!(document["arguments"], serde_json::json!(["exec"]));
        assert!(!document.to_string().contains("rbee-secret"));
    }
}
