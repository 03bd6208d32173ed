//! Words: each thing has one name, the standard one of the field. Names, comments, messages and pages are searched for
//! words that this project does not use ([`table`] lists them).

mod debug;
mod table;
mod text;

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    thread,
};

use crate::steps::{Failure, root};

use table::{Entry, Find, TABLE};
use text::{Word, Words};

/// Folders with sources and pages, and single pages.
const READ: &[&str] = &[
    "README.md",
    "docs",
    "examples",
    "rbee-core",
    "rbee-py",
    "rbee-transport-http",
    "rbee-transport-ssh",
    "tests",
];

/// Left out: build output.
const LEFT_OUT: &[&str] = &["target", "node_modules"];
/// This file and those below it name the words on purpose.
const OWN: [&str; 2] = ["tests/xtask/src/words", "tests/xtask/src/words.rs"];

/// Checks everything.
pub(crate) fn check() -> Result<(), Failure> {
    let mut files = Vec::new();
    for path in READ {
        list(&root().join(path), &mut files)?;
    }
    let finder = Finder::new(TABLE);
    let each = files.len().div_ceil(thread::available_parallelism().map_or(1, usize::from));
    let mut findings: Vec<String> = thread::scope(|scope| {
        let finder = &finder;
        let read = |files| scope.spawn(move || read(finder, files));
        let threads: Vec<_> = files.chunks(each.max(1)).map(read).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    findings.extend(unused_exceptions(TABLE, root()));
    if findings.is_empty() {
        println!("{} files have none of {} words", files.len(), TABLE.len());
        return Ok(());
    }
    Err(format!("{} words that are not used here\n{}", findings.len(), findings.join("\n")))
}

fn read(finder: &Finder<'_>, files: &[PathBuf]) -> Vec<String> {
    let mut findings = Vec::new();
    for path in files {
        let shown = path.strip_prefix(root()).unwrap_or(path).display().to_string();
        match fs::read_to_string(path) {
            Ok(text) => {
                findings.extend(finder.find(&shown, &text));
                findings.extend(debug::find(&shown, &text));
            }
            Err(cause) => findings.push(format!("{shown} cannot be read: {cause}")),
        }
    }
    findings
}

/// All sources and pages at and below this path.
fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_own = OWN.iter().any(|own| *path == root().join(own));
    if is_own || LEFT_OUT.contains(&&*name) || name.starts_with('.') {
        return Ok(());
    }
    if path.is_dir() {
        let failed = |cause| format!("{}: {cause}", path.display());
        let mut entries: Vec<PathBuf> = fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect())
            .map_err(failed)?;
        entries.sort();
        return entries.iter().try_for_each(|entry| list(entry, files));
    }
    if name.ends_with(".rs") || name.ends_with(".md") {
        files.push(path.into());
    }
    Ok(())
}

/// Exceptions for files that do not exist.
fn unused_exceptions(table: &[Entry], root: &Path) -> Vec<String> {
    let excepted = table.iter().flat_map(|entry| entry.except);
    excepted
        .filter(|(path, _)| !root.join(path).exists())
        .map(|(path, _)| {
            format!("{path} is excepted and does not exist; correct the list of words")
        })
        .collect()
}

/// The table, indexed for lookups.
struct Finder<'a> {
    names: HashMap<&'a str, Vec<&'a Entry>>,
    types: HashMap<&'a str, Vec<&'a Entry>>,
    parts: HashMap<&'a str, &'a Entry>,
    /// By the first word.
    phrases: HashMap<&'a str, Vec<(Vec<&'a str>, &'a Entry)>>,
    stems: Vec<(&'a str, &'a Entry)>,
    files: Vec<(&'a str, &'a Entry)>,
}

impl<'a> Finder<'a> {
    fn new(table: &'a [Entry]) -> Self {
        let mut finder = Self {
            names: HashMap::new(),
            types: HashMap::new(),
            parts: HashMap::new(),
            phrases: HashMap::new(),
            stems: Vec::new(),
            files: Vec::new(),
        };
        for entry in table {
            match entry.find {
                Find::Name(name, _) => finder.names.entry(name).or_default().push(entry),
                Find::Type(name, _) => finder.types.entry(name).or_default().push(entry),
                Find::Part(part) => drop(finder.parts.insert(part, entry)),
                Find::Stem(stem) => finder.stems.push((stem, entry)),
                Find::File(file) => finder.files.push((file, entry)),
                Find::Phrase(phrase) => {
                    let words: Vec<&str> = phrase.split(' ').collect();
                    finder.phrases.entry(words[0]).or_default().push((words, entry));
                }
            }
        }
        finder
    }

