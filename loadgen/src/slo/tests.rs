//! Objectives: their words, and runs on both sides of each.
#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;
use crate::model::{Loop, RespSpec, Settings, Speaks, Verdict};
use crate::record::{ErrorKind, Tally};

const MS: u64 = 1_000_000;

/// A run of ten seconds with this in it.
pub(crate) fn run_of(total: Tally) -> Run {
    let settings = Settings {
        url: "http://127.0.0.1:1/".into(),
        speaks: Speaks::Http1,
        host: "127.0.0.1".into(),
        port: 1,
        requests: Vec::new(),
        resp: RespSpec::default(),
        echo_len: 0,
        traffic: Loop::Closed { think_ns: 0, think_exponential: false },
        connections: 1,
        pipeline: 1,
        requests_per_connection: 0,
        ramp_ns: 0,
        warmup_ns: 0,
        duration_ns: 10_000 * MS,
        timeout_ns: 1_000 * MS,
        drain_ns: 0,
        slice_ns: 1_000 * MS,
        seed: 0,
        threads: 1,
        busy_poll: false,
        cpus: Vec::new(),
        sources: Vec::new(),
        expect_status: Vec::new(),
    };
    Run {
        settings,
        provenance: crate::model::Provenance::default(),
        measured_ns: 10_000 * MS,
        interrupted: false,
        total,
        slices: Vec::new(),
        workers: Vec::new(),
        host: crate::model::HostUse::default(),
        floor: None,
        verdict: Verdict::default(),
    }
}

/// 1000 answers: 1 to 1000 us of response, half of that of service.
fn thousand() -> Tally {
    let mut tally = Tally::default();
    for us in 1..=1_000 {
        tally.response.record(us * 1_000);
        tally.service.record(us * 500);
    }
    tally.counts.completed = 1_000;
    tally.counts.intended = 1_000;
    tally
}

fn is_met(slo: &str, tally: &Tally) -> bool {
    met(&Slo::parse(slo).unwrap().check(&run_of(tally.clone())))
}

#[test]
fn each_term_is_met_on_its_one_side_and_not_on_the_other() {
    let tally = thousand();
    for (yes, no) in [
        ("p50=501us", "p50=499us"),
        ("p99=991us", "p99=989us"),
        ("p99.9=1ms", "p99.9=998us"),
        ("max=1001us", "max=999us"),
        ("mean=501us", "mean=500us"),
        ("service_p99=496us", "service_p99=494us"),
        ("service_max=501us", "service_max=499us"),
        ("service_mean=251us", "service_mean=249us"),
        ("rate=100", "rate=100.001"),
        ("errors=0", "errors=0,max=1us"),
        ("p50=1s,max=2s,rate=1,errors=1%", "p50=1s,max=2s,rate=1k,errors=1%"),
    ] {
        assert!(is_met(yes, &tally), "{yes}");
        assert!(!is_met(no, &tally), "{no}");
    }
}

#[test]
fn errors_are_a_share_of_all_requests() {
    let mut tally = thousand();
    tally.errors.add_n(ErrorKind::Status5xx, 10);
    assert!(is_met("errors=1%", &tally));
    assert!(is_met("errors=0.01", &tally));
    assert!(!is_met("errors=0.99%", &tally));
}

#[test]
fn a_lower_bound_never_shows_that_a_term_is_met() {
    let mut tally = thousand();
    tally.response.record_at_least_n(2 * MS, 20);
    assert!(is_met("p50=1ms", &tally));
    // Below the objective as it stands, and what it stands for may be anything.
    assert!(!is_met("p99=1h", &tally));
    assert!(!is_met("max=1h", &tally));
    assert!(!is_met("mean=1h", &tally));
    let outcomes = Slo::parse("p99=1h").unwrap().check(&run_of(tally));
    assert_eq!(outcomes[0], Outcome { term: "p99 <= 3600 s".into(), seen: ">= 2.00 ms".into(), met: false });
}

#[test]
fn a_run_without_a_request_meets_nothing() {
    for slo in ["p99=1h", "max=1h", "mean=1h", "service_p50=1h", "errors=99%", "rate=0.001"] {
        let outcomes = Slo::parse(slo).unwrap().check(&run_of(Tally::default()));
        assert!(!met(&outcomes), "{slo}");
        assert_eq!(outcomes[0].seen, "no requests", "{slo}");
    }
    assert!(!met(&[]));
}

