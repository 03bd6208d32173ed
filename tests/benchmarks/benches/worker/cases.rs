//! The cases, and the rounds in which all engines run them.

use std::{path::Path, process::Command};

use rand_ids::ids;

use crate::{
    Options, Result, bandwidth, models,
    peer::{Case, Measured, Peer},
    report,
};

/// The prompt tokens of all sequences together that an engine has room for.
const CONTEXT: usize = 16_384;
/// The most sequences at once.
const SEQUENCES: usize = 32;
/// Prompt tokens of a sequence that only generates: its first step is one like all others.
const SHORT: usize = 1;

/// A measurement, and what of it is reported.
pub(crate) struct Scene {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) sequences: usize,
    prompt: usize,
    count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Generated tokens per second.
    Decode,
    /// Prompt tokens per second.
    Prefill,
    /// Time to the first token of a prompt that was computed before.
    Again,
    /// Time to the first token of a long prompt, and the longest gap of the others meanwhile.
    Arrival,
}

fn scenes() -> Vec<Scene> {
    let scene = |name: String, kind, sequences, prompt, count| Scene {
        name,
        kind,
        sequences,
        prompt,
        count,
    };
    let mut scenes = Vec::new();
    for sequences in [1, 8, 32] {
        let plural = if sequences == 1 { "" } else { "s" };
        let name = format!("decode, {sequences} sequence{plural}");
        scenes.push(scene(name, Kind::Decode, sequences, SHORT, 32));
    }
    for prompt in [512, 2_000, 8_000] {
        scenes.push(scene(format!("decode behind {prompt} tokens"), Kind::Decode, 1, prompt, 32));
    }
    for prompt in [512, 4_096] {
        scenes.push(scene(format!("prefill of {prompt} tokens"), Kind::Prefill, 1, prompt, 1));
    }
    scenes.push(scene("8,000 tokens again".into(), Kind::Again, 1, 8_000, 1));
    scenes.push(scene("4,096 tokens arrive beside 7 streams".into(), Kind::Arrival, 7, SHORT, 64));
    scenes
}

impl Scene {
    fn case(&self, round: usize, vocab: u32) -> Case {
        // No two cases have a prompt in common: engines keep the beginnings of earlier ones.
        let name =
            self.name.bytes().fold(0_u64, |hash, byte| hash.wrapping_mul(31) + u64::from(byte));
        let mut seed = (name << 24) ^ ((round as u64) << 16);
        let mut prompt = |tokens| {
            seed += 1;
            ids(seed, tokens, vocab)
        };
        Case {
            warm: matches!(self.kind, Kind::Decode | Kind::Again) && self.prompt > SHORT,
            prompts: (0..self.sequences).map(|_| prompt(self.prompt)).collect(),
            count: self.count,
            arrival: (self.kind == Kind::Arrival).then(|| prompt(4_096)),
        }
    }
}

/// Token ids that only the seed determines.
mod rand_ids {
    pub(super) fn ids(seed: u64, count: usize, vocab: u32) -> Vec<u32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5851_f42d_4c95_7f2d;
        (0..count)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // The first ids are often control tokens.
                300 + ((state >> 33) as u32) % (vocab - 300)
            })
            .collect()
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let bandwidth = bandwidth::measure(options.threads)?;
    println!("threads: {}, memory bandwidth: {:.1} GB/s", options.threads, bandwidth / 1e9);
    println!("tokens/s (tokens per CPU second), medians of {} rounds", options.rounds);
    let made = tempfile::tempdir()?;
    let mut models = match options.only_model {
        true => Vec::new(),
        false => models::make(made.path())?,
    };
    models.extend(options.model.as_deref().map(models::Model::open).transpose()?);
    for model in models {
        println!(
            "\n## {}: {:.0} MB, {:.0} MB read per token\n",
            model.name,
            model.bytes as f64 / 1e6,
            model.per_token as f64 / 1e6
        );
        models::evict(&model.path)?;
        let mut peers = peers(&model.path, options.threads, model.is_llama)?;
        for peer in &peers {
            println!("{}: loaded in {:.2} s; {}", peer.name, peer.ready.loaded, peer.ready.system);
        }
        let engines = peers.iter().map(|peer| peer.name);
        println!("\n{}", report::head(engines));
        let mut most = vec![0; peers.len()];
        for scene in scenes()
            .iter()
            .filter(|scene| options.only.as_deref().is_none_or(|only| scene.name.contains(only)))
        {
            let mut rounds: Vec<Vec<Measured>> = vec![Vec::new(); peers.len()];
            for round in 0..options.rounds {
                let case = scene.case(round, model.vocab);
                for ((peer, rounds), most) in peers.iter_mut().zip(&mut rounds).zip(&mut most) {
                    let mut measured = peer.measure(&case)?;
                    measured.sequences = case.prompts.len() as u64;
                    *most = measured.memory.max(*most);
                    rounds.push(measured);
                }
            }
            println!("{}", report::line(scene, &rounds, bandwidth, model.per_token));
        }
        println!();
        for (peer, most) in peers.iter().zip(most) {
            println!("{}: at most {:.0} MB of memory", peer.name, most as f64 / 1e6);
        }
    }
    Ok(())
}

fn peers(model: &Path, threads: usize, is_llama: bool) -> Result<Vec<Peer>> {
    let this = std::env::current_exe()?;
    let role = |role: &str| {
        let mut command = Command::new(&this);
        command.arg(role);
        command
    };
    let mut peers = vec![Peer::start("rbee", role("rbee"), model, threads, SEQUENCES, CONTEXT)?];
    let python =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tmp/worker-bench/bin/python");
    if python.exists() {
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/worker/llama_cpp.py"));
        peers.push(Peer::start("llama.cpp", command, model, threads, SEQUENCES, CONTEXT)?);
    } else {
        println!(
            "llama.cpp is not installed (`cargo xtask bench worker` does it): it is not measured"
        );
    }
    if is_llama {
        let mut command = role("candle");
        command.env("RAYON_NUM_THREADS", threads.to_string());
        peers.push(Peer::start("candle", command, model, threads, 1, CONTEXT)?);
    }
    Ok(peers)
}
