//! `CandleWorker` on a model of random weights, whose answers are arbitrary bytes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::support::{self, Answer, CONTEXT, answer, collect, job, load, run, tiny, write_model};
use futures_util::{FutureExt, StreamExt};
use rbee_core::{
    Error, ErrorKind, Finish, Message, Output, Role, Run, Worker,
    candle::{CandleOptions, CandleWorker},
    hive::Progress,
    request::{Prompt, Sampling, Task},
    worker::Resume,
};

fn fresh() -> Resume {
    Resume::default()
}

async fn refusal(worker: &CandleWorker, run: Run) -> Error {
    match worker.execute(run).await {
        Err(error) => error,
        Ok(stream) => collect(stream).await.expect_err("must be refused"),
    }
}

/// Waits until the worker is free, within a time limit.
/// The token counts that do not depend on what ran before.
fn counts(answer: &Answer) -> (u32, u32) {
    (answer.usage.prompt_tokens, answer.usage.completion_tokens)
}

async fn idle(worker: &CandleWorker) {
    for _ in 0..2_000 {
        if worker.health().await.unwrap().busy == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the slot was not given back");
}

#[tokio::test]
async fn a_stream_cut_anywhere_goes_on_as_if_it_had_not_been() {
    let worker = tiny().await;
    for (seed, temperature) in [(1, 0.0), (2, 1.0), (3, 1.7)] {
        let sampling = |s: &mut Sampling| {
            s.temperature = temperature;
            s.max_tokens = Some(40);
            s.repetition_penalty = 1.2;
            s.top_p = 0.95;
            (s.presence_penalty, s.frequency_penalty) = (-0.5, 0.75);
            s.logit_bias = [(40, 2.0), (41, -100.0)].into();
            (s.min_tokens, s.logprobs) = (22, Some(3));
        };
        let whole = answer(&*worker, run("the honey bee ", seed, fresh(), sampling)).await;
        assert!(whole.tokens.len() > 20, "{whole:?}");
        for cut in 0..=whole.tokens.len() {
            let (before, after) = whole.tokens.split_at(cut);
            let resume = Resume {
                tokens: before.iter().map(|(id, _)| *id).collect(),
                text_bytes: before.iter().map(|(_, text)| text.len()).sum(),
            };
            let rest = answer(&*worker, run("the honey bee ", seed, resume, sampling)).await;
            assert_eq!(rest.tokens, after, "cut at {cut}");
            assert_eq!(rest.logprobs, whole.logprobs[cut..], "cut at {cut}");
            assert_eq!((rest.finish, counts(&rest)), (whole.finish, counts(&whole)));
        }
    }
}

#[tokio::test]
async fn text_that_readers_miss_is_said_again_and_text_they_have_is_not() {
    let worker = tiny().await;
    let sampling = |s: &mut Sampling| s.max_tokens = Some(30);
    let whole = answer(&*worker, run("bees", 4, fresh(), sampling)).await;
    let text = whole.text();
    for said in (0..text.len()).filter(|at| text.is_char_boundary(*at)) {
        let tokens = whole.ids()[..15].to_vec();
        let had: usize = whole.tokens[..15].iter().map(|(_, text)| text.len()).sum();
        let resume = Resume { tokens, text_bytes: said };
        let outcome = worker.execute(run("bees", 4, resume, sampling)).await.unwrap();
        if said <= had {
            assert_eq!(collect(outcome).await.unwrap().text(), text[said..]);
        } else {
            assert_eq!(collect(outcome).await.unwrap_err().kind(), ErrorKind::InvalidRequest);
        }
    }
}

#[tokio::test]
async fn a_cut_inside_a_held_back_stop_text_is_no_gap() {
    let worker = tiny().await;
    let plain = |s: &mut Sampling| s.max_tokens = Some(30);
    let text = answer(&*worker, run("bees", 9, fresh(), plain)).await.text();
    let characters: Vec<char> = text.chars().collect();
    // Four characters from the middle of the answer; they span several tokens.
    let stop: String = characters[characters.len() / 2..][..4].iter().collect();
    let sampling = |s: &mut Sampling| {
        (s.max_tokens, s.stop) = (Some(30), vec![stop.clone(), "\u{1}never".into()])
    };
    let whole = answer(&*worker, run("bees", 9, fresh(), sampling)).await;
    assert_eq!(
        (whole.finish, whole.text()),
        (Finish::Stop, text[..text.find(&stop).unwrap()].to_owned())
    );
    assert_eq!(whole.stop_text.as_deref(), Some(&*stop));
    for cut in 0..=whole.tokens.len() {
        let (before, after) = whole.tokens.split_at(cut);
        let resume = Resume {
            tokens: before.iter().map(|(id, _)| *id).collect(),
            text_bytes: before.iter().map(|(_, text)| text.len()).sum(),
        };
        let rest = answer(&*worker, run("bees", 9, resume, sampling)).await;
        assert_eq!((&rest.tokens[..], rest.finish), (after, whole.finish));
        assert_eq!((counts(&rest), &rest.stop_text), (counts(&whole), &whole.stop_text));
    }
}

#[tokio::test]
async fn what_is_held_back_when_the_answer_is_full_comes_with_its_last_token() {
    let worker = tiny().await;
    let plain = |s: &mut Sampling| s.max_tokens = Some(12);
    let whole = answer(&*worker, run("bees", 4, fresh(), plain)).await;
    let end: String = whole.text().chars().last().into_iter().chain("\u{1}never".chars()).collect();
    let waits = |s: &mut Sampling| (s.max_tokens, s.stop) = (Some(12), vec![end.clone()]);
    let held = answer(&*worker, run("bees", 4, fresh(), waits)).await;
    assert_eq!((held.text(), held.finish), (whole.text(), Finish::Length));
}

#[tokio::test]
async fn text_that_readers_have_is_not_said_again_where_this_worker_would_have_held_it_back() {
    let worker = tiny().await;
    let plain = |s: &mut Sampling| s.max_tokens = Some(20);
    let whole = answer(&*worker, run("bees", 4, fresh(), plain)).await;
    let text = whole.text();
    let mut tried = 0;
    for cut in 1..whole.tokens.len() {
        let had: usize = whole.tokens[..cut].iter().map(|(_, text)| text.len()).sum();
        let Some(last) = text[..had].chars().last() else {
            continue;
        };
        let resume = Resume { tokens: whole.ids()[..cut].to_vec(), text_bytes: had };
        let waits = |s: &mut Sampling| {
            (s.max_tokens, s.stop) = (Some(20), vec![format!("{last}\u{1}never")])
        };
        let rest = answer(&*worker, run("bees", 4, resume, waits)).await;
        assert_eq!(rest.text(), text[had..], "cut at {cut}");
        tried += 1;
    }
    assert!(tried > 5);
}

#[tokio::test]
async fn an_answer_ends_with_its_length_with_the_context_or_with_the_models_own_end() {
    let worker = tiny().await;
    let five = answer(&*worker, run("bees", 1, fresh(), |s| s.max_tokens = Some(5))).await;
    assert_eq!(
        (five.tokens.len(), five.finish, five.usage.completion_tokens),
        (5, Finish::Length, 5)
    );
    let mut ends = [0, 0];
    for seed in 0..30 {
        let all = answer(&*worker, run("bees", seed, fresh(), |_| {})).await;
        assert_eq!(all.usage.completion_tokens as usize, all.tokens.len());
        match all.finish {
            Finish::Length => {
                assert_eq!(all.usage.prompt_tokens + all.usage.completion_tokens, CONTEXT);
                ends[0] += 1;
            }
            Finish::Stop => {
                assert_eq!(
                    all.tokens.last().unwrap().0,
                    2,
                    "the end of the text is a token of its own"
                );
                ends[1] += 1;
            }
        }
    }
    assert!(ends[0] > 0 && ends[1] > 0, "{ends:?}");
}

#[tokio::test]
async fn bad_runs_are_refused_with_both_numbers_and_leave_the_slot_free() {
    let worker = tiny().await;
    let long = refusal(&worker, run(&"q7 ".repeat(200), 1, fresh(), |_| {})).await;
    assert_eq!(long.kind(), ErrorKind::ContextExceeded);
    assert!(
        long.message().contains("601 in your prompt")
            && long.message().contains("maximum context length is 96 tokens"),
        "{long}"
    );
    let resume = |tokens: &[u32], text_bytes| Resume { tokens: tokens.to_vec(), text_bytes };
    for (bad, said) in [
        (run("x", 1, resume(&[9, 300], 0), |_| {}), "token 300; allowed are those below 300"),
        (run("x", 1, resume(&[9, 2, 9], 0), |_| {}), "the end of the text at 1 of 3 tokens"),
        (
            run("x", 1, resume(&[9; 4], 0), |s| s.max_tokens = Some(3)),
            "resume has 4 tokens; this run allows 3",
        ),
        (run("x", 1, resume(&[40], 7), |_| {}), "7 bytes of text; the tokens make at most 1"),
        (run("x", 1, fresh(), |s| s.temperature = f32::NAN), "temperature is NaN"),
    ] {
        let error = refusal(&worker, bad).await;
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
        assert!(error.message().contains(said), "{error}");
    }
    let chat = |text: &[&str]| {
        let turn = |text: &&str| Message::new(Role::User, *text);
        let prompt = Prompt::Chat(text.iter().map(turn).collect::<Vec<_>>().into());
        let task = Task::Generate { prompt, sampling: Sampling::default() };
        Run { job: job(task, 1), attempt: 1, resume: fresh() }
    };
    assert_eq!(refusal(&worker, chat(&[])).await.kind(), ErrorKind::InvalidRequest);
    assert!(refusal(&worker, chat(&["refuse"])).await.message().ends_with("not that"));
    let embed = Run { job: job(Task::embed(["x"]), 1), attempt: 1, resume: fresh() };
    assert_eq!(refusal(&worker, embed).await.kind(), ErrorKind::Unsupported);
    // <|bos|><|user|>x<|end|><|assistant|>: nothing is added twice.
    let usage = answer(&*worker, chat(&["x"])).await.usage;
    assert_eq!(usage.prompt_tokens, 5);
}

#[tokio::test]
async fn no_more_runs_than_slots_and_a_dropped_one_frees_its_slot() {
    let worker = tiny().await;
    assert_eq!(worker.info().slots, 8);
    let endless = || run("the bee", 5, fresh(), |_| {});
    let mut streams = Vec::new();
    for busy in 1..=8 {
        let mut stream = worker.execute(endless()).await.unwrap();
        assert!(
            matches!(stream.next().await, Some(Ok(Output::Metrics(metrics))) if metrics.prompt_tokens > 3)
        );
        streams.push(stream);
        assert_eq!(worker.health().await.unwrap().busy, busy);
    }
    assert_eq!(worker.execute(endless()).await.err().unwrap().kind(), ErrorKind::WorkerBusy);
    drop(streams);
    idle(&worker).await;
    // The future of `execute` is dropped, usually before it has returned anything.
    drop(worker.execute(endless()).now_or_never());
    idle(&worker).await;
    answer(&*worker, endless()).await;
}

#[tokio::test]
async fn a_context_is_never_longer_than_the_memory_for_keys_and_values() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let mut options = CandleOptions::new("tiny".parse().unwrap());
    options.cache_tokens = std::num::NonZeroU32::new(50);
    let worker = CandleWorker::load(dir.path(), options, Progress::ignore()).await.unwrap();
    // Two blocks.
    assert_eq!(worker.info().capabilities.context_tokens, Some(64));
    let long = refusal(&worker, run(&"q7 ".repeat(40), 1, fresh(), |_| {})).await;
    assert!(long.message().contains("maximum context length is 64 tokens"), "{long}");
    answer(&worker, run("bees", 1, fresh(), |_| {})).await;
}

