//! Names that are like a name.

/// The known name that is most like this one; `None` if none is much like it. It is never the name itself.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.chars().count() / 3).max(1);
    let near = known.into_iter().filter(|other| *other != name).filter_map(|other| {
        // The distance is at least the difference of the lengths, which is cheaper to find out.
        let is_near = other.len().abs_diff(name.len()) <= 4 * most;
        is_near.then(|| (strsim::damerau_levenshtein(name, other), other))
    });
    near.filter(|(distance, _)| *distance <= most).min().map(|(_, other)| other)
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
            assert_eq!(nearest(name, known), near, "{name}");
        }
    }
}
