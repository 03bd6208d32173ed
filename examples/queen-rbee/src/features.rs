//! Settings that this build cannot carry out, because it was built without what they are about.

use rbee_core::{Error, ErrorKind, Result};

use crate::Config;

/// Refuses a configuration that names something which this build does not have.
///
/// # Errors
/// [`ErrorKind::Config`] with the setting and the feature.
pub(crate) fn check(config: &Config) -> Result<()> {
    let files = &config.model_files;
    let wanted = [
        ("hub_endpoint", files.hub_endpoint.is_some(), "hub", cfg!(feature = "hub")),
        ("hub_token_file", files.hub_token_file.is_some(), "hub", cfg!(feature = "hub")),
        ("open_metrics", config.open_metrics, "metrics", cfg!(feature = "metrics")),
        ("policy", config.policy.is_some(), "policies", cfg!(feature = "policies")),
        ("tls_cert", config.tls_cert.is_some(), "tls", cfg!(feature = "tls")),
    ];
    for (setting, is_set, feature, is_there) in wanted {
        if is_set && !is_there {
            let message = format!(
                "setting {setting}: this program was built without it; build it with the feature `{feature}`, or leave \
                 the setting out"
            );
            return Err(Error::new(ErrorKind::Config, message));
        }
    }
    Ok(())
}
