//! The agent of one machine, as a daemon.

fn main() {}
