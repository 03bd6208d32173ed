//! A few colors, only in a terminal.

/// A style of text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Style {
    /// The text in this style, if colors are on.
    pub(crate) fn paint(self, text: &str, paints: bool) -> String {
        let code = match self {
            Self::Bold => 1,
            Self::Dim => 2,
            Self::Red => 31,
            Self::Green => 32,
            Self::Yellow => 33,
            Self::Cyan => 36,
        };
        if paints && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.into() }
    }

    /// The style of a state of any kind of object.
    pub(crate) fn of_state(state: &str) -> Option<Self> {
        match state {
            "idle" | "online" | "loaded" | "complete" | "ok" => Some(Self::Green),
            "busy" | "running" => Some(Self::Cyan),
            "loading" | "downloading" | "draining" | "queued" | "warning" => Some(Self::Yellow),
            "failed" | "error" | "offline" => Some(Self::Red),
            "cancelled" | "unloaded" => Some(Self::Dim),
            _ => None,
        }
    }
}
