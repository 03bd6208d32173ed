//! What `ssh_config` says about a machine: [`HostConfig`].

mod client;
mod expand;
mod file;
mod keywords;
mod line;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    pin::Pin,
    time::Duration,
};

use tokio::{task, time};

use crate::{error::SshError, local_user::LocalUser, target::SshTarget};

use expand::Tokens;
use settings::{Proxy, Settings};

pub use settings::AddressFamily;

/// How deep `ProxyJump` may go, and the most hops in all.
const MOST_HOPS: usize = 8;
/// How long the files may take; they can be on a slow network.
const FILES_LIMIT: Duration = Duration::from_secs(20);
/// The key files of a person who names none.
const DEFAULT_IDENTITIES: [&str; 5] =
    ["id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"];
/// Default key files of types that rbee does not have. `ssh -G` lists them.
const OLD_IDENTITIES: [&str; 2] = ["~/.ssh/id_xmss", "~/.ssh/id_dsa"];

/// Where the configuration comes from.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ConfigOptions {
    /// The file instead of `~/.ssh/config` and `/etc/ssh/ssh_config`, as with `ssh -F`.
    pub file: Option<PathBuf>,
    /// Who reads it.
    pub source: ConfigSource,
}

impl ConfigOptions {
    /// The configuration in this file alone.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self { file: Some(path.into()), ..Self::default() }
    }
}

/// Who reads the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigSource {
    /// The installed SSH client (`ssh -G`), or rbee itself if there is none.
    #[default]
    Automatic,
    /// This SSH client.
    Client(OsString),
    /// rbee itself. It refuses files with `Match`.
    Files,
}

/// All that is needed to connect to a machine: its address, keys, and the hosts on the way.
///
/// [`resolve`](Self::resolve) reads it from a person's `ssh_config`; [`new`](Self::new) makes one by hand.
///
/// ```
/// use rbee_transport_ssh::HostConfig;
///
/// let mut config = HostConfig::new("192.168.1.7", 22, "ada");
/// config.identity_files.push("/home/ada/.ssh/id_ed25519".into());
/// assert_eq!(config.address(), "192.168.1.7:22");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostConfig {
    /// The machine as the person named it, for messages.
    pub target: String,
    /// The name or address to connect to.
    pub host_name: String,
    /// The port.
    pub port: u16,
    /// The user there.
    pub user: String,
    /// The kind of addresses to connect to.
    pub address_family: AddressFamily,
    /// The address of this machine to connect from, if it matters.
    pub bind_address: Option<String>,
    /// Key files, in this order. Those that do not exist are ignored.
    pub identity_files: Vec<PathBuf>,
    /// Certificates for these keys, in addition to the files `KEY-cert.pub`.
    pub certificate_files: Vec<PathBuf>,
    /// Use no keys of the agent but those in `identity_files`.
    pub identities_only: bool,
    /// The socket of the agent.
    pub identity_agent: Option<PathBuf>,
    /// The person's files with host keys. A new key is recorded in the first one.
    pub user_known_hosts: Vec<PathBuf>,
    /// The system's files with host keys.
    pub global_known_hosts: Vec<PathBuf>,
    /// Record names of hosts as hashes.
    pub hash_known_hosts: bool,
    /// The name to look the host key up by, instead of host name and port.
    pub host_key_alias: Option<String>,
    /// A file with revoked host keys.
    pub revoked_host_keys: Option<PathBuf>,
    /// The hosts on the way, the nearest first. Their own `jump` is empty.
    pub jump: Vec<HostConfig>,
    /// A shell command whose input and output are the connection.
    pub proxy_command: Option<String>,
    /// How long connecting may take.
    pub connect_timeout: Option<Duration>,
    /// How long the machine may be silent before it is asked for a sign.
    pub keep_alive_interval: Option<Duration>,
    /// How many questions may stay unanswered.
    pub keep_alive_max: u32,
}

impl HostConfig {
    /// A machine without any keys, agent or files with host keys.
    pub fn new(host_name: impl Into<String>, port: u16, user: impl Into<String>) -> Self {
        let host_name = host_name.into();
        Self {
            target: host_name.clone(),
            host_name,
            port,
            user: user.into(),
            address_family: AddressFamily::Any,
            bind_address: None,
            identity_files: Vec::new(),
            certificate_files: Vec::new(),
            identities_only: false,
            identity_agent: None,
            user_known_hosts: Vec::new(),
            global_known_hosts: Vec::new(),
            hash_known_hosts: false,
            host_key_alias: None,
            revoked_host_keys: None,
            jump: Vec::new(),
            proxy_command: None,
            connect_timeout: None,
            keep_alive_interval: None,
            keep_alive_max: 3,
        }
    }