#[test]
fn an_outcome_reads_as_a_sentence() {
    let mut tally = thousand();
    tally.errors.add_n(ErrorKind::Timeout, 5);
    let outcomes = Slo::parse("p99=5ms,errors=0.1%,rate=50k").unwrap().check(&run_of(tally));
    let texts: Vec<(&str, &str, bool)> =
        outcomes.iter().map(|o| (o.term.as_str(), o.seen.as_str(), o.met)).collect();
    assert_eq!(
        texts,
        [
            ("p99 <= 5 ms", "990 us", true),
            ("errors <= 0.1%", "0.5%", false),
            ("rate >= 50.0k/s", "100/s", false),
        ]
    );
}

#[test]
fn an_objective_displays_in_the_words_it_is_read_in() {
    let text =
        "p99=5ms,errors=0.1%,rate=50k,p99.9=20ms,max=1s,service_p99=2ms, mean = 1500us ,service_mean=1";
    let slo: Slo = text.parse().unwrap();
    let wanted =
        "p99=5ms,errors=0.001,rate=50000,p99.9=20ms,max=1s,service_p99=2ms,mean=1500us,service_mean=1s";
    assert_eq!(slo.to_string(), wanted);
    assert_eq!(Slo::parse(wanted).unwrap(), slo);
    assert_eq!(slo.terms().len(), 8);
}

#[test]
fn an_objective_that_is_none_says_what_to_write() {
    for text in [
        "",
        "p99",
        "p99=",
        "=5ms",
        "p=5ms",
        "p0=5ms",
        "p100=5ms",
        "p999=5ms",
        "p-1=5ms",
        "p1e1=5ms",
        "pinf=5ms",
        "p99=0",
        "p99=5furlongs",
        "P99=5ms",
        "median=5ms",
        "service_errors=1%",
        "service_rate=5",
        "errors=1",
        "errors=100%",
        "errors=x",
        "rate=0",
        "rate=-1",
        "p99=5ms,",
        "p99=5ms;max=1s",
    ] {
        let error = Slo::parse(text).unwrap_err();
        assert!(error.contains(CURE), "{text}: {error}");
    }
    assert!(Slo::parse("p100=1s").unwrap_err().contains("called max"));
}

#[test]
fn a_term_that_is_said_twice_is_refused() {
    assert_eq!(
        Slo::parse("p99=5ms,max=1s,p99.0=6ms").unwrap_err(),
        "objective: p99 is said twice; leave one out"
    );
    assert!(Slo::parse("p99=5ms,service_p99=5ms,p99.9=5ms").is_ok());
}

#[test]
fn an_objective_has_so_many_terms_and_not_one_more() {
    let text = |count: usize| (1..=count).map(|n| format!("p{n}=1s")).collect::<Vec<_>>().join(",");
    assert_eq!(Slo::parse(&text(TERMS_MAX)).unwrap().terms().len(), TERMS_MAX);
    assert!(Slo::parse(&text(TERMS_MAX + 1)).unwrap_err().contains("33 terms"));
}

fn term() -> impl Strategy<Value = Term> {
    let figure = prop_oneof![
        Just(Figure::Max),
        Just(Figure::Mean),
        (1u32..100_000).prop_map(|n| Figure::Percentile(f64::from(n) / 1_000.0)),
    ];
    let of = prop_oneof![Just(Of::Response), Just(Of::Service)];
    prop_oneof![
        (of, figure, 1..=units::DURATION_NS_MAX).prop_map(|(of, figure, ns_max)| Term::Latency {
            of,
            figure,
            ns_max
        }),
        (0.0..1.0f64).prop_map(|share_max| Term::Errors { share_max }),
        (1e-3..1e9f64).prop_map(|rate_min| Term::Rate { rate_min }),
    ]
}

proptest! {
    #[test]
    fn what_an_objective_displays_reads_back_as_itself(terms in prop::collection::vec(term(), 1..6)) {
        let mut seen = std::collections::HashSet::new();
        let terms: Vec<Term> = terms.into_iter().filter(|term| seen.insert(term.name())).collect();
        let slo = Slo { terms };
        prop_assert_eq!(Slo::parse(&slo.to_string()), Ok(slo));
    }

    #[test]
    fn no_text_makes_the_objective_parser_panic(text in "[pservic_maxn0-9.=,% ]{0,40}") {
        let _ = Slo::parse(&text);
    }
}
