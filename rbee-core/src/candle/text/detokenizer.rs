//! Tokens to text, step by step: whole characters only, stop texts matched, no text sent twice.

use super::{stop::StopFilter, tokenizer::Codec};

/// Converts tokens into parts of text; all parts together are the text of all tokens.
#[derive(Debug)]
enum Decoder {
    /// Each token is some bytes. The bytes of an unfinished character wait.
    Bytes(Utf8),
    /// The text of a token depends on its neighbors. The last sent tokens are decoded again together with the new one.
    Window { tokens: Vec<u32>, said: usize },
}

/// The most tokens that wait for the end of a character: more than any character has bytes, so longer sequences are not
/// a character.
const MOST_WAITING: usize = 8;

impl Decoder {
    fn push(&mut self, codec: &Codec, token: u32) -> String {
        match self {
            Self::Bytes(utf8) => utf8.push(&codec.bytes(token)),
            Self::Window { tokens, said } => {
                tokens.push(token);
                let text = codec.decode(tokens);
                if text.ends_with('\u{fffd}') && tokens.len() - *said <= MOST_WAITING {
                    return String::new();
                }
                Self::advance(codec, tokens, said, &text)
            }
        }
    }

    fn finish(&mut self, codec: &Codec) -> String {
        match self {
            Self::Bytes(utf8) => utf8.finish(),
            Self::Window { tokens, said } => {
                let text = codec.decode(tokens);
                Self::advance(codec, tokens, said, &text)
            }
        }
    }

    fn advance(codec: &Codec, tokens: &mut Vec<u32>, said: &mut usize, text: &str) -> String {
        let before = codec.decode(&tokens[..*said]);
        let new = text.get(before.len()..).unwrap_or_default().to_owned();
        tokens.drain(..*said);
        *said = tokens.len();
        new
    }
}

/// Bytes to characters. Invalid UTF-8 becomes U+FFFD in the same positions as if all bytes were converted at once.
#[derive(Debug, Default)]
struct Utf8 {
    /// The beginning of a character; less than four bytes.
    waiting: Vec<u8>,
}

impl Utf8 {
    fn push(&mut self, bytes: &[u8]) -> String {
        self.waiting.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = Vec::new();
        let mut chunks = self.waiting.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            let unfinished =
                || std::str::from_utf8(invalid).is_err_and(|e| e.error_len().is_none());
            if chunks.peek().is_none() && unfinished() {
                rest = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.waiting = rest;
        text
    }

    fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.waiting)).into_owned()
    }
}

/// The reason why tokens and bytes of an earlier attempt do not match.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::candle) enum ResumeFault {
    #[error("a stop text ends at token {at} of {tokens}; a stream that has ended cannot continue")]
    AfterTheEnd { at: usize, tokens: usize },
    #[error(
        "{said} bytes of text; the tokens make at most {most}, and it must end between characters"
    )]
    Bytes { said: usize, most: usize },
}

/// The text of one answer.
#[derive(Debug)]
pub(in crate::candle) struct Detokenizer {
    decoder: Decoder,
    filter: StopFilter,
    /// The next tokens, whose text cannot be a stop text.
    unfiltered: u32,
    /// Text of earlier tokens that nobody has received: it is sent with the next part.
    backlog: String,
    /// Bytes that readers have already, and that the filter will still return.
    skip: usize,
}

impl Detokenizer {
    /// The text of an answer that ends at a stop text, but not within the text of its first `min_tokens` tokens.
    pub(in crate::candle) fn new(codec: &Codec, stops: &[String], min_tokens: u32) -> Self {
        let decoder = if codec.is_byte_level() {
            Decoder::Bytes(Utf8::default())
        } else {
            Decoder::Window { tokens: Vec::new(), said: 0 }
        };
        Self {
            decoder,
            filter: StopFilter::new(stops),
            unfiltered: min_tokens,
            backlog: String::new(),
            skip: 0,
        }
    }

