//! Directories for the data of the programs.

/// A new directory that only its user can read, as a daemon requires of one that it did not create itself.
///
/// # Panics
/// If it cannot be made.
pub fn private_tempdir() -> tempfile::TempDir {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o700));
    builder.tempdir().unwrap()
}
