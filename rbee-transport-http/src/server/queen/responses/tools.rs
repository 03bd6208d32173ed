//! Reads the tools of a request, and which of them the model calls.

use rbee_core::{
    Error, ErrorKind, Result,
    request::{Tool, ToolChoice},
};
use serde_json::{Value, json, value::RawValue};

use super::{
    extras::{CustomInfo, ToolInfo, full_name},
    rules,
};
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, not_allowed, parse},
};

/// The types of tools that only a server could run, and that the model is not offered. Codex sends them with every
/// request, whether they are used or not.
const LEFT_OUT: [&str; 6] = [
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
    "image_generation",
    "tool_search",
];
const TYPES: &str = "\"function\", \"custom\" or \"namespace\": rbee runs no tools itself (\"web_search\", \
                     \"image_generation\" and \"tool_search\" are accepted, and not offered to the model)";

/// The tools of a request.
#[derive(Debug, Default)]
pub(super) struct Tools {
    pub(super) tools: Vec<Tool>,
    /// More about each of them.
    pub(super) infos: Vec<ToolInfo>,
    /// The place of each of them.
    pub(super) places: Vec<String>,
    pub(super) choice: ToolChoice,
    pub(super) parallel: bool,
}

impl Tools {
    /// Reads the tools.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] with the place: `tools[2].name`.
    pub(super) fn take(fields: &mut Fields<'_>) -> Result<Self> {
        let mut all = Self::default();
        if let Some(tools) = fields.take_raw("tools") {
            let tools: Vec<&RawValue> = parse(tools, "tools", "a list of tools")?;
            check_count(tools.len(), "tools")?;
            for (at, item) in tools.into_iter().enumerate() {
                all.add(item, format!("tools[{at}]"), None)?;
            }
        }
        if let Some(choice) = fields.take_raw("tool_choice") {
            all.choose(choice)?;
        }
        all.parallel = fields.take("parallel_tool_calls", "true or false")?.unwrap_or(true);
        Ok(all)
    }

    fn add(&mut self, value: &RawValue, place: String, namespace: Option<&str>) -> Result<()> {
        let mut fields = Fields::of(value, &place)?;
        let kind: String = fields.require("type", TYPES)?;
        match kind.as_str() {
            "function" => {
                let tool = Tool {
                    name: full_name(namespace, &name(&mut fields)?),
                    description: fields.take("description", "a text")?,
                    parameters: fields.take_raw("parameters").map(|json| json.get().to_owned()),
                };
                let strict = fields.take("strict", "true or false")?;
                finish(fields, &[rules::FUNCTION])?;
                self.push(
                    tool,
                    place,
                    ToolInfo { namespace: namespace.map(ToOwned::to_owned), strict, custom: None },
                );
            }
            "custom" => {
                let (name, custom) = custom(&mut fields)?;
                finish(fields, &[rules::CUSTOM])?;
                let tool = custom_tool(full_name(namespace, &name), &custom);
                self.push(
                    tool,
                    place,
                    ToolInfo {
                        namespace: namespace.map(ToOwned::to_owned),
                        strict: None,
                        custom: Some(custom),
                    },
                );
            }
            "namespace" if namespace.is_none() => {
                let name = name(&mut fields)?;
                let tools: Vec<&RawValue> = fields.require("tools", "a list of tools")?;
                finish(fields, &[rules::NAMESPACE])?;
                check_count(tools.len() + self.tools.len(), &format!("{place}.tools"))?;
                for (at, item) in tools.into_iter().enumerate() {
                    self.add(item, format!("{place}.tools[{at}]"), Some(&name))?;
                }
            }
            kind if LEFT_OUT.contains(&kind) => finish(fields, &[rules::SERVER_TOOL])?,
            _ => return Err(wrong_type(&fields, &kind, TYPES)),
        }
        Ok(())
    }

    fn push(&mut self, tool: Tool, place: String, info: ToolInfo) {
        self.tools.push(tool);
        self.places.push(place);
        self.infos.push(info);
    }

    fn choose(&mut self, value: &RawValue) -> Result<()> {
        const CHOICE: &str = "\"none\", \"auto\", \"required\", {\"type\": \"function\" or \"custom\", \"name\": …}, \
                              or {\"type\": \"allowed_tools\", …}";
        self.choice = match value.get() {
            "\"none\"" => ToolChoice::None,
            "\"auto\"" => ToolChoice::Auto,
            "\"required\"" => ToolChoice::Required,
            text if text.starts_with('{') => {
                let mut fields = Fields::of(value, "tool_choice")?;
                let kind: String = fields.require("type", CHOICE)?;
                match kind.as_str() {
                    "function" | "custom" => {
                        let name = self.named(&mut fields)?;
                        finish(fields, &[])?;
                        ToolChoice::Named(name)
                    }
                    "allowed_tools" => return self.allow(fields),
                    _ => return Err(wrong_type(&fields, &kind, CHOICE)),
                }
            }
            _ => return Err(not_allowed(value, "tool_choice", CHOICE)),
        };
        Ok(())
    }

