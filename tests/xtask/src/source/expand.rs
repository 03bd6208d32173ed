//! Items from macros of the same file: `macro_rules` with names, literals, attributes and repetitions.

use std::collections::BTreeMap;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};
use syn::Item;

/// The match of a name in the pattern.
#[derive(Clone)]
enum Bound {
    One(TokenStream),
    /// One for each round of a repetition.
    Many(Vec<Bindings>),
}

type Bindings = BTreeMap<String, Bound>;

/// The items that calls of the file's own macros produce. Calls that this does not understand produce none.
pub(crate) fn expand(items: &[Item]) -> Vec<Item> {
    let mut rules = BTreeMap::new();
    let mut made = Vec::new();
    for item in items {
        let Item::Macro(item) = item else { continue };
        if let Some(name) = &item.ident {
            let tokens: Vec<TokenTree> = item.mac.tokens.clone().into_iter().collect();
            if let [
                TokenTree::Group(pattern),
                TokenTree::Punct(_),
                TokenTree::Punct(_),
                TokenTree::Group(body),
                ..,
            ] = &tokens[..]
            {
                rules.insert(name.to_string(), (pattern.stream(), body.stream()));
            }
        } else if let Some((pattern, body)) =
            item.mac.path.get_ident().and_then(|name| rules.get(&name.to_string()))
        {
            let mut bound = Bindings::new();
            let input: Vec<TokenTree> = item.mac.tokens.clone().into_iter().collect();
            let pattern: Vec<TokenTree> = pattern.clone().into_iter().collect();
            if fits(&pattern, &input, &mut bound) == Some(input.len())
                && let Ok(file) = syn::parse2::<syn::File>(transcribe(body.clone(), &bound))
            {
                made.extend(file.items);
            }
        }
    }
    made
}

fn is_dollar(token: Option<&TokenTree>) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == '$')
}

/// The number of input tokens that the pattern matches.
fn fits(pattern: &[TokenTree], input: &[TokenTree], bound: &mut Bindings) -> Option<usize> {
    let (mut at, mut used) = (0, 0);
    while at < pattern.len() {
        if is_dollar(pattern.get(at)) {
            match pattern.get(at + 1)? {
                TokenTree::Ident(name) => {
                    let TokenTree::Ident(kind) = pattern.get(at + 3)? else { return None };
                    let length = fragment(&kind.to_string(), &input[used..])?;
                    let tokens = input[used..used + length].iter().cloned().collect();
                    bound.insert(name.to_string(), Bound::One(tokens));
                    (at, used) = (at + 4, used + length);
                }
                TokenTree::Group(inner) => {
                    let (separator, after) = repetition(pattern, at)?;
                    let inner: Vec<TokenTree> = inner.stream().into_iter().collect();
                    let mut rounds = Vec::new();
                    loop {
                        let mut round = Bindings::new();
                        let start = match &separator {
                            Some(mark) if !rounds.is_empty() => {
                                if input.get(used).map(ToString::to_string).as_ref() != Some(mark) {
                                    break;
                                }
                                used + 1
                            }
                            _ => used,
                        };
                        match fits(&inner, &input[start.min(input.len())..], &mut round) {
                            Some(length) if length > 0 => used = start + length,
                            _ => break,
                        }
                        rounds.push(round);
                    }
                    for name in names(&inner) {
                        bound.insert(name, Bound::Many(rounds.clone()));
                    }
                    at = after;
                }
                _ => return None,
            }
            continue;
        }
        match (&pattern[at], input.get(used)?) {
            (TokenTree::Group(wanted), TokenTree::Group(given))
                if wanted.delimiter() == given.delimiter() =>
            {
                let wanted: Vec<TokenTree> = wanted.stream().into_iter().collect();
                let given: Vec<TokenTree> = given.stream().into_iter().collect();
                if fits(&wanted, &given, bound)? != given.len() {
                    return None;
                }
            }
            (TokenTree::Group(_), _) | (_, TokenTree::Group(_)) => return None,
            (wanted, given) if wanted.to_string() == given.to_string() => {}
            _ => return None,
        }
        (at, used) = (at + 1, used + 1);
    }
    Some(used)
}

