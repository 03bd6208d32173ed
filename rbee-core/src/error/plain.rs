//! Errors as plain data, with all their messages and causes, so that a recorded run can be read back. Only the operator
//! reads such files: a tenant reads [`Error::redacted`].

use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Error, ErrorKind, Inner, MAX_TEXT, cut};

#[derive(Serialize, Deserialize)]
struct Plain<'a> {
    kind: ErrorKind,
    message: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client_message: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry_after: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    short_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    param: Option<Cow<'a, str>>,
    /// The message of each cause, the nearest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Inner { kind, message, client_message, retry_after, short_bytes, param, source: _ } =
            &*self.0;
        let first = std::error::Error::source(self);
        let causes = std::iter::successors(first, |cause| cause.source());
        Plain {
            kind: *kind,
            message: Cow::Borrowed(message),
            client_message: client_message.as_deref().map(Cow::Borrowed),
            retry_after: *retry_after,
            short_bytes: *short_bytes,
            param: param.as_deref().map(Cow::Borrowed),
            causes: causes.map(ToString::to_string).collect(),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let plain = Plain::deserialize(deserializer)?;
        let own = |text: Cow<'_, str>| cut(Cow::Owned(text.into_owned()), MAX_TEXT);
        let causes = plain.causes.into_iter().rev();
        let nearest = causes.fold(None, |source, text| Some(Arc::new(Cause { text, source })));
        Ok(Self(Arc::new(Inner {
            kind: plain.kind,
            message: own(plain.message),
            client_message: plain.client_message.map(own),
            retry_after: plain.retry_after,
            short_bytes: plain.short_bytes,
            param: plain.param.map(own),
            source: nearest.map(|cause| cause as _),
        })))
    }
}

/// A cause of which only the message is kept.
#[derive(Debug)]
struct Cause {
    text: String,
    source: Option<Arc<Cause>>,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Cause {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|cause| cause as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_read_back_with_everything_that_it_says() {
        let deepest = std::io::Error::other("disk on fire");
        let cause = Error::new(ErrorKind::Storage, "cannot write").with_source(deepest);
        let error = Error::for_client(ErrorKind::ContextExceeded, "600 tokens; allowed are 512")
            .with_param("messages")
            .with_retry_after(Duration::from_millis(1_500))
            .with_short_bytes(7)
            .with_source(cause)
            .context("worker 7");
        let text = serde_json::to_string(&error).unwrap();
        let back: Error = serde_json::from_str(&text).unwrap();
        assert_eq!(format!("{back:?}"), format!("{error:?}"));
        assert!(format!("{back:?}").ends_with(": cannot write: disk on fire"));
        assert_eq!(back.client_message(), error.client_message());
        assert_eq!((back.param(), back.short_bytes()), (Some("messages"), Some(7)));
        assert_eq!(back.retry_after(), error.retry_after());
        assert_eq!(serde_json::to_string(&back).unwrap(), text);
    }
}
