//! All programs of rbee in one file: `rbee`, `queen-rbee`, `rbee-hive` and `llm-worker-rbee`.
//!
//! They share most of their code, so one file is about half as large as four. It is the program by whose name it is
//! run, else the one that its first argument names, else `rbee`.

use std::{env, ffi::OsString, path::Path, process::ExitCode};

use rbee_transport_http::Program;

/// A request makes many small objects: see the benchmark of the gateway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Those that are told by a name.
const NAMES: &[&str] = &["queen-rbee", "rbee-hive", "llm-worker-rbee"];

fn main() -> ExitCode {
    Program::contain(NAMES);
    match name(env::args_os()) {
        Some("queen-rbee") => queen_rbee::main(),
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
        assert_eq!(of(&["/home/ada/queen-rbee", "--help"]), Some("queen-rbee"));
        assert_eq!(of(&["./llm-worker-rbee", "rbee-hive"]), Some("llm-worker-rbee"));
        assert_eq!(of(&["rbee-programs", "--", "rbee-hive"]), None);
        assert_eq!(of(&[]), None);
    }
}
