//! Reads requests for jobs, which have the fields of OpenAI's API.

use rbee_core::{Error, ErrorKind, Request, Result};

use super::{
    embed_request::embedding,
    kind::Kind,
    request::{MODEL, conversation},
    rules,
    sampling::{Clocks, Terms},
};
use crate::server::queen::{
    field_rules::finish,
    fields::{Fields, parse},
};

/// Parses the body of a job that runs without a reader: a chat, a completion or vectors, without the fields about the
/// response over HTTP.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with the field.
pub(in crate::server::queen) fn job(body: &[u8]) -> Result<Request> {
    let mut fields = Fields::of_body(body)?;
    let model: String = fields.require("model", MODEL)?;
    let [messages, prompt, input] =
        ["messages", "prompt", "input"].map(|name| fields.take_raw(name));
    let (kind, request) = match (messages, prompt, input) {
        (Some(turns), None, None) => (Kind::Chat, conversation(&mut fields, &model, turns)?),
        (None, Some(text), None) => {
            let text: String = parse(text, "prompt", "a text")?;
            (Kind::Completion, Request::completion(&model, text))
        }
        (None, None, Some(inputs)) => {
            let (request, _) = embedding(&mut fields, &model, inputs)?;
            let request = Clocks::take(&mut fields)?.apply(request);
            finish(fields, &[rules::COMMON, rules::JOB])?;
            return Ok(request.detached());
        }
        _ => {
            let message = "a job needs one of messages, prompt and input";
            return Err(
                Error::for_client(ErrorKind::InvalidRequest, message).with_param("messages")
            );
        }
    };
    let terms = Terms::take(&mut fields, kind)?;
    let [own, generate, common] = kind.rules();
    finish(fields, &[own, generate, common, rules::JOB])?;
    Ok(terms.apply(request, 0).detached())
}