    /// Reads what `ssh_config` says about a machine and about the jump hosts on the way to it.
    ///
    /// Used are the keywords of the fields of this type, with `Host`, `Include` and `Match`. Other keywords are
    /// ignored, as far as they do not decide where a connection goes: `ProxyUseFdpass` is refused. Whether unknown host
    /// keys are accepted does not depend on `StrictHostKeyChecking`, but on
    /// [`ConnectOptions::accept_new`](crate::ConnectOptions::accept_new).
    ///
    /// # Errors
    /// [`SshError::Config`] with the file and line or the message of the SSH client.
    pub async fn resolve(target: &SshTarget, options: &ConfigOptions) -> Result<Self, SshError> {
        let user = LocalUser::current().ok_or_else(|| SshError::Config {
            place: "this machine".into(),
            reason: "the current user is in no table of users; set USER and HOME".into(),
        })?;
        resolve(target, options, &user, &mut Vec::new()).await
    }

    /// Host name and port: `gpu.lan:22`, `[2001:db8::7]:22`.
    pub fn address(&self) -> String {
        match self.host_name.contains(':') {
            true => format!("[{}]:{}", self.host_name, self.port),
            false => format!("{}:{}", self.host_name, self.port),
        }
    }
}

type Resolving<'a> = Pin<Box<dyn Future<Output = Result<HostConfig, SshError>> + Send + 'a>>;

/// Resolves a machine and the jump hosts before it. `path` has the targets that led here.
fn resolve<'a>(
    target: &'a SshTarget,
    options: &'a ConfigOptions,
    user: &'a LocalUser,
    path: &'a mut Vec<String>,
) -> Resolving<'a> {
    Box::pin(async move {
        path.push(target.to_string());
        let too_many = |path: &[String]| SshError::Config {
            place: target.to_string(),
            reason: format!(
                "ProxyJump needs more than {MOST_HOPS} hosts on the way ({}); see whether it goes in a circle",
                path.join(" by ")
            ),
        };
        if path.len() > MOST_HOPS + 1 {
            return Err(too_many(path));
        }
        let settings = read(target, options, user).await?;
        let (mut config, hops) = build(target, settings, user)?;
        // The first hop is reached as its own configuration says. The others are reached by the hop before.
        for (index, hop) in hops.iter().enumerate() {
            let reached = match index {
                0 => resolve(hop, options, user, path).await?,
                _ => {
                    let (mut hop, _) = build(hop, read(hop, options, user).await?, user)?;
                    hop.proxy_command = None;
                    hop
                }
            };
            let mut reached = reached;
            config.jump.append(&mut reached.jump);
            config.jump.push(reached);
        }
        if config.jump.len() > MOST_HOPS {
            return Err(too_many(path));
        }
        path.pop();
        Ok(config)
    })
}

async fn read(
    target: &SshTarget,
    options: &ConfigOptions,
    user: &LocalUser,
) -> Result<Settings, SshError> {
    let file = options.file.as_deref();
    let program = match &options.source {
        ConfigSource::Automatic => Some(OsString::from("ssh")),
        ConfigSource::Client(program) => Some(program.clone()),
        ConfigSource::Files => None,
    };
    if let Some(program) = program {
        if let Some(settings) = client::read(&program, target, file).await? {
            return Ok(settings);
        }
        if options.source != ConfigSource::Automatic {
            return Err(SshError::Config {
                place: format!("ssh -G {}", target.host()),
                reason: format!("there is no program {}", Path::new(&program).display()),
            });
        }
    }
    let settings = Settings {
        user: target.user().map(Into::into),
        port: target.port(),
        ..Settings::default()
    };
    let (host, file, user) = (target.host().to_owned(), options.file.clone(), user.clone());
    let reading = task::spawn_blocking(move || file::read(&host, file.as_deref(), &user, settings));
    match time::timeout(FILES_LIMIT, reading).await {
        Ok(Ok(result)) => result,
        Ok(Err(cause)) => Err(system("ssh_config", std::io::Error::other(cause))),
        Err(_) => Err(system("ssh_config", std::io::ErrorKind::TimedOut.into())),
    }
}

fn system(what: &str, cause: std::io::Error) -> SshError {
    SshError::System { what: what.into(), cause }
}