    /// Reads the name of a tool, with its namespace if it has one.
    fn named(&self, fields: &mut Fields<'_>) -> Result<String> {
        let namespace: Option<String> = fields.take("namespace", "the name of a namespace")?;
        Ok(full_name(namespace.as_deref(), &name(fields)?))
    }

    /// Only some of the tools may be called. The others are not offered at all.
    fn allow(&mut self, mut fields: Fields<'_>) -> Result<()> {
        const MODE: &str = "\"auto\" or \"required\"";
        let mode: String = fields.require("mode", MODE)?;
        let allowed: Vec<&RawValue> = fields.require("tools", "a list of tools")?;
        finish(fields, &[])?;
        self.choice = match mode.as_str() {
            "auto" => ToolChoice::Auto,
            "required" => ToolChoice::Required,
            _ => {
                let place = "tool_choice.mode";
                let shown: String = mode.chars().take(60).collect();
                let message = format!("{place} is {shown:?}; allowed is {MODE}");
                return Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place));
            }
        };
        let mut names = std::collections::HashSet::new();
        for (at, item) in allowed.into_iter().enumerate() {
            let place = format!("tool_choice.tools[{at}]");
            let mut fields = Fields::of(item, &place)?;
            let kind: String = fields.require("type", "the type of a tool")?;
            if LEFT_OUT.contains(&kind.as_str()) {
                continue;
            }
            let name = self.named(&mut fields)?;
            if !self.tools.iter().any(|tool| tool.name == name) {
                let shown: String = name.chars().take(60).collect();
                let message =
                    format!("{place}.name is {shown:?}, which is no tool of this request");
                return Err(Error::for_client(ErrorKind::InvalidRequest, message)
                    .with_param(format!("{place}.name")));
            }
            names.insert(name);
        }
        let is_kept: Vec<bool> = self.tools.iter().map(|tool| names.contains(&tool.name)).collect();
        let (mut tools, mut infos, mut places) = (is_kept.iter(), is_kept.iter(), is_kept.iter());
        self.tools.retain(|_| tools.next().copied().unwrap_or(false));
        self.infos.retain(|_| infos.next().copied().unwrap_or(false));
        self.places.retain(|_| places.next().copied().unwrap_or(false));
        Ok(())
    }
}

/// The most tools that are read. Those that only a service could run count here, and not later.
const MOST_TOOLS: usize = 1_024;

fn check_count(count: usize, place: &str) -> Result<()> {
    if count <= MOST_TOOLS {
        return Ok(());
    }
    let message = format!("{place} has {count} tools; allowed are at most {MOST_TOOLS}");
    Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(place.to_owned()))
}

fn name(fields: &mut Fields<'_>) -> Result<String> {
    fields.require("name", "the name of a tool")
}

fn wrong_type(fields: &Fields<'_>, kind: &str, allowed: &str) -> Error {
    let place = fields.name("type");
    let shown: String = kind.chars().take(60).collect();
    let message = format!("{place} is {shown:?}; allowed is {allowed}");
    Error::for_client(ErrorKind::InvalidRequest, message).with_param(place)
}

fn custom(fields: &mut Fields<'_>) -> Result<(String, CustomInfo)> {
    const FORMATS: &str = "an object of type \"text\" or \"grammar\"";
    let name = name(fields)?;
    let description = fields.take("description", "a text")?;
    let place = fields.name("format");
    let format = match fields.take_raw("format") {
        None => None,
        Some(value) => {
            let mut format = Fields::of(value, &place)?;
            let kind: String = format.require("type", FORMATS)?;
            match kind.as_str() {
                "text" => {}
                "grammar" => {
                    format.require::<String>("syntax", "\"lark\" or \"regex\"")?;
                    format.require::<String>("definition", "a grammar")?;
                }
                _ => return Err(wrong_type(&format, &kind, FORMATS)),
            }
            finish(format, &[])?;
            Some(parse::<Value>(value, &place, FORMATS)?)
        }
    };
    Ok((name, CustomInfo { description, format }))
}

