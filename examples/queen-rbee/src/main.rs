//! The orchestrator as a daemon: an OpenAI-compatible API over every machine.

fn main() {}
