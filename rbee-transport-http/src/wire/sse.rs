//! Server-sent events: writes them, and reads them as they arrive.
//!
//! Follows the "text/event-stream" section of the HTML standard.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rbee_core::{Error, ErrorKind, Result};

/// The content type of a stream.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// The largest event that is read, in bytes. Vectors are the largest events.
pub const MAX_EVENT_BYTES: usize = 64 << 20;

/// Appends an event whose data is one line.
pub fn put(out: &mut BytesMut, id: Option<u64>, event: &str, data: &[u8]) {
    debug_assert!(!data.contains(&b'\n'), "JSON as serde writes it has no line breaks");
    out.reserve(event.len() + data.len() + 48);
    if let Some(id) = id {
        out.put_slice(b"id: ");
        put_number(out, id);
        out.put_u8(b'\n');
    }
    if !event.is_empty() {
        out.put_slice(b"event: ");
        out.put_slice(event.as_bytes());
        out.put_u8(b'\n');
    }
    out.put_slice(b"data: ");
    out.put_slice(data);
    out.put_slice(b"\n\n");
}

/// Appends a comment, which readers ignore: a heartbeat.
pub fn put_comment(out: &mut BytesMut, comment: &str) {
    out.put_slice(b": ");
    out.put_slice(comment.as_bytes());
    out.put_slice(b"\n\n");
}

/// The reconnection delay for readers of a stream that ends before its subject does.
pub const RETRY: Duration = Duration::from_secs(1);

/// Appends a `retry` field: the stream ends, and its reader should connect again after this time.
pub fn put_retry(out: &mut BytesMut, after: Duration) {
    out.put_slice(b"retry: ");
    put_number(out, u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
    out.put_slice(b"\n\n");
}

/// Appends a number in decimal.
pub(crate) fn put_number(out: &mut BytesMut, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.put_slice(&digits[at..]);
}

/// An event of a stream, as read.
#[cfg(feature = "server")]
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServerSentEvent {
    /// Its position, if it has one.
    pub id: Option<String>,
    /// Its name, if it has one.
    pub event: Option<String>,
    /// JSON, or `[DONE]` at the end of a stream in OpenAI's shape.
    pub data: String,
}

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    /// Its position, if it has one.
    pub id: Option<Box<str>>,
    /// Its name; empty if it has none.
    pub name: Box<str>,
    /// Its data.
    pub data: Bytes,
}

/// Parses the bytes of a stream as they arrive into events.
#[derive(Debug)]
pub struct Parser {
    buffer: BytesMut,
    /// Where the search for the next line end continues.
    scanned: usize,
    most: usize,
    begun: bool,
    retry: Option<Duration>,
}

impl Default for Parser {
    fn default() -> Self {
        Self::new(MAX_EVENT_BYTES)
    }
}

impl Parser {
    /// A parser that accepts events of at most `most` bytes.
    pub fn new(most: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, most, begun: false, retry: None }
    }

    /// Adds bytes that have arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The last reconnection delay that the stream gave.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// The next whole event, if it has arrived.
    ///
    /// # Errors
    /// [`ErrorKind::WorkerFault`] if an event is larger than allowed, or is not UTF-8 where it must be.
    pub fn next_event(&mut self) -> Result<Option<Event>> {
        if !self.begun && self.buffer.len() >= 3 {
            self.begun = true;
            if self.buffer.starts_with(b"\xEF\xBB\xBF") {
                self.buffer.advance(3);
            }
        }
        loop {
            let Some((end, next)) = self.end_of_block() else {
                if self.buffer.len() > self.most {
                    return Err(self.too_large());
                }
                return Ok(None);
            };
            if end > self.most {
                return Err(self.too_large());
            }
            let block = self.buffer.split_to(next).freeze();
            self.scanned = 0;
            if let Some(event) = read(&block.slice(..end), &mut self.retry)? {
                return Ok(Some(event));
            }
        }
    }

    fn too_large(&self) -> Error {
        fault(format!("an event is larger than {} bytes", self.most))
    }

    /// The end of the first block and the beginning of the next: after two line ends in a row.
    fn end_of_block(&mut self) -> Option<(usize, usize)> {
        let bytes = &self.buffer[..];
        let mut at = self.scanned;
        while let Some(found) = memchr::memchr2(b'\n', b'\r', &bytes[at..]) {
            let line_end = at + found;
            let next = after_line_end(bytes, line_end)?;
            match bytes.get(next) {
                None => {
                    self.scanned = line_end;
                    return None;
                }
                Some(b'\n' | b'\r') => return Some((line_end, after_line_end(bytes, next)?)),
                Some(_) => at = next,
            }
            self.scanned = at;
        }
        self.scanned = bytes.len();
        None
    }
}

/// Where the line after this line end begins; `None` if that is not known yet.
fn after_line_end(bytes: &[u8], at: usize) -> Option<usize> {
    match (bytes[at], bytes.get(at + 1)) {
        (b'\r', Some(b'\n')) => Some(at + 2),
        // A carriage return at the very end may be half of a pair.
        (b'\r', None) => None,
        _ => Some(at + 1),
    }
}

