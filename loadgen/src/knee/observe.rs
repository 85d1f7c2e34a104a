//! A run as the search sees it.
//!
//! # Rules
//! 1. Who failed decides the search, so the reasons of the verdict are parted: those in [`OWN_CODES`] are the
//!    generator's, all others are not.
//! 2. A server that falls behind answers less than was offered. That alone is no fault of the generator.
//!
//! Not here: the verdict itself (`verdict`).

use crate::model::{Level, Run};
use crate::record::Value;
use crate::slo::{self, Slo, Term};

use super::Observation;

/// Reasons of a verdict that mean the generator itself, or the host under it: what was measured may be its
/// own doing.
pub const OWN_CODES: [&str; 6] = ["own_lag", "cpu_saturated", "run_delay", OFFERED, "cq_overflow", "hiccup"];

/// Achieved was not what was offered: whose fault that is takes a second look.
const OFFERED: &str = "offered";

/// Share of the response time's P99 up to which the generator's own lag does not explain it.
const OWN_LAG_SHARE: f64 = 0.1;

/// What a run shows, as the search takes it.
///
/// A `rate` term of the objective is left out: the rate is what is searched for. An objective of nothing else
/// is never met.
pub fn observe(run: &Run, objective: &Slo) -> Observation {
    let terms = objective.terms().iter().filter(|term| !matches!(term, Term::Rate { .. }));
    let outcomes: Vec<_> = terms.map(|term| term.check(run)).collect();
    let response = &run.total.response;
    let percentile = |percent| response.percentile(percent).unwrap_or(Value::AtLeast(0));
    Observation {
        rate: run.offered().unwrap_or_else(|| run.rate()),
        achieved: run.rate(),
        p50_ns: percentile(50.0),
        p99_ns: percentile(99.0),
        slo_met: slo::met(&outcomes),
        generator_ok: generator_ok(run),
        errors_share: run.total.error_share(),
    }
}

fn generator_ok(run: &Run) -> bool {
    let against = run.verdict.reasons.iter().filter(|reason| reason.level != Level::Valid);
    let mut own = against.map(|reason| reason.code.as_str()).filter(|code| OWN_CODES.contains(code));
    own.all(|code| code == OFFERED && server_fell_behind(run))
}

/// Whether a lack of answers is the server's: requests went out when they could, and answers did not come.
fn server_fell_behind(run: &Run) -> bool {
    let own_lag = run.total.own_lag.percentile(99.0);
    match (own_lag, run.total.response.percentile(99.0)) {
        (Some(Value::Exact(own)), Some(response)) => own as f64 <= OWN_LAG_SHARE * response.ns() as f64,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::model::{Arrivals, Loop, Reason};
    use crate::record::{ErrorKind, Tally};
    use crate::slo::tests::run_of;

    const US: u64 = 1_000;

    /// 1000 requests in 10 s, answered after 100 us, sent 2 us late.
    fn good() -> Run {
        let mut tally = Tally::default();
        for _ in 0..1_000 {
            tally.response.record(100 * US);
            tally.own_lag.record(2 * US);
        }
        tally.counts.intended = 1_000;
        tally.counts.completed = 990;
        let mut run = run_of(tally);
        run.settings.traffic = Loop::Open { arrivals: Arrivals::Poisson, stages: Vec::new() };
        run
    }

    fn with(mut run: Run, level: Level, code: &str) -> Run {
        run.verdict.level = level;
        run.verdict.reasons.push(Reason { level, code: code.into(), text: String::new() });
        run
    }

    fn slo(text: &str) -> Slo {
        Slo::parse(text).unwrap()
    }

    #[test]
    fn a_run_is_seen_with_what_was_offered_and_what_came_of_it() {
        let mut run = good();
        run.total.errors.add_n(ErrorKind::Status5xx, 10);
        let seen = observe(&run, &slo("p99=1ms,errors=1%"));
        assert_eq!((seen.rate, seen.achieved, seen.errors_share), (100.0, 99.0, 0.01));
        assert!(!seen.p99_ns.is_bound());
        assert!(seen.p99_ns.ns().abs_diff(100 * US) < 100);
        assert!(seen.slo_met);
        assert!(seen.generator_ok);
        assert!(!observe(&run, &slo("p99=50us")).slo_met);
    }

    #[test]
    fn the_rate_of_an_objective_is_what_is_searched_for_and_not_a_condition() {
        assert!(observe(&good(), &slo("p99=1ms,rate=1M")).slo_met);
        assert!(!observe(&good(), &slo("rate=1")).slo_met);
    }

    #[test]
    fn a_run_without_a_request_is_seen_as_missed() {
        let seen = observe(&run_of(Tally::default()), &slo("p99=1h"));
        assert!(!seen.slo_met);
        assert_eq!(seen.p99_ns, Value::AtLeast(0));
    }

    #[test]
    fn each_reason_of_the_generator_makes_it_unfit_and_others_do_not() {
        for code in ["own_lag", "cpu_saturated", "run_delay", "cq_overflow", "hiccup"] {
            for level in [Level::Suspect, Level::Invalid] {
                assert!(!observe(&with(good(), level, code), &slo("p99=1ms")).generator_ok, "{code}");
            }
            assert!(observe(&with(good(), Level::Valid, code), &slo("p99=1ms")).generator_ok, "{code}");
        }
        for code in ["retransmits", "same_core", "steal", "floor"] {
            assert!(observe(&with(good(), Level::Suspect, code), &slo("p99=1ms")).generator_ok, "{code}");
        }
    }

    #[test]
    fn too_few_answers_are_the_generators_fault_only_where_its_own_lag_explains_them() {
        let offered = |run| observe(&with(run, Level::Invalid, "offered"), &slo("p99=1ms")).generator_ok;
        // Sent in time, answered after a second: the server.
        let mut slow_server = good();
        slow_server.total.response.record_at_least_n(1_000_000 * US, 500);
        assert!(offered(slow_server.clone()));
        // Sent a second late.
        let mut late = slow_server.clone();
        for _ in 0..500 {
            late.total.own_lag.record(1_000_000 * US);
        }
        assert!(!offered(late));
        // Two reasons: the other one stands.
        assert!(!offered(with(slow_server.clone(), Level::Suspect, "cpu_saturated")));
        // Nothing was sent at all.
        slow_server.total.own_lag.clear();
        assert!(!offered(slow_server));
    }
}
