//! The exit code of every command for every kind of error: the same kind has the same code, whatever the command is.

use crate::support::{Hall, Rbee, echo, hive};
use rbee_transport_http::Token;

const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// Runs each of these commands, each of which ends with this code and says one of these.
async fn all_end_with(hall: &Hall, code: i32, says: &[&str], commands: &[&str]) {
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').collect();
        let ended = hall.rbee(&arguments).run().await;
        assert_eq!(ended.code, Some(code), "rbee {command}: {ended:?}");
        let ended = ended.failed(code, &[]);
        assert!(says.iter().any(|said| ended.err.contains(said)), "rbee {command}: {ended:?}");
        assert_eq!(ended.out, "", "rbee {command}");
    }
}

/// One command of each kind that asks the queen.
const ASKING: [&str; 22] = [
    "ls",
    "ps",
    "status",
    "doctor",
    "show bee",
    "run bee hello",
    "launch codex --print",
    "pull bee",
    "load bee",
    "load bee --estimate-only",
    "unload bee",
    "pin bee",
    "rm bee",
    "bench bee",
    "jobs ls",
    "jobs show 00000000-0000-4000-8000-000000000000",
    "jobs submit bee hello",
    "hive ls",
    "hive show desk",
    "tenants ls",
    "policy show",
    "logs",
];

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_exist_is_not_found_by_every_command() {
    let hall = Hall::built(echo(), |queen| queen.hive(hive("desk")), |server| server).await;
    let models = [
        "pull nosuch",
        "load nosuch",
        "load nosuch --estimate-only",
        "run nosuch hello",
        "show nosuch",
        "rm nosuch",
        "unload nosuch",
        "pin nosuch",
        "bench nosuch",
        "launch codex --print --model nosuch",
        "jobs submit nosuch hello",
    ];
    all_end_with(&hall, 4, &["MODEL_NOT_FOUND", "no worker has nosuch loaded"], &models).await;
    let hives = [
        "hive show nohive",
        "hive drain nohive",
        "hive rm nohive",
        "hive start nohive",
        "hive stop nohive",
        "load bee --hive nohive",
        "load bee --estimate-only --hive nohive",
        "pull bee --hive nohive",
        "rm bee --hive nohive",
    ];
    all_end_with(&hall, 4, &["NOT_FOUND"], &hives).await;
    all_end_with(&hall, 4, &["no worker has"], &["unload abcdef12", "unload bee --hive nohive"])
        .await;
    for verb in ["show", "events", "why", "cancel"] {
        for id in [NOBODY, "abcdef12"] {
            all_end_with(&hall, 4, &["NOT_FOUND"], &[&format!("jobs {verb} {id}")]).await;
        }
    }
    let others = ["tenants show nobody", "tenants rm nobody", "policy rollback 99"];
    all_end_with(&hall, 4, &["NOT_FOUND"], &others).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_malformed_is_misuse_by_every_command() {
    let hall = Hall::built(echo(), |queen| queen.hive(hive("desk")), |server| server).await;
    let references = [
        "pull hf:org",
        "load hf:org",
        "load hf:org --estimate-only",
        "run hf:org hello",
        "show hf:org",
        "rm hf:org",
        "bench hf:org",
        "jobs submit hf:org hello",
    ];
    all_end_with(&hall, 2, &["INVALID_REQUEST"], &references).await;
    all_end_with(&hall, 2, &["no job id"], &["jobs show xyz", "jobs events xyz", "jobs why xyz"])
        .await;
    for command in ASKING {
        all_end_with(&hall, 2, &["--no-such-flag"], &[&format!("{command} --no-such-flag")]).await;
    }
    all_end_with(&hall, 2, &["nosuchverb"], &["nosuchverb"]).await;
    let values = [
        "run bee hello --temperature 9",
        "run bee hello --max-tokens 0",
        "load bee --slots 0",
        "jobs submit bee hello --temperature -1",
    ];
    all_end_with(&hall, 2, &["allowed"], &values).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_that_does_not_answer_is_unreachable_for_every_command() {
    for command in ASKING {
        let arguments: Vec<&str> = command.split(' ').collect();
        let ended = Rbee::new(&arguments).env("RBEE_HOST", "127.0.0.1:1").run().await;
        assert_eq!(ended.code, Some(3), "rbee {command}: {ended:?}");
        ended.failed(3, &["no queen answers at http://127.0.0.1:1", "UNREACHABLE"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_for_every_command() {
    let token = Token::random().unwrap();
    let hall = Hall::built(echo(), |queen| queen, |server| server.with_token(token.clone())).await;
    // The queen says that it is up to everybody.
    for command in ASKING.into_iter().filter(|command| *command != "status") {
        all_end_with(&hall, 5, &["UNAUTHORIZED"], &[command]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_rejects_is_refused_by_every_command_that_asks_a_model() {
    let hall = Hall::new().await;
    let file = tempfile::NamedTempFile::with_suffix(".yaml").unwrap();
    std::fs::write(file.path(), "rules:\n  - then: {reject: not today}\n").unwrap();
    hall.rbee(&["policy", "set", file.path().to_str().unwrap()]).run().await.ok();
    all_end_with(&hall, 5, &["REJECTED"], &["run bee hello", "bench bee"]).await;
}