    /// All findings in one file.
    fn find(&self, file: &str, text: &str) -> Vec<String> {
        let words = match file.ends_with(".rs") {
            true => Words::of_code(text),
            false => Words::of_page(text),
        };
        let mut found: Vec<(usize, String, &Entry)> = Vec::new();
        for (name, entry) in &self.files {
            if file == *name || file.ends_with(&format!("/{name}")) {
                found.push((1, format!("the file {name}"), entry));
            }
        }
        let mut before = "";
        for word in &words.names {
            self.name(file, word, before, &mut found);
            before = word.text;
        }
        let prose: Vec<String> =
            words.prose.iter().map(|word| word.text.to_ascii_lowercase()).collect();
        for (index, word) in words.prose.iter().enumerate() {
            let rest = &prose[index..];
            for (phrase, entry) in self.phrases.get(prose[index].as_str()).into_iter().flatten() {
                if rest.len() >= phrase.len() && phrase.iter().zip(rest).all(|(a, b)| a == b) {
                    found.push((word.line, format!("{:?}", phrase.join(" ")), entry));
                }
            }
            self.stem(word, &prose[index], &mut found);
        }
        found.retain(|(_, _, entry)| !is_excepted(entry, file));
        found.sort_by_key(|(line, ..)| *line);
        found.dedup_by(|a, b| a.0 == b.0 && std::ptr::eq(a.2, b.2));
        found
            .into_iter()
            .map(|(line, word, entry)| format!("{file}:{line}: {word}: write {}", entry.instead))
            .collect()
    }

    fn name(
        &self,
        file: &str,
        word: &Word<'_>,
        before: &str,
        found: &mut Vec<(usize, String, &'a Entry)>,
    ) {
        let mut add = |entry| found.push((word.line, format!("`{}`", word.text), entry));
        for &entry in self.names.get(word.text).into_iter().flatten() {
            if let Find::Name(_, below) = entry.find
                && below.iter().any(|below| file.starts_with(below))
            {
                add(entry);
            }
        }
        if matches!(before, "struct" | "enum" | "type" | "trait") {
            for &entry in self.types.get(word.text).into_iter().flatten() {
                if let Find::Type(_, below) = entry.find
                    && below.iter().any(|below| file.starts_with(below))
                {
                    add(entry);
                }
            }
        }
        for part in parts(word.text) {
            let part = part.to_ascii_lowercase();
            if let Some(entry) = self.parts.get(part.as_str()) {
                found.push((word.line, format!("`{}`", word.text), entry));
            }
            self.stem(word, &part, found);
        }
    }

    fn stem(&self, word: &Word<'_>, lower: &str, found: &mut Vec<(usize, String, &'a Entry)>) {
        for (stem, entry) in &self.stems {
            if lower.starts_with(stem) {
                found.push((word.line, format!("`{}`", word.text), entry));
            }
        }
    }
}

/// The parts of a name: `READ_PATIENCE` and `ReadPatience` have two each.
fn parts(name: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    for word in name.split('_').filter(|word| !word.is_empty()) {
        let mut begin = 0;
        let bytes = word.as_bytes();
        for at in 1..bytes.len() {
            if bytes[at].is_ascii_uppercase() && bytes[at - 1].is_ascii_lowercase() {
                parts.push(&word[begin..at]);
                begin = at;
            }
        }
        parts.push(&word[begin..]);
    }
    parts
}

fn is_excepted(entry: &Entry, file: &str) -> bool {
    entry
        .except
        .iter()
        .any(|(path, _)| file == *path || (path.ends_with('/') && file.starts_with(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &[Entry] = &[
        Entry { find: Find::Name("Line", &["src/lanes"]), instead: "List", except: &[] },
        Entry { find: Find::Type("Entry", &["src/"]), instead: "a whole name", except: &[] },
        Entry { find: Find::Part("dice"), instead: "Rng", except: &[("src/game/", "has dice")] },
        Entry { find: Find::File("room.rs"), instead: "space.rs", except: &[] },
        Entry { find: Find::Stem("colour"), instead: "color", except: &[] },
        Entry { find: Find::Phrase("passed over"), instead: "ignored", except: &[] },
        Entry { find: Find::Phrase("she"), instead: "it", except: &[] },
    ];

    fn found(file: &str, text: &str) -> Vec<String> {
        Finder::new(LIST).find(file, text)
    }

    #[test]
    fn names_are_found_where_they_are_meant() {
        let code = "struct Line;\nenum Entry {}\nlet e: Entry = MY_DICE; let x = DiceBox;";
        assert_eq!(
            found("src/lanes/a.rs", code),
            [
                "src/lanes/a.rs:1: `Line`: write List",
                "src/lanes/a.rs:2: `Entry`: write a whole name",
                "src/lanes/a.rs:3: `MY_DICE`: write Rng",
            ]
        );
        assert_eq!(found("tests/a.rs", "struct Line; enum Entry {} let indices = 1;"), [""; 0]);
        assert_eq!(found("src/game/a.rs", "let dice = 6;"), [""; 0]);
        assert_eq!(found("src/room.rs", ""), ["src/room.rs:1: the file room.rs: write space.rs"]);
        assert_eq!(found("src/headroom.rs", ""), [""; 0]);
    }

    #[test]
    fn prose_is_found_in_comments_messages_and_pages_also_across_lines() {
        let code =
            "/// It is passed\n/// over. A sheet.\nfn f() { p(\"what She said\"); let she = 1; }";
        assert_eq!(
            found("src/a.rs", code),
            ["src/a.rs:1: \"passed over\": write ignored", "src/a.rs:3: \"she\": write it"]
        );
        assert_eq!(
            found("docs/a.md", "Jobs passed. Over there\nColours, and `Dice`"),
            ["docs/a.md:2: `Dice`: write Rng", "docs/a.md:2: `Colours`: write color"]
        );
    }
}
