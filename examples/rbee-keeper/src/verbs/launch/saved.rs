//! `rbee launch --save` and `--undo`: the client's own configuration, with a backup.
//!
//! Two files below rbee's data directory belong to a client: `NAME.before`, a copy of the configuration as it was, and
//! `NAME.json`, the [`Record`] of what was written where.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    clients::ClientKind,
    config_file::{ConfigFile, PRIVATE, write_own},
    diff,
    setup::Target,
};
use crate::{
    Keeper,
    failure::{Exit, Failure},
};

/// What was written for a client.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    /// The configuration file.
    file: PathBuf,
    /// False if there was no file before.
    existed: bool,
    /// The mode of the file before.
    mode: Option<u32>,
    /// The text that was written.
    written: String,
}

/// The backup of a client's configuration.
struct Backup {
    record: PathBuf,
    before: PathBuf,
}

impl Backup {
    fn of(client: ClientKind, directory: &Path) -> Self {
        let path = |ending| directory.join(format!("{client}.{ending}"));
        Self { record: path("json"), before: path("before") }
    }

    fn read(&self) -> Result<Option<Record>, Failure> {
        let Some(text) = ConfigFile::read(&self.record)?.text else { return Ok(None) };
        serde_json::from_str(&text).map(Some).map_err(|cause| {
            let path = self.record.display();
            let message = format!("the record of --save in {path} is damaged: {cause}");
            Failure::new(Exit::Failed, "CONFIG", message).with_hint(format!(
                "{} is the configuration as it was before; remove {path} after you have restored it",
                self.before.display()
            ))
        })
    }

    /// Keeps the file as it is, unless it is as an earlier --save has written it: then the backup of that one stays.
    fn keep(&self, file: &ConfigFile, written: &str) -> Result<(), Failure> {
        let earlier = self.read()?;
        if let Some(earlier) = earlier.as_ref().filter(|earlier| earlier.file != file.path) {
            let message = format!(
                "another configuration of this client was saved before, in {}",
                earlier.file.display()
            );
            return Err(Failure::new(Exit::Failed, "CONFLICT", message)
                .with_hint("restore that one first, with --undo instead of --save"));
        }
        let ours = earlier.filter(|earlier| Some(&earlier.written) == file.text.as_ref());
        let (existed, mode) = match &ours {
            Some(earlier) => (earlier.existed, earlier.mode),
            None => (file.text.is_some(), file.mode),
        };
        if ours.is_none() {
            write_own(&self.before, file.text.as_deref().unwrap_or_default().as_bytes())?;
        }
        let record = Record { file: file.path.clone(), existed, mode, written: written.to_owned() };
        let text = serde_json::to_vec(&record).map_err(|cause| {
            let message = format!("the backup cannot be described: {cause}");
            Failure::new(Exit::Failed, "INTERNAL", message)
        })?;
        write_own(&self.record, &text)
    }

    /// The text as it was before, or `None` if there was no file.
    fn before(&self, record: &Record) -> Result<Option<String>, Failure> {
        if !record.existed {
            return Ok(None);
        }
        let text = ConfigFile::read(&self.before)?.text;
        text.map(Some).ok_or_else(|| {
            let message = format!("the backup {} is not there any more", self.before.display());
            Failure::new(Exit::Failed, "CONFIG", message)
        })
    }

