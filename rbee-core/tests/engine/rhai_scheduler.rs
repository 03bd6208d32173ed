//! Policies written as scripts: what they can do, the errors of invalid ones, and the limits that stop hostile ones.

mod apart;
mod fleet;
mod hostile;
mod language;
mod policies;
mod reference;
mod rules;
