//! The text of a policy: its language, its limit, and its compilation.

use std::sync::Arc;

use crate::{
    error::{Error, ErrorKind, Result},
    policy_source::{PolicyLanguage, PolicySource},
    scheduler::{LeastLoaded, Scheduler},
};

/// The maximum length of the text of a policy, in bytes.
pub const MAX_POLICY_BYTES: usize = 256 << 10;

/// Compiles the text of a policy into a scheduler.
///
/// # Errors
/// [`ErrorKind::InvalidRequest`] with line, column and cause; [`ErrorKind::Unsupported`] if this build cannot read
/// policies that are written as text (feature `rhai`).
pub(super) fn compile(source: &PolicySource, built_in: &LeastLoaded) -> Result<Arc<dyn Scheduler>> {
    if source.text.len() > MAX_POLICY_BYTES {
        let message = format!(
            "the policy has {} bytes; allowed are at most {MAX_POLICY_BYTES}",
            source.text.len()
        );
        return Err(Error::new(ErrorKind::InvalidRequest, message));
    }
    #[cfg(feature = "rhai")]
    {
        let scheduler = crate::scheduler::RhaiScheduler::from_source(source.clone())?;
        Ok(Arc::new(scheduler.with_builtin(built_in.clone())))
    }
    #[cfg(not(feature = "rhai"))]
    let _ = built_in;
    #[cfg(not(feature = "rhai"))]
    Err(Error::new(
        ErrorKind::Unsupported,
        format!("this build reads no policies in {} (feature rhai)", source.language.as_str()),
    ))
}

impl PolicySource {
    /// The text of the policy in another language. Rules can be converted to the script that they are compiled to.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] if it cannot be converted to that language.
    pub fn in_language(&self, wanted: PolicyLanguage) -> Result<Arc<str>> {
        if self.language == wanted {
            return Ok(self.text.clone());
        }
        #[cfg(feature = "rules")]
        if self.language == PolicyLanguage::Yaml {
            return Ok(crate::scheduler::rules_to_rhai(&self.text)?.into());
        }
        let message = format!(
            "the policy is written in {}, and cannot be had in {}",
            self.language.as_str(),
            wanted.as_str()
        );
        Err(Error::new(ErrorKind::InvalidRequest, message))
    }

    /// A policy whose language is found from the extension of its file: `.rhai`, `.yaml` or `.yml`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidRequest`] for any other extension.
    pub fn named(file: &str, text: impl Into<Arc<str>>) -> Result<Self> {
        let extension = file.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
        let language = match extension.as_str() {
            "rhai" => PolicyLanguage::Rhai,
            "yaml" | "yml" => PolicyLanguage::Yaml,
            _ => {
                let message = format!(
                    "the policy {file:?} is in no known language; allowed are names that end in .rhai, .yaml or .yml"
                );
                return Err(Error::new(ErrorKind::InvalidRequest, message));
            }
        };
        Ok(Self { language, text: text.into() })
    }
}
