use super::{Logprobs, Resume, Sampling, Subject};

/// The deviation of a probability that rounding explains.
const TOLERANCE: f64 = 1e-3;

/// If [`Capabilities::logprobs`](crate::worker::Capabilities::logprobs) is set: a run that asks for log probabilities
/// has them with every token that has text, and one that does not ask has none. The likeliest tokens are in order, and at
/// temperature 0 the answer consists of them. A continued run has those of its new tokens, and they are the same.
pub async fn log_probabilities_are_as_promised(subject: &Subject) {
    if !subject.worker.info().capabilities.logprobs {
        return;
    }
    let sampling = |logprobs| Sampling { max_tokens: Some(12), logprobs, ..Sampling::default() };
    let plain = subject.answer(subject.run(subject.seed, sampling(None))).await;
    assert!(plain.logprobs.iter().all(Option::is_none), "log probabilities that nobody asked for");
    the_likeliest_is_chosen(subject).await;
    for count in [0, 1, 5] {
        let whole = subject.answer(subject.run(subject.seed, sampling(Some(count)))).await;
        assert_eq!(whole.text(), plain.text(), "log probabilities changed the answer");
        for (at, found) in whole.logprobs.iter().enumerate() {
            let (id, text) = &whole.tokens[at];
            match found {
                Some(found) => check(found, *id, count, at),
                None => assert!(text.is_empty(), "token {at} has no log probabilities"),
            }
        }
        if subject.worker.info().capabilities.resume {
            let mut run = subject.run(subject.seed, sampling(Some(count)));
            let (before, after) = (&whole.tokens[..whole.tokens.len() / 2], &whole.logprobs);
            run.resume = Resume {
                tokens: before.iter().filter_map(|(id, _)| *id).collect(),
                text_bytes: before.iter().map(|(_, text)| text.len()).sum(),
            };
            let rest = subject.answer(run).await;
            assert_eq!(rest.logprobs, after[before.len()..], "of a continued run");
        }
    }
}

/// At temperature 0 the answer consists of the likeliest tokens.
async fn the_likeliest_is_chosen(subject: &Subject) {
    let cold = Sampling { temperature: 0.0, max_tokens: Some(12), ..Sampling::default() };
    let cold = Sampling { logprobs: Some(1), ..cold };
    let answer = subject.answer(subject.run(subject.seed, cold)).await;
    for (at, found) in answer.logprobs.iter().flatten().enumerate() {
        let Logprobs { chosen, top } = &**found;
        let likeliest = top.first().map(|token| token.logprob);
        assert_eq!(likeliest, Some(chosen.logprob), "the log probabilities at {at}, temperature 0");
    }
}

fn check(found: &Logprobs, id: Option<u32>, count: u8, at: usize) {
    let Logprobs { chosen, top } = found;
    assert_eq!(chosen.id, id, "the log probability at {at} is of another token");
    assert!(top.len() <= usize::from(count), "{} of {count} at {at}", top.len());
    let all = || top.iter().chain([chosen]);
    let is_one = |logprob: f32| logprob.is_finite() && logprob <= 0.0;
    assert!(all().all(|token| is_one(token.logprob)), "no log probability at {at}: {found:?}");
    let is_sorted = top.is_sorted_by(|a, b| a.logprob >= b.logprob);
    assert!(is_sorted, "the likeliest tokens at {at} are not in order: {top:?}");
    let sum: f64 = top.iter().map(|token| f64::from(token.logprob).exp()).sum();
    assert!(sum <= 1.0 + TOLERANCE, "the probabilities at {at} make {sum}");
    if let Some(likeliest) = top.first() {
        assert!(chosen.logprob <= likeliest.logprob, "{found:?} at {at}: it is likelier still");
    }
}
