//! The failures of a script, as values of the language: messages are made of them in `faults`.

use std::sync::Arc;

use rhai::{Dynamic, EvalAltResult, Position};

/// The result of a helper; the position of the call is filled in if it is `NONE`.
pub(super) type Res<T> = Result<T, Box<EvalAltResult>>;

/// The error of a helper; not what a script throws.
#[derive(Clone, Debug)]
pub(super) struct HelperError(pub(super) Arc<str>);

/// The limit that ends a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LimitExceeded {
    /// It ran for too long.
    Time,
    /// It did too many operations.
    Operations,
}

/// A function returned no decision. On a fleet where no worker suits, that can happen to a good script.
#[derive(Clone, Copy, Debug)]
pub(super) struct NoDecision;

/// The error of a helper, at the place where the script called it.
pub(super) fn fault(message: impl Into<String>) -> Box<EvalAltResult> {
    thrown(HelperError(message.into().into()))
}

/// A value of the host as an error of the language.
pub(super) fn thrown<T: Clone + Send + Sync + 'static>(value: T) -> Box<EvalAltResult> {
    Box::new(EvalAltResult::ErrorRuntime(Dynamic::from(value), Position::NONE))
}
