//! A platform in virtual time, with its own policy active.

use std::time::Duration;

use rbee_core::{
    TenantId,
    scheduler::PlatformPolicy,
    settings::Mode,
    sim::{Arrival, JobSketch, Replay, Trace},
    tenant::TenantLimits,
    time::WallTime,
};

const FLEET: &str = r#"{ "hives": [{
    "id": "hive-0",
    "devices": [{ "kind": "cpu", "memory_total": 64000000000 }],
    "models": { "m": 4000000000 },
    "workers": [{ "model": "m", "slots": 4, "device": 0 }]
}] }"#;

/// A job of acme with an answer of this many tokens, one every 20 ms.
fn arrival(at: Duration, tokens: u32) -> Arrival {
    let job = JobSketch {
        tenant: Some(TenantId::new("acme").unwrap()),
        prompt_tokens: 1,
        max_tokens: Some(tokens),
        ..JobSketch::new("m".parse().unwrap())
    };
    Arrival { at, job, service: Duration::from_millis(20) * tokens, tokens }
}

fn platform(arrivals: Vec<Arrival>, limits: TenantLimits) -> Replay {
    let fleet = serde_json::from_str(FLEET).unwrap();
    let mut replay = Replay::new(fleet, Trace { arrivals, ..Trace::default() });
    replay.settings.mode = Mode::Platform;
    replay.tenants.insert(TenantId::new("acme").unwrap(), limits);
    replay
}

#[test]
fn a_day_that_is_used_up_ends_at_midnight() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    // The first job uses up the day's tokens, the second comes before midnight and the others after it.
    let arrivals = vec![
        arrival(minutes(0), 200),
        arrival(minutes(20), 10),
        arrival(minutes(40), 10),
        arrival(minutes(50), 10),
    ];
    let limits = TenantLimits { daily_tokens: Some(100), ..TenantLimits::default() };
    let mut replay = platform(arrivals, limits);
    replay.trace.start = WallTime::from_millis(minutes(10 * 24 * 60 - 30).as_millis() as u64);
    let report = replay.run(&PlatformPolicy::default()).unwrap();
    assert_eq!(report.completed, 3, "{:?}", report.rejected);
    assert_eq!(report.rejected["QUOTA_EXCEEDED"], 1);
}
