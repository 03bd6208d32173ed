//! Codex: a provider of its own, with the API of responses.

use toml_edit::{DocumentMut, Item, Table, TableLike, Value};

use super::super::setup::{Setting, Setup, Target};

/// The variable that names the certificates to trust.
pub(super) const CA_CERT: &str = "CODEX_CA_CERTIFICATE";

/// The name of the provider.
const PROVIDER: &str = "rbee";
/// The variable with the key.
const KEY: &str = "RBEE_TOKEN";

/// The settings of the model, without the model itself.
fn settings(target: &Target) -> Vec<(&'static str, Value)> {
    let mut settings = vec![
        ("model_provider", Value::from(PROVIDER)),
        // The queen cannot search the web.
        ("web_search", Value::from("disabled")),
    ];
    if let Some(context) = target.context {
        settings.push(("model_context_window", Value::from(i64::from(context))));
    }
    settings
}

/// The provider, without the key.
fn provider(target: &Target) -> Vec<(&'static str, Value)> {
    vec![
        ("name", Value::from(PROVIDER)),
        ("base_url", Value::from(target.openai_url())),
        ("wire_api", Value::from("responses")),
    ]
}

pub(super) fn setup(target: &Target) -> Setup {
    let mut provider = provider(target);
    let mut variables: Vec<_> = target.ca_variable(CA_CERT).into_iter().collect();
    if target.key.is_some() {
        provider.push(("env_key", Value::from(KEY)));
        variables.push((KEY, Setting::Key));
    }
    let provider = provider
        .into_iter()
        .map(|(name, value)| (format!("model_providers.{PROVIDER}.{name}"), value));
    let settings = settings(target).into_iter().map(|(name, value)| (name.to_owned(), value));
    let mut arguments = Vec::new();
    for (name, value) in settings.chain(provider) {
        arguments.extend(["-c".into(), format!("{name}={value}")]);
    }
    arguments.extend(["-m".into(), target.model.clone()]);
    Setup { variables, arguments, ..Setup::default() }
}

pub(super) fn edited(text: &str, target: &Target) -> Result<String, String> {
    let mut document: DocumentMut =
        text.parse().map_err(|error: toml_edit::TomlError| error.message_with_line(text))?;
    let root = document.as_table_mut();
    set(root, "model", Value::from(&*target.model));
    for (name, value) in settings(target) {
        set(root, name, value);
    }
    if target.context.is_none() {
        // It would be that of another model.
        root.remove("model_context_window");
    }
    let mut header = Table::new();
    header.set_implicit(true);
    let providers = table(root, "model_providers", header)?;
    let ours = table(providers, PROVIDER, Table::new())?;
    for (name, value) in provider(target) {
        set(ours, name, value);
    }
    match &target.key {
        Some(key) => set(ours, "experimental_bearer_token", Value::from(&**key)),
        None => {
            ours.remove("experimental_bearer_token");
        }
    }
    // It would be used instead of the saved key.
    ours.remove("env_key");
    Ok(document.to_string())
}

/// Sets a value and keeps the spaces and the comments around the old one.
fn set(table: &mut dyn TableLike, name: &str, mut value: Value) {
    match table.get_mut(name) {
        Some(old) => {
            if let Some(old) = old.as_value() {
                *value.decor_mut() = old.decor().clone();
            }
            *old = Item::Value(value);
        }
        None => {
            table.insert(name, Item::Value(value));
        }
    }
}

/// The table with this name, which is made if it is missing.
fn table<'a>(
    parent: &'a mut dyn TableLike,
    name: &str,
    missing: Table,
) -> Result<&'a mut dyn TableLike, String> {
    let item = parent.entry(name).or_insert(Item::Table(missing));
    item.as_table_like_mut().ok_or_else(|| format!("{name} is not a table"))
}

/// A message with the line of the error.
trait MessageWithLine {
    fn message_with_line(&self, text: &str) -> String;
}

