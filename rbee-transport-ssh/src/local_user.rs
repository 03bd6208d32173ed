//! The user of this process: [`LocalUser`].

use std::{
    env, fs,
    path::{Path, PathBuf},
};

/// The user that `ssh` would see: by number, from the table of users, and from the environment only if the table does
/// not have it (it can be in a directory service).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalUser {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) home: PathBuf,
    pub(crate) host_name: String,
}

impl LocalUser {
    /// Returns `None` if the name or the home directory is unknown.
    pub(crate) fn current() -> Option<Self> {
        let uid = rustix::process::getuid().as_raw();
        let row =
            fs::read_to_string("/etc/passwd").ok().and_then(|table| row(&table, |_, id| id == uid));
        let (name, home) = match row {
            Some(row) => row,
            None => {
                let name = env::var("USER").or_else(|_| env::var("LOGNAME")).ok()?;
                (name, env::home_dir()?)
            }
        };
        let host_name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Some(Self { name, uid, home, host_name })
    }

    /// The home directory of another user of this machine.
    pub(crate) fn home_of(&self, name: &str) -> Option<PathBuf> {
        if name == self.name {
            return Some(self.home.clone());
        }
        let table = fs::read_to_string("/etc/passwd").ok()?;
        row(&table, |other, _| other == name).map(|(_, home)| home)
    }
}

/// Name and home directory of the first user that fits, by name and number.
fn row(table: &str, fits: impl Fn(&str, u32) -> bool) -> Option<(String, PathBuf)> {
    table.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, uid, home) = (fields.first()?, fields.get(2)?.parse().ok()?, fields.get(5)?);
        let is_usable = Path::new(home).is_absolute();
        (is_usable && fits(name, uid)).then(|| ((*name).to_owned(), PathBuf::from(home)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_table_of_users_is_found_by_number_and_broken_rows_are_ignored() {
        let table = "broken\nx:x:notanumber:0::/x:\nada:x:1000:1000:Ada,,,:/home/ada:/bin/sh\nb:x:1001:1001::rel:/bin/sh\n";
        assert_eq!(row(table, |_, id| id == 1000), Some(("ada".into(), "/home/ada".into())));
        assert_eq!(row(table, |name, _| name == "b"), None);
        assert_eq!(row(table, |_, id| id == 7), None);
    }

    #[test]
    fn the_current_user_is_found() {
        let user = LocalUser::current().unwrap();
        assert!(user.home.is_absolute());
        assert_eq!(user.home_of(&user.name), Some(user.home.clone()));
    }
}
