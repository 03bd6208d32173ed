//! The tokens that a tokenizer finds in a text before its model processes it, and which of them control the model.

use std::{cmp::Reverse, collections::HashMap, ops::Range};

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{AddedToken, NormalizedString, Normalizer, NormalizerWrapper, normalizer};

use super::{
    super::files::shown,
    prompt::{is_replaceable, joined},
    text_model::TextTokenizer,
};

/// The most added tokens; models that speak have 200,000.
const MAX_TOKENS: usize = 1 << 18;
/// The longest of them, in bytes.
const MAX_TOKEN_BYTES: usize = 1 << 10;
/// The most bytes of all of them: tables for more take minutes.
const MAX_BYTES: usize = 4 << 20;

/// Checks that these added tokens can be searched for: the tables for it take 50 times as many bytes, and up to 1,000
/// times as many if there are few tokens.
///
/// # Errors
/// What is wrong with them.
pub(super) fn check_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<(), String> {
    let (mut count, mut bytes) = (0, 0);
    for text in texts {
        if text.len() > MAX_TOKEN_BYTES {
            return Err(format!(
                "added token \"{}\" has {} bytes; allowed are at most {MAX_TOKEN_BYTES}",
                shown(text),
                text.len()
            ));
        }
        count += 1;
        bytes += text.len();
    }
    if count > MAX_TOKENS || bytes > MAX_BYTES {
        return Err(format!(
            "has {count} added tokens of {bytes} bytes together; allowed are at most {MAX_TOKENS} of {MAX_BYTES} bytes"
        ));
    }
    Ok(())
}

/// The added tokens of a tokenizer.
///
/// A **control token** is one that only the chat template, or a trusted caller, may produce:
/// - those that the tokenizer calls special;
/// - those written `<|…|>`, with either kind of bar;
/// - other tokens, like `<think>` or `[INST]`, that the chat template writes, or that the tokenizer's configuration
///   names as begin or end of a text.
///
/// The others are ordinary text that has a token: runs of white space, HTML tags, single characters.
#[derive(Debug, Default)]
pub(in crate::candle) struct AddedTokens {
    /// Tokens that are searched for in the original text.
    plain: TokenSet,
    /// Tokens that are searched for in the normalized text, by their normalized text.
    normalized: TokenSet,
    normalizer: Option<NormalizerWrapper>,
    /// The texts of the control tokens: original and normalized.
    control: HashMap<u32, [String; 2]>,
    /// Control tokens that a model's answer shows as text.
    shown: TokenSet,
}

impl AddedTokens {
    /// The tokens of a tokenizer. `written` is the text that its templates write.
    pub(in crate::candle) fn new(
        tokenizer: &TextTokenizer,
        written: &str,
    ) -> tokenizers::Result<Self> {
        let mut tokens: Vec<(u32, AddedToken)> =
            tokenizer.get_added_tokens_decoder().into_iter().collect();
        tokens.retain(|(_, token)| !token.content.is_empty());
        tokens.sort_unstable_by_key(|(id, _)| *id);
        let (mut plain, mut normalized) = (Vec::new(), Vec::new());
        let (mut control, mut shown) = (HashMap::new(), Vec::new());
        for (id, token) in tokens {
            let mut text = NormalizedString::from(token.content.as_str());
            if token.normalized
                && let Some(normalizer) = tokenizer.get_normalizer()
            {
                normalizer.normalize(&mut text)?;
            }
            let is_control = is_control(&token, written);
            if is_control {
                control.insert(id, [token.content.clone(), text.get().to_owned()]);
            }
            if is_control && !token.special && !is_piped(&token.content) {
                shown.push(TokenEntry::new(id, &token, &token.content, true));
            }
            let set = if token.normalized { &mut normalized } else { &mut plain };
            set.push(TokenEntry::new(id, &token, text.get(), is_control));
        }
        // A token that is part of another could make it appear.
        shown.retain(|entry| {
            let others = control.iter().filter(|(id, _)| **id != entry.id);
            !others.flat_map(|(_, texts)| texts).any(|text| text.contains(&entry.text))
        });
        Ok(Self {
            plain: TokenSet::new(plain)?,
            normalized: TokenSet::new(normalized)?,
            normalizer: tokenizer.get_normalizer().cloned(),
            control,
            shown: TokenSet::new(shown)?,
        })
    }

    /// Splits the text at the tokens that are searched for in the original text; at a control token only if `allowed`
    /// returns true for its position. The parts together are the whole text.
    pub(in crate::candle) fn cut(
        &self,
        text: &str,
        allowed: impl Fn(&Range<usize>) -> bool,
    ) -> Vec<Part> {
        self.plain.cut(text, allowed)
    }

