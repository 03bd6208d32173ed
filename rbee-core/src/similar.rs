//! Names that are like a name.

/// The known names that are much like this one, the most similar first. The name itself is not among them.
pub(crate) fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let most = (name.chars().count() / 3).max(1);
    let mut near: Vec<_> = known
        .into_iter()
        // The distance is at least the difference of the lengths; a character has up to four bytes.
        .filter(|other| *other != name && other.len().abs_diff(name.len()) <= 4 * most)
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, _)| *distance <= most)
        .collect();
    near.sort_unstable();
    near.into_iter().map(|(_, other)| other).collect()
}

/// The most similar of the known names; `None` if none is much like it.
#[cfg(feature = "rhai")]
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    similar(name, known).into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_like_the_name_and_never_the_same() {
        let known = ["bee-tiny", "bee", "llama3.2:3b", "org/model"];
        for (name, near) in [
            ("bee-tyni", Some("bee-tiny")),
            ("bie", Some("bee")),
            ("llama3.2:1b", Some("llama3.2:3b")),
            ("org/modell", Some("org/model")),
            ("bee", None),
            ("wasp", None),
            ("", None),
        ] {
            assert_eq!(similar(name, known).first().copied(), near, "{name}");
        }
    }
}