#[tokio::test]
async fn when_the_end_is_told_the_slot_is_free() {
    let worker = tiny().await;
    for seed in 0..50 {
        answer(&*worker, run("bee", seed, fresh(), |s| s.max_tokens = Some(2))).await;
        assert_eq!(worker.health().await.unwrap().busy, 0);
    }
}

#[tokio::test]
async fn dropping_the_worker_ends_the_run_also_where_its_reader_stalls() {
    let worker = tiny().await;
    let stream = worker.execute(run("bee", 5, fresh(), |_| {})).await.unwrap();
    drop(worker);
    // The stream is read only after the thread waits for space; the thread is then stopped, and reports it.
    let items: Vec<_> = stream.collect().await;
    let last = items.last().unwrap().as_ref();
    assert!(matches!(last, Err(error) if error.kind() == ErrorKind::WorkerLost), "{last:?}");
}

#[tokio::test]
async fn threads_dtypes_and_shards_load_the_same_model() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let reference = load(dir.path()).await.unwrap();
    let expected = answer(&reference, run("honey", 8, fresh(), |_| {})).await;
    let mut options = CandleOptions::new("tiny".parse().unwrap());
    options.threads = std::num::NonZeroUsize::new(64);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let progress = Progress::new(move |update| told.lock().unwrap().push(update));
    let file = dir.path().join("model.safetensors");
    let other = CandleWorker::load(&file, options, progress).await.unwrap();
    assert_eq!(answer(&other, run("honey", 8, fresh(), |_| {})).await, expected);
    assert_eq!(reference.info().numerics, other.info().numerics);
    let last = *seen.lock().unwrap().last().unwrap();
    let bytes: usize = support::tensors().iter().map(|tensor| tensor.3.len()).sum();
    assert_eq!((last.done, last.total), (bytes as u64, Some(bytes as u64)));

    let tensors = support::tensors();
    let mut map = serde_json::Map::new();
    for (number, part) in tensors.chunks(8).enumerate() {
        let name = format!("model-{number}.safetensors");
        std::fs::write(dir.path().join(&name), support::safetensors(part)).unwrap();
        for tensor in part {
            map.insert(tensor.0.clone(), name.clone().into());
        }
    }
    support::write_json(
        dir.path(),
        "model.safetensors.index.json",
        &serde_json::json!({"weight_map": map}),
    );
    std::fs::remove_file(file).unwrap();
    let sharded = load(dir.path()).await.unwrap();
    assert_eq!(answer(&sharded, run("honey", 8, fresh(), |_| {})).await, expected);
}

