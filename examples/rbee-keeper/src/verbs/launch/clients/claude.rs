//! Claude Code: variables, which its settings can have too.

use serde_json::Value;

use super::super::{
    json_edit,
    setup::{Setting, Setup, Target, most_output},
};

/// The variable with the key.
const KEY: &str = "ANTHROPIC_AUTH_TOKEN";
/// A key of Anthropic, which must not be sent to the queen.
const OTHER_KEY: &str = "ANTHROPIC_API_KEY";
/// The variables that name models: that of the conversation, and those for the aliases of models.
const MODELS: [&str; 5] = [
    "ANTHROPIC_MODEL",
    "ANTHROPIC_DEFAULT_FABLE_MODEL",
    "ANTHROPIC_DEFAULT_OPUS_MODEL",
    "ANTHROPIC_DEFAULT_SONNET_MODEL",
    "ANTHROPIC_DEFAULT_HAIKU_MODEL",
];
/// With each of these, another server, another key or another model would be used.
const REMOVED: [&str; 7] = [
    OTHER_KEY,
    "ANTHROPIC_SMALL_FAST_MODEL",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_SUBAGENT_MODEL",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_VERTEX",
];

/// The variables without the key.
fn settings(target: &Target) -> Vec<(&'static str, Setting)> {
    let mut settings = vec![("ANTHROPIC_BASE_URL", Setting::from(&*target.url))];
    settings.extend(MODELS.map(|name| (name, Setting::from(&*target.model))));
    if let Some(context) = target.context {
        // It expects 200,000 tokens of a model that it does not know, and would shorten the conversation too late.
        settings.push(("CLAUDE_CODE_MAX_CONTEXT_TOKENS", context.to_string().into()));
        let most = most_output(context).to_string();
        settings.push(("CLAUDE_CODE_MAX_OUTPUT_TOKENS", most.into()));
    }
    // Without this, the prompt begins with a text that changes, and nothing computed for one request helps the next.
    settings.push(("CLAUDE_CODE_ATTRIBUTION_HEADER", "0".into()));
    settings.push(("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".into()));
    settings.extend(target.ca_variable("NODE_EXTRA_CA_CERTS"));
    settings
}

pub(super) fn setup(target: &Target) -> Setup {
    let mut variables = settings(target);
    // Without a key it asks the user to log in.
    variables.push((KEY, target.key_setting()));
    Setup { variables, removed: REMOVED.into(), ..Setup::default() }
}

pub(super) fn edited(text: &str, target: &Target) -> Result<String, String> {
    let key = target.key_or_placeholder();
    // The settings cannot remove a variable; an empty key is no key.
    let mut all = vec![(KEY, key.to_owned()), (OTHER_KEY, String::new())];
    all.extend(
        settings(target).into_iter().map(|(name, set)| (name, set.value(Some(key)).to_owned())),
    );
    let mut text = text.to_owned();
    for (name, value) in all {
        text = json_edit::set(&text, &["env", name], &Value::from(value))?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        super::tests::{plain, target, variables},
        *,
    };

    #[test]
    fn it_is_started_with_variables_for_every_alias_and_without_other_keys() {
        let setup = setup(&target());
        assert_eq!(
            variables(&setup),
            [
                "ANTHROPIC_BASE_URL=http://127.0.0.1:7833",
                "ANTHROPIC_MODEL=org/bee:7b",
                "ANTHROPIC_DEFAULT_FABLE_MODEL=org/bee:7b",
                "ANTHROPIC_DEFAULT_OPUS_MODEL=org/bee:7b",
                "ANTHROPIC_DEFAULT_SONNET_MODEL=org/bee:7b",
                "ANTHROPIC_DEFAULT_HAIKU_MODEL=org/bee:7b",
                "CLAUDE_CODE_MAX_CONTEXT_TOKENS=32768",
                "CLAUDE_CODE_MAX_OUTPUT_TOKENS=8192",
                "CLAUDE_CODE_ATTRIBUTION_HEADER=0",
                "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
                "ANTHROPIC_AUTH_TOKEN=<key>",
            ]
        );
        assert_eq!(setup.removed, REMOVED);
        assert!(setup.arguments.is_empty() && setup.file.is_none());
    }

    #[test]
    fn without_a_key_it_gets_a_placeholder_and_does_not_ask_for_a_login() {
        let variables = variables(&setup(&plain()));
        assert!(variables.contains(&"ANTHROPIC_AUTH_TOKEN=none".into()), "{variables:?}");
        assert!(!variables.iter().any(|set| set.contains("TOKENS=")), "{variables:?}");
    }

    #[test]
    fn the_settings_get_the_same_variables_and_keep_the_rest() {
        let text = "{\n  \"model\": \"opus\",\n  \"env\": { \"ANTHROPIC_API_KEY\": \"sk-1\", \"A\": \"b\" }\n}\n";
        let edited = edited(text, &target()).unwrap();
        let start =
            "{\n  \"model\": \"opus\",\n  \"env\": { \"ANTHROPIC_API_KEY\": \"\", \"A\": \"b\", ";
        assert!(edited.starts_with(start), "{edited}");
        let settings: Value = serde_json::from_str(&edited).unwrap();
        let mut env = settings["env"].clone();
        for (name, value) in super::settings(&target()) {
            let found = env.as_object_mut().unwrap().remove(name);
            assert_eq!(found, Some(json!(value.value(None))), "{name}");
        }
        assert_eq!(env, json!({ "A": "b", KEY: "rbee-secret", OTHER_KEY: "" }));
    }
}
