//! Tests of `rbee launch`, with a stand-in for the client on the `PATH`.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Hall, Rbee, echo};
use rbee_core::{answer::ToolFormat, worker::EchoBuilder};
use rbee_transport_http::Token;

/// A home directory, and a directory of programs with a stand-in for each client.
struct Place {
    folder: tempfile::TempDir,
}

/// Prints its arguments, one a line, and its variables, and ends with a code of its own.
const SCRIPT: &str = "#!/bin/sh\nfor a; do echo \"argument $a\"; done\nenv | sort\nexit 7";

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        // Written by another process: a file that is open for writing in this process, or in a child that it is about
        // to start, cannot be executed.
        let write = format!(
            "mkdir bin home; for name in codex claude opencode aider; do cat > bin/$name <<'END'\n{SCRIPT}\nEND\ndone\nchmod 755 bin/*"
        );
        let mut shell = Command::new("/bin/sh");
        let written = shell.current_dir(place.folder.path()).args(["-c", &write]).status();
        assert!(written.unwrap().success());
        place
    }

    fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join("home").join(name)
    }

    fn rbee(&self, hall: &Hall, arguments: &[&str]) -> Rbee {
        let path = format!("{}:/usr/bin:/bin", self.folder.path().join("bin").display());
        let home = self.home("");
        hall.rbee(arguments).env("PATH", &path).env("HOME", home.to_str().unwrap())
    }

    /// The names of all files below the home directory.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut folders = vec![self.home("")];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => {
                        found.push(path.strip_prefix(self.home("")).unwrap().display().to_string())
                    }
                }
            }
        }
        found.sort();
        found
    }
}

/// A worker that suffices for every client.
fn capable() -> EchoBuilder {
    echo().context_tokens(32_768).info(|info| {
        info.capabilities.answer.tools = Some(ToolFormat::Hermes);
    })
}

