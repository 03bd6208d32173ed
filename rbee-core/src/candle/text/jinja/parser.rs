//! The statements and expressions of a template, made of their tokens as the engine reads them.
//!
//! The order of the operators is Jinja's.

use super::{
    lexer::{Kind, Token},
    methods,
};

/// The deepest nesting of expressions; the engine has a limit of its own.
const MAX_DEPTH: usize = 150;
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

/// Operands from left to right: neighbors with the same operator become the arguments of one call.
struct Chain {
    call: &'static str,
    operands: Vec<String>,
}

impl Chain {
    fn of(call: &'static str, first: String) -> Self {
        Self { call, operands: vec![first] }
    }

    fn push(&mut self, operand: String) {
        self.operands.push(operand);
    }

    fn wrap(&mut self, wrap: impl FnOnce(String) -> String) {
        let made = self.made();
        self.operands = vec![wrap(made)];
    }

    fn made(&mut self) -> String {
        match self.operands.len() {
            1 => self.operands.concat(),
            _ => format!("{}({})", self.call, self.operands.join(", ")),
        }
    }
}

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

    /// One expression, or several with commas between them.
    pub(super) fn tuple(&mut self, conditional: bool) -> Part {
        let start = self.at;
        let mut parts = vec![if conditional { self.condition()? } else { self.or()? }];
        let mut is_tuple = false;
        while self.eat(",") {
            is_tuple = true;
            if self.at == self.tokens.len()
                || self.is_ahead("recursive", 0)
                || self.is_ahead("if", 0)
            {
                break;
            }
            parts.push(if conditional { self.condition()? } else { self.or()? });
        }
        Some(if is_tuple { self.tuple_of(&parts, start) } else { parts.concat() })
    }

    /// A tuple of parts, the tokens of which begin at `start`.
    fn tuple_of(&self, parts: &[String], start: usize) -> String {
        let comma = if parts.len() == 1 { "," } else { "" };
        self.nested(format!("({}{comma})", parts.join(", ")), start)
    }

    /// A list, tuple or mapping, with a check of how deep it is nested unless it is constant.
    fn nested(&self, made: String, start: usize) -> String {
        let constants = ["true", "false", "none", "True", "False", "None"];
        let tokens = &self.tokens[start..self.at.min(self.tokens.len())];
        let is_constant =
            |token: &Token<'_>| token.kind != Kind::Name || constants.contains(&token.text);
        match self.is_checked || tokens.iter().all(is_constant) {
            true => made,
            false => format!("__nested({made})"),
        }
    }

    /// The engine must not read such an expression either: it has no limit of its own for all kinds of nesting.
    fn too_deep(&mut self) -> Part {
        self.unsupported.get_or_insert_with(|| {
            format!(
                "an expression of more than {MAX_DEPTH} levels is not supported in chat templates"
            )
        });
        None
    }

    fn condition(&mut self) -> Part {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.too_deep();
        }
        let mut out = self.or()?;
        let mut count = 1;
        while self.eat("if") {
            count += 1;
            self.bound(count)?;
            out += &format!(" if {}", self.or()?);
            if self.eat("else") {
                out += &format!(" else {}", self.condition()?);
            }
        }
        self.depth -= 1;
        Some(out)
    }

    fn or(&mut self) -> Part {
        let mut out = self.and()?;
        let mut count = 1;
        while self.eat("or") {
            count += 1;
            self.bound(count)?;
            out += &format!(" or {}", self.and()?);
        }
        Some(out)
    }

    fn and(&mut self) -> Part {
        let mut out = self.not()?;
        let mut count = 1;
        while self.eat("and") {
            count += 1;
            self.bound(count)?;
            out += &format!(" and {}", self.not()?);
        }
        Some(out)
    }

    fn not(&mut self) -> Part {
        let mut count = 0;
        while self.eat("not") {
            count += 1;
        }
        if count > MAX_DEPTH {
            return self.too_deep();
        }
        Some(format!("{}{}", "not ".repeat(count), self.compare()?))
    }

    fn compare(&mut self) -> Part {
        let is_plain = |from: usize, parser: &Self| {
            let token = parser.tokens.get(from).filter(|_| parser.at == from + 1);
            token.is_some_and(|token| matches!(token.kind, Kind::Text | Kind::Number))
        };
        let start = self.at;
        let first = self.sum()?;
        let mut has_plain = is_plain(start, self);
        let mut rest: Vec<(&str, String)> = Vec::new();
        loop {
            let operator = match self.peek() {
                operator @ ("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") => {
                    self.at += 1;
                    operator
                }
                "not" if self.is_ahead("in", 1) => {
                    self.at += 2;
                    "not in"
                }
                _ => break,
            };
            self.bound(rest.len() + 2)?;
            let start = self.at;
            rest.push((operator, self.sum()?));
            has_plain |= is_plain(start, self);
        }
        Some(match &rest[..] {
            [] => first,
            [(operator, second)] => match *operator {
                "<" => format!("__less({first}, {second})"),
                ">" => format!("__less({second}, {first})"),
                "<=" => format!("__less_or_equal({first}, {second})"),
                ">=" => format!("__less_or_equal({second}, {first})"),
                // A comparison with a plain text or number takes no steps.
                "==" if !has_plain => format!("__equal({first}, {second})"),
                "!=" if !has_plain => format!("(not __equal({first}, {second}))"),
                "in" => format!("__in({first}, {second})"),
                "not in" => format!("(not __in({first}, {second}))"),
                _ => format!("{first} {operator} {second}"),
            },
            several => {
                let rest =
                    several.iter().map(|(operator, operand)| format!(" {operator} {operand}"));
                first + rest.collect::<String>().as_str()
            }
        })
    }

    fn sum(&mut self) -> Part {
        let mut chain = Chain::of("__plus", self.concatenation()?);
        let mut count = 1;
        while let operator @ ("+" | "-") = self.peek() {
            self.at += 1;
            count += 1;
            self.bound(count)?;
            let right = self.concatenation()?;
            match operator {
                "+" => chain.push(right),
                _ => chain.wrap(|out| format!("{out} - {right}")),
            }
        }
        Some(chain.made())
    }

    fn concatenation(&mut self) -> Part {
        let mut parts = vec![self.product()?];
        while self.eat("~") {
            self.bound(parts.len() + 1)?;
            parts.push(self.product()?);
        }
        Some(if parts.len() == 1 {
            parts.concat()
        } else {
            format!("__concat({})", parts.join(", "))
        })
    }

    fn product(&mut self) -> Part {
        let mut chain = Chain::of("__times", self.power()?);
        let mut count = 1;
        while let operator @ ("*" | "/" | "//" | "%") = self.peek() {
            self.at += 1;
            count += 1;
            self.bound(count)?;
            let right = self.power()?;
            match operator {
                "*" => chain.push(right),
                "%" => chain.wrap(|out| format!("__percent({out}, {right})")),
                _ => chain.wrap(|out| format!("{out} {operator} {right}")),
            }
        }
        Some(chain.made())
    }

    fn power(&mut self) -> Part {
        let mut parts = vec![self.unary(true)?];
        while self.eat("**") {
            self.bound(parts.len() + 1)?;
            parts.push(self.unary(true)?);
        }
        Some(parts.join(" ** "))
    }

    fn unary(&mut self, filters: bool) -> Part {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.too_deep();
        }
        let mut out = if self.eat("-") {
            format!("-{}", self.unary(false)?)
        } else if self.eat("+") {
            format!("__positive({})", self.unary(false)?)
        } else {
            let primary = self.primary()?;
            self.postfix(primary)?
        };
        if filters {
            out = self.filters(out)?;
        }
        self.depth -= 1;
        Some(out)
    }

    fn primary(&mut self) -> Part {
        let start = self.at;
        let token = self.next()?;
        Some(match (token.kind, token.text) {
            (Kind::Text, text) => {
                let mut out = text.to_owned();
                while let Some(more) =
                    self.tokens.get(self.at).filter(|token| token.kind == Kind::Text)
                {
                    out += &format!(" {}", more.text);
                    self.at += 1;
                }
                out
            }
            (Kind::Number, text) if self.is_ahead(".", 0) => format!("({text})"),
            (Kind::Name, "and" | "or" | "not" | "if" | "else" | "in" | "is" | "recursive") => {
                return None;
            }
            (Kind::Name | Kind::Number, text) => text.to_owned(),
            (_, "(") => {
                if self.eat(")") {
                    return Some("()".into());
                }
                let mut parts = vec![self.condition()?];
                let mut is_tuple = false;
                while self.eat(",") {
                    is_tuple = true;
                    if self.is_ahead(")", 0) {
                        break;
                    }
                    parts.push(self.condition()?);
                }
                self.eat(")").then_some(())?;
                match is_tuple {
                    true => self.tuple_of(&parts, start),
                    false => format!("({})", parts.concat()),
                }
            }
            (_, "[") => {
                let parts = self.within(|parser| {
                    let mut parts = Vec::new();
                    while !parser.eat("]") {
                        parts.push(parser.condition()?);
                        if !parser.is_ahead("]", 0) {
                            parser.eat(",").then_some(())?;
                        }
                    }
                    Some(parts)
                })?;
                self.nested(format!("[{parts}]"), start)
            }
            (_, "{") => {
                let parts = self.within(|parser| {
                    let mut parts = Vec::new();
                    while !parser.eat("}") {
                        let key = parser.condition()?;
                        parser.eat(":").then_some(())?;
                        parts.push(format!("{key}: {}", parser.condition()?));
                        if !parser.is_ahead("}", 0) {
                            parser.eat(",").then_some(())?;
                        }
                    }
                    Some(parts)
                })?;
                // A brace next to one of a tag would end it.
                self.nested(format!("{{ {parts} }}"), start)
            }
            _ => return None,
        })
    }

    fn postfix(&mut self, mut out: String) -> Part {
        let mut count = 0;
        loop {
            count += 1;
            self.bound(count)?;
            if self.eat(".") {
                let token = self.next()?;
                match token.kind {
                    Kind::Name if methods::is_name(token.text) && !self.is_ahead("(", 0) => {
                        out = format!("__attribute({out}, '{}')", token.text);
                    }
                    Kind::Name => out += &format!(".{}", token.text),
                    // A list in a list: `x.0.1`.
                    Kind::Number => {
                        token.text.split('.').for_each(|index| out += &format!("[{index}]"))
                    }
                    _ => return None,
                }
            } else if self.eat("[") {
                let (mut parts, mut part) = (Vec::new(), String::new());
                while !self.is_ahead("]", 0) {
                    if self.eat(":") {
                        parts.push(std::mem::take(&mut part));
                    } else {
                        part = self.condition()?;
                    }
                }
                self.at += 1;
                parts.push(part);
                let is_slice = parts.len() > 1;
                let parts = parts.join(":");
                out = match is_slice {
                    true => format!("__list(__sliceable({out})[{parts}])"),
                    false => format!("{out}[{parts}]"),
                };
            } else if self.is_ahead("(", 0) {
                out += &self.arguments()?;
            } else {
                return Some(out);
            }
        }
    }

    fn arguments(&mut self) -> Part {
        let mut parts = Vec::new();
        // A macro can be called again and again within a list.
        let outer = std::mem::take(&mut self.is_checked);
        self.eat("(").then_some(())?;
        while !self.eat(")") {
            let star = if self.eat("**") {
                "**"
            } else if self.eat("*") {
                "*"
            } else {
                ""
            };
            let is_named = star.is_empty() && self.is_ahead("=", 1);
            let name = if is_named { format!("{}=", self.name()?) } else { String::new() };
            self.at += usize::from(is_named);
            parts.push(format!("{star}{name}{}", self.condition()?));
            if !self.is_ahead(")", 0) {
                self.eat(",").then_some(())?;
            }
        }
        self.is_checked = outer;
        Some(format!("({})", parts.join(", ")))
    }

    fn filters(&mut self, mut out: String) -> Part {
        let mut count = 0;
        loop {
            count += 1;
            self.bound(count)?;
            if self.eat("|") {
                out += &format!(" | {}", self.name()?);
                if self.is_ahead("(", 0) {
                    out += &self.arguments()?;
                }
            } else if self.eat("is") {
                out += if self.eat("not") { " is not " } else { " is " };
                out += self.name()?;
                let next = self.tokens.get(self.at);
                if self.is_ahead("(", 0) {
                    out += &self.arguments()?;
                } else if let Some(token) = next {
                    let begins = token.kind != Kind::Operator || matches!(token.text, "[" | "{");
                    let is_word = matches!(
                        self.peek(),
                        "else" | "or" | "and" | "if" | "not" | "in" | "recursive"
                    );
                    if self.is_ahead("is", 0) {
                        self.unsupported = Some(
                            "several tests with `is` one after the other need parentheses".into(),
                        );
                    } else if begins && !is_word {
                        let primary = self.primary()?;
                        out += &format!(" ({})", self.postfix(primary)?);
                    }
                }
            } else if self.is_ahead("(", 0) {
                out += &self.arguments()?;
            } else {
                return Some(out);
            }
        }
    }
}
