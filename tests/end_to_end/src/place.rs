//! Directories for what the programs keep.

/// A new directory that its user alone can look into, as a daemon wants one that it has not made itself.
///
/// # Panics
/// If it cannot be made.
pub fn private_tempdir() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir().unwrap()
}