#[tokio::test]
async fn a_load_that_nobody_waits_for_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    let receiver = Mutex::new(Some(receiver));
    let calls = Arc::new(Mutex::new(0));
    let counted = calls.clone();
    // The first update waits until the load is dropped; there is no second one.
    let progress = Progress::new(move |_| {
        *counted.lock().unwrap() += 1;
        if let Some(receiver) = receiver.lock().unwrap().take() {
            let _ = receiver.recv();
        }
    });
    let options = CandleOptions::new("tiny".parse().unwrap());
    let loading = tokio::time::timeout(
        Duration::from_millis(300),
        CandleWorker::load(dir.path(), options, progress),
    );
    assert!(loading.await.is_err());
    let weak = Arc::downgrade(&calls);
    drop(sender);
    drop(calls);
    for _ in 0..2_000 {
        if weak.strong_count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the load went on");
}

#[tokio::test]
async fn a_model_without_a_chat_template_continues_bare_text_and_refuses_messages() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let mut config = support::tokenizer_config();
    config.as_object_mut().unwrap().remove("chat_template").unwrap();
    support::write_json(dir.path(), "tokenizer_config.json", &config);
    let worker = load(dir.path()).await.unwrap();
    let prompt = Prompt::Chat(vec![Message::new(Role::User, "the honey bee")].into());
    let task = Task::Generate { prompt, sampling: Sampling::default() };
    let chat = Run { job: job(task, 1), attempt: 1, resume: fresh() };
    // The client reads the sentence and the parameter: it acts on them.
    let error = refusal(&worker, chat).await.redacted();
    assert_eq!((error.kind(), error.param()), (ErrorKind::Unsupported, Some("messages")));
    assert!(error.message().contains("no chat template"), "{error}");
    let text = run("the honey bee ", 1, fresh(), |s| s.max_tokens = Some(4));
    assert_eq!(answer(&worker, text).await.usage.completion_tokens, 4);
}

