//! Log probabilities, in the two forms that OpenAI's API has for them.

use std::{collections::BTreeMap, fmt::Write as _};

use rbee_core::event::{Logprobs, TokenLogprob};

use crate::wire::openai::{ChatLogprobs, ChatTokenLogprob, ChatTopLogprob, CompletionLogprobs};

/// Those of a chat.
pub(super) fn of_chat<'a>(tokens: impl IntoIterator<Item = &'a Logprobs>) -> ChatLogprobs {
    ChatLogprobs { content: tokens.into_iter().map(of_token).collect(), refusal: () }
}

/// That of one token of a chat.
pub(in crate::server::queen) fn of_token(Logprobs { chosen, top }: &Logprobs) -> ChatTokenLogprob {
    ChatTokenLogprob {
        token: chosen.text.to_string(),
        logprob: chosen.logprob,
        bytes: chosen.as_bytes().to_vec(),
        top_logprobs: top.iter().map(of_top).collect(),
    }
}

fn of_top(token: &TokenLogprob) -> ChatTopLogprob {
    ChatTopLogprob {
        token: token.text.to_string(),
        logprob: token.logprob,
        bytes: token.as_bytes().to_vec(),
    }
}

/// Those of a completion whose tokens so far have `offset` characters, which is advanced.
pub(super) fn of_completion<'a>(
    tokens: impl IntoIterator<Item = &'a Logprobs>,
    offset: &mut u64,
) -> CompletionLogprobs {
    let mut all = CompletionLogprobs::default();
    for Logprobs { chosen, top } in tokens {
        all.tokens.push(name(chosen));
        all.token_logprobs.push(chosen.logprob);
        let mut likeliest = BTreeMap::new();
        // The token itself is always there. Of tokens with one name the likeliest counts.
        for token in top.iter().chain([chosen]) {
            likeliest.entry(name(token)).or_insert(token.logprob);
        }
        all.top_logprobs.push(likeliest);
        all.text_offset.push(*offset);
        // Characters are counted by their first bytes, because a character may have several tokens.
        let begins_character = |byte: &&u8| **byte & 0xc0 != 0x80;
        *offset += chosen.as_bytes().iter().filter(begins_character).count() as u64;
    }
    all
}

/// The name of a token: its text, or its bytes as OpenAI writes them (`bytes:\xf0\x9f`) if they are no text.
fn name(token: &TokenLogprob) -> String {
    let Some(bytes) = &token.bytes else { return token.text.to_string() };
    let mut name = String::from("bytes:");
    for byte in bytes {
        // Writing to a text does not fail.
        let _ = write!(name, "\\x{byte:02x}");
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(bytes: &[u8], logprob: f32) -> TokenLogprob {
        let text = String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
        let bytes = (*text.as_bytes() != *bytes).then(|| bytes.into());
        TokenLogprob { id: None, text, bytes, logprob }
    }

    #[test]
    fn a_character_of_several_tokens_has_one_place_in_the_text() {
        let chosen = ["é".as_bytes(), b"\xf0\x9f", b"\x90\x9d", b"!", b"<end>"];
        let tokens = chosen.map(|bytes| Logprobs {
            chosen: token(bytes, -2.0),
            top: vec![token(b"a", -0.5), token(bytes, -2.0), token(b"a", -3.0)],
        });
        let mut offset = 4;
        let all = of_completion(&tokens, &mut offset);
        assert_eq!(all.tokens, ["é", r"bytes:\xf0\x9f", r"bytes:\x90\x9d", "!", "<end>"]);
        assert_eq!(all.text_offset, [4, 5, 6, 6, 7]);
        assert_eq!(offset, 12);
        let first = BTreeMap::from([("a".to_owned(), -0.5), ("é".to_owned(), -2.0)]);
        assert_eq!(all.top_logprobs[0], first, "the likelier of two tokens of one text");
    }

    #[test]
    fn a_chat_has_the_bytes_of_every_token() {
        let tokens = [Logprobs { chosen: token(b"\xf0\x9f", -1.0), top: vec![token(b" b", -0.5)] }];
        let all = serde_json::to_value(of_chat(&tokens)).unwrap();
        let expected = serde_json::json!({"content": [{
            "token": "\u{fffd}", "logprob": -1.0, "bytes": [0xf0, 0x9f],
            "top_logprobs": [{"token": " b", "logprob": -0.5, "bytes": [0x20, 0x62]}],
        }], "refusal": null});
        assert_eq!(all, expected);
    }
}
