//! Tests of saving and restoring in a directory of their own.

use super::{
    super::clients::tests::{plain, target},
    *,
};
use crate::{Address, Client, Screen, args::Typed, client::Credentials};

/// A directory for the data of rbee and the configuration of a client.
struct Place {
    dir: tempfile::TempDir,
    keeper: Keeper,
}

impl Place {
    fn new() -> Self {
        let client = Client::new(Address::default(), &Credentials::default()).unwrap();
        let (typed, files) = (Typed::default(), Default::default());
        let keeper = Keeper { client, screen: Screen::new(false, true, true), typed, files };
        Self { dir: tempfile::tempdir().unwrap(), keeper }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("config")
    }

    fn text(&self) -> Option<String> {
        fs::read_to_string(self.config()).ok()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data/launch")
    }

    fn target(&self) -> Target {
        Target { directory: self.data(), ..target() }
    }

    fn save(&self, client: ClientKind, target: &Target, yes: bool) -> Result<Exit, Failure> {
        let file = ConfigFile::read(&self.config()).unwrap();
        save_in(&self.keeper, client, target, &file, yes)
    }

    fn undo(&self, client: ClientKind, yes: bool) -> Result<Exit, Failure> {
        undo_in(&self.keeper, client, &self.data(), yes)
    }
}

/// A configuration of each client with something of its user.
const THEIRS: [(ClientKind, &str); 4] = [
    (ClientKind::Codex, "# mine\nmodel = \"gpt-5\"\n"),
    (ClientKind::Claude, "{\"model\": \"opus\"}"),
    (ClientKind::Opencode, "{ \"theme\": \"x\" }\n"),
    (ClientKind::Aider, "# mine\ndark-mode: true\n"),
];

#[test]
fn what_was_saved_is_undone_to_the_byte_for_every_client() {
    for (client, theirs) in THEIRS {
        let place = Place::new();
        fs::write(place.config(), theirs).unwrap();
        assert_eq!(place.save(client, &place.target(), true).unwrap(), Exit::Ok);
        let saved = place.text().unwrap();
        assert!(saved.contains("org/bee:7b") && saved.contains("rbee-secret"), "{saved}");
        assert_eq!(place.undo(client, false).unwrap(), Exit::Ok);
        assert_eq!(place.text().as_deref(), Some(theirs));
        assert_eq!(place.undo(client, false).unwrap_err().exit(), Exit::NotFound);
    }
}

#[test]
fn a_file_that_did_not_exist_is_removed_again() {
    for (client, _) in THEIRS {
        let place = Place::new();
        place.save(client, &place.target(), true).unwrap();
        assert!(place.text().is_some());
        place.undo(client, false).unwrap();
        assert_eq!(place.text(), None);
    }
}

#[test]
fn a_second_save_keeps_the_first_backup() {
    let (client, theirs) = THEIRS[0];
    let place = Place::new();
    fs::write(place.config(), theirs).unwrap();
    place.save(client, &place.target(), true).unwrap();
    let other = Target { model: "wasp".into(), ..place.target() };
    place.save(client, &other, true).unwrap();
    assert!(place.text().unwrap().contains("wasp"));
    place.undo(client, false).unwrap();
    assert_eq!(place.text().as_deref(), Some(theirs));
}

#[test]
fn a_file_that_was_changed_since_is_only_restored_if_that_was_said() {
    let (client, theirs) = THEIRS[1];
    let place = Place::new();
    fs::write(place.config(), theirs).unwrap();
    place.save(client, &place.target(), true).unwrap();
    fs::write(place.config(), "{\"model\": \"haiku\"}").unwrap();
    let failure = place.undo(client, false).unwrap_err();
    assert_eq!(failure.code(), "CONFLICT");
    assert!(failure.to_string().contains("--yes"), "{failure}");
    assert!(place.text().unwrap().contains("haiku"));
    place.undo(client, true).unwrap();
    assert_eq!(place.text().as_deref(), Some(theirs));
}

#[test]
fn without_an_answer_nothing_is_written() {
    let (client, theirs) = THEIRS[3];
    let place = Place::new();
    fs::write(place.config(), theirs).unwrap();
    let failure = place.save(client, &place.target(), false).unwrap_err();
    assert_eq!(failure.exit(), Exit::Usage);
    assert!(failure.to_string().contains("--yes"), "{failure}");
    assert_eq!(place.text().as_deref(), Some(theirs));
    assert!(!place.data().exists());
}

#[test]
fn a_file_that_is_not_understood_is_left_alone_and_the_lines_are_shown() {
    for (client, broken, shown) in [
        (ClientKind::Codex, "model = = 1", "experimental_bearer_token = \"****\""),
        (ClientKind::Claude, "{\n  // mine\n}", "\"ANTHROPIC_AUTH_TOKEN\": \"****\","),
        (ClientKind::Opencode, "{\"a\": 1,}", "\"apiKey\": \"****\","),
        (ClientKind::Aider, "a: [", "openai-api-key: \"****\""),
    ] {
        let place = Place::new();
        fs::write(place.config(), broken).unwrap();
        let failure = place.save(client, &place.target(), true).unwrap_err();
        let said = failure.to_string();
        for words in ["cannot be changed: ", "line ", "org/bee:7b", shown] {
            assert!(said.contains(words), "{client} {words}: {said}");
        }
        assert!(!said.contains("rbee-secret"), "{said}");
        assert_eq!(place.text().as_deref(), Some(broken));
        assert!(!place.data().exists());
    }
}

#[test]
fn another_file_of_the_same_client_is_not_saved_before_the_first_one_is_restored() {
    let client = ClientKind::Codex;
    let place = Place::new();
    place.save(client, &place.target(), true).unwrap();
    let other = ConfigFile::read(&place.dir.path().join("other")).unwrap();
    let failure = save_in(&place.keeper, client, &place.target(), &other, true).unwrap_err();
    assert_eq!(failure.code(), "CONFLICT");
    assert!(!place.dir.path().join("other").exists());
}

#[cfg(unix)]
#[test]
fn a_file_with_the_key_is_its_owners_alone_and_gets_its_mode_back() {
    use std::os::unix::fs::PermissionsExt as _;

    let (client, theirs) = THEIRS[1];
    let place = Place::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    fs::write(place.config(), theirs).unwrap();
    fs::set_permissions(place.config(), fs::Permissions::from_mode(0o644)).unwrap();
    let without_key = Target { directory: place.data(), ..plain() };
    place.save(client, &without_key, true).unwrap();
    assert_eq!(mode(&place.config()), 0o644);
    place.save(client, &place.target(), true).unwrap();
    assert_eq!(mode(&place.config()), 0o600);
    for file in ["claude.json", "claude.before"] {
        assert_eq!(mode(&place.data().join(file)), 0o600);
    }
    place.undo(client, false).unwrap();
    assert_eq!((mode(&place.config()), place.text().as_deref()), (0o644, Some(theirs)));
}
