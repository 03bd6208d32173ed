//! The SSH transport of rbee. **Nothing is here yet.**
//!
//! It will hold `SshHive`, a `HiveBackend` that puts the hive daemon on a
//! machine over SSH, starts it, and reaches its API through the connection.
