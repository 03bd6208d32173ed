//! One loaded model, as a process of its own.

fn main() {}