    /// The same for tokens that are searched for in the normalized text.
    pub(in crate::candle) fn cut_normalized(
        &self,
        text: &str,
        allowed: impl Fn(&Range<usize>) -> bool,
    ) -> Vec<Part> {
        self.normalized.cut(text, allowed)
    }

    /// Returns true if this is the text of the control token with this id.
    pub(in crate::candle) fn is_text_of(&self, id: u32, text: &str) -> bool {
        self.control.get(&id).is_some_and(|texts| texts.iter().any(|own| own == text))
    }

    /// The parts of a caller's text that are a control token's text, or could become part of one next to other text.
    pub(in crate::candle) fn suspicious(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = self.plain.suspicious(text);
        match &self.normalizer {
            Some(normalizer) if self.normalized.has_control() => {
                let mut normalized = NormalizedString::from(text);
                // A text that cannot be normalized is refused when it is encoded.
                if normalizer.normalize(&mut normalized).is_ok() {
                    let ranges = self.normalized.suspicious(normalized.get()).into_iter();
                    found.extend(ranges.filter_map(|range| {
                        normalized.convert_offsets(normalizer::Range::Normalized(range))
                    }));
                }
            }
            _ => found.extend(self.normalized.suspicious(text)),
        }
        joined(found)
    }

    /// The parts of an assistant's message that are tokens which a model's answer shows as text, like `<think>`.
    pub(in crate::candle) fn shown(&self, text: &str) -> Vec<Range<usize>> {
        let chosen = self.shown.chosen(text, |_| true).into_iter();
        joined(chosen.map(|(_, range)| range).collect())
    }

    /// The ids of the control tokens.
    #[cfg(test)]
    pub(in crate::candle) fn control_ids(&self) -> std::collections::BTreeSet<u32> {
        self.control.keys().copied().collect()
    }
}

fn is_control(token: &AddedToken, written: &str) -> bool {
    let text = token.content.as_str();
    if token.special {
        return text.chars().any(is_replaceable);
    }
    let mark = |end: Option<char>| {
        end.is_some_and(|c| is_replaceable(c) && !c.is_alphanumeric() && c != '▁')
    };
    let is_mark =
        text.chars().count() >= 3 && mark(text.chars().next()) && mark(text.chars().last());
    is_piped(text) || (is_mark && written.contains(text))
}

fn is_piped(text: &str) -> bool {
    let inside = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
    inside.is_some_and(|text| {
        text.chars().count() >= 2 && text.starts_with(['|', '｜']) && text.ends_with(['|', '｜'])
    })
}

/// A part of a text, and its token; `None` for text.
pub(in crate::candle) type Part = (Option<u32>, Range<usize>);

#[derive(Clone, Debug)]
struct TokenEntry {
    id: u32,
    text: String,
    control: bool,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
}

impl TokenEntry {
    fn new(id: u32, token: &AddedToken, text: &str, control: bool) -> Self {
        let AddedToken { single_word, lstrip, rstrip, .. } = *token;
        Self { id, text: text.to_owned(), control, single_word, lstrip, rstrip }
    }
}

/// Tokens that are searched for in the same text.
#[derive(Debug, Default)]
struct TokenSet {
    control: Vec<TokenEntry>,
    /// Finds all control tokens, also those that overlap.
    find_control: Option<AhoCorasick>,
    ordinary: Vec<TokenEntry>,
    /// Finds the ordinary tokens as the tokenizer does: from the left, the longest.
    find_ordinary: Option<AhoCorasick>,
    /// The texts of the control tokens in order, and the same texts reversed.
    forwards: Vec<String>,
    backwards: Vec<String>,
    /// The length of the longest control token, in bytes.
    longest: usize,
}

impl TokenSet {
    fn new(entries: Vec<TokenEntry>) -> tokenizers::Result<Self> {
        let (control, ordinary): (Vec<_>, Vec<_>) =
            entries.into_iter().filter(|entry| !entry.text.is_empty()).partition(|e| e.control);
        let finder = |entries: &[TokenEntry], kind| {
            let texts = entries.iter().map(|entry| &entry.text);
            let finder = || AhoCorasick::builder().match_kind(kind).build(texts);
            (!entries.is_empty()).then(finder).transpose()
        };
        let mut forwards: Vec<String> = control.iter().map(|entry| entry.text.clone()).collect();
        let mut backwards: Vec<String> = forwards.iter().map(|text| reversed(text)).collect();
        forwards.sort_unstable();
        backwards.sort_unstable();
        Ok(Self {
            find_control: finder(&control, MatchKind::Standard)?,
            find_ordinary: finder(&ordinary, MatchKind::LeftmostLongest)?,
            longest: forwards.iter().map(String::len).max().unwrap_or(0),
            control,
            ordinary,
            forwards,
            backwards,
        })
    }

    fn has_control(&self) -> bool {
        !self.control.is_empty()
    }

