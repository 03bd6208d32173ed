//! The text of a prompt, and which parts of it come from the request.
//!
//! A chat template computes: it trims, cuts and joins its input. To know afterwards which characters of its output are
//! the caller's, each of them is replaced by a *stand-in*, a private-use character that occurs nowhere else in the
//! request. The output is converted back, and the positions of the stand-ins are the caller's.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use super::jinja::Originals;
use crate::error::{Error, ErrorKind, Result};

/// The first stand-in, and the last one that may be used: the second plane for private use.
const STAND_INS: std::ops::RangeInclusive<u32> = 0x10_0000..=0x10_FFFD;
/// The first byte of every stand-in in UTF-8.
const LEAD_BYTE: u8 = 0xf4;

/// A text, and which parts of it come from the request. Only the rest may produce control tokens.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::candle) struct PromptText {
    pub(in crate::candle) text: String,
    /// Byte ranges, in order, that do not touch each other.
    caller: Vec<Range<usize>>,
}

impl PromptText {
    /// A text of the request.
    pub(in crate::candle) fn from_caller(text: impl Into<String>) -> Self {
        let text = text.into();
        let whole = 0..text.len();
        Self { text, caller: if whole.is_empty() { Vec::new() } else { vec![whole] } }
    }

    /// A text in which the text of a control token stands for that token.
    pub(in crate::candle) fn trusted(text: impl Into<String>) -> Self {
        Self { text: text.into(), caller: Vec::new() }
    }

    /// Appends a text.
    pub(in crate::candle) fn push(&mut self, other: &Self) {
        let begin = self.text.len();
        self.text.push_str(&other.text);
        let moved = other.caller.iter().map(|range| range.start + begin..range.end + begin);
        self.caller.extend(moved);
        self.caller = joined(std::mem::take(&mut self.caller));
    }

    /// Returns true if no part of it comes from the request.
    pub(in crate::candle) fn is_trusted(&self) -> bool {
        self.caller.is_empty()
    }

    /// Returns true if nothing in this byte range comes from the request.
    pub(in crate::candle) fn is_trusted_at(&self, range: &Range<usize>) -> bool {
        let next = self.caller.partition_point(|caller| caller.end <= range.start);
        self.caller.get(next).is_none_or(|caller| caller.start >= range.end)
    }
}

/// Returns true if a character can be replaced by a stand-in. White space is trimmed by templates, and the others are
/// escaped if a template writes JSON: both must stay unchanged.
pub(in crate::candle) fn is_replaceable(character: char) -> bool {
    !(character.is_whitespace() || character.is_control() || matches!(character, '"' | '\\'))
}

/// The stand-ins of one request.
#[derive(Debug)]
pub(in crate::candle) struct StandIns {
    /// Characters of the request that cannot be used as stand-ins.
    taken: HashSet<char>,
    ascii: [Option<char>; 128],
    others: HashMap<char, char>,
    /// The original character of each stand-in, from the first one on; `None` for those that cannot be used.
    originals: Vec<Option<char>>,
}

/// The error that there are not enough stand-ins for the characters of a request.
#[derive(Debug)]
pub(in crate::candle) struct Exhausted;

impl From<Exhausted> for Error {
    fn from(_: Exhausted) -> Self {
        let message = "messages use too many different private-use characters of U+100000 to U+10FFFD; \
                       leave some of them out";
        Self::new(ErrorKind::InvalidRequest, message).with_param("messages")
    }
}

impl StandIns {
    /// Stand-ins that occur in none of these texts.
    pub(in crate::candle) fn for_texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let mut taken = HashSet::new();
        for text in texts.into_iter().filter(|text| text.as_bytes().contains(&LEAD_BYTE)) {
            taken.extend(text.chars().filter(|c| STAND_INS.contains(&u32::from(*c))));
        }
        Self { taken, ascii: [None; 128], others: HashMap::new(), originals: Vec::new() }
    }

    /// The text with stand-ins in these byte ranges, which must be in order.
    pub(in crate::candle) fn put_in(
        &mut self,
        text: &str,
        ranges: &[Range<usize>],
    ) -> Result<String, Exhausted> {
        let mut out = String::with_capacity(text.len());
        let mut ranges = ranges.iter().peekable();
        for (at, character) in text.char_indices() {
            while ranges.next_if(|range| range.end <= at).is_some() {}
            let inside = ranges.peek().is_some_and(|range| range.start <= at);
            out.push(if inside && is_replaceable(character) {
                self.of(character)?
            } else {
                character
            });
        }
        Ok(out)
    }

    fn of(&mut self, character: char) -> Result<char, Exhausted> {
        let known = match self.ascii.get(character as usize) {
            Some(known) => *known,
            None => self.others.get(&character).copied(),
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let stand_in = loop {
            let code = *STAND_INS.start() + self.originals.len() as u32;
            let free = char::from_u32(code).filter(|_| STAND_INS.contains(&code));
            let free = free.ok_or(Exhausted)?;
            if !self.taken.contains(&free) {
                break free;
            }
            self.originals.push(None);
        };
        self.originals.push(Some(character));
        match self.ascii.get_mut(character as usize) {
            Some(place) => *place = Some(stand_in),
            None => drop(self.others.insert(character, stand_in)),
        }
        Ok(stand_in)
    }

    /// The characters that the stand-ins stand for, for filters that look at characters.
    pub(in crate::candle) fn originals(&self) -> Originals {
        Originals { first: *STAND_INS.start(), characters: self.originals.clone() }
    }

    /// The text with the original characters; the positions of the stand-ins are the caller's.
    pub(in crate::candle) fn take_out(&self, text: &str) -> PromptText {
        let mut out = PromptText { text: String::with_capacity(text.len()), caller: Vec::new() };
        for character in text.chars() {
            let index = u32::from(character).checked_sub(*STAND_INS.start());
            let original = index.and_then(|index| *self.originals.get(index as usize)?);
            let start = out.text.len();
            out.text.push(original.unwrap_or(character));
            if original.is_some() {
                match out.caller.last_mut() {
                    Some(last) if last.end == start => last.end = out.text.len(),
                    _ => out.caller.push(start..out.text.len()),
                }
            }
        }
        out
    }
}

/// The ranges of characters of this kind.
pub(in crate::candle) fn places(text: &str, is: impl Fn(char) -> bool) -> Vec<Range<usize>> {
    let mut places: Vec<Range<usize>> = Vec::new();
    for (at, character) in text.char_indices().filter(|(_, character)| is(*character)) {
        let end = at + character.len_utf8();
        match places.last_mut() {
            Some(last) if last.end == at => last.end = end,
            _ => places.push(at..end),
        }
    }
    places
}

/// Sorts ranges, and joins those that touch.
pub(in crate::candle) fn joined(mut ranges: Vec<Range<usize>>) -> Vec<Range<usize>> {
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<usize>> = Vec::with_capacity(ranges.len());
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// The parts of the first ranges that are in none of the second; both are joined.
pub(in crate::candle) fn without(
    ranges: &[Range<usize>],
    out: &[Range<usize>],
) -> Vec<Range<usize>> {
    let mut left = Vec::with_capacity(ranges.len() + out.len());
    for range in ranges {
        let mut start = range.start;
        let first = out.partition_point(|hole| hole.end <= range.start);
        for hole in out[first..].iter().take_while(|hole| hole.start < range.end) {
            if start < hole.start {
                left.push(start..hole.start);
            }
            start = hole.end;
        }
        if start < range.end {
            left.push(start..range.end);
        }
    }
    left
}

#[cfg(test)]
#[path = "prompt_tests.rs"]
mod tests;
