//! Expressions. The order of the operators is Jinja's.

use super::{
    super::{
        lexer::{Kind, Token},
        methods,
    },
    Parser, Part,
};

/// The deepest nesting of expressions; the engine has a limit of its own.
const MAX_DEPTH: usize = 150;

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

impl Parser<'_> {
    /// One expression, or several with commas between them.
    pub(in super::super) fn tuple(&mut self, conditional: bool) -> Part {
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

    pub(super) fn condition(&mut self) -> Part {
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

    pub(super) fn unary(&mut self, filters: bool) -> Part {
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

    pub(super) fn arguments(&mut self) -> Part {
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

    pub(super) fn filters(&mut self, mut out: String) -> Part {
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
