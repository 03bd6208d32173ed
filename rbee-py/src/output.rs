//! What a worker in Python gives, as outputs.

use pyo3::{exceptions::PyTypeError, prelude::*};
use rbee_core::{
    Finish, Output, Usage,
    event::{Logprobs, Metrics, TokenLogprob},
};

use crate::{pending::seconds, worker::counted};

/// Reads an output: a text, which is a token without an id, or an object of `rbee.types`. It counts the tokens.
///
/// # Errors
/// `TypeError` for anything else.
pub(crate) fn read(value: &Bound<'_, PyAny>, count: &mut u32) -> PyResult<Output> {
    if let Ok(text) = value.extract::<String>() {
        *count += 1;
        return Ok(Output::Token { id: None, text: text.into(), logprobs: None });
    }
    let kind = value.get_type().name()?.to_string();
    Ok(match kind.as_str() {
        "Token" => {
            *count += 1;
            let text: String = value.getattr("text")?.extract()?;
            let logprobs = value.getattr("logprobs")?;
            let logprobs = (!logprobs.is_none()).then(|| read_logprobs(&logprobs)).transpose()?;
            let id = value.getattr("id")?.extract()?;
            Output::Token { id, text: text.into(), logprobs: logprobs.map(Box::new) }
        }
        "Vectors" => Output::Vectors(value.getattr("vectors")?.extract()?),
        "Metrics" => Output::Metrics(Metrics {
            prompt_tokens: value.getattr("prompt_tokens")?.extract()?,
            prefill: seconds(value.getattr("prefill")?.extract()?)?,
            cached_tokens: value.getattr("cached_tokens")?.extract()?,
        }),
        "End" => {
            let usage = value.getattr("usage")?;
            let number = |name: &str| usage.getattr(name)?.extract::<u32>();
            let mut usage = Usage {
                prompt_tokens: number("prompt_tokens")?,
                completion_tokens: number("completion_tokens")?,
                cached_tokens: usage.getattr("cached_tokens")?.extract()?,
            };
            if usage.completion_tokens == 0 {
                usage.completion_tokens = *count;
            }
            let finish = match value.getattr("finish")?.extract::<String>()?.as_str() {
                "stop" => Finish::Stop,
                "length" => Finish::Length,
                other => {
                    let message = format!("finish is {other:?}; allowed are stop and length");
                    return Err(PyTypeError::new_err(message));
                }
            };
            let stop_text: Option<String> = value.getattr("stop_text")?.extract()?;
            Output::End { finish, usage, stop_text: stop_text.map(Into::into) }
        }
        _ => {
            let message = format!(
                "a worker gave {value} ({kind}); allowed are str, rbee.Token, rbee.Vectors, rbee.Metrics and rbee.End"
            );
            return Err(PyTypeError::new_err(message));
        }
    })
}

/// The end of a generator that gives none itself.
pub(crate) fn end(count: u32) -> Output {
    Output::End { finish: Finish::Stop, usage: counted(count), stop_text: None }
}

fn read_logprobs(value: &Bound<'_, PyAny>) -> PyResult<Logprobs> {
    let token = |value: Bound<'_, PyAny>| -> PyResult<TokenLogprob> {
        let text: String = value.getattr("text")?.extract()?;
        let bytes: Vec<u8> = value.getattr("bytes")?.extract()?;
        let bytes = (bytes != text.as_bytes()).then(|| bytes.into());
        Ok(TokenLogprob {
            id: value.getattr("id")?.extract()?,
            text: text.into(),
            bytes,
            logprob: value.getattr("logprob")?.extract()?,
        })
    };
    let top = value.getattr("top")?.try_iter()?.map(|one| token(one?)).collect::<PyResult<_>>()?;
    Ok(Logprobs { chosen: token(value.getattr("chosen")?)?, top })
}
