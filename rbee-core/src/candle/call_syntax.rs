//! How a model writes calls: the grammar of an answer with tools.

use super::{
    closed_schema::{closed, closed_arguments},
    guide::{Grammar as Guide, ParameterSyntax, StructuralTag, StructuralTags, TagBody},
};
use crate::{
    answer::{ToolFormat, xml::syntax::XmlSyntax},
    chat::{Chat, Tool, ToolChoice},
    error::{Error, ErrorKind, Result},
    grammar::Grammar,
    task::Sampling,
};

/// Which calls an answer has.
pub(super) enum Calls {
    /// As the model decides, anywhere in the text.
    Optional,
    /// At least one, and no other text.
    Required,
    /// At least one and no other text, or a value of this schema instead.
    OrValue(String),
}

impl Calls {
    /// The parameter of the request that says so.
    pub(super) fn param(&self) -> &'static str {
        match self {
            Self::Optional => "tools",
            Self::Required => "tool_choice",
            Self::OrValue(_) => "response_format",
        }
    }
}

/// Which calls an answer to this conversation has, whose tools can be called.
pub(super) fn calls_of(chat: &Chat, sampling: &Sampling) -> Calls {
    match &sampling.grammar {
        _ if chat.requires_call() => Calls::Required,
        Some(Grammar::JsonSchema(schema)) => Calls::OrValue(closed(schema)),
        Some(Grammar::JsonObject) => Calls::OrValue(r#"{"type": "object"}"#.into()),
        // The request was refused.
        Some(Grammar::Regex(_) | Grammar::Lark(_)) | None => Calls::Optional,
    }
}

/// The grammar of answers with calls; `None` if the format has no mark that begins a call, and none is required.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] for a schema whose values look like calls of this format, and for a name that calls of this format cannot have.
pub(super) fn of_tools(
    chat: &Chat,
    format: Option<ToolFormat>,
    calls: Calls,
) -> Result<Option<Guide>> {
    if format == Some(ToolFormat::Llama)
        && let Calls::OrValue(schema) = &calls
        && may_look_like_call(schema)
    {
        let message = "response_format: an answer of this schema could look like a call of this model, which begins with \
                       {\"name\": …}. Give the schema the type object without the properties name and type and without \
                       further properties, leave out tools, or set tool_choice to \"none\"";
        let error = Error::for_client(ErrorKind::InvalidRequest, message);
        return Err(error.with_param("response_format"));
    }
    let param = calls.param();
    let (required, otherwise) = match calls {
        Calls::Optional => (false, None),
        Calls::Required => (true, None),
        Calls::OrValue(schema) => (true, Some(schema)),
    };
    let syntax = match format {
        Some(ToolFormat::Hermes) => HERMES,
        Some(ToolFormat::Mistral) => MISTRAL,
        Some(ToolFormat::MistralArgs) => MISTRAL_ARGS,
        // The answer may be JSON, or a list, without being a call.
        Some(ToolFormat::Llama) if required => LLAMA,
        Some(ToolFormat::Pythonic) if required => PYTHONIC,
        Some(ToolFormat::Llama | ToolFormat::Pythonic) | None => return Ok(None),
        Some(
            format @ (ToolFormat::QwenXml
            | ToolFormat::Glm
            | ToolFormat::Minimax
            | ToolFormat::Seed),
        ) => {
            let Some(xml) = format.xml() else { return Ok(None) };
            return Ok(Some(of_xml(chat, xml, required, otherwise)));
        }
    };
    let parameters = (format == Some(ToolFormat::Pythonic)).then(python);
    if parameters.is_some() {
        chosen(chat).try_for_each(|tool| check_python_name(tool, param))?;
    }
    let tags = chosen(chat).map(|tool| StructuralTag {
        name: tool.name.clone(),
        begin: syntax.begin.replace("NAME", &tool.name),
        body: match &parameters {
            None => TagBody::Json(schema(tool)),
            Some(syntax) => TagBody::Parameters { schema: schema(tool), syntax: syntax.clone() },
        },
        end: syntax.end.into(),
    });
    Ok(Some(Guide::StructuralTags(StructuralTags {
        tags: tags.collect(),
        triggers: vec![syntax.trigger.into()],
        required,
        parallel: is_parallel(chat) && syntax.parallel,
        separator: syntax.separator.into(),
        around: syntax.around.map(str::to_owned),
        otherwise,
    })))
}

/// Returns false if no value of this schema can be taken for a call in bare JSON: it is no object, or an object with
/// named properties only, none of which a call begins with.
fn may_look_like_call(schema: &str) -> bool {
    let Ok(serde_json::Value::Object(schema)) = serde_json::from_str(schema) else { return true };
    let kind = schema.get("type").and_then(serde_json::Value::as_str);
    if matches!(kind, Some("array" | "string" | "number" | "integer" | "boolean" | "null")) {
        return false;
    }
    let is_closed = schema.get("additionalProperties") == Some(&serde_json::Value::Bool(false))
        && !schema.contains_key("patternProperties");
    let properties = schema.get("properties").and_then(serde_json::Value::as_object);
    let begins_no_call = properties.is_some_and(|properties| {
        ["name", "type"].iter().all(|name| !properties.contains_key(*name))
    });
    !(kind == Some("object") && is_closed && begins_no_call)
}

/// The tools that can be called.
fn chosen(chat: &Chat) -> impl Iterator<Item = &Tool> {
    chat.tools.iter().filter(|tool| match &chat.tool_choice {
        ToolChoice::Named(name) => tool.name == *name,
        _ => true,
    })
}

/// One tool that must be called is called once, as in other servers.
fn is_parallel(chat: &Chat) -> bool {
    chat.parallel_tool_calls && !matches!(chat.tool_choice, ToolChoice::Named(_))
}

fn schema(tool: &Tool) -> String {
    tool.parameters.as_deref().map_or_else(|| NO_PARAMETERS.into(), closed_arguments)
}

const NO_PARAMETERS: &str =
    r#"{"type": "object", "properties": {}, "additionalProperties": false}"#;

/// The texts of a call.
struct Syntax {
    trigger: &'static str,
    begin: &'static str,
    end: &'static str,
    separator: &'static str,
    around: [&'static str; 2],
    /// False if the templates of such models refuse an answer with several calls.
    parallel: bool,
}

const HERMES: Syntax = Syntax {
    trigger: "<tool_call>",
    begin: "<tool_call>\n{\"name\": \"NAME\", \"arguments\": ",
    end: "}\n</tool_call>",
    separator: "\n",
    around: ["", ""],
    parallel: true,
};

const MISTRAL: Syntax = Syntax {
    trigger: "[TOOL_CALLS]",
    begin: "[TOOL_CALLS][{\"name\": \"NAME\", \"arguments\": ",
    end: "}]",
    separator: "",
    around: ["", ""],
    parallel: true,
};

const MISTRAL_ARGS: Syntax = Syntax {
    trigger: "[TOOL_CALLS]",
    begin: "[TOOL_CALLS]NAME[ARGS]",
    end: "",
    separator: "",
    around: ["", ""],
    parallel: true,
};

const LLAMA: Syntax = Syntax {
    trigger: "{\"name\": \"",
    begin: "{\"name\": \"NAME\", \"parameters\": ",
    end: "}",
    separator: "; ",
    around: ["", ""],
    parallel: false,
};

const PYTHONIC: Syntax = Syntax {
    trigger: "",
    begin: "NAME(",
    end: ")",
    separator: ", ",
    around: ["[", "]"],
    parallel: true,
};

/// Keyword arguments of Python.
fn python() -> ParameterSyntax {
    ParameterSyntax {
        key_end: "=".into(),
        separator: ", ".into(),
        is_python: true,
        ..ParameterSyntax::default()
    }
}

/// Checks that the parser of calls in Python reads this name as one.
fn check_python_name(tool: &Tool, param: &'static str) -> Result<()> {
    let is_read = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let begins = tool.name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if begins && tool.name.chars().all(is_read) {
        return Ok(());
    }
    let message = format!(
        "{param}: this model writes calls in the syntax of Python, in which the tool \"{}\" cannot be called; allowed are \
         letters, digits, _, . and -, with a letter or _ first",
        tool.name
    );
    Err(Error::for_client(ErrorKind::InvalidRequest, message).with_param(param))
}

/// The grammar of calls in XML.
fn of_xml(chat: &Chat, xml: &XmlSyntax, required: bool, otherwise: Option<String>) -> Guide {
    let line = |text: &str| if text.is_empty() { String::new() } else { format!("{text}\n") };
    let value_line = if xml.own_lines { "\n" } else { "" };
    let syntax = ParameterSyntax {
        key_begin: xml.key_open.into(),
        key_end: match xml.value_open {
            "" => [xml.key_close, value_line].concat(),
            open => [xml.key_close, "\n", open, value_line].concat(),
        },
        value_end: xml.value_close.into(),
        end: "\n".into(),
        separator: String::new(),
        own_lines: xml.own_lines,
        // Some models with such a syntax write each call in one line.
        loose: !xml.own_lines,
        is_python: false,
    };
    let tags = chosen(chat).map(|tool| StructuralTag {
        name: tool.name.clone(),
        begin: match xml.name_open {
            "" => [xml.open, &*tool.name, "\n"].concat(),
            open => [xml.open, "\n", open, &*tool.name, xml.name_close, "\n"].concat(),
        },
        body: TagBody::Parameters { schema: schema(tool), syntax: syntax.clone() },
        end: line(xml.call_close) + xml.close,
    });
    Guide::StructuralTags(StructuralTags {
        tags: tags.collect(),
        triggers: vec![xml.open.into()],
        required,
        parallel: is_parallel(chat),
        separator: "\n".into(),
        around: [String::new(), String::new()],
        otherwise,
    })
}

#[cfg(test)]
#[path = "call_syntax_tests.rs"]
mod tests;