/// The number of tokens of a fragment of this kind.
fn fragment(kind: &str, input: &[TokenTree]) -> Option<usize> {
    match (kind, input.first()?) {
        ("ident", TokenTree::Ident(_)) | ("literal", TokenTree::Literal(_)) | ("tt", _) => Some(1),
        ("literal", TokenTree::Ident(name)) if *name == "true" || *name == "false" => Some(1),
        // All the rest: an attribute fills its brackets.
        ("meta", _) => Some(input.len()),
        _ => None,
    }
}

/// The separator of the repetition at `$`, and the position after it.
fn repetition(tokens: &[TokenTree], dollar: usize) -> Option<(Option<String>, usize)> {
    let is_count = |token: &TokenTree| matches!(token.to_string().as_str(), "*" | "+" | "?");
    let mark = tokens.get(dollar + 2)?;
    if is_count(mark) {
        return Some((None, dollar + 3));
    }
    is_count(tokens.get(dollar + 3)?).then(|| (Some(mark.to_string()), dollar + 4))
}

/// The names that a pattern or a body uses.
fn names(tokens: &[TokenTree]) -> Vec<String> {
    let mut found = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Group(group) => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                found.extend(names(&inner));
            }
            TokenTree::Ident(name) if at > 0 && is_dollar(tokens.get(at - 1)) => {
                found.push(name.to_string());
            }
            _ => {}
        }
    }
    found
}

fn transcribe(body: TokenStream, bound: &Bindings) -> TokenStream {
    let tokens: Vec<TokenTree> = body.into_iter().collect();
    let mut made = TokenStream::new();
    let mut at = 0;
    while at < tokens.len() {
        match (&tokens[at], tokens.get(at + 1)) {
            (TokenTree::Punct(_), Some(TokenTree::Ident(name))) if is_dollar(tokens.get(at)) => {
                if let Some(Bound::One(value)) = bound.get(&name.to_string()) {
                    made.extend(value.clone());
                }
                at += 2;
            }
            (TokenTree::Punct(_), Some(TokenTree::Group(inner)))
                if is_dollar(tokens.get(at)) && inner.delimiter() == Delimiter::Parenthesis =>
            {
                let Some((separator, after)) = repetition(&tokens, at) else { return made };
                let used: Vec<TokenTree> = inner.stream().into_iter().collect();
                let rounds = names(&used).into_iter().find_map(|name| match bound.get(&name) {
                    Some(Bound::Many(rounds)) => Some(rounds.clone()),
                    _ => None,
                });
                for (index, round) in rounds.unwrap_or_default().into_iter().enumerate() {
                    if let (Some(mark), true) = (&separator, index > 0) {
                        made.extend(mark.parse::<TokenStream>().unwrap_or_default());
                    }
                    let mut all = bound.clone();
                    all.extend(round);
                    made.extend(transcribe(inner.stream(), &all));
                }
                at = after;
            }
            (TokenTree::Group(group), _) => {
                let inner = transcribe(group.stream(), bound);
                made.extend([TokenTree::Group(Group::new(group.delimiter(), inner))]);
                at += 1;
            }
            (token, _) => {
                made.extend([token.clone()]);
                at += 1;
            }
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use quote::ToTokens;

    use super::*;

    #[test]
    fn repetitions_and_attributes_are_filled_in() {
        let file = syn::parse_file(
            "macro_rules! table { ($( $(#[$doc:meta])* $kind:ident = $code:literal; )*) => {
                pub enum Kind { $( $(#[$doc])* $kind, )* }
                impl Kind { pub const ALL: &'static [Kind] = &[$(Kind::$kind),*]; }
            }; }
            table! { #[a] #[b(c)] One = 1; Two = \"x\"; }
            other! { Gone }",
        )
        .unwrap();
        let made: Vec<String> =
            expand(&file.items).iter().map(|item| item.to_token_stream().to_string()).collect();
        assert_eq!(
            made,
            [
                "pub enum Kind { # [a] # [b (c)] One , Two , }",
                "impl Kind { pub const ALL : & 'static [Kind] = & [Kind :: One , Kind :: Two] ; }"
            ]
        );
    }
}
