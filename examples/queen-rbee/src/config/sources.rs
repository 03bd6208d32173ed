//! From where values come: a file, variables, flags; and what is said where one of them is wrong.

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy;
use rbee_core::{Error, ErrorKind, Result};

use super::{
    Config, default_data_dir, read_bounded,
    table::{self, Forms, KEYS, Key},
    value::At,
    wrong,
    yaml::{self, Node, Value},
};

/// Variables of other programs of rbee, and those that are no key.
const FOREIGN: [&str; 5] =
    ["RBEE_CONFIG", "RBEE_HOST", "RBEE_API_KEY", "RBEE_CA_CERT", crate::daemon::RECORD_RUN];

/// Where a value came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said anything.
    #[default]
    Default,
    /// This line of this file.
    File(PathBuf, usize),
    /// This variable.
    Variable(String),
    /// This flag.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// A configuration, and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    pub(super) origins: Vec<Origin>,
}

/// Where values are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`, or `RBEE_CONFIG`: a file that must be there.
    pub file: Option<PathBuf>,
    /// A file that is read where it is there.
    pub default_file: Option<PathBuf>,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
    /// Flags, without their dashes, and their values.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The environment of this process, these flags, and the file that they name or `rbee/queen.yaml` in the user's
    /// directory for configuration.
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let base = etcetera::choose_base_strategy().ok();
        Self {
            file: file.or_else(|| std::env::var_os("RBEE_CONFIG").map(PathBuf::from)),
            default_file: base.map(|base| base.config_dir().join("rbee").join("queen.yaml")),
            variables: std::env::vars_os().collect(),
            flags,
        }
    }
}

impl Config {
    /// Reads all sources and checks everything that can be checked without starting.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] that names the key, where it came from, the value and what is allowed.
    pub fn load(sources: &Sources) -> Result<Loaded> {
        let config = Self { data_dir: default_data_dir()?, ..Self::default() };
        let mut loaded = Loaded { config, origins: vec![Origin::Default; KEYS.len()] };
        loaded.read_file(sources)?;
        loaded.read_variables(&sources.variables)?;
        loaded.read_flags(&sources.flags)?;
        loaded.check()?;
        Ok(loaded)
    }
}

impl Loaded {
    /// Where the value of this key came from; `None` where there is no such key.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(table::find(key)?.0)
    }

    fn set(
        &mut self,
        index: usize,
        key: &Key,
        node: &Node,
        base: &Path,
        origin: Origin,
    ) -> Result<()> {
        let at = At { key: key.name, base };
        (key.read)(&mut self.config, node, at).map_err(|why| {
            let origin = match &origin {
                Origin::File(path, _) => Origin::File(path.clone(), why.line),
                other => other.clone(),
            };
            Error::new(ErrorKind::Config, format!("{origin}: {}", why.message))
        })?;
        self.origins[index] = origin;
        Ok(())
    }

    fn read_file(&mut self, sources: &Sources) -> Result<()> {
        let path = match (&sources.file, &sources.default_file) {
            (Some(file), _) => file,
            (None, Some(file)) if file.exists() => file,
            _ => return Ok(()),
        };
        let text = read_bounded(path)?;
        let here = |line: usize| format!("{}:{line}", path.display());
        let root = yaml::parse(&text).map_err(|why| {
            Error::new(ErrorKind::Config, format!("{}: {}", here(why.line), why.message))
        })?;
        let Some(root) = root else { return Ok(()) };
        let Value::Map(entries) = &root.value else {
            return wrong(format!(
                "{}: allowed are lines like `listen_port: 7833`",
                here(root.line)
            ));
        };
        let directory = path.parent().unwrap_or(Path::new(""));
        for entry in entries {
            let in_file = KEYS.iter().filter(|key| key.forms == Forms::All).map(|key| key.name);
            match table::find(&entry.key) {
                Some((_, key)) if key.forms == Forms::Variable => {
                    return wrong(format!(
                        "{}: {} is not allowed in a file that may be copied; use {}_file, or the variable {}",
                        here(entry.line),
                        key.name,
                        key.name,
                        key.variable()
                    ));
                }
                Some((index, key)) => {
                    let origin = Origin::File(path.clone(), entry.line);
                    self.set(index, key, &entry.node, directory, origin)?;
                }
                None => {
                    let what = format!("{}: there is no key {:?}", here(entry.line), entry.key);
                    return wrong(what + perhaps(&entry.key, in_file).as_str());
                }
            }
        }
        Ok(())
    }

    fn read_variables(&mut self, variables: &[(OsString, OsString)]) -> Result<()> {
        let known: Vec<String> = KEYS.iter().map(Key::variable).collect();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with("RBEE_")) else {
                continue;
            };
            if FOREIGN.contains(&name) {
                continue;
            }
            let Some(index) = known.iter().position(|variable| variable == name) else {
                let what = format!("{name}: there is no such variable");
                return wrong(what + perhaps(name, known.iter().map(String::as_str)).as_str());
            };
            let Some(value) = value.to_str() else {
                return wrong(format!("{name}: the value is not UTF-8"));
            };
            let origin = Origin::Variable(name.into());
            self.set(index, &KEYS[index], &Node::text(value), Path::new(""), origin)?;
        }
        Ok(())
    }

    fn read_flags(&mut self, flags: &[(String, String)]) -> Result<()> {
        for (flag, value) in flags {
            let known = KEYS.iter().enumerate().find(|(_, key)| key.flag() == *flag);
            let Some((index, key)) = known.filter(|(_, key)| key.forms == Forms::All) else {
                return wrong(format!("--{flag}: there is no such flag"));
            };
            let origin = Origin::Flag(format!("--{flag}"));
            self.set(index, key, &Node::text(value), Path::new(""), origin)?;
        }
        Ok(())
    }

    /// Checks the whole, and says of what is wrong where it came from.
    fn check(&self) -> Result<()> {
        self.config.check().map_err(|error| {
            let message = error.message().strip_prefix("setting ").unwrap_or(error.message());
            let word = message.split([' ', ':', '.']).next().unwrap_or_default();
            match self.origin(word) {
                Some(origin) if *origin != Origin::Default => {
                    Error::new(ErrorKind::Config, format!("{origin}: {message}"))
                }
                _ => error.clone(),
            }
        })
    }
}

fn perhaps<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    match table::nearest(given, known) {
        Some(meant) => format!("; {meant} perhaps? --help lists them all"),
        None => "; --help lists them all".into(),
    }
}
