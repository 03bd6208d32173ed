//! Structural tags as a grammar: free text, triggers, and tags with JSON in them.

use std::fmt::Write as _;

use super::{
    StructuralTag, StructuralTags,
    error::Error,
    lark::{escaped, quoted},
    limits, schema,
    token_table::TokenTable,
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
    for (what, text) in texts.chain(triggers).chain([("separator", &tags.separator)]) {
        let (bytes, most) = (text.len(), limits::MAX_TAG_BYTES);
        if bytes > most {
            return Err(Error::too_complex(format!(
                "the structural tags have a text of {bytes} bytes as {what}; allowed are {most}"
            )));
        }
    }
    let schemas = tags.tags.iter().map(|tag| &tag.schema).chain(&tags.otherwise);
    let (bytes, most) = (schemas.map(String::len).sum::<usize>(), limits::MAX_GRAMMAR_BYTES);
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
    let context = Context { table, ends };
    check_triggers(tags)?;
    let mut budget = schema::Budget::default();
    let mut lark = String::new();
    let mut bodies = vec![Vec::new(); tags.triggers.len()];
    for (at, tag) in tags.tags.iter().enumerate() {
        let trigger = trigger_of(tags, tag, at)?;
        let subject = format!("tag {at}");
        let rest = &tag.begin[tags.triggers[trigger].len()..];
        let schema = schema::normalize_within(&tag.schema, &mut budget)
            .map_err(|error| error.within(&subject))?;
        let (begin, end) = (context.sequence(rest)?, context.sequence(&tag.end)?);
        let _ = writeln!(lark, "tag{at}: {begin} %json {schema} {end}");
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
        // Free text up to the first trigger. A lazy terminal ends as soon as it matches, so no trigger is missed.
        let _ = writeln!(lark, "seek{at}[lazy]: /(?s:.*){}/", escaped(trigger));
        calls.push(format!("seek{at} body{at}"));
        // A control token cannot be a part of a terminal.
        if let Some((token, rest)) = context.control_prefix(trigger)? {
            calls.push(format!("FREE <[{token}]> {} body{at}", context.sequence(rest)?));
        }
    }
    let _ = writeln!(lark, "FREE: /(?s:.*)/");
    let _ = writeln!(lark, "call: {}", calls.join(" | "));
    let _ = writeln!(lark, "only: {}", required.join(" | "));
    let mut start = match (tags.required, tags.parallel) {
        (true, true) => format!("only ({} only)*", context.sequence(&tags.separator)?),
        (true, false) => "only".into(),
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
        if trigger.is_empty() {
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
fn trigger_of(tags: &StructuralTags, tag: &StructuralTag, at: usize) -> Result<usize, Error> {
    let found = tags.triggers.iter().position(|trigger| tag.begin.starts_with(trigger.as_str()));
    found.ok_or_else(|| {
        Error::invalid(format!(
            "tag {at} begins with {:?}, which is none of the triggers {:?}",
            tag.begin, tags.triggers
        ))
    })
}

/// The tokens of the model, for texts that name control tokens.
struct Context<'a> {
    table: &'a TokenTable,
    ends: &'a [u32],
}

impl Context<'_> {
    /// The control token that a text begins with, and the rest of the text; of several, the longest.
    fn control_prefix<'t>(&self, text: &'t str) -> Result<Option<(u32, &'t str)>, Error> {
        let found = self
            .table
            .controls()
            .filter_map(|(token, name)| Some((token, text.strip_prefix(name)?)))
            .min_by_key(|(_, rest)| rest.len());
        match found {
            Some((token, _)) if self.ends.contains(&token) => Err(Error::invalid(format!(
                "the structural tags have the end-of-text token in {text:?}; leave it out: it ends the answer"
            ))),
            found => Ok(found),
        }
    }

    /// The grammar of a text: for each name of a control token, the token or its text.
    fn sequence(&self, text: &str) -> Result<String, Error> {
        let mut parts = Vec::new();
        let (mut plain, mut rest) = (String::new(), text);
        let flush = |plain: &mut String, parts: &mut Vec<String>| {
            if !plain.is_empty() {
                parts.push(quoted(&std::mem::take(plain)));
            }
        };
        while let Some(first) = rest.chars().next() {
            if let Some((token, after)) = self.control_prefix(rest)? {
                flush(&mut plain, &mut parts);
                let name = &rest[..rest.len() - after.len()];
                parts.push(format!("(<[{token}]> | {})", quoted(name)));
                rest = after;
            } else {
                plain.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
        flush(&mut plain, &mut parts);
        Ok(if parts.is_empty() { "\"\"".into() } else { parts.join(" ") })
    }
}
