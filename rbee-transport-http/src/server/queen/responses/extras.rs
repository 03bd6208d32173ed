//! What a response has besides the request of its job. It is kept in the metadata of the job.

use std::collections::BTreeMap;

use rbee_core::{
    Error, ErrorKind, JobId, Result,
    request::{Chat, Grammar, Tool, ToolChoice},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The longest extras, in bytes: less than a job's metadata may have.
const MOST_BYTES: usize = 60 << 10;

/// The prefix of the id of a response.
const PREFIX: &str = "resp_";

/// The id of the response of a job.
pub(super) fn response_id(job: JobId) -> String {
    format!("{PREFIX}{}", hex(job))
}

/// The job of a response with this id. `None` if it cannot be the id of one.
pub(super) fn job_of(id: &str) -> Option<JobId> {
    from_hex(id.strip_prefix(PREFIX)?)
}

/// The id of a job without its hyphens.
pub(super) fn hex(job: JobId) -> String {
    job.to_string().replace('-', "")
}

/// The reverse of [`hex`].
pub(super) fn from_hex(text: &str) -> Option<JobId> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.parse().ok().filter(|_| is_hex)
}

/// The metadata of a job: the API that submitted it, and what that API keeps.
#[derive(Serialize, Deserialize)]
#[serde(tag = "api", rename_all = "snake_case")]
enum Kept {
    Responses(Extras),
}

/// What a response has besides the request of its job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Extras {
    /// The model, as requested: the job has what its alias stood for.
    pub(super) model: String,
    /// In seconds of the Unix epoch.
    pub(super) created_at: u64,
    /// True if the first message of the job is the instructions.
    #[serde(default)]
    pub(super) has_instructions: bool,
    #[serde(default)]
    pub(super) previous: Option<JobId>,
    #[serde(default)]
    pub(super) background: bool,
    /// True if it can be read later.
    #[serde(default)]
    pub(super) store: bool,
    /// The texts of the client.
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) effort: Option<String>,
    /// If set, reasoning is given as a summary.
    #[serde(default)]
    pub(super) summary: Option<String>,
    #[serde(default)]
    pub(super) verbosity: Option<String>,
    /// Name, description and strictness of the schema of the text.
    #[serde(default)]
    pub(super) schema: Option<SchemaInfo>,
    /// More about each tool of the job, in the same order.
    #[serde(default)]
    pub(super) tools: Vec<ToolInfo>,
}

/// What a response says about the schema of its text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SchemaInfo {
    pub(super) name: String,
    #[serde(default)]
    pub(super) description: Option<String>,
    #[serde(default)]
    pub(super) strict: Option<bool>,
}

/// More about a tool of a job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ToolInfo {
    /// Its namespace, which is a part of its name in the prompt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) namespace: Option<String>,
    /// That of a function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) strict: Option<bool>,
    /// If it is a custom tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) custom: Option<CustomInfo>,
}

/// More about a custom tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct CustomInfo {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) description: Option<String>,
    /// The format of its input, as it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) format: Option<Value>,
}

/// The name in the prompt of a tool in a namespace.
pub(super) fn full_name(namespace: Option<&str>, name: &str) -> String {
    match namespace {
        Some(namespace) => format!("{namespace}__{name}"),
        None => name.to_owned(),
    }
}

impl ToolInfo {
    /// The name that the client knows, without the namespace.
    pub(super) fn own_name<'a>(&self, full: &'a str) -> &'a str {
        let namespace = self.namespace.as_deref();
        let rest = namespace.and_then(|name| full.strip_prefix(name)?.strip_prefix("__"));
        rest.unwrap_or(full)
    }

    fn describe(&self, tool: &Tool) -> Value {
        let name = self.own_name(&tool.name);
        if let Some(custom) = &self.custom {
            let format = custom.format.clone().unwrap_or_else(|| json!({"type": "text"}));
            return json!({
                "type": "custom", "name": name, "description": custom.description, "format": format,
            });
        }
        let parameters: Option<Value> =
            tool.parameters.as_ref().and_then(|schema| serde_json::from_str(schema).ok());
        json!({
            "type": "function", "name": name, "description": tool.description,
            "parameters": parameters, "strict": self.strict.unwrap_or(true),
        })
    }
}

