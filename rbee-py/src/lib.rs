//! Python bindings of rbee. **Nothing is here yet.**
//!
//! They will expose the API of `rbee-core` to Python under the same names.
