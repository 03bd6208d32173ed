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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::candle::golden_tests::bundled_engine;

    #[test]
    fn a_token_that_is_no_text_has_its_bytes_too() {
        let engine = bundled_engine();
        let codec = &engine.frontend.vocabulary.codec;
        let is_text = |token: &u32| std::str::from_utf8(&codec.token_bytes(*token)).is_ok();
        let (text, part) =
            ((7..1_024).find(is_text).unwrap(), (7..1_024).find(|it| !is_text(it)).unwrap());
        let found = TopLogprobs { chosen: -1.0, top: vec![(text, -0.5), (part, -1.0)] };
        let Logprobs { chosen, top } = *with_text(codec, part, &found);
        assert_eq!((chosen.id, &*chosen.text, chosen.logprob), (Some(part), "\u{fffd}", -1.0));
        assert_eq!(chosen.bytes.as_deref(), Some(&*codec.token_bytes(part)));
        assert_eq!((top[0].id, &top[0].bytes, top[0].logprob), (Some(text), &None, -0.5));
        assert_eq!(top[0].text.as_bytes(), codec.token_bytes(text));
        assert_eq!(top[1], chosen);
        let end = codec.id("<|end|>").unwrap();
        assert_eq!(&*with_text(codec, end, &found).chosen.text, "<|end|>", "its name");
    }
}
