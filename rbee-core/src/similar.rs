//! Names that are like one that is not known: what "did you mean" proposes.
//!
//! Upper and lower case count as equal, and the name itself is never proposed.

/// The minimum similarity in a list of [`names`]; 1 is equal.
const ALIKE: f64 = 0.6;
/// The maximum length of a list of [`names`].
const MOST: usize = 3;

/// The known name that was most likely meant; `None` if none is much like this one.
///
/// ```
/// use rbee_core::similar::nearest;
///
/// assert_eq!(nearest("listen_prt", ["listen_host", "listen_port"]), Some("listen_port"));
/// assert_eq!(nearest("Listen_Port", ["listen_port"]), Some("listen_port"));
/// assert_eq!(nearest("listen_port", ["listen_port"]), None);
/// ```
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = letters(given);
    let most = (lower.len() / 3).max(1);
    let near = known.into_iter().filter(|name| *name != given).filter_map(|name| {
        let other = letters(name);
        let distance = distance(&lower, &other);
        // `priority` for `priorities`.
        let common = lower.iter().zip(&other).take_while(|(one, other)| one == other).count();
        let has_the_beginning = common >= 4 && common * 10 >= lower.len().max(other.len()) * 6;
        (distance <= most || has_the_beginning).then_some((distance, name))
    });
    near.min().map(|(_, name)| name)
}

/// Up to three known names that are like this one or contain it, the most similar first.
pub fn names<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let lower = given.to_lowercase();
    let mut near: Vec<_> = known
        .into_iter()
        .filter(|name| *name != given)
        .map(|name| {
            let other = name.to_lowercase();
            let is_contained = other.contains(&lower) || lower.contains(&other);
            let (one, two) = (letters(given), letters(name));
            let longest = one.len().max(two.len()).max(1) as f64;
            let alike = 1.0 - distance(&one, &two) as f64 / longest;
            (if is_contained { alike.max(ALIKE) } else { alike }, name)
        })
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    near.into_iter().take(MOST).map(|(_, name)| name).collect()
}

/// The known names, the most similar to this one first.
pub fn by_similarity<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let lower = letters(given);
    let mut all: Vec<_> = known
        .into_iter()
        .map(|name| {
            let other = letters(name);
            let longest = lower.len().max(other.len()).max(1) as f64;
            (distance(&lower, &other) as f64 / longest, name)
        })
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(b.1)));
    all.into_iter().map(|(_, name)| name).collect()
}

fn letters(name: &str) -> Vec<char> {
    name.to_lowercase().chars().collect()
}

/// The least number of letters that are inserted, deleted, replaced or exchanged with the next one to make one name of
/// the other.
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut line = vec![row + 1];
        for (column, also) in other.iter().enumerate() {
            let replaced = last[column] + usize::from(letter != also);
            let mut least = replaced.min(last[column + 1] + 1).min(line[column] + 1);
            if row > 0 && column > 0 && one[row - 1] == *also && other[column - 1] == *letter {
                least = least.min(before[column - 1] + 1);
            }
            line.push(least);
        }
        before = std::mem::replace(&mut last, line);
    }
    last[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_count_letters_that_differ() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "bee", 3),
            ("bee", "bee", 0),
            ("idel", "idle", 1),
            ("modell", "model", 1),
            ("retrys", "retries", 2),
            ("hive", "bees", 4),
        ] {
            assert_eq!(distance(&letters(one), &letters(other)), expected, "{one} {other}");
            assert_eq!(distance(&letters(other), &letters(one)), expected, "{other} {one}");
        }
    }

    #[test]
    fn what_was_typed_is_never_proposed_but_its_other_case_is() {
        let known = ["bee", "Bee", "beehive", "priorities"];
        assert_eq!(nearest("bee", ["bee"]), None);
        assert_eq!(nearest("bee", known), Some("Bee"));
        assert_eq!(nearest("BEE", known), Some("Bee"));
        assert_eq!(nearest("priority", known), Some("priorities"));
        for (name, near) in [
            ("bie", Some("Bee")),
            ("llama3.2:1b", Some("llama3.2:3b")),
            ("org/modell", Some("org/model")),
            ("wasp", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, ["Bee", "llama3.2:3b", "org/model"]), near, "{name}");
        }
        assert_eq!(names("bee", ["bee"]), [""; 0]);
        assert_eq!(names("bee", known), ["Bee", "beehive"]);
        for name in known {
            assert_ne!(nearest(name, known), Some(name));
            assert!(!names(name, known).contains(&name));
        }
    }

    #[test]
    fn all_names_are_there_with_the_most_similar_first() {
        assert_eq!(
            by_similarity("wasp", ["bee", "Wasps", "ant", "hornet"]),
            ["Wasps", "ant", "bee", "hornet"]
        );
        assert_eq!(by_similarity("bee", []), [""; 0]);
    }

    #[test]
    fn a_name_that_is_nearly_right_is_recognized() {
        let known = ["bee-tiny", "llama-3.2-1b", "hf:Qwen/Qwen2.5-0.5B-Instruct"];
        assert_eq!(names("bee-tyni", known), ["bee-tiny"]);
        assert_eq!(names("Llama-3.2", known), ["llama-3.2-1b"]);
        assert_eq!(names("qwen2.5-0.5b", known), ["hf:Qwen/Qwen2.5-0.5B-Instruct"]);
        assert!(names("zzz", known).is_empty());
    }
}
