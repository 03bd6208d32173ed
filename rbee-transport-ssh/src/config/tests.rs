//! The two sources must give the same answers, so each file is read by both.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use tempfile::TempDir;

use super::*;

/// Files of a person, below a temporary directory that `DIR` stands for.
struct Files {
    directory: TempDir,
}

impl Files {
    fn new(files: &[(&str, &str)]) -> Self {
        let directory = TempDir::new().unwrap();
        let files_of = Self { directory };
        for (name, text) in files {
            let path = files_of.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text.replace("DIR", &files_of.path("").display().to_string())).unwrap();
        }
        files_of
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn resolve(&self, target: &str, source: ConfigSource) -> Result<HostConfig, SshError> {
        let mut options = ConfigOptions::file(self.path("config"));
        options.source = source;
        HostConfig::resolve(&target.parse()?, &options).await
    }

    /// What both sources say.
    async fn both(&self, target: &str) -> HostConfig {
        let client = self.resolve(target, ConfigSource::Client("ssh".into())).await.unwrap();
        let ours = self.resolve(target, ConfigSource::Files).await.unwrap();
        assert_eq!(ours, client, "{target}");
        ours
    }

    /// The errors of both sources.
    async fn both_fail(&self, target: &str) -> [String; 2] {
        let client = self.resolve(target, ConfigSource::Client("ssh".into())).await;
        let ours = self.resolve(target, ConfigSource::Files).await;
        [ours, client].map(|result| result.unwrap_err().to_string())
    }
}

fn home(name: &str) -> PathBuf {
    LocalUser::current().unwrap().home.join(name)
}

#[tokio::test]
async fn a_machine_without_settings_has_the_defaults_of_the_client() {
    let files = Files::new(&[("config", "")]);
    let config = files.both("Gpu.lan").await;
    let me = LocalUser::current().unwrap().name;
    assert_eq!((config.host_name.as_str(), config.port, &config.user), ("gpu.lan", 22, &me));
    assert_eq!(config.identity_files.len(), 5);
    assert_eq!(config.user_known_hosts[0], home(".ssh/known_hosts"));
    assert_eq!(config.global_known_hosts[0], PathBuf::from("/etc/ssh/ssh_known_hosts"));
    let config = files.both("ada@gpu:7").await;
    assert_eq!(
        (config.user.as_str(), config.port, config.target.as_str()),
        ("ada", 7, "ada@gpu:7")
    );
    assert_eq!(files.both("[2001:db8::7]:7").await.host_name, "2001:db8::7");
    assert_eq!(files.both("fe80::1%eth0").await.host_name, "fe80::1%eth0");
    let files = Files::new(&[("config", "HostName %h.LAN\n")]);
    assert_eq!(files.both("Gpu").await.host_name, "gpu.lan");
}

#[tokio::test]
async fn the_first_value_counts_and_what_the_person_names_comes_before_all() {
    let files = Files::new(&[(
        "config",
        "User first\nHost gpu\n  User second\n  Port 7\nHost gpu*\n  Port 8\n  HostName %h.lan\n  IdentityFile a\n\
         Host *\n  IdentityFile b\n  IdentityFile a\n  ServerAliveInterval 1m\n  ServerAliveCountMax 7\n\
         \x20 ConnectTimeout 5\n  HashKnownHosts yes\n  IdentitiesOnly yes\n",
    )]);
    let config = files.both("gpu").await;
    assert_eq!(
        (config.user.as_str(), config.port, config.host_name.as_str()),
        ("first", 7, "gpu.lan")
    );
    assert_eq!(config.identity_files, [PathBuf::from("a"), PathBuf::from("b")]);
    assert_eq!(config.keep_alive_interval, Some(Duration::from_secs(60)));
    assert_eq!((config.keep_alive_max, config.connect_timeout), (7, Some(Duration::from_secs(5))));
    assert!(config.hash_known_hosts && config.identities_only);
    let config = files.both("ada@gpu:9").await;
    assert_eq!((config.user.as_str(), config.port), ("ada", 9));
    assert_eq!(files.both("gpu2").await.port, 8);
}

#[tokio::test]
async fn patterns_with_stars_question_marks_and_negation_choose_the_host() {
    let files = Files::new(&[(
        "config",
        "Host *.lan !secret.lan\n  Port 1\nHost gpu? !gpu7\n  Port 2\nHost \"quoted\" other\n  Port 3\nHost !none\n  Port 4\n",
    )]);
    let cases = [
        ("a.lan", 1),
        ("secret.lan", 22),
        ("gpu1", 2),
        ("gpu7", 22),
        ("gpu12", 22),
        ("quoted", 3),
        ("other", 3),
        ("none", 22),
        ("A.LAN", 22),
    ];
    for (target, port) in cases {
        assert_eq!(files.both(target).await.port, port, "{target}");
    }
}

