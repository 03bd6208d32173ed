//! What rbee's parts cost, each measured beside a yardstick in the same run: see `benches/`.
