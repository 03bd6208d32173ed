//! The places of a request in errors.
//!
//! The queen checks a conversation in its own terms, and names what is wrong by OpenAI's names. These are translated.

use rbee_core::Error;

/// Where a message for the model is in the request.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// The message: `messages[2]`.
    pub(super) message: String,
    /// Its calls: `messages[2].content[1]`.
    pub(super) calls: Vec<String>,
}

/// The error with the place as it is in the request, if it names one that the request does not have.
pub(super) fn placed(error: Error, places: &[Place]) -> Error {
    let place = error.param().and_then(|param| of_conversation(param, places));
    match place {
        Some(place) => moved(&error, place),
        None => renamed(error),
    }
}

/// The error with the name of its parameter in Anthropic's API.
pub(super) fn renamed(error: Error) -> Error {
    let place = match error.param() {
        Some("stop") => "stop_sequences",
        Some("response_format") => "output_config.format",
        _ => return error,
    };
    moved(&error, place.into())
}

/// `messages[0].tool_calls[1].function.name` and its like.
fn of_conversation(param: &str, places: &[Place]) -> Option<String> {
    if let Some(rest) = param.strip_prefix("tools[") {
        let (at, field) = rest.split_once("].function.")?;
        let field = if field == "parameters" { "input_schema" } else { field };
        return Some(format!("tools[{at}].{field}"));
    }
    let (at, rest) = param.strip_prefix("messages[")?.split_once(']')?;
    let place = places.get(at.parse::<usize>().ok()?)?;
    if rest == ".tool_call_id" {
        return Some(format!("{}.tool_use_id", place.message));
    }
    let Some((at, field)) =
        rest.strip_prefix(".tool_calls[").and_then(|it| it.split_once("].function."))
    else {
        return Some(place.message.clone());
    };
    let call = place.calls.get(at.parse::<usize>().ok()?)?;
    let field = if field == "arguments" { "input" } else { field };
    Some(format!("{call}.{field}"))
}

/// The same error about another place. Its message begins with the place.
fn moved(error: &Error, place: String) -> Error {
    let old = error.param().unwrap_or_default();
    let translated = |message: &str| match message.strip_prefix(old) {
        Some(rest) => format!("{place}{rest}"),
        None => message.to_owned(),
    };
    let mut moved = Error::new(error.kind(), translated(error.message()));
    if let Some(message) = error.client_message() {
        moved = moved.with_client_message(translated(message));
    }
    if let Some(after) = error.retry_after() {
        moved = moved.with_retry_after(after);
    }
    moved.with_param(place).with_source(error.clone())
}

#[cfg(test)]
mod tests {
    use rbee_core::ErrorKind;

    use super::*;

    #[test]
    fn an_error_names_its_place_in_the_request() {
        let places = [
            Place { message: "system".into(), calls: Vec::new() },
            Place { message: "messages[1]".into(), calls: vec!["messages[1].content[2]".into()] },
            Place { message: "messages[2].content[0]".into(), calls: Vec::new() },
        ];
        for (param, expected) in [
            ("tools[3].function.name", "tools[3].name"),
            ("tools[3].function.parameters", "tools[3].input_schema"),
            ("messages[1].tool_calls[0].function.name", "messages[1].content[2].name"),
            ("messages[1].tool_calls[0].function.arguments", "messages[1].content[2].input"),
            ("messages[2].tool_call_id", "messages[2].content[0].tool_use_id"),
            ("messages", "messages"),
            ("stop", "stop_sequences"),
            ("temperature", "temperature"),
        ] {
            let error = Error::for_client(ErrorKind::InvalidRequest, format!("{param} is bad"));
            let error = placed(error.with_param(param), &places);
            assert_eq!(error.param(), Some(expected));
            assert_eq!(error.message(), format!("{expected} is bad"));
            assert_eq!(error.client_message(), Some(error.message()));
        }
    }
}
