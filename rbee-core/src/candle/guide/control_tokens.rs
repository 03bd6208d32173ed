//! Texts in grammars that name control tokens of a model.

use super::{error::Error, lark::quoted, token_table::TokenTable};

/// The tokens of the model, for texts that name control tokens.
pub(super) struct Context<'a> {
    controls: Vec<(u32, &'a str)>,
    ends: &'a [u32],
}

impl<'a> Context<'a> {
    pub(super) fn new(table: &'a TokenTable, ends: &'a [u32]) -> Self {
        Self { controls: table.controls().collect(), ends }
    }

    /// The control token that a text begins with, and the rest of the text; of several, the longest.
    pub(super) fn control_prefix<'t>(
        &self,
        text: &'t str,
    ) -> Result<Option<(u32, &'t str)>, Error> {
        let found = self
            .controls
            .iter()
            .filter_map(|(token, name)| Some((*token, text.strip_prefix(name)?)))
            .min_by_key(|(_, rest)| rest.len());
        match found {
            Some((token, _)) if self.ends.contains(&token) => Err(Error::invalid(format!(
                "the structural tags have the end-of-text token in {text:?}; leave it out: it ends the answer"
            ))),
            found => Ok(found),
        }
    }

    /// The grammar of a text in which line breaks may be absent, if `loose`.
    pub(super) fn lines(&self, text: &str, loose: bool) -> Result<String, Error> {
        if !loose {
            return self.sequence(text);
        }
        let mut parts = Vec::new();
        for (at, line) in text.split('\n').enumerate() {
            if at > 0 {
                parts.push(format!("{}?", quoted("\n")));
            }
            if !line.is_empty() {
                parts.push(self.sequence(line)?);
            }
        }
        Ok(if parts.is_empty() { "\"\"".into() } else { parts.join(" ") })
    }

    /// The grammar of a text: for each name of a control token, the token or its text.
    pub(super) fn sequence(&self, text: &str) -> Result<String, Error> {
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