#[tokio::test]
async fn included_files_are_read_where_they_stand() {
    let files = Files::new(&[
        (
            "config",
            "Host gpu\n  Include DIR/for-gpu\nHost *\n  Include DIR/conf.d/*.conf DIR/missing\n  Port 9\n  User late\n",
        ),
        ("for-gpu", "Port 1\nHost other\n  Port 2\n"),
        ("conf.d/a.conf", "User a\nHost nested\n  Include DIR/nested\n"),
        ("conf.d/b.conf", "User b\nPort 5\n"),
        ("conf.d/.hidden.conf", "User hidden\n"),
        ("nested", "HostName nested.lan\n"),
    ]);
    let config = files.both("gpu").await;
    assert_eq!((config.port, config.user.as_str()), (1, "a"));
    // The block in the file for gpu is for nobody else.
    assert_eq!(files.both("other").await.port, 5);
    assert_eq!(files.both("nested").await.host_name, "nested.lan");
}

#[tokio::test]
async fn every_notation_of_values_and_paths_is_read_alike() {
    let files = Files::new(&[(
        "config",
        "Host=a\n  port = 7\n  USER=\"ada\"\n  IdentityFile \"~/my key\" # mine\n  IdentityFile %d/%u-%r@%h:%p%%\n\
         \x20 IdentityFile ${HOME}/x\n  CertificateFile ~/c\n  IdentityAgent ~/agent\n  HostKeyAlias the-key\n\
         \x20 UserKnownHostsFile ~/a \"/b c/%k\" %d/d\n  GlobalKnownHostsFile /g\n  RevokedHostKeys /etc/revoked\n\
         \x20 AddressFamily inet6\n  BindAddress ::1\n  ProxyCommand nc -x \"proxy\" %h %p '%r' %n %% # not a comment\n\
         Host b\n  IdentityFile none\n  UserKnownHostsFile none\n  IdentityAgent none\n  ProxyCommand none\n  ProxyJump x\n\
         \x20 ConnectTimeout none\n  Compression yes\n  SendEnv LANG LC_*\n  LocalForward 1 x:2\n\
         Host c\n  IdentityAgent SSH_AUTH_SOCK\nHost d\n  IdentityAgent $RBEE_NO_SUCH_AGENT\n",
    )]);
    let config = files.both("a").await;
    let me = LocalUser::current().unwrap();
    assert_eq!(config.identity_files[0], home("my key"));
    assert_eq!(config.identity_files[1], home(&format!("{}-ada@a:7%", me.name)));
    assert_eq!(config.user_known_hosts, [home("a"), "/b c/the-key".into(), home("d")]);
    assert_eq!(config.identity_agent, Some(home("agent")));
    assert_eq!(
        config.proxy_command.as_deref(),
        Some("nc -x \"proxy\" a 7 'ada' a % # not a comment")
    );
    assert_eq!(config.address_family, AddressFamily::Inet6);
    let config = files.both("b").await;
    assert!(config.identity_files.is_empty() && config.user_known_hosts.is_empty());
    assert!(
        config.identity_agent.is_none() && config.proxy_command.is_none() && config.jump.is_empty()
    );
    files.both("c").await;
    assert_eq!(files.both("d").await.identity_agent, None);
}

#[tokio::test]
async fn jump_hosts_are_resolved_by_themselves_and_the_first_by_its_own_jump_hosts() {
    let files = Files::new(&[(
        "config",
        "Host gpu\n  ProxyJump bob@second:7,[::1]:8,ssh://third\nHost second\n  HostName second.lan\n  ProxyJump first\n\
         Host third\n  HostName third.lan\n  ProxyCommand ignored\nHost ::1\n  ProxyJump ignored\nHost first\n  User carl\n  ProxyCommand nc %h %p\n",
    )]);
    let config = files.both("gpu").await;
    let hops: Vec<(&str, &str, u16)> = config
        .jump
        .iter()
        .map(|hop| (hop.user.as_str(), hop.host_name.as_str(), hop.port))
        .collect();
    let me = LocalUser::current().unwrap().name;
    assert_eq!(
        hops,
        [("carl", "first", 22), ("bob", "second.lan", 7), (&me, "::1", 8), (&me, "third.lan", 22)]
    );
    assert_eq!(config.jump[0].proxy_command.as_deref(), Some("nc first 22"));
    assert!(config.jump.iter().all(|hop| hop.jump.is_empty()));
    assert!(config.jump[1..].iter().all(|hop| hop.proxy_command.is_none()));
}

#[tokio::test]
async fn jump_hosts_in_a_circle_are_refused() {
    let files = Files::new(&[("config", "Host a\n  ProxyJump b\nHost b\n  ProxyJump a\n")]);
    for error in files.both_fail("a").await {
        assert!(error.contains("goes in a circle"), "{error}");
    }
}