impl Extras {
    /// As the metadata of a job.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if they are too long.
    pub(super) fn to_text(&self) -> Result<String> {
        let text = serde_json::to_string(&Kept::Responses(self.clone())).map_err(|cause| {
            Error::new(ErrorKind::Internal, "a response could not be written").with_source(cause)
        })?;
        if text.len() <= MOST_BYTES {
            return Ok(text);
        }
        let message = format!(
            "tools, text and metadata have {} bytes in the form that is kept with a response; allowed are {MOST_BYTES}: \
             shorten the descriptions and grammars of custom tools, or the descriptions of schemas",
            text.len()
        );
        Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param("tools"))
    }

    /// From the metadata of a job. `None` if another API has submitted it.
    pub(super) fn of_text(text: &str) -> Option<Self> {
        let Kept::Responses(extras) = serde_json::from_str(text).ok()?;
        Some(extras)
    }

    /// More about the tool with this name in the prompt.
    pub(super) fn tool<'a>(&'a self, chat: &Chat, name: &str) -> Option<&'a ToolInfo> {
        let at = chat.tools.iter().position(|tool| tool.name == name)?;
        self.tools.get(at)
    }

    /// The tools, as in a request. Those of a namespace are together.
    pub(super) fn describe_tools(&self, chat: &Chat) -> Vec<Value> {
        let mut all: Vec<Value> = Vec::new();
        for (tool, info) in chat.tools.iter().zip(&self.tools) {
            let value = info.describe(tool);
            let Some(namespace) = &info.namespace else {
                all.push(value);
                continue;
            };
            let is_of_it = |known: &&mut Value| {
                known["type"] == "namespace" && known["name"] == namespace.as_str()
            };
            match all.iter_mut().find(is_of_it).and_then(|known| known["tools"].as_array_mut()) {
                Some(tools) => tools.push(value),
                None => all.push(json!({
                    "type": "namespace", "name": namespace, "description": "", "tools": [value],
                })),
            }
        }
        all
    }

    /// The choice of tools, as in a request.
    pub(super) fn describe_choice(&self, chat: &Chat) -> Value {
        match &chat.tool_choice {
            ToolChoice::Auto => "auto".into(),
            ToolChoice::None => "none".into(),
            ToolChoice::Required => "required".into(),
            ToolChoice::Named(name) => {
                let info = self.tool(chat, name);
                let is_custom = info.is_some_and(|info| info.custom.is_some());
                let kind = if is_custom { "custom" } else { "function" };
                json!({"type": kind, "name": info.map_or(&**name, |info| info.own_name(name))})
            }
        }
    }

    /// The format of the text, as in a request.
    pub(super) fn describe_text(&self, grammar: Option<&Grammar>) -> Value {
        let format = match grammar {
            Some(Grammar::JsonObject) => json!({"type": "json_object"}),
            Some(Grammar::JsonSchema(schema)) => {
                let info = self.schema.clone().unwrap_or_default();
                json!({
                    "type": "json_schema", "name": info.name, "description": info.description,
                    "strict": info.strict.unwrap_or(true),
                    "schema": serde_json::from_str::<Value>(schema).unwrap_or_default(),
                })
            }
            Some(Grammar::Regex(_) | Grammar::Lark(_)) | None => json!({"type": "text"}),
        };
        json!({"format": format, "verbosity": self.verbosity.as_deref().unwrap_or("medium")})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_response_leads_to_its_job_and_no_other_text_does() {
        let job = JobId::random();
        let id = response_id(job);
        assert_eq!(id.len(), 37);
        assert_eq!(job_of(&id), Some(job));
        let braced = format!("resp_{{{job}}}");
        for text in ["resp_", "resp_1", &id[5..], &job.to_string(), &braced, "msg_1"] {
            assert_eq!(job_of(text), None, "{text}");
        }
    }

    #[test]
    fn extras_come_back_from_the_metadata_and_those_of_another_api_do_not() {
        let extras = Extras {
            model: "bee".into(),
            metadata: [("a".to_owned(), "b".to_owned())].into(),
            tools: vec![ToolInfo { namespace: Some("n".into()), ..ToolInfo::default() }],
            ..Extras::default()
        };
        let text = extras.to_text().unwrap();
        assert_eq!(Extras::of_text(&text), Some(extras));
        for other in ["", "7", "{}", r#"{"api": "batches", "model": "bee", "created_at": 1}"#] {
            assert_eq!(Extras::of_text(other), None, "{other}");
        }
    }

    #[test]
    fn the_own_name_of_a_tool_is_without_its_namespace() {
        let info = ToolInfo { namespace: Some("n".into()), ..ToolInfo::default() };
        assert_eq!(info.own_name(&full_name(Some("n"), "f")), "f");
        assert_eq!(ToolInfo::default().own_name(&full_name(None, "n__f")), "n__f");
    }
}
