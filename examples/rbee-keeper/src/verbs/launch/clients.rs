//! The clients that can be started, and what each of them needs: variables, arguments, and its configuration file.
//!
//! The names are those of Codex 0.171, Claude Code 2.1, opencode 1.18 and aider 0.86.

mod aider;
mod claude;
mod codex;
mod opencode;

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
};

use clap::ValueEnum;

use super::{
    choice::Needs,
    setup::{Setup, Target},
};

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ClientKind {
    /// Codex, of OpenAI
    Codex,
    /// Claude Code, of Anthropic
    Claude,
    /// opencode
    Opencode,
    /// aider
    Aider,
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.program())
    }
}

impl ClientKind {
    /// The name of the program, which is also its name on the command line.
    pub(super) const fn program(self) -> &'static str {
        match self {
            Self::Codex => "codex",
            Self::Claude => "claude",
            Self::Opencode => "opencode",
            Self::Aider => "aider",
        }
    }

    /// The command that installs it.
    pub(super) const fn install(self) -> &'static str {
        match self {
            Self::Codex => "npm install -g @openai/codex",
            Self::Claude => "npm install -g @anthropic-ai/claude-code",
            Self::Opencode => "npm install -g opencode-ai",
            Self::Aider => "python -m pip install aider-chat",
        }
    }

    /// What it needs of a model. The contexts leave about as many tokens for the work as the client's own instructions
    /// and tools take: those of the first request were counted, with four characters to a token.
    pub(super) const fn needs(self) -> Needs {
        match self {
            // About 10,000 tokens.
            Self::Codex => Needs { context: 16_384, tools: true },
            // About 19,000 tokens.
            Self::Claude => Needs { context: 32_768, tools: true },
            // About 8,000 tokens.
            Self::Opencode => Needs { context: 16_384, tools: true },
            // It sends whole files, and edits them by the text of the answer instead of by tool calls.
            Self::Aider => Needs { context: 8_192, tools: false },
        }
    }

    /// What it is started with.
    pub(super) fn setup(self, target: &Target) -> Setup {
        match self {
            Self::Codex => codex::setup(target),
            Self::Claude => claude::setup(target),
            Self::Opencode => opencode::setup(target),
            Self::Aider => aider::setup(target),
        }
    }

    /// Its own configuration file, which may not exist. `variable` reads a variable that is not empty.
    pub(super) fn config_file(
        self,
        home: &Path,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> PathBuf {
        let folder = |name: &str, usual: &str| {
            variable(name).map_or_else(|| home.join(usual), PathBuf::from)
        };
        match self {
            Self::Codex => folder("CODEX_HOME", ".codex").join("config.toml"),
            Self::Claude => folder("CLAUDE_CONFIG_DIR", ".claude").join("settings.json"),
            Self::Opencode => {
                let folder = folder("XDG_CONFIG_HOME", ".config").join("opencode");
                // It reads both, and the second one wins.
                let second = folder.join("opencode.jsonc");
                if second.exists() { second } else { folder.join("opencode.json") }
            }
            Self::Aider => home.join(".aider.conf.yml"),
        }
    }

    /// The text of its configuration file, changed so that the client uses the queen and the model.
    ///
    /// # Errors
    /// Why the text cannot be changed, for example the place of a syntax error.
    pub(super) fn edited(self, text: &str, target: &Target) -> Result<String, String> {
        match self {
            Self::Codex => codex::edited(text, target),
            Self::Claude => claude::edited(text, target),
            Self::Opencode => opencode::edited(text, target),
            Self::Aider => aider::edited(text, target),
        }
    }

    /// A variable that must be set in addition to the saved configuration, because the file has no place for it.
    pub(super) fn unsaved(self, target: &Target) -> Option<(&'static str, String)> {
        let name = match self {
            Self::Codex => codex::CA_CERT,
            Self::Claude => return None,
            Self::Opencode => opencode::CA_CERT,
            Self::Aider => aider::CA_CERT,
        };
        let path = target.ca_cert.as_ref()?;
        Some((name, path.display().to_string()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::setup::{OwnFile, Setting},
        *,
    };

    /// A queen with a key, and a model with a context.
    pub(in super::super) fn target() -> Target {
        Target {
            url: "http://127.0.0.1:7833".into(),
            key: Some("rbee-secret".into()),
            model: "org/bee:7b".into(),
            context: Some(32_768),
            ca_cert: None,
            directory: "/data/launch".into(),
        }
    }

    /// The same without a key, and a model of which nothing is known.
    pub(in super::super) fn plain() -> Target {
        Target { key: None, context: None, ..target() }
    }

    /// The variables as `NAME=VALUE`, with `<key>` for the key.
    pub(super) fn variables(setup: &Setup) -> Vec<String> {
        let shown = |(name, setting): &(&str, Setting)| match setting {
            Setting::Text(text) => format!("{name}={text}"),
            Setting::Key => format!("{name}=<key>"),
        };
        setup.variables.iter().map(shown).collect()
    }

    pub(super) fn written(setup: &Setup) -> Option<(String, serde_json::Value)> {
        let OwnFile { path, text } = setup.file.as_ref()?;
        Some((path.display().to_string(), serde_json::from_str(text).unwrap()))
    }

    #[test]
    fn the_configuration_is_where_the_client_looks_for_it() {
        let home = tempfile::tempdir().unwrap();
        let file = |client: ClientKind, variables: &[(&str, &str)]| {
            let read = |name: &str| {
                variables.iter().find(|(n, _)| *n == name).map(|(_, value)| OsString::from(value))
            };
            client.config_file(home.path(), read)
        };
        for (client, usual, name, moved) in [
            (ClientKind::Codex, ".codex/config.toml", "CODEX_HOME", "/x/config.toml"),
            (ClientKind::Claude, ".claude/settings.json", "CLAUDE_CONFIG_DIR", "/x/settings.json"),
            (
                ClientKind::Opencode,
                ".config/opencode/opencode.json",
                "XDG_CONFIG_HOME",
                "/x/opencode/opencode.json",
            ),
        ] {
            assert_eq!(file(client, &[]), home.path().join(usual));
            assert_eq!(file(client, &[(name, "/x")]), Path::new(moved));
        }
        assert_eq!(file(ClientKind::Aider, &[]), home.path().join(".aider.conf.yml"));
        let second = home.path().join(".config/opencode/opencode.jsonc");
        std::fs::create_dir_all(second.parent().unwrap()).unwrap();
        std::fs::write(&second, "{}").unwrap();
        assert_eq!(file(ClientKind::Opencode, &[]), second);
    }

    #[test]
    fn every_client_gets_the_certificates_of_the_queen() {
        let target = Target { ca_cert: Some("/ca.pem".into()), ..target() };
        for (client, variable) in [
            (ClientKind::Codex, "CODEX_CA_CERTIFICATE=/ca.pem"),
            (ClientKind::Claude, "NODE_EXTRA_CA_CERTS=/ca.pem"),
            (ClientKind::Opencode, "NODE_EXTRA_CA_CERTS=/ca.pem"),
            (ClientKind::Aider, "SSL_CERT_FILE=/ca.pem"),
        ] {
            let variables = variables(&client.setup(&target));
            assert!(variables.iter().any(|set| set == variable), "{client}: {variables:?}");
            let saved = client.edited("", &target).unwrap().contains("/ca.pem");
            assert_eq!(client.unsaved(&target).is_none(), saved, "{client}");
        }
    }

    #[test]
    fn saving_twice_changes_nothing_more() {
        for client in ClientKind::value_variants() {
            for target in [target(), plain()] {
                let once = client.edited("", &target).unwrap();
                assert_eq!(client.edited(&once, &target).unwrap(), once, "{client}");
            }
        }
    }

    #[test]
    fn the_key_is_nowhere_if_there_is_none_and_never_among_the_arguments() {
        for client in ClientKind::value_variants() {
            let setup = client.setup(&target());
            assert!(!format!("{setup:?} {:?}", target()).contains("rbee-secret"), "{client}");
            assert!(client.edited("", &target()).unwrap().contains("rbee-secret"), "{client}");
            assert!(!format!("{:?}", client.setup(&plain())).contains("Key"), "{client}");
        }
    }
}
