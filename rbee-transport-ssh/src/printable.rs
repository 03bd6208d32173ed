//! Texts from another machine, made safe to show.

/// The most characters of a text that are shown.
const MOST: usize = 500;

/// The text in one line and without control characters, which could change what a terminal shows, and cut if it is
/// long.
pub(crate) fn printable(text: &str) -> String {
    let mut characters = text.trim().chars();
    let mut shown: String = characters
        .by_ref()
        .take(MOST)
        .map(|character| if is_hidden(character) { '\u{fffd}' } else { character })
        .collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// Control characters, and those that change the direction of writing.
fn is_hidden(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}')
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn control_characters_are_replaced_and_long_texts_are_cut() {
        assert_eq!(printable(" a\u{1b}[2J\nb\u{202e}c "), "a\u{fffd}[2J\u{fffd}b\u{fffd}c");
        assert_eq!(printable("größe"), "größe");
        let long = printable(&"x".repeat(600));
        assert_eq!((long.len(), long.ends_with('…')), (503, true));
    }
}
