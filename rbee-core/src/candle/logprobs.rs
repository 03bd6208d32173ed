//! The log probabilities of an answer, with the texts of their tokens.

use super::{sampler::TopLogprobs, text::tokenizer::Codec};
use crate::event::{Logprobs, TokenLogprob};

/// The log probabilities at the position of this token.
pub(super) fn with_text(codec: &Codec, chosen: u32, found: &TopLogprobs) -> Box<Logprobs> {
    let spelled = |token: u32, logprob: f32| {
        let bytes = codec.token_bytes(token);
        let text = String::from_utf8_lossy(&bytes).into_owned().into_boxed_str();
        let bytes = (*text.as_bytes() != *bytes).then(|| bytes.into_boxed_slice());
        TokenLogprob { id: Some(token), text, bytes, logprob }
    };
    let top = found.top.iter().map(|(token, logprob)| spelled(*token, *logprob)).collect();
    Box::new(Logprobs { chosen: spelled(chosen, found.chosen), top })
}
