//! Errors about a model by the name that the client sent, and not by the reference that its alias stands for.

use rbee_core::{Error, ErrorKind, ModelRef};

use super::Inner;

impl Inner {
    /// The error of a request for the model of this name. One that says what the model cannot do names it as the client
    /// did; others keep the reference, for example if its files cannot be found.
    pub(super) fn by_requested_name(&self, name: &str, error: Error) -> Error {
        match self.queen.models().alias(name) {
            Some((_, model)) if error.kind() == ErrorKind::Unsupported => {
                renamed(error, model, name)
            }
            _ => error,
        }
    }
}

fn renamed(error: Error, model: &ModelRef, name: &str) -> Error {
    let Some(reference) = reference_in(error.message(), model) else { return error };
    let mut told = Error::new(error.kind(), error.message().replace(&reference, name));
    if let Some(message) = error.client_message() {
        told = told.with_client_message(message.replace(&reference, name));
    }
    if let Some(param) = error.param() {
        told = told.with_param(param.to_owned());
    }
    if let Some(after) = error.retry_after() {
        told = told.with_retry_after(after);
    }
    // The log has the reference.
    told.with_source(error)
}

/// How this text names the model. A worker of a model of a hub knows its commit.
fn reference_in(text: &str, model: &ModelRef) -> Option<String> {
    let words = text.split(' ').map(|word| word.trim_end_matches([':', ',', ';', '.']));
    let mut pinned = words.filter(|word| {
        let is_reference = word.starts_with("hf:");
        is_reference && word.parse::<ModelRef>().is_ok_and(|word| word.is_of(model))
    });
    match pinned.next() {
        Some(word) => Some(word.to_owned()),
        None => text.contains(model.as_str()).then(|| model.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_model_as_the_client_did() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        for (model, named) in [
            ("hf:org/repo", "hf:org/repo".to_owned()),
            ("hf:org/repo@main", format!("hf:org/repo@{commit}")),
            ("file:/models/a bee", "file:/models/a bee".into()),
        ] {
            let message = format!("model {named} cannot make vectors: worker 7 has model {named}");
            let error = Error::new(ErrorKind::Unsupported, message).with_param("input");
            let told = renamed(error, &model.parse().unwrap(), "bee");
            assert_eq!(told.message(), "model bee cannot make vectors: worker 7 has model bee");
            assert_eq!((told.param(), told.client_message()), (Some("input"), None));
        }
        let other = Error::new(ErrorKind::Unsupported, "model hf:org/other cannot");
        let told = renamed(other.clone(), &"hf:org/repo".parse().unwrap(), "bee");
        assert_eq!(told.message(), other.message());
    }
}
