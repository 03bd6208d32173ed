//! The command line of rbee: a thin client of the queen.

fn main() {}
