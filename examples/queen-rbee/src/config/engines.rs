//! Other engines that run as workers.

use rbee_transport_http::wire::engine::Engine;

use super::{
    value::{At, Kind, Wrong, structured},
    yaml::{Node, Value},
};

/// A list of [`Engine`].
pub(super) struct Engines;

impl Kind for Engines {
    type Value = Vec<Engine>;
    const FORM: &'static str = "[{name: NAME, models: [PATTERN], command: LINE, …}, …]";
    const ALLOWED: &'static str = "a list like [{name: llama, models: [\"*.gguf\"], command: \"llama-server -m {model_path} --port {port}\"}]";

    fn parse(_: &str, _: At<'_>) -> Option<Self::Value> {
        None
    }

    fn show(value: &Self::Value) -> String {
        serde_json::json!(value).to_string()
    }

    fn read(node: &Node, at: At<'_>) -> Result<Self::Value, Wrong> {
        let node = structured(node, at)?;
        let Value::List(items) = &node.value else { return at.wrong(&node, Self::ALLOWED) };
        items.iter().enumerate().map(|(index, item)| engine(index, item, at)).collect()
    }
}

fn engine(index: usize, item: &Node, at: At<'_>) -> Result<Engine, Wrong> {
    let wrong = |why: String| Wrong {
        line: item.line,
        message: format!("{}[{index}] is not understood: {why}", at.key),
    };
    let engine: Engine =
        serde_json::from_value(item.json()).map_err(|cause| wrong(cause.to_string()))?;
    engine.validate().map_err(|error| wrong(error.to_string()))?;
    Ok(engine)
}
