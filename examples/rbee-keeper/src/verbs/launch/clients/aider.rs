//! aider: the API in OpenAI's format, and a file that tells the context of the model.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::super::{
    setup::{OwnFile, Setting, Setup, Target, most_output},
    yaml_edit,
};

/// The variable that names the certificates to trust, instead of those of the system.
pub(super) const CA_CERT: &str = "SSL_CERT_FILE";

/// The model as aider names it: the API, and the name there.
fn model(target: &Target) -> String {
    format!("openai/{}", target.model)
}

/// The file that tells the context of the model, if it is known.
pub(super) fn metadata(target: &Target) -> Option<OwnFile> {
    let context = target.context?;
    let most = most_output(context);
    let facts = json!({
        "input_cost_per_token": 0,
        "litellm_provider": "openai",
        "max_input_tokens": context,
        "max_output_tokens": most,
        "max_tokens": most,
        "mode": "chat",
        "output_cost_per_token": 0,
    });
    let mut models = serde_json::Map::new();
    models.insert(model(target), facts);
    Some(OwnFile { path: metadata_path(target), text: format!("{:#}\n", Value::Object(models)) })
}

/// One file for each model, because aider may run with several of them at the same time.
fn metadata_path(target: &Target) -> PathBuf {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = target.model.chars().map(|c| if is_plain(c) { c } else { '_' }).collect();
    // The longest name of a file is 255 bytes in most file systems.
    target.directory.join(format!("aider-{:.200}.json", name))
}

pub(super) fn setup(target: &Target) -> Setup {
    let mut variables = vec![
        ("OPENAI_API_BASE", Setting::Text(target.openai_url())),
        ("OPENAI_API_KEY", target.key_setting()),
    ];
    variables.extend(target.ca_variable(CA_CERT));
    let model = model(target);
    // The weak model writes commit messages and summaries.
    let mut arguments = vec!["--model".into(), model.clone(), "--weak-model".into(), model];
    let file = metadata(target);
    if let Some(file) = &file {
        arguments.extend(["--model-metadata-file".into(), file.path.display().to_string()]);
    }
    // It knows no model of the queen, and would open its documentation.
    arguments.push("--no-show-model-warnings".into());
    Setup { variables, arguments, file, ..Setup::default() }
}

pub(super) fn edited(text: &str, target: &Target) -> Result<String, String> {
    let model = Value::from(model(target));
    let mut values = vec![
        ("model", model.clone()),
        ("weak-model", model),
        ("openai-api-base", target.openai_url().into()),
        ("openai-api-key", target.key_or_placeholder().into()),
        ("show-model-warnings", false.into()),
    ];
    if let Some(file) = metadata(target) {
        values.push(("model-metadata-file", file.path.display().to_string().into()));
    }
    yaml_edit::set(text, &values)
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{plain, target, variables, written},
        *,
    };

    #[test]
    fn it_is_started_with_the_api_in_variables_and_the_model_in_arguments() {
        let setup = setup(&target());
        let expected = ["OPENAI_API_BASE=http://127.0.0.1:7833/v1", "OPENAI_API_KEY=<key>"];
        assert_eq!(variables(&setup), expected);
        assert_eq!(
            setup.arguments,
            [
                "--model",
                "openai/org/bee:7b",
                "--weak-model",
                "openai/org/bee:7b",
                "--model-metadata-file",
                "/data/launch/aider-org_bee_7b.json",
                "--no-show-model-warnings",
            ]
        );
        let (path, facts) = written(&setup).unwrap();
        assert_eq!(path, "/data/launch/aider-org_bee_7b.json");
        let expected = json!({ "openai/org/bee:7b": {
            "litellm_provider": "openai",
            "mode": "chat",
            "max_input_tokens": 32_768,
            "max_output_tokens": 8_192,
            "max_tokens": 8_192,
            "input_cost_per_token": 0,
            "output_cost_per_token": 0,
        } });
        assert_eq!(facts, expected);
    }

    #[test]
    fn without_a_context_there_is_no_file_and_without_a_key_a_placeholder() {
        let setup = setup(&plain());
        assert_eq!(variables(&setup)[1], "OPENAI_API_KEY=none");
        assert!(setup.file.is_none() && !setup.arguments.join(" ").contains("metadata"));
    }

    #[test]
    fn the_new_file_is_complete() {
        assert_eq!(
            edited("", &target()).unwrap(),
            r#"model: "openai/org/bee:7b"
weak-model: "openai/org/bee:7b"
openai-api-base: "http://127.0.0.1:7833/v1"
openai-api-key: "rbee-secret"
show-model-warnings: false
model-metadata-file: "/data/launch/aider-org_bee_7b.json"
"#
        );
    }
}
