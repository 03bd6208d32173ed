//! Tests of `rbee run`: an answer, and everything that can interrupt it.

use std::time::Duration;

use crate::support::{Hall, Rbee, TIMEOUT, echo, until};
use rbee_core::{
    ErrorKind, JobState, Settings,
    request::{Prompt, Task},
    settings::KeepRequests,
    worker::{EchoFault, EchoGate, EchoWorker},
};

const FIVE: [&str; 7] = ["run", "bee", "hello", "--seed", "7", "--max-tokens", "5"];

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_and_nothing_else_is_on_standard_output() {
    let hall = Hall::new().await;
    let ended = hall.rbee(&FIVE).run().await.ok();
    assert_eq!(ended.out, EchoWorker::text(7, 5) + "\n");
    assert_eq!(ended.err, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_prompt_is_what_was_typed_and_what_is_piped_in() {
    let settings = Settings { keep_requests: KeepRequests::Always, ..Settings::default() };
    let hall = Hall::built(echo(), |queen| queen.settings(settings), |server| server).await;
    for (arguments, input, expected) in [
        (vec!["run", "bee", "two", "words"], "", "two words"),
        (vec!["run", "bee"], "piped in\n", "piped in\n"),
        (vec!["run", "bee", "Sum up:"], "a text\n", "Sum up:\n\na text\n"),
    ] {
        hall.rbee(&arguments).input(input).run().await.ok();
        let job = hall.last_job().await.request.unwrap();
        let Task::Generate { prompt: Prompt::Chat(chat), .. } = &job.task else { panic!() };
        assert_eq!(chat.messages[0].content, expected);
    }
    hall.rbee(&["run", "bee"]).run().await.failed(2, &["there is no prompt"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn as_json_the_answer_is_one_object_a_line_as_the_queen_sent_them() {
    let hall = Hall::new().await;
    let ended = hall.rbee(&[&FIVE[..], &["--json"]].concat()).run().await.ok();
    let objects = ended.objects();
    let text: String = objects
        .iter()
        .filter_map(|object| object["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(text, EchoWorker::text(7, 5));
    assert_eq!(objects.last().unwrap()["usage"]["completion_tokens"], 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn verbose_says_afterwards_how_long_it_took() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    let mut running = hall.rbee(&[&FIVE[..], &["-v"]].concat()).start();
    gate.release(1);
    let first = running.read(EchoWorker::text(7, 1).len()).await;
    // The four other tokens come at least this much later.
    let pause = Duration::from_millis(40);
    tokio::time::sleep(pause).await;
    gate.open();
    let ended = running.end().await.ok();
    assert_eq!(format!("{first}{}", ended.out), EchoWorker::text(7, 5) + "\n");
    for said in ["first token after", "answer 5 tokens", "tokens/s", "job "] {
        assert!(ended.err.contains(said), "{said}: {ended:?}");
    }
    let (before, _) = ended.err.split_once(" tokens/s").unwrap();
    let speed: f64 = before.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(speed <= 4.0 / pause.as_secs_f64(), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_about_the_speed_of_an_answer_of_one_token() {
    let hall = Hall::new().await;
    let one = ["run", "bee", "hello", "--max-tokens", "1", "-v"];
    let ended = hall.rbee(&one).run().await.ok();
    assert!(ended.err.contains("answer 1 tokens") && !ended.err.contains("tokens/s"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_nearly_right_is_answered_with_the_right_one() {
    let hall = Hall::new().await;
    let ended = hall.rbee(&["run", "beee", "hello"]).run().await;
    let ended = ended.failed(4, &["MODEL_NOT_FOUND", "did you mean bee?", "correlation id"]);
    assert_eq!(ended.out, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_queen_refuses_is_told_with_the_parameter_at_fault() {
    let hall = Hall::new().await;
    let ended = hall.rbee(&["run", "bee", "hello", "--temperature", "-1"]).run().await;
    ended.failed(2, &["INVALID_REQUEST", "parameter temperature", "correlation id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_as_json_is_one_object_on_standard_error() {
    let hall = Hall::new().await;
    let ended = hall.rbee(&["run", "nobody", "hello", "--json"]).run().await;
    assert_eq!(ended.code, Some(4));
    let error: serde_json::Value = serde_json::from_str(&ended.err).unwrap();
    assert_eq!(error["error"]["code"], "MODEL_NOT_FOUND");
    assert!(error["error"]["correlation_id"].is_string());
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cancels_the_job() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    gate.release(1);
    let mut running = hall.rbee(&["run", "bee", "hello", "--seed", "7"]).start();
    let first = EchoWorker::text(7, 1);
    assert_eq!(running.read(first.len()).await, first);
    running.interrupt();
    running.end().await.failed(130, &["interrupted"]);
    tokio::time::timeout(TIMEOUT, hall.echo.until_active(0)).await.unwrap();
    until("cancelled", async || hall.last_job().await.status.state() == JobState::Cancelled).await;
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_cancels_a_job_that_still_waits() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    let running = hall.rbee(&["run", "bee", "hello"]).start();
    tokio::time::timeout(TIMEOUT, hall.echo.until_active(1)).await.unwrap();
    running.interrupt();
    running.end().await.failed(130, &["interrupted"]);
    until("cancelled", async || hall.last_job().await.status.state() == JobState::Cancelled).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_cancels_the_job_without_a_word() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    gate.release(1);
    let mut running = hall.rbee(&["run", "bee", "hello", "--max-tokens", "100"]).start();
    running.read(1).await;
    drop(running.child.stdout.take());
    gate.release(1);
    let ended = running.end().await.ok();
    assert_eq!(ended.err, "");
    tokio::time::timeout(TIMEOUT, hall.echo.until_active(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queen_that_goes_away_in_mid_stream_is_a_clear_error() {
    let gate = EchoGate::new();
    let hall = Hall::with(echo().gate(&gate)).await;
    gate.release(1);
    let mut running = hall.rbee(&["run", "bee", "hello", "--seed", "7"]).start();
    let first = EchoWorker::text(7, 1);
    assert_eq!(running.read(first.len()).await, first);
    let _queen = hall.vanish();
    let ended =
        running.end().await.failed(3, &["CONNECTION_LOST", "correlation id", "rbee status"]);
    assert_eq!(ended.out, "\n", "the line is ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_fails_in_mid_stream_is_told_with_its_code() {
    let fault = EchoFault::Fail { at: 2, kind: ErrorKind::InvalidRequest };
    let hall = Hall::with(echo().fault(fault)).await;
    let ended = hall.rbee(&FIVE).run().await.failed(2, &["INVALID_REQUEST", "correlation id"]);
    assert_eq!(ended.out, EchoWorker::text(7, 2) + "\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_queen_is_it_says_how_to_start_one() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let begin = std::time::Instant::now();
    let ended = Rbee::new(&["run", "bee", "hello", "--host", &unused.to_string()]).run().await;
    let ended = ended.failed(3, &[&format!("no queen answers at http://{unused}"), "rbee serve"]);
    assert_eq!(ended.out, "");
    assert!(begin.elapsed() < Duration::from_secs(10));
}