#[tokio::test]
async fn a_device_that_was_not_built_in_is_refused_by_name_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    write_model(dir.path());
    let cuda = if cfg!(feature = "cuda") { "with nvidia-smi" } else { "with feature cuda" };
    let metal = if cfg!(feature = "metal") { "this Mac" } else { "with feature metal" };
    for (device, said) in [
        (rbee_core::candle::CandleDevice::Cuda(70), ["device cuda:70 cannot", cuda]),
        (rbee_core::candle::CandleDevice::Metal(70), ["device metal:70 cannot", metal]),
    ] {
        let mut options = CandleOptions::new("tiny".parse().unwrap());
        options.device = device;
        let error = CandleWorker::load(dir.path(), options, Progress::ignore()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(said.iter().all(|said| error.message().contains(said)), "{error}");
    }
}

#[tokio::test]
async fn a_token_of_the_logit_bias_must_be_one_of_the_model() {
    let worker = tiny().await;
    let vocab = u32::try_from(support::VOCAB).unwrap();
    for (token, is_allowed) in [(vocab - 1, true), (vocab, false)] {
        let biased = |s: &mut Sampling| s.logit_bias = [(token, 1.0)].into();
        match worker.execute(run("bees", 1, fresh(), biased)).await {
            Ok(_) => assert!(is_allowed),
            Err(error) => {
                assert!(!is_allowed, "{error}");
                assert_eq!(error.kind(), ErrorKind::InvalidRequest);
                assert_eq!(error.param(), Some("logit_bias"));
            }
        }
    }
}

