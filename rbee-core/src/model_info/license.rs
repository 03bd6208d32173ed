//! The license of a model, as far as its directory states it.

use std::path::Path;

use super::files;

const MAX_README_BYTES: u64 = 1 << 20;
/// The longest text that is accepted as a name.
const MAX_NAME: usize = 100;

/// The license named in the front matter of `README.md`, else the name of a license file.
pub(super) fn of(dir: &Path) -> Option<String> {
    // A README must not make a model fail: one that is too long, or is not text, is ignored.
    let readme = files::read_optional(&dir.join("README.md"), MAX_README_BYTES).ok().flatten();
    let text = readme.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    if let Some(name) = text.as_deref().and_then(front_matter) {
        return Some(name);
    }
    let names = ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "COPYING"];
    names.into_iter().find(|name| dir.join(name).is_file()).map(str::to_owned)
}

/// The license in the lines between the first two `---`: `license`, or `license_name` if that is `other`.
fn front_matter(text: &str) -> Option<String> {
    let mut lines = text.trim_start_matches('\u{feff}').lines();
    if lines.next()?.trim_end() != "---" {
        return None;
    }
    let (mut license, mut name) = (None, None);
    for line in lines {
        if line.trim_end() == "---" {
            let other = license.as_deref() == Some("other");
            return if other { name.or(license) } else { license };
        }
        // Only an unindented line is a top-level key.
        match line.split_once(':') {
            Some(("license", value)) => license = plain(value),
            Some(("license_name", value)) => name = plain(value),
            _ => {}
        }
    }
    None
}

/// A value that is one plain word.
fn plain(value: &str) -> Option<String> {
    let value = value.split(" #").next()?.trim().trim_matches(['"', '\'', '[', ']']);
    let fits = !value.is_empty() && value.len() <= MAX_NAME && !value.contains(char::is_control);
    fits.then(|| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_license_is_read_from_the_head_of_the_readme() {
        let found = |text: &str| front_matter(text);
        assert_eq!(
            found("---\nlanguage: en\nlicense: apache-2.0\n---\n# M"),
            Some("apache-2.0".into())
        );
        assert_eq!(found("---\r\nlicense: \"mit\" # ours\r\n---\r\n"), Some("mit".into()));
        assert_eq!(found("---\nlicense: other\nlicense_name: bee-1\n---\n"), Some("bee-1".into()));
        assert_eq!(found("---\nlicense: other\n---\n"), Some("other".into()));
        assert_eq!(found("---\nx:\n  license: mit\n---\n"), None);
        assert_eq!(found("---\nlicense: mit\n"), None);
        assert_eq!(found("# M\nlicense: mit\n"), None);
    }

    #[test]
    fn a_file_with_a_license_is_named_where_no_license_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of(dir.path()), None);
        std::fs::write(dir.path().join("LICENSE"), "text").unwrap();
        assert_eq!(of(dir.path()), Some("LICENSE".into()));
    }
}
