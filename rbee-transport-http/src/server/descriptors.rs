//! How many connections a process can hold, given its limit on open files.

/// The fewest descriptors that are kept for everything but client connections.
const RESERVE_LEAST: u64 = 64;
/// The most that are kept.
const RESERVE_MOST: u64 = 4_096;

/// How many descriptors this process can have open; `None` if unlimited or unknown.
pub(super) fn limit() -> Option<u64> {
    #[cfg(unix)]
    {
        rustix::process::getrlimit(rustix::process::Resource::Nofile).current
    }
    #[cfg(not(unix))]
    {
        None
    }
}

/// The most connections to hold at once if `wanted` are allowed and `descriptors` can be open. A quarter of the
/// descriptors, 64 to 4,096, stays free for the store, the pipes of workers and the connections to them; half of them
/// if there are fewer than 128.
pub(super) fn connection_cap(wanted: usize, descriptors: Option<u64>) -> usize {
    let Some(limit) = descriptors else { return wanted.max(1) };
    let reserve = (limit / 4).clamp(RESERVE_LEAST, RESERVE_MOST).min(limit / 2);
    let room = usize::try_from(limit - reserve).unwrap_or(usize::MAX);
    wanted.min(room).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_stay_free_for_everything_but_clients() {
        for (descriptors, cap) in [
            (None, 10_000),
            (Some(u64::MAX), 10_000),
            (Some(20_000), 10_000),
            (Some(8_192), 6_144),
            (Some(1_024), 768),
            (Some(256), 192),
            (Some(128), 64),
            (Some(64), 32),
            (Some(1), 1),
            (Some(0), 1),
        ] {
            assert_eq!(connection_cap(10_000, descriptors), cap, "{descriptors:?}");
        }
        assert_eq!(connection_cap(5, Some(1_024)), 5);
    }
}