/// Reads the lines of a block. One without data is no event.
fn read(block: &Bytes, retry: &mut Option<Duration>) -> Result<Option<Event>> {
    let mut event = Event::default();
    let mut data: Option<Data> = None;
    let mut at = 0;
    while at < block.len() {
        let end = memchr::memchr2(b'\n', b'\r', &block[at..]).map_or(block.len(), |n| at + n);
        let line = block.slice(at..end);
        at =
            if end < block.len() { after_line_end(block, end).unwrap_or(block.len()) } else { end };
        let (field, value) = match memchr::memchr(b':', &line) {
            Some(colon) => {
                let from = colon + 1 + usize::from(line.get(colon + 1) == Some(&b' '));
                (&line[..colon], line.slice(from..))
            }
            None => (&line[..], Bytes::new()),
        };
        match field {
            b"data" => {
                data = Some(match data {
                    None => Data::One(value),
                    Some(before) => before.and(&value),
                });
            }
            b"event" => event.name = text(&value)?.into(),
            b"id" => event.id = Some(text(&value)?.into()),
            // Only digits count; anything else is ignored, as the standard requires.
            b"retry" if value.iter().all(u8::is_ascii_digit) => {
                let millis = std::str::from_utf8(&value).ok().and_then(|text| text.parse().ok());
                *retry = millis.map(Duration::from_millis).or(*retry);
            }
            _ => {}
        }
    }
    let Some(data) = data else { return Ok(None) };
    event.data = match data {
        Data::One(line) => line,
        Data::Many(lines) => lines.freeze(),
    };
    Ok(Some(event))
}

/// The data of an event: nearly always one line, which need not be copied.
enum Data {
    One(Bytes),
    Many(BytesMut),
}

impl Data {
    fn and(self, line: &[u8]) -> Self {
        let mut lines = match self {
            Self::One(first) => BytesMut::from(&first[..]),
            Self::Many(lines) => lines,
        };
        lines.put_u8(b'\n');
        lines.put_slice(line);
        Self::Many(lines)
    }
}

fn text(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| fault("a field of an event is not UTF-8".to_owned()))
}

fn fault(message: String) -> Error {
    Error::new(ErrorKind::WorkerFault, message)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(chunks: &[&[u8]]) -> Vec<(Option<String>, String, String)> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        for chunk in chunks {
            parser.push(chunk);
            while let Some(event) = parser.next_event().unwrap() {
                let data = String::from_utf8(event.data.to_vec()).unwrap();
                events.push((event.id.map(Into::into), event.name.into(), data));
            }
        }
        events
    }

    fn event(id: Option<&str>, name: &str, data: &str) -> (Option<String>, String, String) {
        (id.map(Into::into), name.into(), data.into())
    }

    #[test]
    fn what_is_written_is_read_again() {
        let mut out = BytesMut::new();
        put_comment(&mut out, "wait");
        put(&mut out, Some(0), "started", b"{}");
        put(&mut out, Some(u64::MAX), "", "\"\u{e9}\"".as_bytes());
        let expected = [
            event(Some("0"), "started", "{}"),
            event(Some("18446744073709551615"), "", "\"\u{e9}\""),
        ];
        assert_eq!(parse(&[&out]), expected);
    }

    #[test]
    fn the_examples_of_the_standard_are_read_as_it_says() {
        assert_eq!(
            parse(&[b"data: YHOO\ndata: +2\ndata: 10\n\n"]),
            [event(None, "", "YHOO\n+2\n10")]
        );
        let stream = b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n";
        let expected = [
            event(Some("1"), "", "first event"),
            event(Some(""), "", "second event"),
            event(None, "", " third event"),
        ];
        assert_eq!(parse(&[stream]), expected);
        assert_eq!(
            parse(&[b"data\n\ndata\ndata\n\ndata:"]),
            [event(None, "", ""), event(None, "", "\n")]
        );
        assert_eq!(
            parse(&[b"\xEF\xBB\xBFdata: a\r\rdata: b\r\n\r\n"]),
            [event(None, "", "a"), event(None, "", "b")]
        );
    }

    #[test]
    fn the_time_to_connect_again_is_read_and_is_no_event() {
        let mut out = BytesMut::new();
        put(&mut out, Some(4), "token", b"{}");
        put_retry(&mut out, Duration::from_millis(1_500));
        let mut parser = Parser::default();
        parser.push(&out);
        assert_eq!(parser.next_event().unwrap().unwrap().id.as_deref(), Some("4"));
        assert_eq!(
            (parser.next_event().unwrap(), parser.retry()),
            (None, Some(Duration::from_millis(1_500)))
        );
        for ignored in ["retry: x\n\n", "retry:\n\n", "retry: 1s\n\n", "retry: -1\n\n"] {
            parser.push(ignored.as_bytes());
            assert_eq!(
                (parser.next_event().unwrap(), parser.retry()),
                (None, Some(Duration::from_millis(1_500)))
            );
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let mut parser = Parser::new(1_000);
        parser.push(b"data: ");
        parser.push(&[b'x'; 2_000]);
        assert_eq!(parser.next_event().unwrap_err().kind(), ErrorKind::WorkerFault);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_a_stream_is_cut(
            text in "(data|event|id|:|x)?(: ?)?[ a-c\u{e9}]{0,3}(\n|\r|\r\n)(\n|\r\n|\r)?(data: z\n\n)?([a:\r\n]{0,6})",
            cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..6),
        ) {
            let bytes = text.as_bytes();
            let mut at: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            at.extend([0, bytes.len()]);
            at.sort_unstable();
            let chunks: Vec<_> = at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(parse(&chunks), parse(&[bytes]));
        }

        #[test]
        fn any_bytes_are_taken_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut parser = Parser::new(64);
            parser.push(&bytes);
            while let Ok(Some(_)) = parser.next_event() {}
        }
    }
}