async fn guarded(echo: EchoBuilder) -> (Hall, Token) {
    let token = Token::random().unwrap();
    let hall = Hall::built(echo, |queen| queen, |server| server.with_token(token.clone())).await;
    (hall, token)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_takes_the_place_of_the_program_with_the_queen_the_key_and_the_model() {
    let (hall, token) = guarded(capable()).await;
    let place = Place::new();
    let (url, key) = (&hall.url, token.reveal());
    for (client, expected) in [
        (
            "codex",
            &[
                "argument model_provider=\"rbee\"".to_owned(),
                format!("argument model_providers.rbee.base_url=\"{url}/v1\""),
                "argument model_context_window=32768".to_owned(),
                "argument -m\nargument bee\nargument exec\nargument say hello\n".to_owned(),
                format!("RBEE_TOKEN={key}"),
            ][..],
        ),
        (
            "claude",
            &[
                "argument exec\nargument say hello\nANTHROPIC_AUTH".to_owned(),
                format!("ANTHROPIC_AUTH_TOKEN={key}"),
                format!("ANTHROPIC_BASE_URL={url}\n"),
                "ANTHROPIC_DEFAULT_HAIKU_MODEL=bee\n".to_owned(),
            ],
        ),
        (
            "opencode",
            &[
                "argument exec\nargument say hello\n".to_owned(),
                format!("\"baseURL\":\"{url}/v1\""),
                "\"model\":\"rbee/bee\"".to_owned(),
                format!("RBEE_TOKEN={key}"),
            ],
        ),
        (
            "aider",
            &[
                "argument --model\nargument openai/bee\n".to_owned(),
                "argument exec\nargument say hello\n".to_owned(),
                format!("OPENAI_API_BASE={url}/v1\n"),
                format!("OPENAI_API_KEY={key}"),
            ],
        ),
    ] {
        let launch = ["launch", client, "--", "exec", "say hello"];
        let rbee = place.rbee(&hall, &launch).env("RBEE_API_KEY", key);
        let ended = rbee.env("ANTHROPIC_API_KEY", "sk-theirs").run().await;
        assert_eq!(ended.code, Some(7), "{ended:?}");
        for part in expected {
            assert!(ended.out.contains(part), "{client} {part}: {ended:?}");
        }
        assert_eq!(ended.out.contains("sk-theirs"), client != "claude", "{ended:?}");
        let said = format!("starting {client} with bee, context 32768 tokens\n");
        assert_eq!(ended.err, said);
    }
    // Only the context of a model is written, because aider reads it from a file.
    assert_eq!(place.files(), [".local/share/rbee/launch/aider-bee.json"]);
    let written = place.home(".local/share/rbee/launch/aider-bee.json");
    assert!(fs::read_to_string(&written).unwrap().contains("\"max_input_tokens\": 32768"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_without_a_key_and_one_on_this_machine_behind_a_proxy_work_too() {
    let hall = Hall::with(capable()).await;
    let place = Place::new();
    let rbee = place.rbee(&hall, &["launch", "claude"]).env("HTTP_PROXY", "http://127.0.0.1:1");
    let ended = rbee.run().await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    for part in ["ANTHROPIC_AUTH_TOKEN=none\n", "NO_PROXY=127.0.0.1\n"] {
        assert!(ended.out.contains(part), "{part}: {ended:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_printed_lines_start_the_client_in_a_shell_and_have_no_key() {
    let (hall, token) = guarded(capable()).await;
    let place = Place::new();
    let file = place.home("key");
    fs::write(&file, format!("{}\n", token.reveal())).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    for client in ["codex", "claude", "opencode", "aider"] {
        let launch = ["launch", client, "--print", "--", "it's $HOME"];
        let rbee = place.rbee(&hall, &launch).env("RBEE_TOKEN_FILE", file.to_str().unwrap());
        let ended = rbee.run().await.ok();
        assert!(!ended.out.contains(token.reveal()), "{ended:?}");
        let mut shell = Command::new("/bin/sh");
        shell
            .env_clear()
            .env("PATH", format!("{}/bin:/usr/bin:/bin", place.folder.path().display()));
        let run =
            shell.env("ANTHROPIC_API_KEY", "sk-theirs").args(["-c", &ended.out]).output().unwrap();
        let out = String::from_utf8(run.stdout).unwrap();
        assert_eq!(run.status.code(), Some(7), "{out}");
        assert!(out.contains("argument it's $HOME\n"), "{out}");
        assert!(out.contains(&format!("={}\n", token.reveal())), "{client}: {out}");
        assert_eq!(out.contains("sk-theirs"), client != "claude", "{out}");
    }
    let launch = ["launch", "codex", "--print", "--json"];
    let rbee = place.rbee(&hall, &launch).env("RBEE_API_KEY", token.reveal());
    let ended = rbee.run().await.ok();
    assert_eq!(ended.json()["key_variable"], "RBEE_TOKEN");
    assert!(!ended.out.contains(token.reveal()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_starts_a_client_with_its_own_key_and_a_model_that_it_may_use() {
    let (hall, token) = guarded(capable()).await;
    let place = Place::new();
    for tenants in [&["tenants", "set", "acme"][..], &["tenants", "key", "acme"]] {
        let rbee = hall.rbee(tenants).env("RBEE_API_KEY", token.reveal());
        let ended = rbee.run().await.ok();
        fs::write(place.home("key"), ended.out).unwrap();
    }
    let key = fs::read_to_string(place.home("key")).unwrap();
    let rbee = place.rbee(&hall, &["launch", "codex"]).env("RBEE_API_KEY", key.trim());
    let ended = rbee.run().await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.out.contains(&format!("RBEE_TOKEN={}\n", key.trim())), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_does_not_suffice_is_used_only_if_it_is_named() {
    let hall = Hall::with(echo().context_tokens(4_096)).await;
    let place = Place::new();
    let ended = place.rbee(&hall, &["launch", "codex"]).run().await;
    let lacks = "bee: it calls no tools, its context is 4096 of 16384 tokens";
    ended.failed(4, &["MODEL_NOT_FOUND", "no model suffices", lacks, "rbee pull MODEL"]);
    let ended = place.rbee(&hall, &["launch", "codex", "--model", "bee"]).run().await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.err.contains("warning: bee may not suffice for codex"), "{ended:?}");
    let ended = place.rbee(&hall, &["launch", "codex", "--model", "beee"]).run().await;
    ended.failed(4, &["MODEL_NOT_FOUND", "beee"]);
    // The queen may get it when it is requested.
    let ended = place.rbee(&hall, &["launch", "codex", "--model", "hf:org/repo"]).run().await;
    assert_eq!(ended.code, Some(7), "{ended:?}");
    assert!(ended.err.contains("it is not known what it can do"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_not_installed_is_told_with_the_command_that_installs_it() {
    let hall = Hall::with(capable()).await;
    for (client, install) in [
        ("codex", "npm install -g @openai/codex"),
        ("claude", "npm install -g @anthropic-ai/claude-code"),
        ("opencode", "npm install -g opencode-ai"),
        ("aider", "pip install aider-chat"),
    ] {
        let rbee = hall.rbee(&["launch", client]).env("PATH", "/nowhere");
        rbee.run().await.failed(1, &["NOT_INSTALLED", "is not installed", install]);
    }
    let ended = hall.rbee(&["launch", "emacs"]).run().await;
    ended.failed(2, &["possible values: codex, claude, opencode, aider"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_is_saved_after_a_question_and_restored() {
    let (hall, token) = guarded(capable()).await;
    let place = Place::new();
    let theirs = "{\n  \"model\": \"opus\"\n}\n";
    let (real, link) = (place.home("dotfiles.json"), place.home(".claude/settings.json"));
    fs::create_dir(place.home(".claude")).unwrap();
    fs::write(&real, theirs).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o644)).unwrap();
    symlink("../dotfiles.json", &link).unwrap();
    let key = token.reveal();
    let rbee = |arguments: &[&str]| place.rbee(&hall, arguments).env("RBEE_API_KEY", key);
    let save = ["launch", "claude", "--save"];

    // Nobody can be asked.
    let ended = rbee(&save).run().await;
    assert_eq!(ended.code, Some(2), "{ended:?}");
    for said in ["nobody can be asked", "--yes", "+    \"ANTHROPIC_AUTH_TOKEN\": \"****\","] {
        assert!(ended.err.contains(said) && !ended.err.contains(key), "{said}: {ended:?}");
    }
    let mut terminal = rbee(&save).in_terminal(80);
    terminal.shows("[y/N]").await;
    terminal.types("n\r");
    let (seen, code) = terminal.end().await;
    assert_eq!(code, Some(1), "{seen}");
    assert_eq!(fs::read_to_string(&real).unwrap(), theirs);

    let mut terminal = rbee(&save).in_terminal(80);
    terminal.shows("[y/N]").await;
    terminal.types("y\r");
    let (seen, code) = terminal.end().await;
    assert_eq!(code, Some(0), "{seen}");
    assert!(seen.contains("saved") && !seen.contains(key), "{seen}");
    let saved: serde_json::Value = serde_json::from_slice(&fs::read(&link).unwrap()).unwrap();
    assert_eq!(saved["env"]["ANTHROPIC_AUTH_TOKEN"], key);
    assert_eq!(
        (&saved["env"]["ANTHROPIC_MODEL"], &saved["model"]),
        (&"bee".into(), &"opus".into())
    );
    assert!(link.is_symlink());
    assert_eq!(mode(&real), 0o600);
    let backup = place.home(".local/share/rbee/launch/claude.before");
    assert_eq!((fs::read_to_string(&backup).unwrap(), mode(&backup)), (theirs.into(), 0o600));
    assert!(rbee(&save).run().await.ok().out.starts_with("unchanged "), "nothing is left to do");

    // Restoring needs no queen.
    let undo = ["launch", "claude", "--undo"];
    let undo = || rbee(&undo).env("RBEE_HOST", "127.0.0.1:1");
    undo().run().await.ok();
    assert_eq!((fs::read_to_string(&real).unwrap(), mode(&real)), (theirs.into(), 0o644));
    undo().run().await.failed(4, &["nothing was saved for claude"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_has_its_configuration_saved_where_it_reads_it() {
    let hall = Hall::with(capable()).await;
    let place = Place::new();
    for (client, file, part) in [
        ("codex", ".codex/config.toml", "wire_api = \"responses\""),
        ("claude", ".claude/settings.json", "\"ANTHROPIC_AUTH_TOKEN\": \"none\""),
        ("opencode", ".config/opencode/opencode.json", "\"model\": \"rbee/bee\""),
        ("aider", ".aider.conf.yml", "model: \"openai/bee\""),
    ] {
        place.rbee(&hall, &["launch", client, "--save", "--yes"]).run().await.ok();
        let text = fs::read_to_string(place.home(file)).unwrap();
        assert!(text.contains(part), "{client}: {text}");
        place.rbee(&hall, &["launch", client, "--undo"]).run().await.ok();
        assert!(!place.home(file).exists(), "{client}");
    }
}
