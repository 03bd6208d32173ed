//! The input file of a batch: one request in each line, as JSON.

use std::{
    collections::HashSet,
    io::{self, BufRead, Read},
};

use serde_json::value::RawValue;

use super::MOST_LINES;
use crate::{
    server::queen::fields::{Fields, missing, not_allowed},
    wire::batches::{BatchEndpoint, BatchError},
};

/// The most errors of a file that are reported.
const MOST_FAULTS: usize = 100;
/// The longest `custom_id`, in bytes.
const LONGEST_ID: usize = 512;

/// The place of a request in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its number, from 1. Empty lines count.
    pub(super) number: u32,
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

/// A request of the file.
#[derive(Debug)]
pub(super) struct LineRequest {
    pub(super) custom_id: String,
    pub(super) body: Box<RawValue>,
}

/// Finds the requests of a file for this endpoint, and checks them as far as the batch has rules for them. The bodies are
/// not read: one that the endpoint refuses fails alone. No line is longer than `longest` bytes.
///
/// # Errors
/// The error of reading. The inner error has what is wrong with the file.
pub(super) fn lines(
    file: impl BufRead,
    endpoint: BatchEndpoint,
    longest: usize,
) -> io::Result<Result<Vec<Line>, Vec<BatchError>>> {
    let (mut file, mut found, mut faults) = (file, Vec::new(), Vec::new());
    let (mut ids, mut text) = (HashSet::new(), Vec::new());
    let (mut offset, mut number) = (0, 0);
    let fault = |code: &str, line: Option<u32>, message: String, param: Option<&str>| BatchError {
        code: code.into(),
        line: line.map(u64::from),
        message,
        param: param.map(Into::into),
    };
    while faults.len() < MOST_FAULTS {
        text.clear();
        let limit = u64::try_from(longest).unwrap_or(u64::MAX).saturating_add(1);
        let bytes = (&mut file).take(limit).read_until(b'\n', &mut text)?;
        if bytes == 0 {
            break;
        }
        number += 1;
        if bytes > longest && text.last() != Some(&b'\n') {
            let message = format!("the line is longer than {longest} bytes");
            faults.push(fault("line_too_long", Some(number), message, None));
            break;
        }
        let line = Line { number, offset, bytes };
        offset += bytes as u64;
        if text.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if found.len() == MOST_LINES {
            let message = format!("the file has more than {MOST_LINES} requests");
            faults.push(fault("too_many_requests", Some(number), message, None));
            break;
        }
        match parse(&text, endpoint) {
            Ok(request) if ids.contains(&request.custom_id) => {
                let message = format!(
                    "custom_id is {:?}, as in a line before; each request needs its own",
                    shown(&request.custom_id)
                );
                let param = Some("custom_id");
                faults.push(fault("duplicate_custom_id", Some(number), message, param));
            }
            Ok(request) => {
                ids.insert(request.custom_id);
                found.push(line);
            }
            Err(error) => faults.push(BatchError { line: Some(number.into()), ..error }),
        }
    }
    if found.is_empty() && faults.is_empty() {
        faults.push(fault("empty_file", None, "the file has no requests".into(), None));
    }
    Ok(if faults.is_empty() { Ok(found) } else { Err(faults) })
}

/// Parses a line.
///
/// # Errors
/// What is wrong with it, without the number of the line.
pub(super) fn parse(line: &[u8], endpoint: BatchEndpoint) -> Result<LineRequest, BatchError> {
    let fault = |code: &str| {
        let code = code.to_owned();
        move |error: rbee_core::Error| BatchError {
            code,
            line: None,
            message: error.message().to_owned(),
            param: error.param().map(ToOwned::to_owned),
        }
    };
    let not_json = |cause| BatchError {
        code: "invalid_json_line".into(),
        line: None,
        message: format!("the line is not a JSON object: {cause}"),
        param: None,
    };
    let whole: &RawValue = serde_json::from_slice(line).map_err(not_json)?;
    let mut fields = Fields::of(whole, "line").map_err(fault("invalid_json_line"))?;
    const ID: &str = "a text of 1 to 512 bytes";
    let raw = fields.take_raw("custom_id");
    let raw = raw.ok_or_else(|| missing("custom_id", ID)).map_err(fault("invalid_custom_id"))?;
    let custom_id = serde_json::from_str::<String>(raw.get())
        .ok()
        .filter(|id| !id.is_empty() && id.len() <= LONGEST_ID)
        .ok_or_else(|| fault("invalid_custom_id")(not_allowed(raw, "custom_id", ID)))?;
    for (name, value, code) in
        [("method", "POST", "invalid_method"), ("url", endpoint.as_str(), "invalid_url")]
    {
        let allowed = match name {
            "url" => format!("{value:?}, the endpoint of the batch"),
            _ => format!("{value:?}"),
        };
        let raw = fields.take_raw(name).ok_or_else(|| missing(name, &allowed));
        let raw = raw.map_err(fault(code))?;
        if serde_json::from_str::<&str>(raw.get()).ok() != Some(value) {
            return Err(fault(code)(not_allowed(raw, name, &allowed)));
        }
    }
    const BODY: &str = "an object, the body of the request";
    let body = fields.take_raw("body").ok_or_else(|| missing("body", BODY));
    let body = body.map_err(fault("invalid_body"))?;
    if !body.get().starts_with('{') {
        return Err(fault("invalid_body")(not_allowed(body, "body", BODY)));
    }
    fields.finish(|_, _| None).map_err(fault("unknown_parameter"))?;
    Ok(LineRequest { custom_id, body: body.to_owned() })
}

fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAT: BatchEndpoint = BatchEndpoint::ChatCompletions;

    fn line(id: &str) -> String {
        format!(
            r#"{{"custom_id": "{id}", "method": "POST", "url": "/v1/chat/completions", "body": {{}}}}"#
        )
    }

    fn codes(text: &str) -> Vec<(String, Option<u64>, Option<String>)> {
        let faults = lines(text.as_bytes(), CHAT, 200).unwrap().unwrap_err();
        faults.into_iter().map(|fault| (fault.code, fault.line, fault.param)).collect()
    }

    #[test]
    fn requests_are_found_by_their_place_and_empty_lines_count() {
        let text = format!("\n{}\r\n  \n{}", line("a"), line("b"));
        let found = lines(text.as_bytes(), CHAT, 200).unwrap().unwrap();
        assert_eq!(found.iter().map(|line| line.number).collect::<Vec<_>>(), [2, 4]);
        for (place, id) in found.into_iter().zip(["a", "b"]) {
            let start = usize::try_from(place.offset).unwrap();
            let request = parse(&text.as_bytes()[start..start + place.bytes], CHAT).unwrap();
            assert_eq!((&*request.custom_id, request.body.get()), (id, "{}"));
        }
    }

    #[test]
    fn each_fault_names_its_line_and_its_field() {
        let chat = r#""method": "POST", "url": "/v1/chat/completions""#;
        for (bad, code, param) in [
            ("{", "invalid_json_line", None),
            ("[]", "invalid_json_line", Some("line")),
            ("\u{feff}{}", "invalid_json_line", None),
            (&format!("{{{chat}, \"body\": {{}}}}"), "invalid_custom_id", Some("custom_id")),
            (&line(""), "invalid_custom_id", Some("custom_id")),
            (&line("a").replace("\"a\"", "1"), "invalid_custom_id", Some("custom_id")),
            (&line("a"), "duplicate_custom_id", Some("custom_id")),
            (&line("b").replace("POST", "GET"), "invalid_method", Some("method")),
            (&line("b").replace("chat/completions", "embeddings"), "invalid_url", Some("url")),
            (&line("b").replace("{}", "[]"), "invalid_body", Some("body")),
            (&format!("{{\"custom_id\": \"b\", {chat}}}"), "invalid_body", Some("body")),
            (&line("b").replace("{}", "{}, \"x\": 1"), "unknown_parameter", Some("line.x")),
            (&line(&"x".repeat(200)), "line_too_long", None),
        ] {
            let text = format!("{}\n{bad}\n", line("a"));
            assert_eq!(codes(&text), [(code.into(), Some(2), param.map(Into::into))], "{bad}");
        }
        assert_eq!(codes(" \n"), [("empty_file".into(), None, None)]);
    }

    #[test]
    fn a_file_with_too_many_requests_or_faults_is_not_read_to_its_end() {
        let many: String =
            (0..=MOST_LINES + 10).map(|number| line(&number.to_string()) + "\n").collect();
        let line = Some(MOST_LINES as u64 + 1);
        assert_eq!(codes(&many), [("too_many_requests".into(), line, None)]);
        assert_eq!(codes(&"x\n".repeat(1_000)).len(), MOST_FAULTS);
    }
}
