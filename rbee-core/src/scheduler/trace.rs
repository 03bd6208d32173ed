//! The reasons of a decision, noted only if somebody asked for them.

use std::fmt;

use super::decision::{Candidate, Verdict};

/// Takes the reasons of a decision. The decision is the same code for every kind of trace; with [`Silent`] the compiler
/// removes the notes.
pub(super) trait Trace {
    /// Returns true if candidates are wanted that no longer matter for the decision.
    fn wants_more(&self) -> bool;

    /// Notes a suitable candidate.
    fn eligible(&mut self, candidate: impl FnOnce() -> Candidate);

    /// Notes a candidate that is not suitable.
    fn refused(&mut self, candidate: impl FnOnce() -> Candidate, why: impl FnOnce() -> String);

    /// Notes the chosen candidate, which may have been noted before.
    fn chosen(&mut self, candidate: impl FnOnce() -> Candidate);
}

/// Notes nothing.
pub(super) struct Silent;

impl Trace for Silent {
    fn wants_more(&self) -> bool {
        false
    }

    fn eligible(&mut self, _: impl FnOnce() -> Candidate) {}

    fn refused(&mut self, _: impl FnOnce() -> Candidate, _: impl FnOnce() -> String) {}

    fn chosen(&mut self, _: impl FnOnce() -> Candidate) {}
}

/// Notes the first [`Reasons::MOST`] candidates, and always the chosen one.
#[derive(Default)]
pub(super) struct Reasons(pub(super) Vec<(Candidate, Verdict)>);

impl Reasons {
    const MOST: usize = 256;

    fn note(&mut self, candidate: Candidate, verdict: Verdict) {
        if self.wants_more() {
            self.0.push((candidate, verdict));
        }
    }
}

impl Trace for Reasons {
    fn wants_more(&self) -> bool {
        self.0.len() < Self::MOST
    }

    fn eligible(&mut self, candidate: impl FnOnce() -> Candidate) {
        self.note(candidate(), Verdict::Eligible);
    }

    fn refused(&mut self, candidate: impl FnOnce() -> Candidate, why: impl FnOnce() -> String) {
        if self.wants_more() {
            self.note(candidate(), Verdict::Refused(why()));
        }
    }

    fn chosen(&mut self, candidate: impl FnOnce() -> Candidate) {
        let candidate = candidate();
        match self.0.iter_mut().find(|(noted, _)| *noted == candidate) {
            Some((_, verdict)) => *verdict = Verdict::Chosen,
            None => {
                self.0.truncate(Self::MOST - 1);
                self.0.push((candidate, Verdict::Chosen));
            }
        }
    }
}

/// An amount of memory for people: `5.2 GiB`.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut value = self.0 as f64;
        let mut unit = "B";
        for larger in ["KiB", "MiB", "GiB", "TiB"] {
            // 1023.95 would be shown as 1024.0.
            if value < 1023.95 {
                break;
            }
            value /= 1024.0;
            unit = larger;
        }
        if unit == "B" { write!(f, "{value} B") } else { write!(f, "{value:.1} {unit}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::WorkerId;

    #[test]
    fn memory_is_shown_in_the_unit_that_fits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (3_145_728, "3.0 MiB"),
            ((1 << 30) - 1, "1.0 GiB"),
            (5_583_457_485, "5.2 GiB"),
            (u64::MAX, "16777216.0 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }

    #[test]
    fn the_reasons_are_bounded_and_the_chosen_one_is_always_among_them() {
        let candidate = |n: u128| Candidate::Worker(WorkerId::from_random_bits(n));
        let mut reasons = Reasons::default();
        for n in 0..1000 {
            reasons.eligible(|| candidate(n));
        }
        reasons.chosen(|| candidate(999));
        assert_eq!(reasons.0.len(), Reasons::MOST);
        assert_eq!(reasons.0.last(), Some(&(candidate(999), Verdict::Chosen)));
    }
}
