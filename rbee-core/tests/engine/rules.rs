//! The rules of the engine one by one, with each input given by hand.

mod admission;
mod autoscaling;
mod deadlines;
mod disk;
mod freezing;
mod hand;
mod hives;
mod memory;
mod operators;
mod platform;
mod queueing;
mod records;
mod retrying;
mod suspicion;
mod tenants;
mod workers;

use crate::parts;
