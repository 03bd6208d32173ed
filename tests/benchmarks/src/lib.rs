//! The cost of rbee's parts, each compared with a baseline in the same run: see `benches/`.
