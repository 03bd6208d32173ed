//! Structural tags as a grammar: free text, triggers, and tags with JSON or parameters in them.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    StructuralTag, StructuralTags, TagBody, control_tokens::Context, error::Error, lark::escaped,
    limits, parameters, schema, token_table::TokenTable,
};

/// Checks the number and the sizes of the texts.
pub(super) fn check_bytes(tags: &StructuralTags) -> Result<(), Error> {
    for (what, count) in [("tags", tags.tags.len()), ("triggers", tags.triggers.len())] {
        let most = limits::MAX_TAGS;
        if !(1..=most).contains(&count) {
            let message =
                format!("the structural tags have {count} {what}; allowed are 1 to {most}");
            return Err(if count == 0 {
                Error::invalid(message)
            } else {
                Error::too_complex(message)
            });
        }
    }
    let texts = tags.tags.iter().flat_map(|tag| [("begin", &tag.begin), ("end", &tag.end)]);
    let triggers = tags.triggers.iter().map(|trigger| ("trigger", trigger));
    let between =
        [&tags.separator, &tags.around[0], &tags.around[1]].map(|text| ("separator", text));
    for (what, text) in texts.chain(triggers).chain(between) {
        let (bytes, most) = (text.len(), limits::MAX_TAG_BYTES);
        if bytes > most {
            return Err(Error::too_complex(format!(
                "the structural tags have a text of {bytes} bytes as {what}; allowed are {most}"
            )));
        }
    }
    let schemas = tags.tags.iter().map(|tag| tag.body.schema()).chain(tags.otherwise.as_deref());
    let (bytes, most) = (schemas.map(str::len).sum::<usize>(), limits::MAX_GRAMMAR_BYTES);
    if bytes > most {
        return Err(Error::too_complex(format!(
            "the schemas of the structural tags have {bytes} bytes together; allowed are {most}"
        )));
    }
    Ok(())
}

/// The grammar, in Lark's language. All texts in it are escaped, so no text of a client becomes a part of the language.
pub(super) fn to_lark(
    tags: &StructuralTags,
    table: &TokenTable,
    ends: &[u32],
) -> Result<String, Error> {
    let context = Context::new(table, ends);
    check_triggers(tags)?;
    let mut budget = schema::Budget::default();
    let mut lark = String::new();
    let mut bodies = vec![Vec::new(); tags.triggers.len()];
    for (at, tag) in tags.tags.iter().enumerate() {
        let trigger = trigger_of(tags, tag)?;
        let subject = format!("tool {:?}", tag.name);
        let rest = &tag.begin[tags.triggers[trigger].len()..];
        let schema = schema::normalize_within(tag.body.schema(), &mut budget)
            .map_err(|error| error.within(&subject))?;
        let loose = tag.body.is_loose();
        let (begin, end) = (context.lines(rest, loose)?, context.lines(&tag.end, loose)?);
        let body = match (&tag.body, &schema) {
            (TagBody::Parameters { syntax, .. }, Value::Object(schema)) => {
                let prefix = format!("tag{at}_");
                let rules = parameters::rules(&mut lark, &prefix, schema, syntax, &context);
                rules.map_err(|error| error.within(&subject))?
            }
            _ => format!("%json {schema}"),
        };
        let _ = writeln!(lark, "tag{at}: {begin} {body} {end}");
        bodies[trigger].push(format!("tag{at}"));
    }
    let mut calls = Vec::new();
    let mut required = Vec::new();
    for (at, (trigger, bodies)) in tags.triggers.iter().zip(&bodies).enumerate() {
        if bodies.is_empty() {
            return Err(Error::invalid(format!(
                "the structural tags have trigger {trigger:?}, which begins no tag; leave it out"
            )));
        }
        let _ = writeln!(lark, "body{at}: {}", bodies.join(" | "));
        required.push(format!("{} body{at}", context.sequence(trigger)?));
        if tags.required {
            continue;
        }
        // Free text up to the first trigger. A lazy terminal ends as soon as it matches, so no trigger is missed.
        let _ = writeln!(lark, "seek{at}[lazy]: /(?s:.*){}/", escaped(trigger));
        calls.push(format!("seek{at} body{at}"));
        // A control token cannot be a part of a terminal.
        if let Some((token, rest)) = context.control_prefix(trigger)? {
            calls.push(format!("FREE <[{token}]> {} body{at}", context.sequence(rest)?));
        }
    }
    if tags.required {
        let _ = writeln!(lark, "only: {}", required.join(" | "));
    } else {
        let _ = writeln!(lark, "FREE: /(?s:.*)/\ncall: {}", calls.join(" | "));
    }
    let loose = tags.tags.iter().any(|tag| tag.body.is_loose());
    let mut start = match (tags.required, tags.parallel) {
        (true, parallel) => {
            let [before, after] =
                [&tags.around[0], &tags.around[1]].map(|text| context.sequence(text));
            let (before, after, separator) =
                (before?, after?, context.lines(&tags.separator, loose)?);
            let more = if parallel { format!("({separator} only)*") } else { String::new() };
            format!("{before} only {more} {after}")
        }
        (false, true) => "call* FREE".into(),
        (false, false) => "call | FREE".into(),
    };
    if let Some(schema) = tags.otherwise.as_ref().filter(|_| tags.required) {
        let schema = schema::normalize_within(schema, &mut budget)
            .map_err(|error| error.within("the answer without tags"))?;
        let _ = writeln!(lark, "otherwise: %json {schema}");
        start.push_str(" | otherwise");
    }
    let _ = writeln!(lark, "start: {start}");
    Ok(lark)
}

/// Checks that each trigger can be recognized.
fn check_triggers(tags: &StructuralTags) -> Result<(), Error> {
    for (at, trigger) in tags.triggers.iter().enumerate() {
        if trigger.is_empty() && !tags.required {
            return Err(Error::invalid("the structural tags have an empty trigger"));
        }
        let others = tags.triggers.iter().enumerate().filter(|(other, _)| *other != at);
        for (_, other) in others {
            if other.contains(trigger.as_str()) {
                return Err(Error::invalid(format!(
                    "the structural tags have triggers {trigger:?} and {other:?}, one within the other; leave one out"
                )));
            }
        }
    }
    Ok(())
}

/// The trigger that a tag begins with.
fn trigger_of(tags: &StructuralTags, tag: &StructuralTag) -> Result<usize, Error> {
    let found = tags.triggers.iter().position(|trigger| tag.begin.starts_with(trigger.as_str()));
    found.ok_or_else(|| {
        Error::invalid(format!(
            "tool {:?} begins with {:?}, which is none of the triggers {:?}",
            tag.name, tag.begin, tags.triggers
        ))
    })
}