#[tokio::test]
async fn a_forced_and_a_forbidden_token_are_chosen_always_and_never() {
    let worker = tiny().await;
    let forced = |s: &mut Sampling| {
        (s.max_tokens, s.logit_bias) = (Some(8), [(40, 100.0)].into());
    };
    let whole = answer(&*worker, run("bees", 3, fresh(), forced)).await;
    assert_eq!(whole.ids(), [40; 8]);
    let plain = |s: &mut Sampling| (s.max_tokens, s.temperature) = (Some(8), 0.0);
    let first = answer(&*worker, run("bees", 3, fresh(), plain)).await.ids()[0];
    let without = |s: &mut Sampling| {
        (s.max_tokens, s.temperature, s.logprobs) = (Some(8), 0.0, Some(2));
        s.logit_bias = [(first, -100.0)].into();
    };
    let other = answer(&*worker, run("bees", 3, fresh(), without)).await;
    assert!(!other.ids().contains(&first));
    // The log probabilities are the model's own: the forbidden token is the likeliest one.
    let found = other.logprobs[0].as_ref().unwrap();
    assert_eq!(found.top[0].id, Some(first));
    assert_eq!(found.chosen, found.top[1], "the next one is chosen");
}

#[tokio::test]
async fn no_stop_text_and_no_end_comes_before_the_minimum_length() {
    let worker = tiny().await;
    // A forbidden end changes what is drawn, so it is forbidden in both answers.
    let plain =
        |min_tokens| move |s: &mut Sampling| (s.max_tokens, s.min_tokens) = (Some(30), min_tokens);
    let stops = |stop: &str, min_tokens| {
        let stop = vec![stop.to_owned()];
        move |s: &mut Sampling| {
            (s.max_tokens, s.stop, s.min_tokens) = (Some(30), stop, min_tokens);
        }
    };
    // The text of the third token that has some, wherever it is.
    let third = |answer: &support::Answer| {
        let texts = answer.tokens.iter().enumerate().filter(|(_, (_, text))| !text.is_empty());
        texts.map(|(at, (_, text))| (at, text.clone())).nth(2).unwrap()
    };
    let whole = answer(&*worker, run("bees", 9, fresh(), plain(0))).await;
    let (at, stop) = third(&whole);
    let stopped = answer(&*worker, run("bees", 9, fresh(), stops(&stop, 0))).await;
    assert_eq!(stopped.finish, Finish::Stop);
    assert!(stopped.tokens.len() <= at + 1, "{stopped:?}");
    for min_tokens in [12, 30] {
        let whole = answer(&*worker, run("bees", 9, fresh(), plain(min_tokens))).await;
        let (at, stop) = third(&whole);
        assert!(at < min_tokens as usize);
        let stops = |min_tokens| stops(&stop, min_tokens);
        let longer = answer(&*worker, run("bees", 9, fresh(), stops(min_tokens))).await;
        assert!(longer.tokens.len() >= min_tokens as usize, "{longer:?}");
        assert!(longer.text().contains(&stop), "{stop:?} is text there: {longer:?}");
        assert_eq!(longer.ids(), whole.ids()[..longer.tokens.len()]);
        for cut in 0..longer.tokens.len() {
            let (before, after) = longer.tokens.split_at(cut);
            let resume = Resume {
                tokens: before.iter().map(|(id, _)| *id).collect(),
                text_bytes: before.iter().map(|(_, text)| text.len()).sum(),
            };
            let rest = answer(&*worker, run("bees", 9, resume, stops(min_tokens))).await;
            assert_eq!(rest.tokens, after, "cut at {cut}");
        }
    }
}
