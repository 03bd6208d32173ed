//! Reads YAML into a type; each error has the line, the path, the value and what is allowed.

use serde::de::DeserializeOwned;
use serde_saphyr::{
    DefaultMessageFormatter, DuplicateKeyPolicy, Error, Location, MessageFormatter, Options,
    Spanned, budget::BudgetBreach,
};

use rbee_transport_http::server::quoted;

use super::refusal::{Problem, Refusal, shortened};

/// The deepest nesting of lists and maps.
const MAX_DEPTH: usize = 16;
/// Why serde or the YAML reader refused the text.
fn refusal(error: &Error, path: &str, text: &str) -> Refusal {
    let error = error.without_snippet();
    let location = error.location().unwrap_or(Location::UNKNOWN);
    let value = |allowed: &str| Problem::Value(shown_at(text, location), allowed.into());
    let mut path = if path == "." { "" } else { path };
    let problem = match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            path = path.strip_suffix(field.as_str()).unwrap_or(path).trim_end_matches('.');
            Problem::UnknownKey(field.clone(), expected.clone())
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => {
            Problem::Value(quoted(variant), expected.join("|"))
        }
        Error::SerdeInvalidValue { unexpected, expected, .. }
        | Error::SerdeInvalidType { unexpected, expected, .. } => {
            Problem::Value(shortened(unexpected), expected.clone())
        }
        Error::SerdeMissingField { field, .. } => Problem::Other(format!("there is no {field}")),
        Error::Message { msg, .. } => Problem::Other(msg.clone()),
        Error::InvalidScalar { .. } => value("a whole number"),
        Error::InvalidBooleanStrict { .. } => value("true or false"),
        Error::NullIntoString { .. } => value("text"),
        Error::ExternallyTaggedEnumExpectedScalarOrMapping { .. } => value("text"),
        Error::Unexpected { expected, .. } => value(match *expected {
            "sequence start" => "a list",
            "mapping start" => "a map",
            "string scalar" => "text",
            other => other,
        }),
        Error::DuplicateMappingKey { key, .. } => {
            path = "";
            Problem::Other(given_twice(key.as_deref().unwrap_or("a key"), text))
        }
        Error::MultipleDocuments { .. } => {
            Problem::Other("a second document; allowed is one".into())
        }
        Error::Budget { breach: BudgetBreach::Anchors { .. }, .. } => {
            Problem::Other("anchors and aliases are not allowed here".into())
        }
        Error::Budget { breach: BudgetBreach::Depth { .. }, .. } => {
            Problem::Other(format!("nested deeper than {MAX_DEPTH} levels"))
        }
        other => {
            path = "";
            let why = DefaultMessageFormatter.format_message(other);
            Problem::Other(format!("this is not YAML: {why}"))
        }
    };
    Refusal { line: location.line().max(1), path: path.into(), problem }
}

/// The value at this place in the text, as an error shows it.
fn shown_at(text: &str, location: Location) -> String {
    let line = usize::try_from(location.line()).unwrap_or(usize::MAX).saturating_sub(1);
    let column = usize::try_from(location.column()).unwrap_or(usize::MAX).saturating_sub(1);
    let rest: String = text.lines().nth(line).unwrap_or_default().chars().skip(column).collect();
    if rest.starts_with(['[', '{']) {
        let mut depth = 0_u32;
        let end = rest.find(|c: char| {
            depth += u32::from(matches!(c, '[' | '{'));
            depth = depth.saturating_sub(u32::from(matches!(c, ']' | '}')));
            depth == 0
        });
        return shortened(end.map_or(rest.as_str(), |end| &rest[..=end]).trim_end());
    }
    if location.span().is_empty() {
        // A key without a value: the location is its colon.
        return if rest.starts_with(':') { "~".into() } else { shortened(rest.trim_end()) };
    }
    let length = usize::try_from(location.span().len()).unwrap_or(usize::MAX);
    let scalar: String = rest.chars().take(length).collect();
    shortened(&quoted(scalar.trim_matches(['"', '\''])))
}

fn given_twice(key: &str, text: &str) -> String {
    match keys(text).into_iter().find(|(name, _)| name == key) {
        Some((_, line)) => format!("{key} is given twice, on line {line} for the first time"),
        None => format!("{key} is given twice"),
    }
}

fn options() -> Options {
    serde_saphyr::options! {
        // An alias can expand a small text into an endless tree.
        budget: serde_saphyr::budget! { max_depth: MAX_DEPTH, max_anchors: 0 },
        strict_booleans: true,
        with_snippet: false,
    }
}

/// Reads the only document of a text.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let mut track = serde_path_to_error::Track::new();
    let read = serde_saphyr::with_deserializer_from_str_with_options(text, options(), |yaml| {
        T::deserialize(serde_path_to_error::Deserializer::new(yaml, &mut track))
    });
    read.map_err(|error| refusal(&error, &track.path().to_string(), text))
}

/// The keys of the map in a text, each with its line, in order. Empty if it is not a map.
pub(super) fn keys(text: &str) -> Vec<(String, u64)> {
    type Keys = std::collections::HashMap<Spanned<String>, serde::de::IgnoredAny>;
    let mut options = options();
    options.duplicate_keys = DuplicateKeyPolicy::PassThrough;
    let found = serde_saphyr::from_str_with_options::<Keys>(text, options).unwrap_or_default();
    let mut keys: Vec<_> =
        found.into_keys().map(|key| (key.value, key.referenced.line())).collect();
    keys.sort_by_key(|(_, line)| *line);
    keys
}
