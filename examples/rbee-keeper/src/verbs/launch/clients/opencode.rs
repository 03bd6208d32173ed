//! opencode: a provider in its configuration, which a variable can have too.

use serde_json::{Value, json};

use super::super::{
    json_edit,
    setup::{Setting, Setup, Target, most_output},
};

/// The variable that names the certificates to trust in addition.
pub(super) const CA_CERT: &str = "NODE_EXTRA_CA_CERTS";

/// The name of the provider.
const PROVIDER: &str = "rbee";
/// The variable with the key.
const KEY: &str = "RBEE_TOKEN";
const SCHEMA: &str = "https://opencode.ai/config.json";

/// The provider with the model, with this key.
fn provider(target: &Target, key: Option<&str>) -> Value {
    // In the order of the alphabet, which does not depend on how serde_json orders names.
    let mut options = serde_json::Map::new();
    if let Some(key) = key {
        options.insert("apiKey".into(), key.into());
    }
    options.insert("baseURL".into(), target.openai_url().into());
    let mut model = serde_json::Map::new();
    if let Some(context) = target.context {
        let limit = json!({ "context": context, "output": most_output(context) });
        model.insert("limit".into(), limit);
    }
    model.insert("name".into(), target.model.clone().into());
    let mut models = serde_json::Map::new();
    models.insert(target.model.clone(), model.into());
    json!({
        "models": models,
        "name": PROVIDER,
        "npm": "@ai-sdk/openai-compatible",
        "options": options,
    })
}

/// The model as opencode names it.
fn model(target: &Target) -> String {
    format!("{PROVIDER}/{}", target.model)
}

pub(super) fn setup(target: &Target) -> Setup {
    let reference = format!("{{env:{KEY}}}");
    let key = target.key.as_ref().map(|_| &*reference);
    let config = json!({
        "model": model(target),
        "provider": { PROVIDER: provider(target, key) },
        // For titles and summaries.
        "small_model": model(target),
    });
    let mut variables = vec![("OPENCODE_CONFIG_CONTENT", Setting::Text(config.to_string()))];
    if target.key.is_some() {
        variables.push((KEY, Setting::Key));
    }
    variables.extend(target.ca_variable(CA_CERT));
    Setup { variables, ..Setup::default() }
}

pub(super) fn edited(text: &str, target: &Target) -> Result<String, String> {
    let mut text = text.to_owned();
    if text.trim().is_empty() {
        text = json_edit::set(&text, &["$schema"], &SCHEMA.into())?;
    }
    let provider = provider(target, target.key.as_deref());
    text = json_edit::set(&text, &["model"], &model(target).into())?;
    text = json_edit::set(&text, &["small_model"], &model(target).into())?;
    json_edit::set(&text, &["provider", PROVIDER], &provider)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{plain, target, variables},
        *,
    };

    #[test]
    fn it_is_started_with_its_configuration_in_a_variable_and_the_key_in_another_one() {
        let variables = variables(&setup(&target()));
        assert_eq!(variables[1..], ["RBEE_TOKEN=<key>"]);
        let config = variables[0].strip_prefix("OPENCODE_CONFIG_CONTENT=").unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(config).unwrap(),
            json!({
                "provider": { "rbee": {
                    "npm": "@ai-sdk/openai-compatible",
                    "name": "rbee",
                    "options": { "baseURL": "http://127.0.0.1:7833/v1", "apiKey": "{env:RBEE_TOKEN}" },
                    "models": { "org/bee:7b": {
                        "name": "org/bee:7b",
                        "limit": { "context": 32_768, "output": 8_192 },
                    } },
                } },
                "model": "rbee/org/bee:7b",
                "small_model": "rbee/org/bee:7b",
            })
        );
    }

    #[test]
    fn without_a_key_and_a_context_nothing_is_said_about_them() {
        let variables = variables(&setup(&plain()));
        assert_eq!(variables.len(), 1);
        assert!(!variables[0].contains("apiKey") && !variables[0].contains("limit"));
    }

    #[test]
    fn the_new_file_is_complete() {
        assert_eq!(
            edited("", &target()).unwrap(),
            r#"{
  "$schema": "https://opencode.ai/config.json",
  "model": "rbee/org/bee:7b",
  "small_model": "rbee/org/bee:7b",
  "provider": {
    "rbee": {
      "models": {
        "org/bee:7b": {
          "limit": {
            "context": 32768,
            "output": 8192
          },
          "name": "org/bee:7b"
        }
      },
      "name": "rbee",
      "npm": "@ai-sdk/openai-compatible",
      "options": {
        "apiKey": "rbee-secret",
        "baseURL": "http://127.0.0.1:7833/v1"
      }
    }
  }
}
"#
        );
    }

    #[test]
    fn other_providers_stay_as_they_are() {
        let text =
            "{\n\t\"provider\": {\n\t\t\"x\": {\"a\": [1,  2]}\n\t},\n\t\"model\": \"x/y\"\n}";
        let edited = edited(text, &plain()).unwrap();
        let start = "{\n\t\"provider\": {\n\t\t\"x\": {\"a\": [1,  2]},\n\t\t\"rbee\": {\n\t\t\t\"models\": {";
        assert!(edited.starts_with(start), "{edited}");
        let end =
            "\n\t},\n\t\"model\": \"rbee/org/bee:7b\",\n\t\"small_model\": \"rbee/org/bee:7b\"\n}";
        assert!(edited.ends_with(end), "{edited}");
    }
}
