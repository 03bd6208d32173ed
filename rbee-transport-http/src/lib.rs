//! The HTTP transport of rbee. **Nothing is here yet.**
//!
//! It will hold adapter pairs for the traits of `rbee-core`: a client that
//! implements the trait and a server that exposes it (`HttpWorker` and
//! `server::worker`, `HttpHive` and `server::hive`), and `server::queen`, the
//! OpenAI-compatible API around a `Queen`. Until then an application serves
//! HTTP itself; the `embed_in_axum` example shows how.
