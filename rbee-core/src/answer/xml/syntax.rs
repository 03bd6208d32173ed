//! The tags of calls in XML, by model.

/// How a model writes the tags of a call.
///
/// `open`, `name_open` name `name_close`, for each parameter `key_open` key `key_close` `value_open` value
/// `value_close`, then `call_close` and `close`. Whitespace can stand between them.
#[derive(Debug)]
pub(crate) struct XmlSyntax {
    /// Opens the part of the answer that has calls.
    pub(crate) open: &'static str,
    pub(crate) close: &'static str,
    /// Before the name of the tool; empty: the name follows `open`.
    pub(crate) name_open: &'static str,
    /// After the name; empty: the name ends before white space or a tag.
    pub(crate) name_close: &'static str,
    pub(crate) key_open: &'static str,
    pub(crate) key_close: &'static str,
    /// Empty: the value follows `key_close`.
    pub(crate) value_open: &'static str,
    pub(crate) value_close: &'static str,
    /// Closes one call; empty: `close` does.
    pub(crate) call_close: &'static str,
    /// True if a value stands on lines of its own.
    pub(crate) own_lines: bool,
}

pub(crate) const QWEN: XmlSyntax = XmlSyntax {
    open: "<tool_call>",
    close: "</tool_call>",
    name_open: "<function=",
    name_close: ">",
    key_open: "<parameter=",
    key_close: ">",
    value_open: "",
    value_close: "</parameter>",
    call_close: "</function>",
    own_lines: true,
};

pub(crate) const GLM: XmlSyntax = XmlSyntax {
    open: "<tool_call>",
    close: "</tool_call>",
    name_open: "",
    name_close: "",
    key_open: "<arg_key>",
    key_close: "</arg_key>",
    value_open: "<arg_value>",
    value_close: "</arg_value>",
    call_close: "",
    own_lines: false,
};

pub(crate) const MINIMAX: XmlSyntax = XmlSyntax {
    open: "<minimax:tool_call>",
    close: "</minimax:tool_call>",
    name_open: "<invoke name=\"",
    name_close: "\">",
    key_open: "<parameter name=\"",
    key_close: "\">",
    value_open: "",
    value_close: "</parameter>",
    call_close: "</invoke>",
    own_lines: false,
};

pub(crate) const SEED: XmlSyntax =
    XmlSyntax { open: "<seed:tool_call>", close: "</seed:tool_call>", own_lines: false, ..QWEN };

/// What follows the value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The key of the next parameter.
    Key,
    /// Nothing: the call has ended.
    CallEnd,
    /// The call has ended, and so has the part with calls.
    End,
}

/// What a text that may end a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// The end, with what follows.
    Is(Next),
    /// It may become the end.
    MayBe,
    /// A part of the value.
    No,
}

impl XmlSyntax {
    /// What can follow a parameter, each with its tag.
    pub(super) fn after_parameter(&self) -> impl Iterator<Item = (&'static str, Next)> + use<> {
        let tags =
            [(self.key_open, Next::Key), (self.call_close, Next::CallEnd), (self.close, Next::End)];
        tags.into_iter().filter(|(tag, _)| !tag.is_empty())
    }

    /// Looks at a text in a value, from a `<` on. The tag that closes the value counts only if the right tag follows,
    /// so the value can have it as text. A model that forgets it must close the call and the part with calls.
    pub(super) fn ending(&self, text: &str) -> Ending {
        let mut found = Ending::No;
        for (first, forgotten) in [(self.value_close, false), (self.call_close, true)] {
            let Some(rest) = text.strip_prefix(first).filter(|_| !first.is_empty()) else {
                if first.starts_with(text) {
                    found = Ending::MayBe;
                }
                continue;
            };
            let rest = rest.trim_start_matches(super::super::json::is_space);
            for (tag, next) in
                self.after_parameter().filter(|(_, next)| !forgotten || *next == Next::End)
            {
                if rest == tag {
                    return Ending::Is(next);
                }
                if tag.starts_with(rest) {
                    found = Ending::MayBe;
                }
            }
        }
        found
    }
}
