//! The statements and expressions of a template, made of their tokens as the engine reads them.

mod expressions;

use super::lexer::{Kind, Token};

/// The most operands of one operator, and the most names, calls, tests and filters after one value.
const MAX_TERMS: usize = 1_000;

/// Reads the tokens of one tag, and makes the text that the engine gets.
pub(super) struct Parser<'a> {
    tokens: &'a [Token<'a>],
    pub(super) at: usize,
    depth: usize,
    /// True within a list, tuple or mapping that is checked as a whole.
    is_checked: bool,
    /// What is not supported, if something is not.
    pub(super) unsupported: Option<String>,
}

/// A rewritten part; `None` if it is not understood.
pub(super) type Part = Option<String>;

impl<'a> Parser<'a> {
    pub(super) fn new(tokens: &'a [Token<'a>]) -> Self {
        Self { tokens, at: 0, depth: 0, is_checked: false, unsupported: None }
    }

    fn peek(&self) -> &'a str {
        self.tokens
            .get(self.at)
            .filter(|token| token.kind != Kind::Text)
            .map_or("", |token| token.text)
    }

    fn is_ahead(&self, text: &str, ahead: usize) -> bool {
        self.tokens
            .get(self.at + ahead)
            .is_some_and(|token| token.kind != Kind::Text && token.text == text)
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.tokens.get(self.at).copied();
        self.at += 1;
        token
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.is_ahead(text, 0);
        self.at += usize::from(found);
        found
    }

    fn name(&mut self) -> Option<&'a str> {
        self.next().filter(|token| token.kind == Kind::Name).map(|token| token.text)
    }

    /// Refuses an expression of too many parts.
    fn bound(&mut self, parts: usize) -> Option<()> {
        if parts > MAX_TERMS {
            let what = format!("an expression of more than {MAX_TERMS} parts is not supported");
            self.unsupported.get_or_insert(what);
            return None;
        }
        Some(())
    }

    /// The parts that `read` makes of the items of a list or mapping, which is checked as a whole.
    fn within(&mut self, read: impl FnOnce(&mut Self) -> Option<Vec<String>>) -> Option<String> {
        let outer = std::mem::replace(&mut self.is_checked, true);
        let parts = read(self)?;
        self.is_checked = outer;
        Some(parts.join(", "))
    }

    /// All tokens up to this one at the same depth, as they are.
    fn raw_until(&mut self, end: &str) -> Part {
        let (mut out, mut depth) = (String::new(), 0_i32);
        while let Some(token) = self.tokens.get(self.at) {
            if depth == 0 && token.kind != Kind::Text && token.text == end {
                return Some(out);
            }
            depth += i32::from(matches!(token.text, "(" | "[" | "{"))
                - i32::from(matches!(token.text, ")" | "]" | "}"));
            out.push_str(token.text);
            if token.text != "." && !self.is_ahead(".", 1) {
                out.push(' ');
            }
            self.at += 1;
        }
        None
    }

    pub(super) fn statement(&mut self) -> Part {
        let name = self.name()?;
        match name {
            "if" | "elif" => Some(format!("{name} {}", self.tuple(true)?)),
            "for" => {
                let target = self.raw_until("in")?;
                self.at += 1;
                let mut out = format!("for {target} in {}", self.tuple(false)?);
                if self.eat("if") {
                    out += &format!(" if {}", self.condition()?);
                }
                if self.eat("recursive") {
                    out += " recursive";
                }
                Some(out)
            }
            "set" => {
                let start = self.at;
                let Some(target) = self.raw_until("=") else {
                    // Without a value: the text up to `endset`.
                    self.at = start;
                    let target = self.name()?;
                    return self.filters(format!("set {target}"));
                };
                self.at += 1;
                let value = self.tuple(true)?;
                Some(match target.contains('.') {
                    true => format!("set {target} = __held({value})"),
                    false => format!("set {target} = {value}"),
                })
            }
            "filter" => {
                let mut out = format!("filter {}", self.name()?);
                if self.is_ahead("(", 0) {
                    out += &self.arguments()?;
                }
                self.filters(out)
            }
            "autoescape" => Some(format!("autoescape {}", self.condition()?)),
            "else" | "endif" | "endfor" | "endset" | "endwith" | "endmacro" | "endcall"
            | "endfilter" | "endautoescape" | "break" | "continue"
                if self.at == self.tokens.len() =>
            {
                Some(name.to_owned())
            }
            "macro" => {
                let name = self.name()?;
                Some(format!("macro {name}{}", self.parameters()?))
            }
            "call" => {
                let parameters =
                    if self.is_ahead("(", 0) { self.parameters()? } else { String::new() };
                Some(format!("call{parameters} {}", self.unary(true)?))
            }
            "with" => {
                let (mut parts, mut names) = (Vec::new(), Vec::new());
                while self.at < self.tokens.len() {
                    let target = self.raw_until("=")?;
                    self.at += 1;
                    let value = self.apart(&names, "with")?;
                    names.push(target.trim().to_owned());
                    parts.push(format!("{target} = {value}"));
                    if !self.eat(",") {
                        break;
                    }
                }
                Some(format!("with {}", parts.join(", ")))
            }
            "generation" if self.at == self.tokens.len() => Some("with".into()),
            "endgeneration" if self.at == self.tokens.len() => Some("endwith".into()),
            _ => None,
        }
    }

    /// A value that must not use these names: Jinja and the engine read it differently.
    fn apart(&mut self, names: &[String], of: &str) -> Part {
        let start = self.at;
        let value = self.condition()?;
        let used = self.tokens[start..self.at].iter().enumerate().find(|(at, token)| {
            let is_attribute = *at > 0 && self.tokens[start + at - 1].text == ".";
            token.kind == Kind::Name && !is_attribute && names.iter().any(|name| name == token.text)
        });
        if let Some((_, token)) = used {
            self.unsupported = Some(format!(
                "a value in {of} that uses {:?} from before it in the same tag is not supported in chat templates",
                token.text
            ));
        }
        Some(value)
    }

    fn parameters(&mut self) -> Part {
        let (mut parts, mut names) = (Vec::new(), Vec::new());
        self.eat("(").then_some(())?;
        while !self.eat(")") {
            let name = self.name()?;
            let default = if self.eat("=") {
                format!(" = {}", self.apart(&names, "macro")?)
            } else {
                String::new()
            };
            if names.iter().any(|known| known == name) {
                self.unsupported = Some(format!("a macro has two parameters {name:?}"));
            }
            names.push(name.to_owned());
            parts.push(format!("{name}{default}"));
            if !self.is_ahead(")", 0) {
                self.eat(",").then_some(())?;
            }
        }
        Some(format!("({})", parts.join(", ")))
    }
}
