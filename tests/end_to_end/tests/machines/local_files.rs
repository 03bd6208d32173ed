//! A model in a directory of this machine, with the programs as users start them: `queen-rbee` without configuration,
//! and `rbee` in that directory.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use rbee_end_to_end::{Program, built, built_program, private_tempdir};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

const LIMIT: Duration = Duration::from_secs(60);

/// A queen without configuration, for the user whose home is this directory.
pub(crate) struct Started {
    queen: Child,
    url: String,
    pub(crate) home: tempfile::TempDir,
}

impl Started {
    pub(crate) async fn new() -> Self {
        let home = private_tempdir();
        let mut command = Command::new(built("queen-rbee"));
        command.args(["--port", "0", "--log-format", "json"]);
        command.env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin");
        command.kill_on_drop(true).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut queen = command.spawn().unwrap();
        let mut lines = BufReader::new(queen.stderr.take().unwrap()).lines();
        let serving = async {
            loop {
                let line = lines.next_line().await.unwrap().expect("the queen serves");
                let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if line["message"] == "serving" {
                    return line["url"].as_str().unwrap().to_owned();
                }
            }
        };
        let url = tokio::time::timeout(LIMIT, serving).await.expect("the queen serves in time");
        // Its later lines must not fill the pipe.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { queen, url, home }
    }

    /// `rbee`, started in this directory.
    pub(crate) fn rbee(&self, directory: &Path, arguments: &[&str]) -> Program {
        let rbee = Program::new(built_program("rbee-keeper", "rbee")).args(arguments);
        rbee.env("RBEE_HOST", &self.url).env("HOME", self.home.path()).directory(directory)
    }

    /// Ends the queen with its workers.
    pub(crate) async fn stop(mut self) {
        let pid = self.queen.id().unwrap().to_string();
        Program::new("kill").arg(&pid).succeed(LIMIT).await;
        tokio::time::timeout(LIMIT, self.queen.wait()).await.unwrap().unwrap();
    }
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models").canonicalize().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_run_by_its_path_without_any_configuration() {
    let started = Started::new().await;
    let run = ["run", "./bee-tiny", "Tell me about a flower.", "--seed", "1"];
    let by_path = started.rbee(&models(), &run).succeed(LIMIT).await;
    let by_name = [&["run", "bee-tiny"], &run[2..]].concat();
    let by_name = started.rbee(&models(), &by_name).succeed(LIMIT).await;
    assert_eq!(by_path, by_name, "it is the same model");

    // As in the hub's cache: every file is a link to a place beside the directory.
    let cache = started.home.path().join(".cache/huggingface/hub/models--bee--tiny");
    let (blobs, snapshot) = (cache.join("blobs"), cache.join("snapshots/c0ffee"));
    fs::create_dir_all(&blobs).unwrap();
    fs::create_dir_all(&snapshot).unwrap();
    for (number, entry) in fs::read_dir(models().join("bee-tiny")).unwrap().enumerate() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), blobs.join(number.to_string())).unwrap();
            symlink(format!("../../blobs/{number}"), snapshot.join(entry.file_name())).unwrap();
        }
    }
    let typed = "~/.cache/huggingface/hub/models--bee--tiny/snapshots/c0ffee";
    let run = [&["run", typed], &run[2..]].concat();
    let by_snapshot = started.rbee(Path::new("/"), &run).succeed(LIMIT).await;
    assert_eq!(by_snapshot, by_path);
    let ls = started.rbee(&models(), &["ls"]).succeed(LIMIT).await;
    assert!(ls.contains("models--bee--tiny/snapshots/c0ffee"), "{ls}");

    let missing = started.rbee(&models(), &["run", "./bee-tinny", "hello"]).output(LIMIT).await;
    assert!(!missing.success, "{missing:?}");
    let path = models().join("bee-tinny");
    for words in ["MODEL_NOT_FOUND", path.to_str().unwrap(), "does not exist"] {
        assert!(missing.text.contains(words), "{missing:?}");
    }
    started.stop().await;
}
