//! Paths in the configuration. Those in the file are relative to the directory of the file, all others to the current
//! directory.

use std::path::{Path, PathBuf};

use rbee_core::models::absolute_path;

use super::Config;

/// The beginning of a reference to a file.
const FILE: &str = "file:";

impl Config {
    /// Every value that is a path, with its key.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = (&'static str, &mut PathBuf)> {
        let optional = [
            ("token_file", &mut self.token_file),
            ("tls_cert", &mut self.tls_cert),
            ("tls_key", &mut self.tls_key),
            ("models_dir", &mut self.models_dir),
            ("hub_cache", &mut self.hub_cache),
            ("hub_token_file", &mut self.hub_token_file),
            ("hive_program", &mut self.hive_program),
            ("policy", &mut self.policy),
            ("programs_dir", &mut self.programs_dir),
            ("ssh_config", &mut self.ssh_config),
            ("worker_program", &mut self.worker_program),
        ];
        let hives =
            self.hives.0.iter_mut().flat_map(|hive| [&mut hive.token_file, &mut hive.ca_cert]);
        let hives = hives.map(|path| ("hives", path));
        let optional = optional.into_iter().chain(hives);
        let roots = self.file_roots.0.iter_mut().map(|root| ("file_roots", root));
        let given = optional.filter_map(|(key, path)| Some((key, path.as_mut()?)));
        given.chain(roots).chain([("data_dir", &mut self.data_dir)])
    }

    /// Makes all paths of a file absolute that are relative to its directory.
    ///
    /// # Errors
    /// The key, and why its path cannot be made absolute.
    pub(super) fn place_in(&mut self, directory: &Path) -> Result<(), (&'static str, String)> {
        for (key, path) in self.paths() {
            let whole = absolute_path(&path, Some(directory));
            *path = whole.map_err(|cause| (key, format!("{key} is {path:?}: {cause}")))?;
        }
        for engine in &mut self.engines.0 {
            // A name without a slash is looked up in PATH.
            if let Some(program) = engine.0.command.0.first_mut()
                && program.contains('/')
                && let Ok(whole) = absolute_path(&**program, Some(directory))
                && let Some(whole) = whole.to_str()
            {
                *program = whole.into();
            }
        }
        for key in ["models", "model_keep_alive", "tenants", "default_limits"] {
            self.place_references(key, Some(directory));
        }
        Ok(())
    }

    /// Makes the paths in `file:` references of this key absolute; `directory` is the current one if it is `None`. What
    /// cannot be made absolute is left as it is, and is refused as a reference.
    pub(super) fn place_references(&mut self, key: &str, directory: Option<&Path>) {
        let place = |reference: &str| placed(reference, directory);
        let all = |names: &mut Option<std::collections::BTreeSet<String>>| {
            *names = names.take().map(|names| names.iter().map(|name| place(name)).collect());
        };
        match key {
            "models" => self.models.0.values_mut().for_each(|model| *model = place(model)),
            "model_keep_alive" => {
                let times = std::mem::take(&mut self.model_keep_alive.0);
                let placed = times.into_iter().map(|(model, time)| (place(&model), time));
                self.model_keep_alive.0 = placed.collect();
            }
            "tenants" => self.tenants.0.values_mut().for_each(|limits| all(&mut limits.0.models)),
            "default_limits" => all(&mut self.default_limits.0.0.models),
            _ => {}
        }
    }
}

/// The name of a model, in which a relative path is made absolute.
fn placed(name: &str, directory: Option<&Path>) -> String {
    let Some(path) = name.strip_prefix(FILE).filter(|path| !path.is_empty()) else {
        return name.to_owned();
    };
    match absolute_path(path, directory) {
        Ok(path) => format!("{FILE}{}", path.display()),
        Err(_) => name.to_owned(),
    }
}
