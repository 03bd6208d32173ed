//! The programs of the Python package in one file: `rbee`, `rbee-hive` and `llm-worker-rbee`. The daemon is in the
//! package's extension.
//!
//! They share most of their code, so one file is about half as large as three. It is the program by whose name it is
//! run, else the one that its first argument names, else `rbee`.

use std::{env, ffi::OsString, path::Path, process::ExitCode};

use rbee_transport_http::Program;

/// Those that a name selects.
const NAMES: &[&str] = &Program::BUNDLED;

fn main() -> ExitCode {
    Program::contain(NAMES);
    match name(env::args_os()) {
        Some("rbee-hive") => rbee_hive::main(),
        Some("llm-worker-rbee") => llm_worker_rbee::main_from_stdin(),
        _ => rbee_keeper::main(),
    }
}

fn name(mut arguments: impl Iterator<Item = OsString>) -> Option<&'static str> {
    let path = arguments.next();
    let stem = path.as_deref().map(Path::new).and_then(Path::file_stem);
    let by_path = NAMES.iter().find(|name| stem.is_some_and(|stem| stem == **name));
    let first = arguments.next();
    let named = || NAMES.iter().find(|name| first.as_ref().is_some_and(|first| first == **name));
    by_path.or_else(named).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_decides_before_the_first_argument() {
        let of = |line: &[&str]| name(line.iter().map(OsString::from));
        assert_eq!(of(&["/opt/rbee/rbee-programs"]), None);
        assert_eq!(of(&["rbee-programs", "jobs"]), None);
        assert_eq!(of(&["rbee-programs", "rbee-hive", "--id", "a"]), Some("rbee-hive"));
        assert_eq!(of(&["/home/ada/rbee-hive", "--help"]), Some("rbee-hive"));
        assert_eq!(of(&["./llm-worker-rbee", "rbee-hive"]), Some("llm-worker-rbee"));
        assert_eq!(of(&["rbee-programs", "--", "rbee-hive"]), None);
        assert_eq!(of(&[]), None);
    }
}
