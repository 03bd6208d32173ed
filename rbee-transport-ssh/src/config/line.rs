//! One line of `ssh_config`: a keyword and its arguments.

use super::settings::RAW_KEYWORDS;

/// A keyword in lower case, and its arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) keyword: String,
    pub(super) arguments: Vec<String>,
}

/// Reads a line. Returns `None` for an empty line or a comment.
///
/// The keyword ends at a blank or at one `=`. Arguments are separated by blanks; quotes keep blanks, a backslash keeps
/// a quote, a backslash or a blank, and `#` begins a comment.
///
/// # Errors
/// The problem, for a person.
pub(super) fn read(line: &str) -> Result<Option<Directive>, String> {
    let line = line.trim_matches(is_blank);
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (keyword, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quote is not closed")?,
        None => {
            let end = line.find(|character| is_blank(character) || character == '=');
            line.split_at(end.unwrap_or(line.len()))
        }
    };
    let rest = rest.trim_start_matches(is_blank);
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start_matches(is_blank);
    let keyword = keyword.to_ascii_lowercase();
    let arguments = match RAW_KEYWORDS.contains(&keyword.as_str()) {
        true => vec![rest.to_owned()],
        false => arguments(rest)?,
    };
    Ok(Some(Directive { keyword, arguments }))
}

fn arguments(text: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut current: Option<String> = None;
    let mut quote = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', _) => {
                let next = characters.peek().copied();
                let is_escape = match next {
                    Some('"' | '\'' | '\\') => true,
                    Some(' ') => quote.is_none(),
                    _ => false,
                };
                let kept = if is_escape { characters.next().unwrap_or('\\') } else { '\\' };
                current.get_or_insert_default().push(kept);
            }
            (_, Some(open)) if character == open => quote = None,
            (_, Some(_)) => current.get_or_insert_default().push(character),
            ('"' | '\'', None) => {
                quote = Some(character);
                current.get_or_insert_default();
            }
            ('#', None) if current.is_none() => break,
            (_, None) if is_blank(character) => found.extend(current.take()),
            (_, None) => current.get_or_insert_default().push(character),
        }
    }
    if quote.is_some() {
        return Err("a quote is not closed".into());
    }
    found.extend(current);
    Ok(found)
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n' | '\u{c}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keywords_and_arguments_are_read_in_every_notation() {
        let cases: [(&str, &str, &[&str]); 14] = [
            ("Port 22", "port", &["22"]),
            ("\t PORT=22\r\n", "port", &["22"]),
            ("port = 22", "port", &["22"]),
            ("\"Port\" 22", "port", &["22"]),
            ("Host a  b\t!c", "host", &["a", "b", "!c"]),
            ("Host a # and b", "host", &["a"]),
            ("Host a#b", "host", &["a#b"]),
            ("IdentityFile \"~/my key\"", "identityfile", &["~/my key"]),
            ("IdentityFile ~/my\\ key", "identityfile", &["~/my key"]),
            ("IdentityFile '~/\\'q\\' \"x\"'", "identityfile", &["~/'q' \"x\""]),
            ("IdentityFile C:\\keys", "identityfile", &["C:\\keys"]),
            ("ProxyCommand nc \"%h\" %p # x", "proxycommand", &["nc \"%h\" %p # x"]),
            ("Host \"\"", "host", &[""]),
            ("Port", "port", &[]),
        ];
        for (line, keyword, arguments) in cases {
            let directive = read(line).unwrap().unwrap();
            assert_eq!(
                (directive.keyword.as_str(), directive.arguments.as_slice()),
                (keyword, arguments.iter().map(ToString::to_string).collect::<Vec<_>>().as_slice()),
                "{line}"
            );
        }
        for nothing in ["", "  \t\r\n", "# Port 22", "  #"] {
            assert_eq!(read(nothing).unwrap(), None);
        }
        for open in ["Host \"a", "Host 'a", "\"Port 22"] {
            assert!(read(open).unwrap_err().contains("not closed"), "{open}");
        }
    }

    proptest! {
        #[test]
        fn quoted_arguments_are_read_as_they_were(
            arguments in prop::collection::vec("[a-z \"'\\\\#=\t]{0,8}", 1..4),
            any in ".{0,40}",
        ) {
            let quote = |argument: &String| {
                format!("\"{}\"", argument.replace('\\', "\\\\").replace('"', "\\\""))
            };
            let quoted: Vec<String> = arguments.iter().map(quote).collect();
            let directive = read(&format!("Host {}", quoted.join(" "))).unwrap().unwrap();
            prop_assert_eq!(directive.arguments, arguments);
            // Whatever is in a file, nothing panics.
            let _ = read(&any);
        }
    }
}
