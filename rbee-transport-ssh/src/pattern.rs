//! Patterns of host names, as in `ssh_config` and `known_hosts`.

/// Returns true if the pattern, in which `*` stands for any text and `?` for one byte, fits the whole text.
pub(crate) fn fits(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut at, mut done) = (0, 0);
    // Where to go on if the text does not fit: the last star takes one more byte.
    let mut retry: Option<(usize, usize)> = None;
    while let Some(byte) = text.get(done) {
        match pattern.get(at) {
            Some(b'*') => {
                retry = Some((at + 1, done));
                at += 1;
            }
            Some(expected) if *expected == b'?' || expected == byte => {
                at += 1;
                done += 1;
            }
            _ => match &mut retry {
                Some((after_star, taken)) => {
                    *taken += 1;
                    (at, done) = (*after_star, *taken);
                }
                None => return false,
            },
        }
    }
    pattern.get(at..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}

/// Returns true if one of the patterns fits, and none of those that begin with `!`.
pub(crate) fn fits_list<'a>(patterns: impl IntoIterator<Item = &'a str>, text: &str) -> bool {
    let mut found = false;
    for pattern in patterns {
        match pattern.strip_prefix('!') {
            Some(pattern) if fits(pattern, text) => return false,
            Some(_) => {}
            None => found |= fits(pattern, text),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_fit_as_in_a_shell() {
        let fit = [
            ("*", ""),
            ("*", "a"),
            ("a*c", "abbc"),
            ("a*b*c", "aXbYbc"),
            ("?.lan", "a.lan"),
            ("**a", "ba"),
            ("", ""),
        ];
        for (pattern, text) in fit {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        let differ = [
            ("a", "b"),
            ("a", ""),
            ("?", ""),
            ("a*c", "ab"),
            ("*.lan", "lan"),
            ("a?", "a"),
            ("", "a"),
            ("[a]", "a"),
        ];
        for (pattern, text) in differ {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
        let slow = format!("{}b", "a*".repeat(40));
        assert!(!fits(&slow, &"a".repeat(400)));
    }

    #[test]
    fn a_negated_pattern_wins_wherever_it_stands() {
        assert!(fits_list(["*.lan", "!x.lan"], "a.lan"));
        assert!(!fits_list(["*.lan", "!x.lan"], "x.lan"));
        assert!(!fits_list(["!x.lan", "*.lan"], "x.lan"));
        assert!(!fits_list(["!x.lan"], "a.lan"));
    }
}
