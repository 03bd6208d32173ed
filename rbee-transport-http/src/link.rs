//! The framed link to a worker: one connection that carries all runs of a client. Both sides use these parts.
//!
//! The protocol is described in `docs/worker-protocol.md`.

mod buffer;
mod frame;
mod run_map;
mod silence;
mod tokens;
mod varint;
mod vectors;

pub(crate) use buffer::FrameBuffer;
pub(crate) use frame::{
    CONNECTION, Frame, MAX_FRAME_BYTES, begin, finish, kind, put, read_u32, set_run, split,
};
pub(crate) use run_map::RunMap;
pub(crate) use silence::{Silence, SilenceWatch};
pub(crate) use tokens::{put_token, take_token};
pub(crate) use vectors::{put_vectors, read_vectors};

#[cfg(test)]
mod tests;