    /// Control tokens come first, so that text next to them cannot hide one.
    fn cut(&self, text: &str, allowed: impl Fn(&Range<usize>) -> bool) -> Vec<Part> {
        let mut parts = Vec::new();
        for (token, range) in placed(text, self.chosen(text, allowed)) {
            let Some(finder) = self.find_ordinary.as_ref().filter(|_| token.is_none()) else {
                parts.push((token, range));
                continue;
            };
            let (start, between) = (range.start, &text[range]);
            let found = finder
                .find_iter(between)
                .map(|found| (&self.ordinary[found.pattern().as_usize()], found.range()));
            let within = placed(between, found).into_iter();
            parts.extend(within.map(|(token, at)| (token, start + at.start..start + at.end)));
        }
        parts
    }

    /// The control tokens in allowed positions: from the left, the longest.
    fn chosen(
        &self,
        text: &str,
        allowed: impl Fn(&Range<usize>) -> bool,
    ) -> Vec<(&TokenEntry, Range<usize>)> {
        let Some(finder) = &self.find_control else { return Vec::new() };
        let mut found: Vec<(&TokenEntry, Range<usize>)> = finder
            .find_overlapping_iter(text)
            .filter(|found| allowed(&found.range()))
            .map(|found| (&self.control[found.pattern().as_usize()], found.range()))
            .collect();
        found.sort_by_key(|(_, range)| (range.start, Reverse(range.end)));
        let mut end = 0;
        found.retain(|(_, range)| {
            let is_next = range.start >= end;
            if is_next {
                end = range.end;
            }
            is_next
        });
        found
    }

    fn suspicious(&self, text: &str) -> Vec<Range<usize>> {
        let Some(finder) = &self.find_control else { return Vec::new() };
        let mut found: Vec<_> = finder.find_overlapping_iter(text).map(|at| at.range()).collect();
        let start = text.len() - text.trim_start().len();
        // A template may trim it, or not.
        for range in [0..text.len(), start..text.trim_end().len().max(start)] {
            let edges = self.edges(&text[range.clone()]);
            found.extend(edges.map(|at| range.start + at.start..range.start + at.end));
        }
        found
    }

    /// The ends of a text that begin or continue a control token's text.
    fn edges(&self, text: &str) -> impl Iterator<Item = Range<usize>> + use<> {
        let inside = text.len() < self.longest
            && !text.is_empty()
            && self.forwards.iter().any(|token| token.contains(text));
        let begins = text
            .char_indices()
            .map(|(at, _)| at)
            .skip_while(|at| text.len() - at >= self.longest)
            .find(|at| begins_longer(&self.forwards, &text[*at..]));
        let near = text.len().min(self.longest.saturating_sub(1));
        let ends = (1..=near)
            .rev()
            .filter(|at| text.is_char_boundary(*at))
            .find(|at| begins_longer(&self.backwards, &reversed(&text[..*at])));
        let len = text.len();
        [inside.then_some(0..len), begins.map(|at| at..len), ends.map(|at| 0..at)]
            .into_iter()
            .flatten()
    }
}

/// Returns true if one of the texts, which are in order, begins with this text and is longer.
fn begins_longer(texts: &[String], beginning: &str) -> bool {
    let first = texts.partition_point(|text| text.as_str() <= beginning);
    texts.get(first).is_some_and(|text| text.starts_with(beginning))
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

/// The whole text, in parts: tokens take the white space next to them that they include, and single-word tokens need
/// word boundaries. The tokenizer itself does the same.
fn placed<'a>(
    text: &str,
    found: impl IntoIterator<Item = (&'a TokenEntry, Range<usize>)>,
) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut done = 0;
    for (entry, Range { mut start, mut end }) in found {
        if entry.single_word {
            let is_word = |c: char| c.is_alphanumeric() || c == '_';
            if text[..start].ends_with(is_word) || text[end..].starts_with(is_word) {
                continue;
            }
        }
        if entry.lstrip {
            start = text[..start].trim_end().len().max(done);
        }
        if entry.rstrip {
            end = text.len() - text[end..].trim_start().len();
        }
        if done < start {
            parts.push((None, done..start));
        }
        parts.push((Some(entry.id), start..end));
        done = end;
    }
    if done < text.len() {
        parts.push((None, done..text.len()));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_tokens_are_limited_in_number_and_in_bytes() {
        let many = |count: usize, length: usize| {
            let text = "x".repeat(length);
            check_texts(std::iter::repeat_n(&*text, count))
        };
        assert_eq!((many(MAX_TOKENS, 16), many(4_096, 1_024)), (Ok(()), Ok(())));
        for (count, length) in [(MAX_TOKENS + 1, 1), (MAX_TOKENS, 17), (4_097, 1_024)] {
            let said = format!("has {count} added tokens of {} bytes together", count * length);
            assert!(many(count, length).unwrap_err().contains(&said));
        }
    }
}
