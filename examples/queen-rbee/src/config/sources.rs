//! The sources of values: the file, then variables, then flags. Later ones override earlier ones.

use std::{
    collections::BTreeMap,
    error::Error as _,
    ffi::OsString,
    fmt,
    io::Read,
    path::{Path, PathBuf},
};

use clap::FromArgMatches;
use etcetera::BaseStrategy;
use rbee_core::{Error, ErrorKind, Result, similar::nearest};
use rbee_transport_http::{server::allowed_values, wire::hive::HIVE_VARIABLES};
use serde_json::Value;

use super::{
    Config, arguments, default_data_dir,
    refusal::{Problem, Refusal},
    yaml,
};

/// The largest configuration or token file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;
/// The prefix of each variable.
const PREFIX: &str = "RBEE_";
/// Known variables that are not keys: those of this and the other programs of rbee.
const OTHER_VARIABLES: [&str; 5] =
    ["RBEE_CONFIG", "RBEE_HOST", "RBEE_API_KEY", "RBEE_CA_CERT", crate::daemon::RECORD_RUN];

/// The source of a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    #[default]
    Default,
    /// This line of this file.
    File(PathBuf, u64),
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

/// A configuration, and the source of each of its values.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The values.
    pub config: Config,
    /// Warnings to log: variables that look like keys and are not.
    pub warnings: Vec<String>,
    origins: BTreeMap<String, Origin>,
}

/// The sources to read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `--config`, or `RBEE_CONFIG`: a file that must exist.
    pub file: Option<PathBuf>,
    /// A file that is read if it exists.
    pub default_file: Option<PathBuf>,
    /// The environment.
    pub variables: Vec<(OsString, OsString)>,
    /// The keys that are set with flags, and their values.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// The environment of this process, these flags, and the file that they name or `rbee/queen.yaml` in the user's
    /// configuration directory.
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
    /// [`ErrorKind::Config`] with the key, its source, the value and what is allowed.
    pub fn load(sources: &Sources) -> Result<Loaded> {
        let config = Self { data_dir: default_data_dir()?, ..Self::default() };
        let keys = arguments::keys();
        let keys = keys.get_arguments().map(|key| key.get_id().as_str()).chain(["token"]);
        let origins = keys.map(|key| (key.to_owned(), Origin::Default)).collect();
        let mut loaded = Loaded { config, warnings: Vec::new(), origins };
        loaded.read_file(sources)?;
        loaded.read_variables(&sources.variables)?;
        for (key, value) in &sources.flags {
            loaded.set(key, value, Origin::Flag(flag(key)))?;
        }
        loaded.check()?;
        Ok(loaded)
    }
}

