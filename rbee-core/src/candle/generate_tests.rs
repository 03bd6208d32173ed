//! Single runs, on logits that the tests choose.

use std::sync::LazyLock;

use super::*;
use crate::candle::golden_tests::bundled_engine;

/// The bundled model's tokens; token 1 ends a text.
static VOCABULARY: LazyLock<Vocabulary> = LazyLock::new(|| {
    let frontend = Arc::into_inner(bundled_engine().frontend).unwrap();
    let vocabulary = Arc::into_inner(frontend.vocabulary).unwrap();
    Vocabulary { eos: vec![1], ..vocabulary }
});

fn begun(prompt: &[u32], done: &[u32], change: impl FnOnce(&mut Sampling)) -> Generation {
    let mut sampling = Sampling { temperature: 0.0, max_tokens: Some(20), ..Sampling::default() };
    change(&mut sampling);
    let resume = Resume { tokens: done.to_vec(), text_bytes: 0 };
    let plan = Plan::new(prompt.to_vec(), sampling, 7, resume, 64, VOCABULARY.size).unwrap();
    match plan.begin(&VOCABULARY) {
        Begun::Generation(generation) => *generation,
        Begun::Over(end) => panic!("{end:?}"),
    }
}

/// The next token if these have the largest logits, in order; and true if it is the last one.
fn next(generation: &mut Generation, likely: &[u32]) -> (u32, bool) {
    let mut logits = vec![0.0; VOCABULARY.size];
    for (rank, token) in likely.iter().enumerate() {
        logits[*token as usize] = 5.0 - rank as f32;
    }
    let Next { token, end } = generation.next(&VOCABULARY, &mut logits).unwrap();
    let Output::Token { id, .. } = token else { panic!("{token:?}") };
    (id.unwrap(), end.is_some())
}

#[test]
fn the_prompt_and_every_token_of_the_answer_count_for_penalties() {
    let repetition = |sampling: &mut Sampling| sampling.repetition_penalty = 10.0;
    let mut run = begun(&[300], &[301], repetition);
    assert_eq!(next(&mut run, &[300, 301, 302]), (302, false));
    assert_eq!(next(&mut run, &[300, 301, 302, 303]), (303, false));
    let presence = |sampling: &mut Sampling| sampling.presence_penalty = 2.0;
    let mut run = begun(&[300], &[301], presence);
    assert_eq!(next(&mut run, &[301, 302, 300]), (302, false));
    assert_eq!(next(&mut run, &[302, 300]), (300, false), "the prompt is not part of the answer");
}

#[test]
fn an_end_token_waits_for_the_minimum_length_of_the_whole_answer() {
    let mut run = begun(&[300], &[301], |sampling| sampling.min_tokens = 3);
    assert_eq!(next(&mut run, &[1, 302]), (302, false));
    assert_eq!(next(&mut run, &[1, 302]), (302, false));
    assert_eq!(next(&mut run, &[1, 302]), (1, true));
}

#[test]
fn a_continued_run_draws_the_random_numbers_of_the_positions_that_follow() {
    let hot = |sampling: &mut Sampling| {
        sampling.temperature = 2.0;
        // No token ends the text.
        sampling.min_tokens = 20;
    };
    let mut whole = begun(&[300], &[], hot);
    let answer: Vec<u32> = (0..12).map(|_| next(&mut whole, &[]).0).collect();
    let mut rest = begun(&[300], &answer[..5], hot);
    assert_eq!((5..12).map(|_| next(&mut rest, &[]).0).collect::<Vec<_>>(), answer[5..]);
}

#[test]
fn the_token_that_ends_a_text_has_log_probabilities_like_every_other() {
    let mut run = begun(&[300], &[], |sampling| sampling.logprobs = Some(1));
    let mut logits = vec![0.0; VOCABULARY.size];
    logits[1] = 9.0;
    let Next { token, end } = run.next(&VOCABULARY, &mut logits).unwrap();
    let Output::Token { id, text, logprobs } = token else { panic!("{token:?}") };
    assert_eq!((id, &*text, end.is_some()), (Some(1), "", true));
    let logprobs = logprobs.unwrap();
    assert_eq!((logprobs.chosen.id, logprobs.top.len()), (Some(1), 1));
}
