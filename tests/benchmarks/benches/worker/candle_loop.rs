//! candle-transformers' own loop as a peer: one sequence at a time, Llama models only.

use std::{io::BufReader, time::Instant};

use candle_core::{Device, Tensor, quantized::gguf_file};
use candle_transformers::models::quantized_llama::ModelWeights;

use crate::{
    Result,
    peer::{Case, Measured, Ready, answer, processor_time},
};

pub(crate) fn serve(mut words: impl Iterator<Item = String>) -> Result<()> {
    let path = words.next().ok_or("candle MODEL")?;
    let begun = Instant::now();
    let mut file = BufReader::with_capacity(1 << 20, std::fs::File::open(path)?);
    let content = gguf_file::Content::read(&mut file)?;
    let mut model = ModelWeights::from_gguf(content, &mut file, &Device::Cpu)?;
    let system = "candle-transformers, quantized_llama".to_owned();
    let ready = Ready { loaded: begun.elapsed().as_secs_f64(), system };
    answer(&ready, |case| measure(&mut model, &case))
}

fn measure(model: &mut ModelWeights, case: &Case) -> Result<Measured> {
    let [prompt] = &case.prompts[..] else {
        // It has no sequences beside each other.
        return Ok(Measured::default());
    };
    let (last, before) = prompt.split_last().ok_or("a prompt is empty")?;
    let mut at = 0;
    if case.warm {
        forward(model, before, &mut at)?;
    }
    let (begun, cpu) = (Instant::now(), processor_time());
    let mut next =
        forward(model, if case.warm { std::slice::from_ref(last) } else { prompt }, &mut at)?;
    let prefill = begun.elapsed();
    for _ in 1..case.count {
        next = forward(model, &[next], &mut at)?;
    }
    Ok(Measured {
        wall: begun.elapsed().as_secs_f64(),
        cpu: processor_time() - cpu,
        prompt_tokens: if case.warm { 1 } else { prompt.len() as u64 },
        tokens: case.count.into(),
        seconds: (begun.elapsed() - prefill).as_secs_f64(),
        ..Measured::default()
    })
}

/// The likeliest token after these.
fn forward(model: &mut ModelWeights, tokens: &[u32], at: &mut usize) -> Result<u32> {
    let input = Tensor::new(tokens, &Device::Cpu)?.unsqueeze(0)?;
    let logits = model.forward(&input, *at)?;
    *at += tokens.len();
    Ok(logits.squeeze(0)?.argmax(0)?.to_scalar()?)
}