impl Loaded {
    /// The source of this key's value; `None` if there is no such key.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.get(key)
    }

    /// Every key with its value and, as a comment, its source. Secrets are hidden; otherwise the text is a
    /// configuration file.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if a path is not UTF-8.
    pub fn show(&self) -> Result<String> {
        let values = json(&self.config)?;
        let keys = arguments::keys();
        let mut lines = Vec::new();
        for key in keys.get_arguments().map(|key| key.get_id().as_str()).chain(["token"]) {
            // Keys that are not allowed in a file are comments in it.
            let comment = if key == "token" { "# " } else { "" };
            lines.push((format!("{comment}{key}: {}", shown(&values[key])), &self.origins[key]));
        }
        let width = lines.iter().map(|(line, _)| line.chars().count()).max().unwrap_or(0).min(48);
        Ok(lines.iter().map(|(line, origin)| format!("{line:width$}  # {origin}\n")).collect())
    }

    fn read_file(&mut self, sources: &Sources) -> Result<()> {
        let path = match (&sources.file, &sources.default_file) {
            (Some(file), _) => file,
            (None, Some(file)) if file.exists() => file,
            _ => return Ok(()),
        };
        let text = read_bounded(path)?;
        let given: Option<Config> = yaml::read(&text)
            .map_err(|why| wrong(&Origin::File(path.clone(), why.line), &in_words(why)))?;
        let Some(given) = given else { return Ok(()) };
        let data_dir = std::mem::take(&mut self.config.data_dir);
        self.config = given;
        for (key, line) in yaml::keys(&text) {
            self.origins.insert(key, Origin::File(path.clone(), line));
        }
        let directory = path.parent().unwrap_or(Path::new(""));
        for (key, path) in self.config.paths() {
            if path.as_os_str().is_empty() && self.origins[key] != Origin::Default {
                return Err(wrong(
                    &self.origins[key],
                    &format!("{key} is \"\"; allowed is a path"),
                ));
            }
        }
        if let Err((key, why)) = self.config.place_in(directory) {
            return Err(wrong(&self.origins[key], &why));
        }
        if self.origins["data_dir"] == Origin::Default {
            self.config.data_dir = data_dir;
        }
        Ok(())
    }

    fn read_variables(&mut self, variables: &[(OsString, OsString)]) -> Result<()> {
        let variable = |key: &String| format!("{PREFIX}{}", key.to_ascii_uppercase());
        let keys: BTreeMap<_, _> =
            self.origins.keys().map(|key| (variable(key), key.clone())).collect();
        let mut variables: Vec<_> = variables.iter().collect();
        // So that the warnings have the same order at each start.
        variables.sort();
        for (name, value) in variables {
            let Some((name, bare)) =
                name.to_str().and_then(|name| Some((name, name.strip_prefix(PREFIX)?)))
            else {
                continue;
            };
            let Some(key) = keys.get(name) else {
                let others = || OTHER_VARIABLES.into_iter().chain(HIVE_VARIABLES);
                if !others().any(|other| other == name) {
                    let known = keys.keys().map(String::as_str).chain(others());
                    let known = known.filter_map(|name| name.strip_prefix(PREFIX));
                    let near = nearest(bare, known);
                    let hint = near.map(|near| format!("; {PREFIX}{near} perhaps?"));
                    let hint = hint.unwrap_or_default();
                    self.warnings
                        .push(format!("{name}: there is no such variable, so it is ignored{hint}"));
                }
                continue;
            };
            let origin = Origin::Variable(name.into());
            let value = value.to_str().ok_or_else(|| wrong(&origin, "the value is not UTF-8"))?;
            self.set(key, value, origin)?;
        }
        Ok(())
    }

    /// Sets a key to the value in this text.
    fn set(&mut self, key: &str, text: &str, origin: Origin) -> Result<()> {
        if key == "token" {
            let token = text.trim().parse().map_err(|error: Error| {
                wrong(&origin, &format!("token is not usable: {}", error.message()))
            })?;
            self.config.token = Some(token);
        } else if matches!(text, "~" | "null") && json(&Config::default())?[key].is_null() {
            let token = self.config.token.take();
            let mut values = json(&self.config)?;
            values[key] = Value::Null;
            self.config = serde_json::from_value(values).map_err(|cause| {
                Error::new(ErrorKind::Internal, "what is shown cannot be read").with_source(cause)
            })?;
            self.config.token = token;
        } else {
            let matches = arguments::keys()
                .try_get_matches_from([format!("{}={text}", flag(key))])
                .map_err(|error| {
                    let refusal = error.source().and_then(|source| source.downcast_ref());
                    let refusal = refusal.cloned().unwrap_or_else(|| Refusal::of_text(text));
                    wrong(&origin, &in_words(refusal.within(key)))
                })?;
            let updated = self.config.update_from_arg_matches(&matches);
            updated.map_err(|error| wrong(&origin, &error.to_string()))?;
            self.config.place_references(key, None);
        }
        self.origins.insert(key.to_owned(), origin);
        Ok(())
    }

    /// Checks the whole configuration, and adds the source of a wrong value.
    fn check(&self) -> Result<()> {
        self.config.check().map_err(|error| {
            let message = error.message().strip_prefix("setting ").unwrap_or(error.message());
            let word = message.split([' ', ':', '.']).next().unwrap_or_default();
            match self.origin(word) {
                Some(origin) if *origin != Origin::Default => wrong(origin, message),
                _ => error.clone(),
            }
        })
    }
}

fn wrong(origin: &Origin, message: &str) -> Error {
    Error::new(ErrorKind::Config, format!("{origin}: {message}"))
}

/// The flag of a key.
fn flag(key: &str) -> String {
    format!("--{}", key.replace('_', "-"))
}

/// The error as a message. The help text of a key describes the allowed values of the whole key best.
fn in_words(mut refusal: Refusal) -> String {
    if let Problem::Value(_, allowed) = &mut refusal.problem {
        let keys = arguments::keys();
        let mut keys = keys.get_arguments();
        if let Some(key) = keys.find(|key| key.get_id().as_str() == refusal.path) {
            let form = key.get_value_names().and_then(<[_]>::first).map_or("", |name| name);
            *allowed = match (allowed_values(form), form.chars().next()) {
                (Some(allowed), _) => allowed.into(),
                (None, Some('[')) => format!("a list like {form}"),
                (None, Some('{')) => format!("a map like {form}"),
                (None, _) => form.into(),
            };
        } else if refusal.path.is_empty() {
            return "allowed are lines like `listen_port: 7833`".into();
        }
    }
    refusal.to_string()
}

fn json(config: &Config) -> Result<Value> {
    serde_json::to_value(config).map_err(|cause| {
        Error::new(ErrorKind::Config, format!("the configuration cannot be shown: {cause}"))
    })
}

/// A value as one line of YAML, without unset entries.
pub(super) fn shown(value: &Value) -> String {
    match value {
        Value::Null => "~".into(),
        Value::String(text) if yaml::read::<Value>(text).is_ok_and(|read| read == *value) => {
            text.clone()
        }
        value => set(value).to_string(),
    }
}

/// The value without unset entries in maps.
fn set(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let given = fields.iter().filter(|(_, value)| !value.is_null());
            Value::Object(given.map(|(name, value)| (name.clone(), set(value))).collect())
        }
        value => value.clone(),
    }
}

pub(super) fn read_bounded(file: &Path) -> Result<String> {
    let wrong = |cause: std::io::Error| {
        Error::new(ErrorKind::Config, format!("{}: {cause}", file.display())).with_source(cause)
    };
    let mut text = String::new();
    let opened = std::fs::File::open(file).map_err(wrong)?;
    opened.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(wrong)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(wrong(std::io::Error::other(format!("larger than {MAX_BYTES} bytes"))));
    }
    Ok(text)
}
