//! Tests of the output in a terminal.

use std::sync::{Arc, Mutex};

use crate::support::{Hall, TIMEOUT, echo, hive, until};
use rbee_core::{
    Error, ErrorKind, Finish, HiveBackend, HiveId, JobState, Output, Result, Usage, async_trait,
    worker::{EchoGate, EchoWorker},
};
use rbee_keeper::text::width;
use rbee_transport_http::{
    server::{AddEvent, AddProgress, HiveConnector, HiveMachines},
    wire::queen::{AddHive, AddSent, AddStep, StepState},
};

/// The text without colors, and with the line ends that the program wrote.
fn plain(seen: &str) -> String {
    let mut plain = String::new();
    let mut rest = seen;
    while let Some((before, after)) = rest.split_once('\x1b') {
        plain += before;
        rest = after.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |(_, rest)| rest);
    }
    (plain + rest).replace("\r\n", "\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_fit_the_terminal_and_are_never_wrapped() {
    let long = "file:/a/very/long/path/to/some/directory/with/a/model/that/has/a/long/name";
    let hall = Hall::built(
        echo(),
        |queen| {
            queen.alias("a-model-with-a-name-that-is-longer-than-most-terminals-are-wide-1", long)
        },
        |server| server,
    )
    .await;
    hall.rbee(&["jobs", "submit", "bee", "hi", "--max-tokens", "1"]).run().await.ok();
    for columns in [20, 40, 80, 120] {
        for verb in [
            &["ls"][..],
            &["ps"],
            &["hive", "ls"],
            &["hive", "show", "local"],
            &["jobs", "ls"],
            &["show", "bee"],
            &["status"],
        ] {
            let (seen, code) = hall.rbee(verb).in_terminal(columns).end().await;
            assert_eq!(code, Some(0), "{seen}");
            for line in plain(&seen).lines() {
                assert!(width(line) <= columns.into(), "{verb:?} at {columns}: {line:?}");
            }
        }
    }
    let (seen, _) = hall.rbee(&["ls"]).in_terminal(80).end().await;
    assert!(seen.contains('…') && seen.contains("\x1b[32mloaded\x1b[0m"), "{seen:?}");
    let (seen, _) = hall.rbee(&["ls"]).env("NO_COLOR", "1").in_terminal(80).end().await;
    assert!(!seen.contains('\x1b'), "{seen:?}");
    let piped = hall.rbee(&["ls"]).run().await.ok();
    assert!(!piped.out.contains('…') && !piped.out.contains('\x1b'), "{piped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_cannot_steer_the_terminal() {
    let token = |text: &str| Ok(Output::Token { id: None, text: text.into(), logprobs: None });
    let end = Output::End { finish: Finish::Stop, usage: Usage::default(), stop_text: None };
    let attack = ["ok\t\n", "\x1b]0;owned\x07", "\u{9b}2J", "\x08\x7f", "\r", "end"];
    let outputs: Vec<_> = attack.iter().map(|text| token(text)).chain([Ok(end)]).collect();
    let hall = Hall::with(echo().script(outputs)).await;
    let (seen, code) = hall.rbee(&["run", "bee", "hello"]).in_terminal(80).end().await;
    assert_eq!(code, Some(0), "{seen:?}");
    assert!(seen.contains("ok\t\r\n␛]0;owned␇\u{fffd}2J␈␡end\r\n"), "{seen:?}");
    // A file or another program gets the model's original text.
    let ended = hall.rbee(&["run", "bee", "hello"]).run().await.ok();
    assert_eq!(ended.out, attack.concat() + "\n");
    let ended = hall.rbee(&["run", "bee", "hello", "--json"]).run().await.ok();
    assert!(!ended.out.chars().any(|c| c != '\n' && c.is_control()), "{ended:?}");
    let said: String = ended
        .objects()
        .iter()
        .filter_map(|object| object["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(said, attack.concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_goes_on_until_it_is_left() {
    let hall = Hall::new().await;
    let chat = ["chat", "--seed", "7", "--max-tokens", "2"];
    let mut terminal = hall.rbee(&chat).in_terminal(80);
    terminal.shows("/help says what else there is").await;
    let answer = EchoWorker::text(7, 2);
    terminal.types("hello\r");
    terminal.shows(answer.trim_end()).await;
    terminal.types("/system Be brief.\r");
    terminal.shows("instructions set").await;
    terminal.types("and again\r");
    until("two answers", async || terminal.seen().matches(answer.trim_end()).count() == 2).await;
    terminal.types("/clear\r");
    terminal.shows("forgotten").await;
    terminal.types("/help\r");
    terminal.shows("Ctrl-C").await;
    terminal.types("/bye\r");
    let (seen, code) = terminal.end().await;
    assert_eq!(code, Some(0), "{seen:?}");
    assert_eq!(hall.echo.started(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_with_an_unknown_model_does_not_begin() {
    let hall = Hall::new().await;
    for verb in [&["chat", "bees"][..], &["run", "bees"]] {
        let (seen, code) = hall.rbee(verb).in_terminal(80).end().await;
        assert_eq!(code, Some(4), "{seen}");
        for words in ["MODEL_NOT_FOUND", "bees", "did you mean"] {
            assert!(seen.contains(words), "{words}: {seen}");
        }
        assert!(!seen.contains(">>>") && !seen.contains("/help"), "{seen}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_conversation_ctrl_c_stops_the_answer_and_ctrl_d_leaves() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    let mut terminal = hall.rbee(&["run", "bee", "--seed", "7"]).in_terminal(80);
    terminal.shows(">>> ").await;
    gate.release(1);
    terminal.types("hello\r");
    terminal.shows(EchoWorker::text(7, 1).trim_end()).await;
    terminal.running.interrupt();
    tokio::time::timeout(TIMEOUT, hall.echo.until_active(0)).await.unwrap();
    until("cancelled", async || hall.last_job().await.status.state() == JobState::Cancelled).await;
    until("asked again", async || terminal.seen().matches(">>> ").count() >= 2).await;
    terminal.types("\x04");
    let (seen, code) = terminal.end().await;
    assert_eq!(code, Some(0), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_is_part_of_the_next_question() {
    let settings = rbee_core::Settings {
        keep_requests: rbee_core::settings::KeepRequests::Always,
        ..rbee_core::Settings::default()
    };
    let hall = Hall::built(echo(), |queen| queen.settings(settings), |server| server).await;
    let input = "one\n/system S\n\"\"\"two\nlines\"\"\"\n";
    let chat = ["chat", "bee", "--seed", "7", "--max-tokens", "2"];
    let ended = hall.rbee(&chat).input(input).run().await.ok();
    let answer = EchoWorker::text(7, 2);
    assert_eq!(ended.out, format!("{answer}\n{answer}\n"));
    let job = hall.last_job().await.request.unwrap();
    let rbee_core::request::Task::Generate {
        prompt: rbee_core::request::Prompt::Chat(chat), ..
    } = &job.task
    else {
        panic!()
    };
    let said: Vec<_> =
        chat.messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
    let expected =
        [("system", "S"), ("user", "one"), ("assistant", &*answer), ("user", "two\nlines")];
    assert_eq!(said, expected);
}

/// Adds the machine `cellar`, whose key needs a passphrase, and notes what it was sent.
#[derive(Debug, Default)]
struct Cellar(Mutex<Vec<String>>);

impl HiveMachines for Cellar {}

#[async_trait]
impl HiveConnector for Cellar {
    async fn connect(
        &self,
        request: AddHive,
        progress: AddProgress,
    ) -> Result<Arc<dyn HiveBackend>> {
        let sent = request.passphrase.map(|secret| secret.reveal().to_owned());
        if sent.as_deref() != Some("correct horse") {
            self.0.lock().unwrap().extend(sent);
            let message = "the key file /home/ada/.ssh/id_ed25519 is encrypted";
            return Err(Error::new(ErrorKind::InvalidRequest, message).with_param("passphrase"));
        }
        let step = |state, detail: Option<&str>| AddStep {
            host: "cellar".into(),
            step: "host_key".into(),
            state,
            duration_ms: detail.map(|_| 12),
            detail: detail.map(str::to_owned),
        };
        progress.event(AddEvent::Step(step(StepState::Started, None)));
        let (host, file) = ("cellar".to_owned(), "rbee-hive".to_owned());
        progress.event(AddEvent::Sent(AddSent { host, file, done: 5, total: 5 }));
        progress.event(AddEvent::Step(step(StepState::Finished, Some("SHA256:x\x1b[2J"))));
        Ok(Arc::new(hive("cellar")))
    }

    async fn forget(&self, _: &HiveId) -> Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_passphrase_is_asked_for_without_showing_it_and_the_steps_follow() {
    let cellar = Arc::new(Cellar::default());
    let connector = cellar.clone();
    let hall = Hall::built(echo(), |queen| queen, |server| server.with_connector(connector)).await;
    let mut terminal = hall.rbee(&["hive", "add", "ada@cellar"]).in_terminal(80);
    terminal.shows("passphrase: ").await;
    terminal.types("wrong horse\n");
    let asked_again = async || terminal.seen().matches("passphrase: ").count() == 2;
    until("it asks again", asked_again).await;
    terminal.types("correct horse\n");
    let (seen, code) = terminal.end().await;
    let seen = plain(&seen);
    assert_eq!(code, Some(0), "{seen}");
    assert!(!seen.contains("horse"), "{seen}");
    assert!(seen.contains("host key of cellar 12 ms  SHA256:x␛[2J\n"), "{seen}");
    assert!(seen.ends_with("added hive cellar (in process)\n"), "{seen}");
    assert_eq!(*cellar.0.lock().unwrap(), ["wrong horse"]);

    hall.rbee(&["hive", "rm", "cellar"]).run().await.ok();
    // Nobody can be asked.
    let ended = hall.rbee(&["hive", "add", "cellar"]).run().await;
    ended.failed(
        2,
        &["id_ed25519 is encrypted", "in a terminal this command asks for the passphrase"],
    );
}
