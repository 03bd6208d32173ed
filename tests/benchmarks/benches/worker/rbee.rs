//! rbee's engine as a peer.

use std::{
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::join_all};
use rbee_core::{
    CorrelationId, Job, JobId, Output, Priority, Run, Worker,
    candle::{CandleOptions, CandleWorker},
    hive::Progress,
    request::{Prompt, Sampling, Task},
    worker::Resume,
};

use crate::{
    Result,
    peer::{Case, Measured, Ready, answer, processor_time},
};

/// Tokens that the others have generated when the arrival comes.
const BEFORE_ARRIVAL: usize = 4;

pub(crate) fn serve(mut words: impl Iterator<Item = String>) -> Result<()> {
    let mut word = || words.next().ok_or("rbee MODEL THREADS SEQUENCES CONTEXT");
    let (model, threads, sequences, context) = (word()?, word()?, word()?, word()?);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let begun = Instant::now();
    let mut options = CandleOptions::new("model".parse()?);
    options.threads = Some(threads.parse::<NonZeroUsize>()?);
    options.slots = sequences.parse()?;
    options.cache_tokens = Some(context.parse()?);
    options.context = Some(context.parse()?);
    let worker = runtime.block_on(CandleWorker::load(model, options, Progress::ignore()))?;
    let worker: Arc<dyn Worker> = Arc::new(worker);
    let system = worker.info().numerics.to_string();
    let ready = Ready { loaded: begun.elapsed().as_secs_f64(), system };
    answer(&ready, |case| runtime.block_on(measure(&worker, &case)))
}

async fn measure(worker: &Arc<dyn Worker>, case: &Case) -> Result<Measured> {
    if case.warm {
        let prompts = case.prompts.iter().map(|prompt| &prompt[..prompt.len() - 1]);
        for done in join_all(prompts.map(|prompt| generate(worker, prompt, 1, None))).await {
            done?;
        }
    }
    let (begun, cpu) = (Instant::now(), processor_time());
    let (ready, mut arrived) = tokio::sync::mpsc::channel::<()>(1);
    let streams = case
        .prompts
        .iter()
        .map(|prompt| {
            let ready = case.arrival.is_some().then(|| ready.clone());
            generate(worker, prompt, case.count, ready)
        })
        .collect::<Vec<_>>();
    let arrival = async {
        let Some(prompt) = &case.arrival else { return Ok(None) };
        for _ in &case.prompts {
            arrived.recv().await;
        }
        let at = Instant::now();
        generate(worker, prompt, 1, None).await.map(|one| Some((at, one)))
    };
    drop(ready);
    let (streams, arrival): (Vec<Result<Generated>>, Result<_>) =
        tokio::join!(join_all(streams), arrival);
    let streams: Vec<Generated> = streams.into_iter().collect::<Result<_>>()?;
    let mut measured = Measured {
        wall: begun.elapsed().as_secs_f64(),
        cpu: processor_time() - cpu,
        prompt_tokens: streams.iter().map(|one| one.prompt_tokens).sum(),
        ..Measured::default()
    };
    for one in &streams {
        measured.tokens += one.times.len() as u64;
        let seconds = one.times.last().zip(one.times.first()).map(|(last, first)| *last - *first);
        measured.seconds = measured.seconds.max(seconds.unwrap_or_default().as_secs_f64());
    }
    if let Some((at, one)) = arrival? {
        let first = one.times[0];
        let gaps = streams
            .iter()
            .flat_map(|one| one.times.windows(2))
            .filter(|gap| gap[1] > at && gap[0] < first);
        let gap = gaps.map(|gap| gap[1] - gap[0]).max().unwrap_or_default();
        measured.arrival = Some(((first - at).as_secs_f64(), gap.as_secs_f64()));
    }
    Ok(measured)
}

/// What one sequence did.
struct Generated {
    prompt_tokens: u64,
    /// The time of each token.
    times: Vec<Instant>,
}

async fn generate(
    worker: &Arc<dyn Worker>,
    prompt: &[u32],
    count: u32,
    ready: Option<tokio::sync::mpsc::Sender<()>>,
) -> Result<Generated> {
    // The token ids come as those of an earlier attempt, after a prompt of one token.
    let resume = Resume { tokens: prompt[1..].to_vec(), text_bytes: 0 };
    let sampling = Sampling { temperature: 0.0, min_tokens: u32::MAX, ..Sampling::default() };
    let task = Task::Generate { prompt: Prompt::Text("a".into()), sampling };
    let job = Arc::new(Job {
        id: JobId::random(),
        model: worker.info().model.clone(),
        priority: Priority::Interactive,
        task,
        seed: 1,
        prefix: [].into(),
        timeout: Duration::from_secs(600),
        deadline: None,
        detached: false,
        stored: false,
        metadata: None,
        tenant: None,
        rank: 0,
        correlation_id: CorrelationId::random(),
        idempotency: None,
        streamed: true,
    });
    let mut outputs = worker.execute(Run { job, attempt: 1, resume }).await?;
    let mut done = Generated { prompt_tokens: 0, times: Vec::new() };
    while let Some(output) = outputs.next().await {
        match output? {
            Output::Metrics(metrics) => {
                done.prompt_tokens = metrics.prompt_tokens.into();
            }
            Output::Token { .. } => {
                done.times.push(Instant::now());
                if done.times.len() == BEFORE_ARRIVAL
                    && let Some(ready) = &ready
                {
                    let _ = ready.send(()).await;
                }
                if done.times.len() == count as usize {
                    break;
                }
            }
            _ => {}
        }
    }
    Ok(done)
}