#[tokio::test]
async fn what_is_wrong_is_refused_by_both_and_named_with_its_line() {
    let cases = [
        ("Port 0\n", "config:1: port: \"0\" is no port"),
        ("\nHost other\n  Port x\n", "config:3: port: \"x\" is no port"),
        ("Prot 22\n", "config:1: \"prot\" is no keyword"),
        (
            "Host a\n  IdentitiesOnly maybe\n",
            "config:2: identitiesonly: \"maybe\" is neither yes nor no",
        ),
        ("User \"ada\n", "config:1: a quote is not closed"),
        ("ConnectTimeout soon\n", "config:1: connecttimeout: \"soon\" is no time"),
    ];
    for (text, expected) in cases {
        let [ours, _] = Files::new(&[("config", text)]).both_fail("a").await;
        assert!(ours.contains(expected), "{ours}");
    }
    let deep = Files::new(&[("config", "Include DIR/config\n")]);
    assert!(deep.both_fail("a").await[0].contains("more than 16 deep"));
    let files = Files::new(&[("config", "IgnoreUnknown Fancy*,x\nFancyThing 7\nX y\nPort 7\n")]);
    assert_eq!(files.both("a").await.port, 7);
    let missing = Files::new(&[]);
    assert!(missing.both_fail("a").await[0].contains("config: it cannot be read"));
    let files = Files::new(&[("config", "ProxyUseFdpass yes\nProxyCommand x\n")]);
    assert!(files.both_fail("a").await.iter().all(|error| error.contains("ProxyUseFdpass")));
    let files = Files::new(&[("config", "IdentityFile ~/%C\n")]);
    assert!(files.both_fail("a").await.iter().all(|error| error.contains("token %C")));
    let files = Files::new(&[("config", "ProxyJump a,-b\n")]);
    assert!(files.both_fail("a").await[0].contains("must not begin with \"-\""));
}

#[tokio::test]
async fn match_is_left_to_the_client_and_refused_by_line_without_one() {
    let files = Files::new(&[(
        "config",
        "Host a\n  Port 7\nMatch host b user ada exec \"true\"\n  Port 8\nMatch final all\n  User late\n",
    )]);
    let client = || ConfigSource::Client("ssh".into());
    assert_eq!(files.resolve("ada@b", client()).await.unwrap().port, 8);
    assert_eq!(files.resolve("b", client()).await.unwrap().port, 22);
    assert_eq!(files.resolve("a", ConfigSource::Automatic).await.unwrap().user, "late");
    let error = files.resolve("a", ConfigSource::Files).await.unwrap_err().to_string();
    assert!(error.contains("config:3: Match is supported only where the program ssh"), "{error}");
    let files = Files::new(&[(
        "config",
        "Host a\n  CanonicalizeHostname no\nHost b\n  CanonicalizeHostname yes\n",
    )]);
    files.both("a").await;
    let error = files.resolve("b", ConfigSource::Files).await.unwrap_err().to_string();
    assert!(error.contains("config:4: CanonicalizeHostname is supported only where"), "{error}");
}

#[tokio::test]
async fn a_client_that_is_missing_hangs_or_fails_is_an_error_except_that_none_is_needed() {
    let files = Files::new(&[
        ("config", "Port 7\n"),
        ("loud", "#!/bin/sh\necho oh no >&2\nexit 3\n"),
        ("endless", "#!/bin/sh\nexec cat /dev/zero\n"),
        ("old", "#!/bin/sh\necho usage\n"),
    ]);
    for name in ["loud", "endless", "old"] {
        fs::set_permissions(files.path(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let error = |program: PathBuf| {
        let files = &files;
        async move {
            files.resolve("a", ConfigSource::Client(program.into())).await.unwrap_err().to_string()
        }
    };
    assert!(error("/no/such/ssh".into()).await.contains("there is no program /no/such/ssh"));
    assert!(error(files.path("loud")).await.contains("oh no (exit status: 3)"));
    assert!(error(files.path("endless")).await.contains("more than 1048576 bytes"));
    assert!(error(files.path("old")).await.contains("OpenSSH 6.8"));
}

#[test]
fn the_files_of_the_person_are_read_before_those_of_the_system_unless_others_can_write_them() {
    let files =
        Files::new(&[(".ssh/config", "Include conf/*\nPort 7\n"), (".ssh/conf/a", "User ada\n")]);
    let user = LocalUser {
        name: "me".into(),
        uid: rustix::process::getuid().as_raw(),
        home: files.path(""),
        host_name: "desk".into(),
    };
    let read = || file::read("gpu", None, &user, Settings::default());
    let settings = read().unwrap();
    assert_eq!((settings.port, settings.user.as_deref()), (Some(7), Some("ada")));
    fs::set_permissions(files.path(".ssh/conf/a"), fs::Permissions::from_mode(0o666)).unwrap();
    let error = read().unwrap_err().to_string();
    assert!(error.contains("conf/a: others can write to it"), "{error}");
    fs::remove_dir_all(files.path(".ssh")).unwrap();
    assert_eq!(read().unwrap().user, None);
}
