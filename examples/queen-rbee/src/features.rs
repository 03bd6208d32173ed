//! Settings that this build does not support, because a feature is off.

use rbee_core::{Error, ErrorKind, Result};

use crate::{Config, Embedded, HiveEntry, HiveUrl};

/// The features of this package that settings need.
const BUILT: [(&str, bool); 6] = [
    ("hub", cfg!(feature = "hub")),
    ("inside", cfg!(feature = "inside")),
    ("metrics", cfg!(feature = "metrics")),
    ("policies", cfg!(feature = "policies")),
    ("ssh", cfg!(feature = "ssh")),
    ("tls", cfg!(feature = "tls")),
];

/// Refuses a configuration that needs a feature which this build does not have.
///
/// # Errors
/// [`ErrorKind::Config`] with the setting and the feature.
pub(crate) fn check(config: &Config) -> Result<()> {
    check_with(config, |feature| BUILT.contains(&(feature, true)))
}

fn check_with(config: &Config, is_built: impl Fn(&str) -> bool) -> Result<()> {
    let has_tls = |hive: &HiveEntry| hive.url.as_ref().is_some_and(HiveUrl::is_tls);
    let needed = [
        ("hub_endpoint", config.hub_endpoint.is_some(), "hub"),
        ("hub_token_file", config.hub_token_file.is_some(), "hub"),
        ("open_metrics", config.open_metrics, "metrics"),
        ("policy", config.policy.is_some(), "policies"),
        ("local_hive: inside", config.local_hive == Embedded::Inside, "inside"),
        ("hives: https", config.hives.iter().any(has_tls), "tls"),
        ("hives: ssh", config.hives.iter().any(|hive| hive.ssh.is_some()), "ssh"),
        ("programs_dir", config.programs_dir.is_some(), "ssh"),
        ("ssh_config", config.ssh_config.is_some(), "ssh"),
        ("tls_cert", config.tls_cert.is_some(), "tls"),
    ];
    for (setting, is_set, feature) in needed {
        if is_set && !is_built(feature) {
            let message = format!(
                "setting {setting}: this program was built without the feature `{feature}`; build it with that feature, \
                 or leave the setting out"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_of_a_feature_that_is_not_built_is_refused_by_both_names() {
        let plain = Config::default();
        let path = || Some("/x".into());
        let endpoint = Some("http://hub".into());
        for (setting, feature, config) in [
            ("hub_endpoint", "hub", Config { hub_endpoint: endpoint, ..Config::default() }),
            ("hub_token_file", "hub", Config { hub_token_file: path(), ..Config::default() }),
            ("open_metrics", "metrics", Config { open_metrics: true, ..Config::default() }),
            ("local_hive", "inside", Config { local_hive: Embedded::Inside, ..Config::default() }),
            ("policy", "policies", Config { policy: path(), ..Config::default() }),
            ("programs_dir", "ssh", Config { programs_dir: path(), ..Config::default() }),
            ("ssh_config", "ssh", Config { ssh_config: path(), ..Config::default() }),
            ("tls_cert", "tls", Config { tls_cert: path(), ..Config::default() }),
        ] {
            let error = check_with(&config, |built| built != feature).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            for named in [setting, feature] {
                assert!(error.message().contains(named), "{named}: {error}");
            }
            check_with(&config, |built| built == feature).unwrap();
        }
        check_with(&plain, |_| false).unwrap();
    }
}
