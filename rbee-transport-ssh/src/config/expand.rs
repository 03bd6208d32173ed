//! Tokens (`%h`), environment variables (`${HOME}`) and home directories (`~`) in values: [`Tokens`].

use std::path::PathBuf;

use crate::local_user::LocalUser;

/// What the tokens stand for.
pub(super) struct Tokens<'a> {
    pub(super) user: &'a LocalUser,
    /// `%n`: the host as the person named it.
    pub(super) original_host: &'a str,
    /// `%h`
    pub(super) host_name: &'a str,
    /// `%k`
    pub(super) key_alias: &'a str,
    /// `%p`
    pub(super) port: u16,
    /// `%r`
    pub(super) remote_user: &'a str,
}

/// The tokens of paths.
const PATH: &str = "%dhikLlnpru";
/// The tokens of `ProxyCommand` and `ProxyJump`.
const PROXY: &str = "%hnpr";

impl Tokens<'_> {
    /// A path: home directory, environment variables, tokens.
    pub(super) fn path(&self, text: &str) -> Result<PathBuf, String> {
        let text = self.tilde(text)?;
        let text = variables(&text, |name| std::env::var(name).ok())?;
        self.tokens(&text, PATH).map(PathBuf::from)
    }

    /// The value of `ProxyCommand` or `ProxyJump`.
    pub(super) fn proxy(&self, text: &str) -> Result<String, String> {
        self.tokens(text, PROXY)
    }

    fn tilde(&self, text: &str) -> Result<String, String> {
        let Some(rest) = text.strip_prefix('~') else { return Ok(text.into()) };
        let (name, rest) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let home = match name {
            "" => self.user.home.clone(),
            name => self
                .user
                .home_of(name)
                .ok_or_else(|| format!("{text:?}: there is no user {name:?} on this machine"))?,
        };
        Ok(format!("{}{rest}", home.display()))
    }

    fn tokens(&self, text: &str, allowed: &str) -> Result<String, String> {
        substitute(text, allowed, |token| match token {
            'd' => self.user.home.display().to_string(),
            'h' => self.host_name.into(),
            'i' => self.user.uid.to_string(),
            'k' => self.key_alias.into(),
            'L' => self.user.host_name.split('.').next().unwrap_or_default().into(),
            'l' => self.user.host_name.clone(),
            'n' => self.original_host.into(),
            'p' => self.port.to_string(),
            'r' => self.remote_user.into(),
            'u' => self.user.name.clone(),
            other => other.into(),
        })
    }
}

/// The value of `HostName`, in which only `%h` and `%%` are allowed.
pub(super) fn host_name(text: &str, original_host: &str) -> Result<String, String> {
    substitute(text, "%h", |token| match token {
        'h' => original_host.into(),
        other => other.into(),
    })
}

fn substitute(text: &str, allowed: &str, value: impl Fn(char) -> String) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        if character != '%' {
            result.push(character);
            continue;
        }
        match characters.next() {
            Some(token) if allowed.contains(token) => result += value(token).as_str(),
            Some(token) => {
                let known: Vec<String> = allowed.chars().map(|token| format!("%{token}")).collect();
                return Err(format!(
                    "{text:?} has the token %{token}; known here are {}",
                    known.join(" ")
                ));
            }
            None => {
                return Err(format!("{text:?} ends with a lone %; write %% for a percent sign"));
            }
        }
    }
    Ok(result)
}

fn variables(text: &str, lookup: impl Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after
            .split_once('}')
            .ok_or_else(|| format!("{text:?}: the brace of ${{ is not closed"))?;
        let value = lookup(name)
            .ok_or_else(|| format!("{text:?}: the environment variable {name:?} is not set"))?;
        result += before;
        result += value.as_str();
        rest = after;
    }
    Ok(result + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user() -> LocalUser {
        let (home, host_name) = ("/home/ada".into(), "desk.lan".into());
        LocalUser { name: "ada".into(), uid: 7, home, host_name }
    }

    fn path(text: &str) -> Result<String, String> {
        let tokens = Tokens {
            user: &user(),
            original_host: "gpu",
            host_name: "10.0.0.7",
            key_alias: "gpu-key",
            port: 2222,
            remote_user: "bob",
        };
        tokens.path(text).map(|path| path.display().to_string())
    }

    #[test]
    fn tokens_and_home_directories_are_expanded() {
        let cases = [
            ("~/.ssh/%h", "/home/ada/.ssh/10.0.0.7"),
            ("~", "/home/ada"),
            ("~ada/x", "/home/ada/x"),
            ("/~/x", "/~/x"),
            (
                "%d/%i/%k/%n/%p/%r/%u/%L/%l/100%%",
                "/home/ada/7/gpu-key/gpu/2222/bob/ada/desk/desk.lan/100%",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(path(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_is_an_error_that_names_it() {
        let cases = [
            ("~/%C", "the token %C"),
            ("~/x%", "lone %"),
            ("~no-such-user/x", "no user \"no-such-user\""),
            ("${RBEE_NO_SUCH_VARIABLE}/x", "\"RBEE_NO_SUCH_VARIABLE\" is not set"),
            ("${HOME", "not closed"),
        ];
        for (text, reason) in cases {
            assert!(path(text).unwrap_err().contains(reason), "{text}");
        }
        assert!(host_name("%p", "gpu").unwrap_err().contains("known here are %% %h"));
        assert_eq!(host_name("%h.lan", "gpu").unwrap(), "gpu.lan");
        let lookup = |name: &str| (name == "A").then(|| "x".to_owned());
        assert_eq!(variables("${A}/${A}y", lookup).unwrap(), "x/xy");
    }
}
