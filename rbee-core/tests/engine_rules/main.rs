//! The rules of the engine one by one, each input given by hand.

#[path = "../support/parts.rs"]
mod parts;

mod hand;
mod queueing;
mod retrying;
mod workers;
