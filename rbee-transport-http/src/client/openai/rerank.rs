//! The response of a server to a rerank.

use http::Response;
use rbee_core::{Output, Result};
use serde::Deserialize;

use super::{Body, OpenAiWorker, vectors::outputs};

#[derive(Deserialize)]
struct Ranked {
    results: Vec<Scored>,
    #[serde(default)]
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Scored {
    index: usize,
    relevance_score: f32,
}

/// Some servers send one of these counts, some the other.
#[derive(Deserialize)]
struct Counted {
    #[serde(default)]
    prompt_tokens: Option<u32>,
    #[serde(default)]
    total_tokens: Option<u32>,
}

impl OpenAiWorker {
    /// The scores of so many documents, in their order. Servers send them in the order of the scores.
    pub(super) async fn scores(
        &self,
        answer: Response<Body>,
        documents: usize,
    ) -> Result<[Result<Output>; 2]> {
        let bytes = self.whole(answer, "scores").await?;
        let Ranked { results, usage } = serde_json::from_slice(&bytes)
            .map_err(|cause| self.fault(format_args!("no scores: {cause}")).with_source(cause))?;
        let mut scores = vec![None; documents];
        let found = results.len();
        for Scored { index, relevance_score } in results {
            match scores.get_mut(index) {
                Some(score @ None) => *score = Some(relevance_score),
                Some(Some(_)) => {
                    return Err(self.fault(format_args!("two scores for document {index}")));
                }
                None => {
                    let what = format_args!("a score for document {index} of {documents}");
                    return Err(self.fault(what));
                }
            }
        }
        let scores: Option<Vec<f32>> = scores.into_iter().collect();
        let scores = scores
            .ok_or_else(|| self.fault(format_args!("{found} scores for {documents} documents")))?;
        let counted = usage.and_then(|usage| usage.prompt_tokens.or(usage.total_tokens));
        Ok(outputs(vec![scores], counted.unwrap_or(0)))
    }
}