impl MessageWithLine for toml_edit::TomlError {
    fn message_with_line(&self, text: &str) -> String {
        let before = self.span().and_then(|span| text.get(..span.start));
        let line = before.map(|before| before.matches('\n').count() + 1);
        let message = self.message().trim().replace('\n', ", ");
        line.map_or_else(|| message.clone(), |line| format!("line {line}: {message}"))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{plain, target, variables},
        *,
    };

    #[test]
    fn it_is_started_with_a_provider_and_the_key_in_a_variable() {
        let setup = setup(&target());
        assert_eq!(variables(&setup), ["RBEE_TOKEN=<key>"]);
        assert_eq!(
            setup.arguments,
            [
                "-c",
                r#"model_provider="rbee""#,
                "-c",
                r#"web_search="disabled""#,
                "-c",
                "model_context_window=32768",
                "-c",
                r#"model_providers.rbee.name="rbee""#,
                "-c",
                r#"model_providers.rbee.base_url="http://127.0.0.1:7833/v1""#,
                "-c",
                r#"model_providers.rbee.wire_api="responses""#,
                "-c",
                r#"model_providers.rbee.env_key="RBEE_TOKEN""#,
                "-m",
                "org/bee:7b",
            ]
        );
    }

    #[test]
    fn without_a_key_and_a_context_nothing_is_said_about_them() {
        let setup = setup(&plain());
        assert_eq!(variables(&setup), Vec::<String>::new());
        let arguments = setup.arguments.join(" ");
        assert!(!arguments.contains("env_key") && !arguments.contains("window"), "{arguments}");
    }

    #[test]
    fn the_new_file_is_complete() {
        assert_eq!(
            edited("", &target()).unwrap(),
            r#"model = "org/bee:7b"
model_provider = "rbee"
web_search = "disabled"
model_context_window = 32768

[model_providers.rbee]
name = "rbee"
base_url = "http://127.0.0.1:7833/v1"
wire_api = "responses"
experimental_bearer_token = "rbee-secret"
"#
        );
    }

    #[test]
    fn comments_and_everything_else_stay_as_they_are() {
        let text = r#"# My settings.
model = "gpt-5"  # the usual one
model_context_window = 4
approval_policy = "never"

[model_providers.rbee] # old
base_url = "http://elsewhere/v1"
env_key = "RBEE_TOKEN"

[projects."/home/lily"]
trust_level = "trusted"
"#;
        assert_eq!(
            edited(text, &plain()).unwrap(),
            r#"# My settings.
model = "org/bee:7b"  # the usual one
approval_policy = "never"
model_provider = "rbee"
web_search = "disabled"

[model_providers.rbee] # old
base_url = "http://127.0.0.1:7833/v1"
name = "rbee"
wire_api = "responses"

[projects."/home/lily"]
trust_level = "trusted"
"#
        );
    }

    #[test]
    fn providers_may_be_written_in_any_form() {
        for text in [
            "model_providers = { x = { name = \"x\" } }\n",
            "model_providers = { rbee = { name = \"old\" }, x = { name = \"x\" } }\n",
            "model_providers.x.name = \"x\"\n",
            "[model_providers]\nx = { name = \"x\" }\n",
            "[model_providers.x]\nname = \"x\"\n",
        ] {
            let edited = edited(text, &target()).unwrap();
            let document: DocumentMut = edited.parse().unwrap();
            let providers = &document["model_providers"];
            assert_eq!(providers["x"]["name"].as_str(), Some("x"), "{edited}");
            let ours = &providers["rbee"];
            assert_eq!(ours["name"].as_str(), Some("rbee"), "{edited}");
            assert_eq!(ours["wire_api"].as_str(), Some("responses"), "{edited}");
            assert_eq!(ours["experimental_bearer_token"].as_str(), Some("rbee-secret"), "{edited}");
        }
    }

    #[test]
    fn a_file_that_is_not_understood_is_refused_with_the_line() {
        for (text, why) in [
            ("a = 1\nmodel = = 2\n", "line 2: "),
            ("model_providers = 3\n", "model_providers is not a table"),
        ] {
            let refused = edited(text, &target()).unwrap_err();
            assert!(refused.starts_with(why), "{refused}");
        }
    }
}
