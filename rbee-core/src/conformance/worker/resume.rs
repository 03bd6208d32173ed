use super::{Resume, Run, Sampling, Subject};

/// If [`Capabilities::resume`](crate::worker::Capabilities::resume) is set: a stream that was cut after any token
/// continues with exactly the tokens and text parts that would have followed; text that readers have not received is
/// sent again.
///
/// # Panics
/// If the worker breaks the contract.
pub async fn a_cut_stream_goes_on_as_if_it_had_not_been(subject: &Subject) {
    if !subject.worker.info().capabilities.resume {
        return;
    }
    for temperature in [0.0, 1.2] {
        let sampling = Sampling { temperature, max_tokens: Some(24), ..Sampling::default() };
        let run = subject.run(subject.seed, sampling);
        let whole = subject.answer(run.clone()).await;
        let text = whole.text();
        for cut in 0..=whole.tokens.len() {
            let (before, after) = whole.tokens.split_at(cut);
            let tokens: Vec<u32> = before.iter().filter_map(|(id, _)| *id).collect();
            let text_bytes = before.iter().map(|(_, text)| text.len()).sum();
            let resume = Resume { tokens: tokens.clone(), text_bytes };
            let rest = subject.answer(Run { resume, attempt: 2, ..run.clone() }).await;
            assert_eq!(rest.tokens, after, "the stream continued at {cut}");
            assert_eq!(
                (rest.finish, rest.usage),
                (whole.finish, whole.usage),
                "the end continued at {cut}"
            );
            if after.is_empty() {
                continue;
            }
            let resume = Resume { tokens, text_bytes: 0 };
            let rest = subject.answer(Run { resume, attempt: 2, ..run.clone() }).await;
            assert_eq!(
                rest.text(),
                text,
                "the text continued at {cut}, of which readers have nothing"
            );
        }
    }
}
