//! Deployments to this system, by real shells.

mod local;
mod probing;