    /// Processes the tokens of an earlier attempt. All of their text counts as not yet sent.
    pub(in crate::candle) fn replay(
        &mut self,
        codec: &Codec,
        tokens: &[u32],
    ) -> Result<(), ResumeFault> {
        for (at, token) in tokens.iter().enumerate() {
            if self.stopped() {
                let tokens = tokens.len();
                return Err(ResumeFault::AfterTheEnd { at, tokens });
            }
            let decoded = self.decoder.push(codec, *token);
            let text = self.filtered(decoded);
            self.backlog += &text;
        }
        Ok(())
    }

    /// Marks the first `said` bytes of the replayed text as received by readers. The worker that sent them may have
    /// held back more than this one does, or less.
    pub(in crate::candle) fn said(&mut self, said: usize) -> Result<(), ResumeFault> {
        let (text, held) = (&self.backlog, self.filter.held());
        let between = if said <= text.len() {
            text.is_char_boundary(said)
        } else {
            held.is_char_boundary(said - text.len())
        };
        if !between {
            let most = text.len() + held.len();
            return Err(ResumeFault::Bytes { said, most });
        }
        self.skip = said.saturating_sub(text.len());
        self.backlog.drain(..said.min(text.len()));
        Ok(())
    }

    /// The stop text that was generated.
    pub(in crate::candle) fn stop_text(&self) -> Option<&str> {
        self.filter.found()
    }

    /// True if a stop text was generated.
    pub(in crate::candle) fn stopped(&self) -> bool {
        self.stop_text().is_some()
    }

    /// The text to send with this token.
    pub(in crate::candle) fn push(&mut self, codec: &Codec, token: u32) -> String {
        let decoded = self.decoder.push(codec, token);
        let text = self.filtered(decoded);
        self.out(text)
    }

    /// The text of one more token, without what is or may become a stop text.
    fn filtered(&mut self, decoded: String) -> String {
        if self.unfiltered == 0 {
            return self.filter.push(&decoded);
        }
        self.unfiltered -= 1;
        decoded
    }

    /// The text that was held back, at the end.
    pub(in crate::candle) fn finish(&mut self, codec: &Codec) -> String {
        let decoded = self.decoder.finish(codec);
        let mut text = self.filtered(decoded);
        text += &self.filter.finish();
        self.out(text)
    }

    fn out(&mut self, mut text: String) -> String {
        let skip = self.skip.min(text.len());
        self.skip -= skip;
        let text = text.split_off(skip);
        let mut backlog = std::mem::take(&mut self.backlog);
        backlog += &text;
        backlog
    }
}

#[cfg(test)]
#[path = "detokenizer_tests.rs"]
mod codec_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chunks(cut: &[Vec<u8>]) -> Vec<String> {
        let mut utf8 = Utf8::default();
        let mut chunks: Vec<String> = cut.iter().map(|bytes| utf8.push(bytes)).collect();
        chunks.push(utf8.finish());
        chunks
    }

    #[test]
    fn a_character_is_said_when_its_last_byte_is_there() {
        let cut = "é🐝!".bytes().map(|byte| vec![byte]).collect::<Vec<_>>();
        assert_eq!(chunks(&cut), ["", "é", "", "", "", "🐝", "!", ""]);
    }

    #[test]
    fn bytes_that_are_no_character_are_replaced_as_soon_as_that_is_certain() {
        assert_eq!(chunks(&[vec![0xf0, 0x9f], b"x".to_vec()]), ["", "\u{fffd}x", ""]);
        assert_eq!(chunks(&[vec![0xff], vec![0xc3]]), ["\u{fffd}", "", "\u{fffd}"]);
    }

    proptest! {
        #[test]
        fn chunks_put_together_are_the_text_converted_at_once(
            cut in proptest::collection::vec(
                prop_oneof![
                    proptest::collection::vec(any::<u8>(), 0..4),
                    "[aé🐝]{0,3}".prop_map(String::into_bytes),
                    proptest::sample::select(vec![vec![0xf0], vec![0x9f], vec![0x90, 0x9d], vec![0xe2, 0x82]]),
                ],
                0..12,
            )
        ) {
            let whole = cut.concat();
            prop_assert_eq!(chunks(&cut).concat(), String::from_utf8_lossy(&whole));
        }
    }
}