/// A custom tool as a function with one text. The model reads the grammar of the text; nothing enforces it.
fn custom_tool(name: String, custom: &CustomInfo) -> Tool {
    let mut description = custom.description.clone().unwrap_or_default();
    let format = custom.format.as_ref();
    let text = |field: &str| format.and_then(|format| format[field].as_str());
    if let (Some(syntax), Some(definition)) = (text("syntax"), text("definition")) {
        if !description.is_empty() {
            description.push_str("\n\n");
        }
        description.push_str("The input follows this ");
        description.push_str(syntax);
        description.push_str(" grammar:\n");
        description.push_str(definition);
    }
    let schema = json!({
        "type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"],
        "additionalProperties": false,
    });
    let description = Some(description).filter(|text| !text.is_empty());
    Tool { name, description, parameters: Some(schema.to_string()) }
}

/// The arguments of a call of a custom tool with this text.
pub(super) fn custom_arguments(input: &str) -> String {
    json!({"input": input}).to_string()
}

/// The text of a call of a custom tool. Arguments that are cut off or malformed are given as they are.
pub(super) fn custom_input(arguments: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(arguments).ok();
    let text = parsed.as_ref().and_then(|value| value["input"].as_str());
    text.unwrap_or(arguments).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: Value) -> Result<Tools> {
        let body = body.to_string();
        let mut fields = Fields::of_body(body.as_bytes()).unwrap();
        Tools::take(&mut fields)
    }

    #[test]
    fn functions_custom_tools_and_namespaces_are_functions_for_the_model() {
        let grammar = json!({"type": "grammar", "syntax": "lark", "definition": "start: \"x\""});
        let read = read(json!({"tools": [
            {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": false},
            {"type": "custom", "name": "c", "description": "Does.", "format": grammar},
            {"type": "web_search", "external_web_access": true},
            {"type": "namespace", "name": "n", "description": "More.", "tools": [
                {"type": "function", "name": "f", "defer_loading": true},
            ]},
        ]}))
        .unwrap();
        let names: Vec<&str> = read.tools.iter().map(|tool| &*tool.name).collect();
        assert_eq!(names, ["f", "c", "n__f"]);
        assert_eq!(read.places, ["tools[0]", "tools[1]", "tools[3].tools[0]"]);
        let custom = &read.tools[1];
        assert_eq!(
            custom.description.as_deref(),
            Some("Does.\n\nThe input follows this lark grammar:\nstart: \"x\"")
        );
        assert!(custom.parameters.as_ref().unwrap().contains("\"input\""));
        assert_eq!(read.infos[2].own_name("n__f"), "f");
    }

    #[test]
    fn of_allowed_tools_alone_the_model_reads() {
        let tools = json!([{"type": "function", "name": "a"}, {"type": "function", "name": "b"}]);
        let choice = |name: &str| json!({"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": name}]});
        let some = read(json!({"tools": tools, "tool_choice": choice("b")})).unwrap();
        assert_eq!(
            (some.tools.len(), &*some.tools[0].name, &*some.places[0]),
            (1, "b", "tools[1]")
        );
        assert_eq!(some.choice, ToolChoice::Required);
        let error = read(json!({"tools": tools, "tool_choice": choice("c")})).unwrap_err();
        assert_eq!(error.param(), Some("tool_choice.tools[0].name"));
    }

    #[test]
    fn the_text_of_a_custom_call_comes_back_and_a_part_of_one_stays_as_it_is() {
        let text = "*** Begin\n\"x\"";
        assert_eq!(custom_input(&custom_arguments(text)), text);
        for other in ["{\"input\": \"cut", "{}", "7"] {
            assert_eq!(custom_input(other), other);
        }
    }

    #[test]
    fn what_is_wrong_is_refused_by_its_place() {
        for (body, place) in [
            (json!({"tools": [{"type": "mcp", "server_label": "x"}]}), "tools[0].type"),
            (json!({"tools": [{"type": "function"}]}), "tools[0].name"),
            (json!({"tools": [{"type": "function", "name": "f", "color": 1}]}), "tools[0].color"),
            (
                json!({"tools": [{"type": "function", "name": "f", "async": true}]}),
                "tools[0].async",
            ),
            (
                json!({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "namespace"}]}]}),
                "tools[0].tools[0].type",
            ),
            (
                json!({"tools": [{"type": "custom", "name": "c", "format": {"type": "x"}}]}),
                "tools[0].format.type",
            ),
            (json!({"tool_choice": {"type": "web_search"}}), "tool_choice.type"),
            (json!({"tool_choice": {"type": "function"}}), "tool_choice.name"),
            (json!({"tool_choice": 7}), "tool_choice"),
            (json!({"parallel_tool_calls": 7}), "parallel_tool_calls"),
        ] {
            let error = read(body.clone()).unwrap_err();
            assert_eq!(error.param(), Some(place), "{body}");
            assert!(error.message().contains(place), "{error}");
        }
    }
}
