//! Stop texts, matched across token boundaries.

/// Passes text on until one of the stop texts is complete, and holds back text that may become one.
///
/// The output depends only on the text, never on its division into tokens: the stop text that is complete first counts,
/// and of several that are complete at the same position the longest.
#[derive(Debug)]
pub(in crate::candle) struct StopFilter {
    stops: Vec<String>,
    held: String,
    found: Option<Box<str>>,
}

impl StopFilter {
    pub(in crate::candle) fn new(stops: &[String]) -> Self {
        Self {
            stops: stops.iter().filter(|stop| !stop.is_empty()).cloned().collect(),
            held: String::new(),
            found: None,
        }
    }

    /// The stop text that was found. No text is passed on after it.
    pub(in crate::candle) fn found(&self) -> Option<&str> {
        self.found.as_deref()
    }

    /// The text that is held back now.
    pub(in crate::candle) fn held(&self) -> &str {
        &self.held
    }

    /// Takes the next text and returns the part that is certainly not part of a stop text.
    pub(in crate::candle) fn push(&mut self, text: &str) -> String {
        if self.found.is_some() {
            return String::new();
        }
        self.held.push_str(text);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop).map(|at| (at + stop.len(), at, stop)))
            .min();
        if let Some((_, at, stop)) = first {
            self.found = Some(stop.as_str().into());
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max();
        let rest = self.held.split_off(self.held.len() - keep.unwrap_or(0));
        std::mem::replace(&mut self.held, rest)
    }

    /// Returns the text that is held back: the text is over, so it cannot become a stop text.
    pub(in crate::candle) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// The length of the longest end of `text` that is a beginning of `stop`, but not all of `stop`.
fn overlap(text: &str, stop: &str) -> usize {
    let longest = text.len().min(stop.len() - 1);
    (1..=longest)
        .rev()
        .find(|length| text.as_bytes()[text.len() - length..] == stop.as_bytes()[..*length])
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run<'a>(
        stops: &[&str],
        chunks: impl IntoIterator<Item = &'a str>,
    ) -> (String, Option<String>) {
        let stops: Vec<String> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut filter = StopFilter::new(&stops);
        let mut out = String::new();
        for chunk in chunks {
            out += &filter.push(chunk);
        }
        out += &filter.finish();
        (out, filter.found().map(ToOwned::to_owned))
    }

    #[test]
    fn a_stop_text_is_met_across_chunks_and_never_shown() {
        let found = |text: &str, stop: &str| (text.to_owned(), Some(stop.to_owned()));
        assert_eq!(run(&["END"], ["abc E", "N", "D more"]), found("abc ", "END"));
        assert_eq!(run(&["END"], ["abc E", "N"]), ("abc EN".into(), None));
        assert_eq!(run(&["aab"], ["aa", "a", "b"]), found("a", "aab"));
        assert_eq!(run(&["🐝é"], ["x🐝", "🐝", "é"]), found("x🐝", "🐝é"));
    }

    #[test]
    fn text_that_cannot_become_a_stop_text_is_let_through_at_once() {
        let mut filter = StopFilter::new(&["\n\n".into()]);
        assert_eq!(filter.push("one\n"), "one");
        assert_eq!(filter.held(), "\n");
        assert_eq!(filter.push("two"), "\ntwo");
    }

    #[test]
    fn the_stop_text_that_is_complete_first_counts() {
        let found = |text: &str, stop: &str| (text.to_owned(), Some(stop.to_owned()));
        assert_eq!(run(&["abc", "b"], ["abc"]), found("a", "b"));
        assert_eq!(run(&["abc", "b"], ["a", "b", "c"]), found("a", "b"));
        assert_eq!(run(&["b", "ab"], ["ab"]), found("", "ab"));
    }

    proptest! {
        #[test]
        fn how_the_text_is_cut_changes_nothing_and_no_stop_text_leaks(
            chunks in proptest::collection::vec("[abé]{0,4}", 0..12),
            stops in proptest::collection::vec("[abé]{1,4}", 0..4),
        ) {
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let whole = chunks.concat();
            let cut = run(&stops, chunks.iter().map(String::as_str));
            prop_assert_eq!(&cut, &run(&stops, [whole.as_str()]));
            prop_assert!(whole.starts_with(&cut.0));
            prop_assert!(stops.iter().all(|stop| !cut.0.contains(stop)));
            prop_assert_eq!(cut.1.is_some(), stops.iter().any(|stop| whole.contains(stop)));
            let ended = cut.1.map(|stop| format!("{}{stop}", cut.0));
            prop_assert!(ended.is_none_or(|ended| whole.starts_with(&ended)));
        }
    }
}