    fn remove(&self) -> Result<(), Failure> {
        for path in [&self.record, &self.before] {
            match fs::remove_file(path) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
                    let message = format!("{} cannot be removed: {cause}", path.display());
                    return Err(Failure::new(Exit::Failed, "CONFIG", message));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Writes the model into the client's configuration.
pub(super) fn save(
    keeper: &Keeper,
    client: ClientKind,
    target: &Target,
    yes: bool,
) -> Result<Exit, Failure> {
    let file = ConfigFile::read(&path_of(client)?)?;
    save_in(keeper, client, target, &file, yes)
}

fn save_in(
    keeper: &Keeper,
    client: ClientKind,
    target: &Target,
    file: &ConfigFile,
    yes: bool,
) -> Result<Exit, Failure> {
    let before = file.text.as_deref().unwrap_or_default();
    let after =
        client.edited(before, target).map_err(|why| by_hand(client, target, &file.path, &why))?;
    let shown = file.path.display().to_string();
    if file.text.as_deref() == Some(&*after) {
        keeper.screen.done("unchanged", &shown, "")?;
        return Ok(Exit::Ok);
    }
    show(keeper, &shown, before, &after);
    if !yes && !may(keeper, &format!("change {shown}?"))? {
        return Ok(Exit::Failed);
    }
    let directory = &target.directory;
    Backup::of(client, directory).keep(file, &after)?;
    if let Some(own) = client.setup(target).file {
        own.write()?;
    }
    let mode = if target.key.is_some() { PRIVATE } else { file.mode.unwrap_or(PRIVATE) };
    file.replace(Some(&after), mode)?;
    keeper.screen.done("saved", &shown, "")?;
    if target.key.is_some() {
        keeper.screen.note("the key is in this file, which only its owner can read now");
    }
    if let Some((name, value)) = client.unsaved(target) {
        keeper.screen.note(&format!("the file has no place for certificates: set {name}={value}"));
    }
    keeper.screen.note(&format!(
        "the backup is in {}; `rbee launch {client} --undo` restores it",
        directory.display()
    ));
    Ok(Exit::Ok)
}

/// Restores the client's configuration.
pub(super) fn undo(keeper: &Keeper, client: ClientKind, yes: bool) -> Result<Exit, Failure> {
    undo_in(keeper, client, &super::directory()?, yes)
}

fn undo_in(
    keeper: &Keeper,
    client: ClientKind,
    directory: &Path,
    yes: bool,
) -> Result<Exit, Failure> {
    let backup = Backup::of(client, directory);
    let Some(record) = backup.read()? else {
        let message = format!("there is nothing to restore: nothing was saved for {client}");
        return Err(Failure::new(Exit::NotFound, "NOT_FOUND", message));
    };
    let before = backup.before(&record)?;
    let file = ConfigFile::read(&record.file)?;
    let shown = record.file.display().to_string();
    let is_ours = file.text.as_deref() == Some(&*record.written);
    if !is_ours && file.text != before && !yes {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        show(keeper, &shown, &text(&file.text), &text(&before));
        let message =
            format!("{shown} has changed since it was saved, and these changes would be lost");
        return Err(Failure::new(Exit::Failed, "CONFLICT", message)
            .with_hint("the difference is shown above; --yes restores the backup anyway"));
    }
    if file.text != before {
        file.replace(before.as_deref(), record.mode.unwrap_or(PRIVATE))?;
    }
    backup.remove()?;
    let how = if before.is_none() { "(it did not exist before)" } else { "" };
    keeper.screen.done(if before.is_none() { "removed" } else { "restored" }, &shown, how)?;
    Ok(Exit::Ok)
}

fn path_of(client: ClientKind) -> Result<PathBuf, Failure> {
    let home =
        std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).ok_or_else(|| {
            Failure::new(Exit::Failed, "CONFIG", "the home directory of this user is not known")
        })?;
    super::absolute(&client.config_file(&home, super::variable))
}

fn show(keeper: &Keeper, name: &str, before: &str, after: &str) {
    for line in diff::lines(name, before, after) {
        keeper.screen.diff_line(&line);
    }
}

/// Asks for consent.
fn may(keeper: &Keeper, question: &str) -> Result<bool, Failure> {
    if !keeper.screen.can_ask() {
        return Err(Failure::usage("nobody can be asked here, so nothing is changed")
            .with_hint("--yes changes the file without asking"));
    }
    let agreed = keeper.screen.confirm(question);
    if !agreed {
        keeper.screen.note("nothing is changed");
    }
    Ok(agreed)
}

/// The failure for a file that cannot be changed, with the lines that its user adds.
fn by_hand(client: ClientKind, target: &Target, path: &Path, why: &str) -> Failure {
    let message = format!("{} cannot be changed: {why}", path.display());
    let failure = Failure::new(Exit::Failed, "CONFIG", message);
    match client.edited("", target) {
        Ok(lines) => {
            let lines: Vec<_> =
                lines.lines().map(|line| format!("    {}", diff::masked(line))).collect();
            failure.with_hint(format!(
                "add these lines yourself, with the key in place of ****:\n{}",
                lines.join("\n")
            ))
        }
        Err(_) => failure,
    }
}

#[cfg(test)]
mod tests;
