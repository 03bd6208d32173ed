//! Models that are typed as paths.

use std::path::PathBuf;

use crate::support::{Hall, Rbee, echo, hive};

/// A queen with a hive on this machine, and a directory with the model `bee` in it.
struct Place {
    hall: Hall,
    folder: tempfile::TempDir,
}

impl Place {
    async fn new() -> Self {
        let hall = Hall::built(echo(), |queen| queen.hive(hive("attic")), |server| server).await;
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bee")).unwrap();
        std::fs::write(folder.path().join("bee/weights"), "honey").unwrap();
        Self { hall, folder }
    }

    fn reference(&self, below: &str) -> String {
        let folder: PathBuf = self.folder.path().canonicalize().unwrap();
        format!("file:{}", folder.join(below).display())
    }

    /// The program, started in the directory.
    fn rbee(&self, arguments: &[&str]) -> Rbee {
        self.hall.rbee(arguments).directory(self.folder.path())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_takes_a_path_of_the_directory_in_which_it_is_started() {
    let place = Place::new().await;
    let bee = place.reference("bee");
    for arguments in [
        &["load", "./bee", "--estimate-only"][..],
        &["pull", "./bee"],
        &["load", "./bee"],
        &["run", "./bee", "hello"],
        &["jobs", "submit", "./bee", "hello"],
        &["bench", "./bee", "-n", "1"],
        &["pin", "./bee"],
        &["pin", "./bee", "--off"],
        &["tenants", "set", "acme", "--models", "./bee,bee"],
        &["unload", "./bee"],
    ] {
        place.rbee(arguments).run().await.ok();
    }
    let shown = place.rbee(&["show", "./bee", "--json"]).run().await.ok().json();
    assert_eq!(shown["model"], bee.as_str());
    let acme = place.rbee(&["tenants", "show", "acme", "--json"]).run().await.ok().json();
    assert_eq!(acme["limits"]["models"], serde_json::json!(["bee", bee]));
    assert_eq!(place.hall.last_job().await.model.as_str(), bee);
    // A worker may still end.
    crate::support::until("the model is removed", async || {
        place.rbee(&["rm", "./bee"]).run().await.code == Some(0)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_may_be_relative_absolute_below_the_home_directory_or_a_reference() {
    let place = Place::new().await;
    let bee = place.reference("bee");
    let above = place.folder.path().join("other");
    std::fs::create_dir(&above).unwrap();
    let home = place.folder.path().to_str().unwrap();
    for typed in [
        "../bee",
        "file:../bee",
        "~/bee",
        "file:~/bee",
        "../other/../bee",
        &bee,
        &bee["file:".len()..],
    ] {
        let rbee = place.hall.rbee(&["run", typed, "hello"]).directory(&above).env("HOME", home);
        rbee.run().await.ok();
        let model = place.hall.last_job().await.model;
        // On macOS the temporary directory is behind a link.
        let found = PathBuf::from(&model.as_str()["file:".len()..]).canonicalize().unwrap();
        assert_eq!(format!("file:{}", found.display()), bee, "{typed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_with_a_path_is_one_with_its_model() {
    let place = Place::new().await;
    place.rbee(&["chat", "./bee"]).input("hello\n").run().await.ok();
    assert_eq!(place.hall.last_job().await.model.as_str(), place.reference("bee"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_for_a_queen_on_another_machine_is_refused_before_anything_is_sent() {
    for verb in [&["run", "./bee", "hello"][..], &["show", "/models/bee"], &["unload", "~/bee"]] {
        let rbee = Rbee::new(verb).env("RBEE_HOST", "http://bee.invalid:7833");
        let ended = rbee.run().await;
        ended.failed(2, &[verb[1], "http://bee.invalid:7833", "file:/absolute/path"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_does_not_exist_is_named_with_its_path() {
    let place = Place::new().await;
    let ended = place.rbee(&["run", "./bea", "hello"]).run().await;
    let path = place.reference("bea");
    ended.failed(4, &["MODEL_NOT_FOUND", &path["file:".len()..], "does not exist"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_of_a_file_here_is_a_name_and_the_failure_says_how_to_name_the_file() {
    let place = Place::new().await;
    std::fs::rename(place.folder.path().join("bee"), place.folder.path().join("wasp")).unwrap();
    let ended = place.rbee(&["run", "wasp", "hello"]).run().await;
    ended.failed(4, &["MODEL_NOT_FOUND", "write ./wasp"]);
    place.rbee(&["run", "bee", "hello"]).run().await.ok();
    assert_eq!(place.hall.last_job().await.model.as_str(), "echo", "the alias");
}
