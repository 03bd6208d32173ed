//! The health of the active policy, and when it is no longer asked.

use super::*;
use crate::time::WallTime;

/// Faults in a row of one [`PolicyFunction`] after which the policy is not asked any more.
const MAX_FAULTS: u32 = 5;

/// The health of a policy, for its owner.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PolicyHealth {
    /// Decisions that it failed to make since it became active.
    pub faults: u64,
    /// The last fault.
    pub last_fault: Option<(WallTime, Error)>,
    /// Decisions that the built-in policy made because too many questions waited for this one already; not its faults.
    pub passed_over: u64,
    /// It failed too often in a row: the built-in policy decides everything until the policy is replaced.
    pub is_suspended: bool,
}

/// What a policy is asked for. The faults of each function are counted separately: an answer to one says nothing about
/// the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PolicyFunction {
    Place,
    Admit,
}

/// The number of a policy among those that were active one after the other. Questions carry it, because a late answer
/// of a replaced policy says nothing about its successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PolicyGeneration(u64);

/// Counts the faults of the active policy, and suspends it after too many in a row.
#[derive(Debug, Default)]
pub(super) struct PolicyBreaker {
    generation: PolicyGeneration,
    admits: bool,
    /// Faults in a row, by function.
    faults: [u32; 2],
    health: PolicyHealth,
}

impl PolicyBreaker {
    /// Another policy becomes active. `admits` is true if it must be asked which jobs may join the queue.
    pub(super) fn replace(&mut self, admits: bool) {
        let generation = PolicyGeneration(self.generation.0 + 1);
        *self = Self { generation, admits, ..Self::default() };
    }

    pub(super) fn health(&self) -> &PolicyHealth {
        &self.health
    }

    /// The policy that is asked where a job goes; `None` if it is suspended, so the built-in one is asked.
    pub(super) fn places(&self) -> Option<PolicyGeneration> {
        (!self.health.is_suspended).then_some(self.generation)
    }

    /// The policy that is asked whether a job may join the queue; `None` if none is.
    pub(super) fn admits(&self) -> Option<PolicyGeneration> {
        self.places().filter(|_| self.admits)
    }

    /// Notes that the policy of this generation gave a usable answer.
    pub(super) fn did_well(&mut self, asked: PolicyGeneration, function: PolicyFunction) {
        if asked == self.generation && !self.health.is_suspended {
            self.faults[function as usize] = 0;
        }
    }

    /// Notes that the policy of this generation gave no answer, or one that never fitted.
    pub(super) fn failed(
        &mut self,
        now: Now,
        asked: PolicyGeneration,
        function: PolicyFunction,
        why: &Error,
        out: &mut Out,
    ) {
        if asked != self.generation {
            return;
        }
        let in_a_row = &mut self.faults[function as usize];
        *in_a_row = in_a_row.saturating_add(1);
        let is_too_often = *in_a_row >= MAX_FAULTS;
        self.health.faults += 1;
        self.health.last_fault = Some((now.wall, why.clone()));
        if is_too_often && !self.health.is_suspended {
            self.health.is_suspended = true;
            out.push(Effect::Note(Note::PolicySuspended(why.clone())));
        }
        self.tell(out);
    }

    /// Notes that a question to the policy of this generation was not asked because the policy was busy.
    pub(super) fn had_no_time(&mut self, asked: PolicyGeneration, out: &mut Out) {
        if asked == self.generation {
            self.health.passed_over += 1;
            self.tell(out);
        }
    }

    fn tell(&self, out: &mut Out) {
        out.push(Effect::PolicyHealth(Box::new(self.health.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(
        breaker: &mut PolicyBreaker,
        asked: PolicyGeneration,
        function: PolicyFunction,
    ) -> bool {
        let mut out = Vec::new();
        breaker.failed(Now::default(), asked, function, &error(), &mut out);
        out.iter().any(|effect| matches!(effect, Effect::Note(Note::PolicySuspended(_))))
    }

    fn error() -> Error {
        Error::new(ErrorKind::Internal, "no")
    }

    #[test]
    fn a_policy_that_fails_again_and_again_is_suspended_until_it_is_changed() {
        let mut breaker = PolicyBreaker::default();
        breaker.replace(true);
        let first = breaker.generation;
        for _ in 0..2 {
            for n in 1..MAX_FAULTS {
                let too_often = fail(&mut breaker, first, PolicyFunction::Place);
                assert!(!too_often, "fault {n} is not yet too many");
                assert_eq!(breaker.places(), Some(first));
            }
            breaker.did_well(first, PolicyFunction::Place);
        }
        let told: Vec<bool> =
            (0..=MAX_FAULTS).map(|_| fail(&mut breaker, first, PolicyFunction::Place)).collect();
        assert_eq!(told, [false, false, false, false, true, false], "it is reported once");
        assert!(breaker.health().is_suspended);
        assert_eq!((breaker.places(), breaker.admits()), (None, None));
        breaker.did_well(first, PolicyFunction::Place);
        assert_eq!(breaker.places(), None, "only another policy ends it");

        breaker.replace(true);
        let second = Some(breaker.generation);
        assert_eq!((breaker.places(), breaker.admits()), (second, second));
        assert_eq!(*breaker.health(), PolicyHealth::default());
    }

    #[test]
    fn what_an_old_policy_still_answers_says_nothing_of_the_new_one() {
        let mut breaker = PolicyBreaker::default();
        let old = breaker.generation;
        breaker.replace(false);
        for _ in 0..2 * MAX_FAULTS {
            assert!(!fail(&mut breaker, old, PolicyFunction::Place));
        }
        let mut out = Vec::new();
        breaker.had_no_time(old, &mut out);
        assert!(out.is_empty() && *breaker.health() == PolicyHealth::default());
        let new = breaker.generation;
        for _ in 1..MAX_FAULTS {
            assert!(!fail(&mut breaker, new, PolicyFunction::Place));
        }
        breaker.did_well(old, PolicyFunction::Place);
        assert!(fail(&mut breaker, new, PolicyFunction::Place), "five of its own in a row");
    }

    #[test]
    fn good_placements_do_not_make_up_for_admissions_that_fail() {
        let mut breaker = PolicyBreaker::default();
        breaker.replace(true);
        let asked = breaker.generation;
        for n in 1..=MAX_FAULTS {
            assert_eq!(fail(&mut breaker, asked, PolicyFunction::Admit), n == MAX_FAULTS);
            breaker.did_well(asked, PolicyFunction::Place);
        }
        assert_eq!((breaker.places(), breaker.admits()), (None, None));
    }

    #[test]
    fn questions_that_nobody_had_time_for_are_counted_and_are_no_faults() {
        let mut breaker = PolicyBreaker::default();
        let mut out = Vec::new();
        for _ in 0..2 * MAX_FAULTS {
            breaker.had_no_time(breaker.generation, &mut out);
        }
        let health = breaker.health();
        assert_eq!((health.passed_over, health.faults), (u64::from(2 * MAX_FAULTS), 0));
        assert!(!health.is_suspended && matches!(&out[..], [.., Effect::PolicyHealth(_)]));
    }
}