/// Expands the settings of one host, and names the jump hosts.
fn build(
    target: &SshTarget,
    settings: Settings,
    user: &LocalUser,
) -> Result<(HostConfig, Vec<SshTarget>), SshError> {
    let wrong = |keyword: &'static str| {
        move |reason: String| SshError::Config {
            place: format!("ssh_config, host {}", target.host()),
            reason: format!("{keyword}: {reason}"),
        }
    };
    if settings.proxy_use_fdpass == Some(true) {
        return Err(wrong("ProxyUseFdpass")(
            "it is not supported; use a ProxyCommand without it".into(),
        ));
    }
    let host_name = match &settings.host_name {
        Some(name) => expand::host_name(name, target.host()).map_err(wrong("HostName"))?,
        None => target.host().to_owned(),
    }
    .to_ascii_lowercase();
    let port = settings.port.unwrap_or(22);
    let remote_user = settings.user.clone().unwrap_or_else(|| user.name.clone());
    let tokens = Tokens {
        user,
        original_host: target.host(),
        host_name: &host_name,
        key_alias: settings.host_key_alias.as_deref().unwrap_or(target.host()),
        port,
        remote_user: &remote_user,
    };
    let paths = |keyword, values: &[String]| -> Result<Vec<PathBuf>, SshError> {
        let named = values.iter().filter(|value| *value != "none");
        named.map(|value| tokens.path(value).map_err(wrong(keyword))).collect()
    };
    let known_hosts =
        |keyword, values: Option<&[String]>, directory: &Path, names: [&str; 2]| match values {
            Some(values) => paths(keyword, values),
            None => Ok(names.iter().map(|name| directory.join(name)).collect()),
        };
    let ssh = user.home.join(".ssh");
    let mut identities = settings.identity_files.clone();
    if identities.is_empty() {
        identities = DEFAULT_IDENTITIES.iter().map(|name| format!("~/.ssh/{name}")).collect();
    } else if DEFAULT_IDENTITIES.iter().all(|name| identities.contains(&format!("~/.ssh/{name}"))) {
        identities.retain(|path| !OLD_IDENTITIES.contains(&path.as_str()));
    }
    let revoked = settings.revoked_host_keys.as_slice();
    let (proxy_command, hops) = match &settings.proxy {
        None | Some(Proxy::None) => (None, Vec::new()),
        Some(Proxy::Command(command)) => {
            (Some(tokens.proxy(command).map_err(wrong("ProxyCommand"))?), Vec::new())
        }
        Some(Proxy::Jump(hops)) => {
            let hops = tokens.proxy(hops).map_err(wrong("ProxyJump"))?;
            let hops: Result<_, SshError> = hops.split(',').map(|hop| hop.trim().parse()).collect();
            (None, hops.map_err(|cause| wrong("ProxyJump")(cause.to_string()))?)
        }
    };
    let mut config = HostConfig {
        target: target.to_string(),
        port,
        user: remote_user.clone(),
        address_family: settings.address_family.unwrap_or(AddressFamily::Any),
        bind_address: settings.bind_address.clone(),
        identity_files: paths("IdentityFile", &identities)?,
        certificate_files: paths("CertificateFile", &settings.certificate_files)?,
        identities_only: settings.identities_only.unwrap_or(false),
        identity_agent: agent(settings.identity_agent.as_deref(), &tokens)
            .map_err(wrong("IdentityAgent"))?,
        user_known_hosts: known_hosts(
            "UserKnownHostsFile",
            settings.user_known_hosts.as_deref(),
            &ssh,
            ["known_hosts", "known_hosts2"],
        )?,
        global_known_hosts: known_hosts(
            "GlobalKnownHostsFile",
            settings.global_known_hosts.as_deref(),
            Path::new("/etc/ssh"),
            ["ssh_known_hosts", "ssh_known_hosts2"],
        )?,
        hash_known_hosts: settings.hash_known_hosts.unwrap_or(false),
        host_key_alias: settings.host_key_alias.clone(),
        revoked_host_keys: paths("RevokedHostKeys", revoked)?.pop(),
        jump: Vec::new(),
        proxy_command,
        connect_timeout: settings.connect_timeout.flatten(),
        keep_alive_interval: settings.server_alive_interval.flatten(),
        keep_alive_max: settings.server_alive_count.unwrap_or(3),
        host_name: String::new(),
    };
    config.host_name = host_name;
    Ok((config, hops))
}

/// The socket of the agent: a path, or the name of an environment variable with one.
fn agent(value: Option<&str>, tokens: &Tokens<'_>) -> Result<Option<PathBuf>, String> {
    let from_environment =
        |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    match value {
        None | Some("SSH_AUTH_SOCK") => Ok(from_environment("SSH_AUTH_SOCK")),
        Some("none") => Ok(None),
        Some(text) => match text.strip_prefix('$') {
            Some(name) if !name.starts_with('{') => Ok(from_environment(name)),
            _ => tokens.path(text).map(Some),
        },
    }
}
