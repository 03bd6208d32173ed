//! Policies written as scripts: what they can do, what is said of wrong ones, and that hostile ones are stopped.

mod apart;
mod fleet;
mod hostile;
mod language;
mod policies;
mod reference;
mod rules;
