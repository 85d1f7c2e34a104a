//! Runs made up to stand on each bound and past it.
#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;

use super::*;
use crate::model::{Arrivals, Floor, HostUse, Loop, Provenance, Settings, Speaks, Stage, WorkerUse};
use crate::record::{ConnectError, ErrorKind, Latency, Tally};

const S: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;
const US: u64 = 1_000;
/// Requests of the calm run: 10 s at 10,000/s.
const REQUESTS: u64 = 100_000;

/// So many samples of each value, without recording each. Values are lowest in their bucket where that
/// matters.
fn latency(samples: &[(u64, u64)]) -> Latency {
    let mut all = Latency::default();
    for &(ns, count) in samples {
        let mut some = Latency::default();
        some.record(ns);
        let mut left = count;
        while left > 0 {
            if left & 1 == 1 {
                all.merge(&some);
            }
            left >>= 1;
            if left > 0 {
                let copy = some.clone();
                some.merge(&copy);
            }
        }
    }
    all
}

fn open(rate: f64) -> Loop {
    Loop::Open { arrivals: Arrivals::Constant, stages: vec![Stage { from: rate, to: rate, len_ns: 10 * S }] }
}

const CLOSED: Loop = Loop::Closed { think_ns: 0, think_exponential: false };

/// An open loop that nothing speaks against: a response time of 1 ms, a lag of 2 us, two workers half idle.
fn calm() -> Run {
    static CALM: OnceLock<Run> = OnceLock::new();
    CALM.get_or_init(made).clone()
}

fn made() -> Run {
    let worker = WorkerUse { wall_ns: 10 * S, cpu_ns: 9 * S, spin_ns: 5 * S, ..WorkerUse::default() };
    let mut total = Tally::default();
    total.counts.intended = REQUESTS;
    total.counts.sent = REQUESTS;
    total.counts.completed = REQUESTS;
    total.response = latency(&[(MS, REQUESTS)]);
    total.service = latency(&[(MS, REQUESTS)]);
    total.own_lag = latency(&[(2 * US, REQUESTS)]);
    Run {
        settings: Settings {
            url: "http://127.0.0.1:8080/".into(),
            speaks: Speaks::Http1,
            host: "127.0.0.1".into(),
            port: 8080,
            requests: Vec::new(),
            resp: crate::model::RespSpec::default(),
            echo_len: 64,
            traffic: open(10_000.0),
            connections: 64,
            pipeline: 1,
            requests_per_connection: 0,
            ramp_ns: 0,
            warmup_ns: S,
            duration_ns: 10 * S,
            timeout_ns: S,
            drain_ns: S,
            slice_ns: S,
            seed: 1,
            threads: 2,
            busy_poll: false,
            cpus: vec![2, 3],
            sources: Vec::new(),
            expect_status: Vec::new(),
        },
        provenance: Provenance::default(),
        measured_ns: 10 * S,
        interrupted: false,
        total,
        slices: Vec::new(),
        workers: vec![WorkerUse { cpu: Some(2), ..worker }, WorkerUse { cpu: Some(3), ..worker }],
        host: HostUse {
            retransmits: Some(0),
            listen_overflows: Some(0),
            listen_drops: Some(0),
            softnet_drops: Some(0),
            steal_share: Some(0.0),
            same_host: true,
            server_cpus: vec![0, 1],
            server_siblings: vec![4, 5],
            shard_requests: vec![50_000, 50_000],
        },
        floor: Some(Floor { p50_ns: 20 * US, p99_ns: 50 * US, rate: 10_000.0 }),
        verdict: Verdict::default(),
    }
}

/// A calm run, changed.
fn with(change: impl FnOnce(&mut Run)) -> Run {
    let mut run = calm();
    change(&mut run);
    run
}

/// The level and the text of the reason with that code, if the run has it.
#[track_caller]
fn found(run: &Run, code: &str) -> Option<(Level, String)> {
    let verdict = judge(run, &Bounds::default());
    let mut all = verdict.reasons.iter().filter(|reason| reason.code == code);
    let first = all.next().map(|reason| (reason.level, reason.text.clone()));
    assert!(all.next().is_none(), "{code} twice");
    first
}

#[track_caller]
fn level(run: &Run, code: &str) -> Option<Level> {
    found(run, code).map(|(level, _)| level)
}

/// The run has this reason, as bad as this, and nothing else speaks against it. The text has all these parts.
#[track_caller]
fn only(run: &Run, code: &str, level: Level, parts: &[&str]) {
    let verdict = judge(run, &Bounds::default());
    let against: Vec<&Reason> = verdict.reasons.iter().filter(|reason| reason.level > Level::Valid).collect();
    let (found, text) = found(run, code).unwrap_or_else(|| panic!("no {code}: {verdict:?}"));
    assert_eq!(found, level, "{text}");
    assert_eq!(verdict.level, level);
    assert_eq!(against.len(), usize::from(level > Level::Valid), "{against:?}");
    for part in parts {
        assert!(text.contains(part), "\"{part}\" is not in: {text}");
    }
}

use Level::{Invalid, Suspect, Valid};

#[test]
fn a_calm_run_is_valid_and_has_remarks_only() {
    let verdict = judge(&calm(), &Bounds::default());
    assert_eq!(verdict.level, Valid);
    let codes: Vec<&str> = verdict.reasons.iter().map(|reason| reason.code.as_str()).collect();
    assert_eq!(codes, ["same_host"]);
    let closed = with(|run| run.settings.traffic = CLOSED);
    assert_eq!(judge(&closed, &Bounds::default()), verdict);
}

#[test]
fn a_run_about_which_nothing_is_known_is_judged_by_the_rest() {
    let run = with(|run| {
        run.host = HostUse::default();
        run.workers.clear();
        run.total.own_lag = Latency::default();
    });
    assert_eq!(judge(&run, &Bounds::default()), Verdict::default());
}

#[test]
fn reasons_are_worst_first_and_keep_their_order_within_a_level() {
    let run = with(|run| {
        run.interrupted = true;
        run.measured_ns = S / 2;
        run.settings.traffic = CLOSED;
        run.host.steal_share = Some(0.5);
        run.host.server_cpus = vec![3];
        run.workers[0].run_delay_ns = 5 * S;
    });
    let verdict = judge(&run, &Bounds::default());
    let codes: Vec<(Level, &str)> = verdict.reasons.iter().map(|r| (r.level, r.code.as_str())).collect();
    let expected = [
        (Invalid, "run_delay"),
        (Invalid, "steal"),
        (Suspect, "same_core"),
        (Suspect, "short"),
        (Valid, "same_host"),
        (Valid, "interrupted"),
    ];
    assert_eq!(codes, expected);
    assert_eq!(verdict.level, Invalid);
}

#[test]
fn own_lag_is_suspect_past_a_tenth_of_the_median_and_past_50_us() {
    let run = |lag_ns, p50_ns| {
        with(|run| {
            run.total.own_lag = latency(&[(lag_ns, REQUESTS)]);
            run.total.response = latency(&[(p50_ns, REQUESTS)]);
        })
    };
    assert_eq!(level(&run(100 * US, 2 * MS), "own_lag"), None, "past 50 us, a twentieth");
    assert_eq!(level(&run(50 * US, 60 * US), "own_lag"), None, "nearly all, and on 50 us");
    only(
        &run(51 * US, 60 * US),
        "own_lag",
        Suspect,
        &["P99 of 51 us", "P50 of 60", "10%", "50 us", "--cpus", "--rate"],
    );
    assert_eq!(level(&run(100 * US, MS), "own_lag"), None, "on a tenth");
    only(&run(102 * US, MS), "own_lag", Suspect, &[]);
    let closed = found(
        &with(|r| {
            *r = run(510 * US, MS);
            r.settings.traffic = CLOSED;
        }),
        "own_lag",
    )
    .unwrap();
    assert!(!closed.1.contains("--rate"), "{}", closed.1);
}

#[test]
fn connections_that_were_never_open_are_suspect_past_one_in_a_hundred() {
    let run = |unopened| {
        with(|run| {
            run.settings.connections = 200;
            run.workers[0].unopened = unopened;
        })
    };
    assert_eq!(level(&run(2), "connects"), None, "on a hundredth");
    only(&run(3), "connects", Suspect, &["3 of 200 connections"]);
}

#[test]
fn own_lag_of_a_loop_that_never_rests_is_suspect_past_half_of_the_median() {
    let run = |lag_ns| {
        with(|run| {
            run.settings.traffic = Loop::Closed { think_ns: 0, think_exponential: false };
            run.total.own_lag = latency(&[(lag_ns, REQUESTS)]);
            run.total.response = latency(&[(MS, REQUESTS)]);
        })
    };
    assert_eq!(level(&run(500 * US), "own_lag"), None, "on a half");
    assert_eq!(level(&run(510 * US), "own_lag"), Some(Suspect));
}

#[test]
fn own_lag_is_invalid_past_the_median_and_past_1_ms() {
    let run = |lag_ns, p50_ns| {
        with(|run| {
            run.total.own_lag = latency(&[(lag_ns, REQUESTS)]);
            run.total.response = latency(&[(p50_ns, REQUESTS)]);
        })
    };
    assert_eq!(level(&run(MS, 500 * US), "own_lag"), Some(Suspect), "on 1 ms");
    only(&run(2 * MS, 500 * US), "own_lag", Invalid, &["P99 of 2", "P50 of 500 us", "bound: 1 ms"]);
    assert_eq!(level(&run(2 * MS, 2 * MS), "own_lag"), Some(Suspect), "on the median");
    assert_eq!(level(&run(2 * MS, 3 * MS), "own_lag"), Some(Suspect));
}

#[test]
fn one_request_in_a_hundred_may_be_a_millisecond_late_and_no_more() {
    let run = |late| {
        with(|run| {
            // Half of a second: a lag of 2 ms is nothing of it.
            run.total.response = latency(&[(S / 2, REQUESTS)]);
            run.total.own_lag = latency(&[(US, REQUESTS - late), (2 * MS, late)]);
        })
    };
    assert_eq!(level(&run(1000), "own_lag"), None);
    only(&run(1001), "own_lag", Suspect, &["1% of the requests", "more than 1 ms", "bound: 1%"]);
}

#[test]
fn sending_less_than_was_due_is_suspect_and_then_invalid() {
    let run = |sent| with(|run| run.total.counts.sent = sent);
    assert_eq!(level(&run(99_000), "offered"), None);
    only(&run(98_999), "offered", Suspect, &["sent 9900/s of 10000/s", "99% (bound: 99%)", "--threads"]);
    assert_eq!(level(&run(90_000), "offered"), Some(Suspect));
    only(&run(89_999), "offered", Invalid, &["90% (bound: 90%)"]);
    let closed = with(|run| {
        run.settings.traffic = CLOSED;
        run.total.counts.sent = 0;
    });
    assert_eq!(level(&closed, "offered"), None, "a closed loop has no schedule");
}

#[test]
fn sending_more_than_the_schedule_is_invalid() {
    let run = |sent| with(|run| run.total.counts.sent = sent);
    assert_eq!(level(&run(101_000), "offered"), None);
    only(&run(101_001), "offered", Invalid, &["101% of the schedule (bound: 101%)"]);
    let more_due = |due| {
        with(|run| {
            run.total.counts.intended = due;
            run.total.counts.sent = due;
        })
    };
    assert_eq!(level(&more_due(101_000), "offered"), None);
    assert_eq!(level(&more_due(101_002), "offered"), Some(Invalid));
}

#[test]
fn a_schedule_that_was_not_drawn_to_its_end_is_short_too() {
    let run = |arrivals: Arrivals, due: u64| {
        with(|run| {
            (run.total.counts.intended, run.total.counts.sent) = (due, due);
            let Loop::Open { arrivals: kind, .. } = &mut run.settings.traffic else { unreachable!() };
            *kind = arrivals;
        })
    };
    // One of 100,000 is slack, and 99 % of the rest is needed.
    assert_eq!(level(&run(Arrivals::Constant, 99_000), "offered"), None);
    only(&run(Arrivals::Constant, 98_998), "offered", Suspect, &[]);
    // Chance: 5 * sqrt(100,000) = 1,581 more; 99 % of 98,419 are 97,434.8.
    assert_eq!(level(&run(Arrivals::Poisson, 97_435), "offered"), None);
    assert_eq!(level(&run(Arrivals::Poisson, 97_434), "offered"), Some(Suspect));
    assert_eq!(level(&run(Arrivals::Burst(1000), 98_010), "offered"), None);
    assert_eq!(level(&run(Arrivals::Burst(1000), 98_009), "offered"), Some(Suspect));
    assert_eq!(level(&run(Arrivals::Trace("x".into()), 5), "offered"), None, "nobody knows how many");
    let ramp = with(|run| {
        let Loop::Open { stages, .. } = &mut run.settings.traffic else { unreachable!() };
        stages[0].from = 1.0;
        (run.total.counts.intended, run.total.counts.sent) = (50_000, 50_000);
    });
    assert_eq!(level(&ramp, "offered"), None, "a rate that changes is not checked");
}

#[test]
fn what_the_server_could_not_take_is_not_our_fault() {
    let run = |sent: u64, waited: u64| {
        with(|run| (run.total.counts.sent, run.total.counts.waited) = (sent, waited))
    };
    let parts = [
        "sent 8000/s of 10000/s",
        "80% (bound: 99%)",
        "64 connections",
        "raise --connections",
        "keeps 11 busy",
    ];
    only(&run(80_000, 20_000), "server_limited", Suspect, &parts);
    assert_eq!(level(&run(80_000, 20_000), "offered"), None);
    only(&run(80_000, 19_999), "offered", Invalid, &[]); // some were unsent and had not waited
    let late = with(|run| {
        *run = self::with(|run| (run.total.counts.sent, run.total.counts.waited) = (80_000, 20_000));
        run.workers[0].run_delay_ns = 2 * S;
    });
    assert_eq!((level(&late, "offered"), level(&late, "server_limited")), (Some(Invalid), None));
    let undrawn = with(|run| {
        run.total.counts.intended = 80_000;
        (run.total.counts.sent, run.total.counts.waited) = (79_000, 70_000);
    });
    assert_eq!(level(&undrawn, "offered"), Some(Invalid), "the server cannot stop a schedule");
}

#[test]
fn waiting_for_connections_is_a_remark_past_one_request_in_a_hundred() {
    let run = |waited| with(|run| run.total.counts.waited = waited);
    assert_eq!(level(&run(1000), "server_limited"), None);
    only(
        &run(1001),
        "server_limited",
        Valid,
        &["1% of the requests", "one of 64 connections", "Raise --connections"],
    );
}

#[test]
fn a_worker_without_time_left_is_suspect_in_each_loop_with_its_own_bound() {
    let run = |traffic: Loop, work_ms: u64| {
        with(|run| {
            run.settings.traffic = traffic;
            let spin_ns = run.workers[1].spin_ns;
            run.workers[1].cpu_ns = spin_ns + work_ms * MS;
        })
    };
    assert_eq!(level(&run(open(1e4), 9500), "cpu_saturated"), None);
    only(
        &run(open(1e4), 9501),
        "cpu_saturated",
        Suspect,
        &["worker 1 on CPU 3", "95.01% of the time (bound: 95%)"],
    );
    assert_eq!(level(&run(CLOSED, 9800), "cpu_saturated"), None);
    let parts = ["98.01%", "bound: 98%", "generator-limited", "add --threads"];
    only(&run(CLOSED, 9801), "cpu_saturated", Suspect, &parts);
    let no_window = with(|run| run.workers.iter_mut().for_each(|worker| worker.wall_ns = 0));
    assert_eq!(level(&no_window, "cpu_saturated"), None);
}

#[test]
fn waiting_for_a_cpu_is_suspect_and_then_invalid() {
    let run = |ms: u64| with(|run| run.workers[0].run_delay_ns = ms * MS);
    assert_eq!(level(&run(100), "run_delay"), None);
    only(&run(101), "run_delay", Suspect, &["worker 0 on CPU 2", "1.01% of the time (bound: 1%)", "--cpus"]);
    assert_eq!(level(&run(1000), "run_delay"), Some(Suspect));
    only(&run(1001), "run_delay", Invalid, &["10% of the time (bound: 10%)"]);
    let unpinned = with(|run| {
        run.workers[0].cpu = None;
        run.workers[0].run_delay_ns = S;
    });
    assert!(found(&unpinned, "run_delay").unwrap().1.starts_with("worker 0 was"));
}

#[test]
fn time_stolen_is_suspect_and_then_invalid() {
    let run = |share| with(|run| run.host.steal_share = Some(share));
    assert_eq!(level(&run(0.01), "steal"), None);
    only(&run(0.0101), "steal", Suspect, &["took 1.01%", "bound: 1%"]);
    assert_eq!(level(&run(0.1), "steal"), Some(Suspect));
    only(&run(0.11), "steal", Invalid, &["took 11%", "bound: 10%"]);
}

#[test]
fn a_long_hiccup_is_suspect_where_the_tail_has_it_and_else_a_remark() {
    let run = |gap_ns: u64, wall_ns: u64| {
        with(|run| {
            run.total.response = latency(&[(20 * MS, REQUESTS)]);
            run.workers[1].hiccup_max_ns = gap_ns;
            run.workers[1].wall_ns = wall_ns;
        })
    };
    assert_eq!(level(&run(10 * MS, 9 * S), "hiccup"), None, "on 10 ms");
    only(
        &run(11 * MS, 10 * S),
        "hiccup",
        Suspect,
        &["worker 1 on CPU 3", "for 11 ms", "0.11% of the window"],
    );
    only(&run(11 * MS, 11 * S), "hiccup", Valid, &["for 11 ms", "bound: 10 ms"]);
}

#[test]
fn a_gap_of_ten_times_the_tail_is_a_remark_past_a_millisecond() {
    let run = |gap_ns: u64, p99_ns: u64| {
        with(|run| {
            run.total.response = latency(&[(p99_ns, REQUESTS)]);
            run.workers[0].hiccup_max_ns = gap_ns;
        })
    };
    assert_eq!(level(&run(MS, 50 * US), "hiccup"), None, "on 1 ms");
    assert_eq!(level(&run(5 * MS, MS), "hiccup"), None);
    only(&run(5 * MS, 400 * US), "hiccup", Valid, &["5 ms", "10 times the response P99"]);
}

#[test]
fn any_overflow_of_a_completion_queue_is_suspect() {
    only(
        &with(|run| run.workers[1].cq_overflows = 1),
        "cq_overflow",
        Suspect,
        &["1 completion queue overflow in"],
    );
}

#[test]
fn receives_without_a_buffer_are_a_remark_unless_they_are_many() {
    let run = |count| with(|run| run.workers[1].no_buffers = count);
    assert_eq!(level(&run(0), "no_buffers"), None);
    only(&run(1000), "no_buffers", Valid, &["1000 receives", "1% of the answers"]);
    only(&run(1001), "no_buffers", Suspect, &["suspect above 1%"]);
}

#[test]
fn a_cpu_or_a_core_that_both_sides_use_is_suspect() {
    let run = |server: &[usize], siblings: &[usize]| {
        with(|run| {
            run.host.server_cpus = server.to_vec();
            run.host.server_siblings = siblings.to_vec();
        })
    };
    only(&run(&[0, 1, 2], &[]), "same_core", Suspect, &["same CPU: 2 (the server uses 0-2", "--cpus"]);
    only(&run(&[0], &[3]), "same_core", Suspect, &["hyper-threads: CPU 3 (the server uses 0"]);
    let unpinned = with(|run| {
        run.host.server_cpus = vec![2];
        run.workers.iter_mut().for_each(|worker| worker.cpu = None);
    });
    assert_eq!(level(&unpinned, "same_core"), None, "where it ran is not known");
}

#[test]
fn a_full_listen_queue_is_suspect_where_the_server_is_here() {
    let run = |overflows, drops, same_host| {
        with(|run| {
            run.host.listen_overflows = overflows;
            run.host.listen_drops = drops;
            run.host.same_host = same_host;
        })
    };
    only(&run(Some(1), Some(0), true), "listen_overflow", Suspect, &["1 connection lost", "somaxconn"]);
    only(&run(None, Some(2), true), "listen_overflow", Suspect, &["2 connections lost"]);
    only(&run(Some(1), Some(1), false), "listen_overflow", Valid, &["another host"]);
}

#[test]
fn segments_sent_again_are_suspect_past_one_in_a_thousand() {
    let run = |count| with(|run| run.host.retransmits = Some(count));
    assert_eq!(level(&run(100), "retransmits"), None);
    only(&run(101), "retransmits", Suspect, &["101 segments", "0.101% of the answers (bound: 0.1%)"]);
}

#[test]
fn packets_dropped_at_a_backlog_are_a_remark_and_then_suspect() {
    let run = |count| with(|run| run.host.softnet_drops = Some(count));
    assert_eq!(level(&run(0), "softnet_drops"), None);
    only(&run(100), "softnet_drops", Valid, &["100 packets", "0.1%"]);
    only(&run(101), "softnet_drops", Suspect, &["netdev_max_backlog"]);
}

#[test]
fn uneven_shards_are_suspect_where_chance_cannot_have_done_it() {
    let run = |shards: &[u64]| with(|run| run.host.shard_requests = shards.to_vec());
    assert_eq!(level(&run(&[1250, 750]), "skew"), None, "on the bound");
    let parts = ["busiest of 2", "1.26 times the mean (bound: 1.25)", "1260, 740", "--connections"];
    only(&run(&[740, 1260]), "skew", Suspect, &parts);
    assert_eq!(level(&run(&[1999, 0]), "skew"), None, "too few");
    assert_eq!(level(&run(&[2000, 0]), "skew"), Some(Suspect));
    assert_eq!(level(&run(&[90_000]), "skew"), None, "one shard");
    assert_eq!(level(&run(&[]), "skew"), None);
    assert_eq!(level(&run(&[0, 0]), "skew"), None);
    let many = found(&run(&[500, 1, 1, 1, 1, 1, 1, 1, 1, 1, 10_000]), "skew");
    assert_eq!(many, None, "10,509 are too few for eleven");
    let many = found(&run(&[5000, 1, 1, 1, 1, 1, 1, 1, 10_000]), "skew").unwrap().1;
    assert!(many.contains("10000, 5000, 1, 1, 1, 1, 1, 1, ...: "), "{many}");
}

#[test]
fn a_median_within_twice_the_floor_is_suspect() {
    // Lowest in their buckets: 2,048 * 16 ns, and 512 of 32 ns.
    let run = |p50_ns| {
        with(|run| {
            run.floor = Some(Floor { p50_ns: 20_000, p99_ns: 0, rate: 0.0 });
            run.total.response = latency(&[(p50_ns, REQUESTS)]);
            run.total.own_lag = latency(&[(100, REQUESTS)]);
        })
    };
    only(&run(40_000), "floor", Suspect, &["P50 is 40 us", "floor 20 us (bound: 2 times"]);
    assert_eq!(level(&run(40_032), "floor"), None);
    // A loop that never rests shows the rate in its median, not how long an answer takes.
    let mut resting = run(40_000);
    resting.settings.traffic = Loop::Closed { think_ns: 1, think_exponential: false };
    assert_eq!(level(&resting, "floor"), Some(Suspect));
    resting.settings.traffic = Loop::Closed { think_ns: 0, think_exponential: false };
    assert_eq!(level(&resting, "floor"), Some(Valid));
    let unmeasured = with(|run| run.floor = Some(Floor::default()));
    assert_eq!((level(&unmeasured, "floor"), level(&unmeasured, "no_floor")), (None, None));
}

#[test]
fn a_host_without_a_noise_floor_is_told_how_to_get_one() {
    only(&with(|run| run.floor = None), "no_floor", Valid, &["loadgen calibrate"]);
}

#[test]
fn a_window_below_a_second_is_suspect() {
    let run = |ns| {
        with(|run| {
            run.settings.traffic = CLOSED;
            run.measured_ns = ns;
        })
    };
    assert_eq!(level(&run(S), "short"), None);
    only(&run(S - 1), "short", Suspect, &["bound: 1 s", "--duration"]);
}

#[test]
fn an_ended_run_is_a_remark_with_how_long_it_was() {
    let run = with(|run| {
        run.interrupted = true;
        run.settings.traffic = CLOSED;
        run.measured_ns = 4 * S;
    });
    only(&run, "interrupted", Valid, &["4 s of 10 s"]);
}

#[test]
fn errors_are_a_remark_and_nothing_but_errors_is_invalid() {
    let run = |count| with(|run| run.total.errors.add_n(ErrorKind::Status5xx, count));
    assert_eq!(level(&run(1000), "errors"), None);
    only(&run(1001), "errors", Valid, &["1% of the requests", "status 5xx: 1001"]);
    only(&run(REQUESTS - 1), "errors", Valid, &[]);
    only(&run(REQUESTS), "nothing_answered", Invalid, &["none of 100000 requests", "status 5xx: 100000"]);
    assert_eq!(level(&run(REQUESTS), "errors"), None, "said once");
    let nothing = with(|run| {
        run.total = Tally::default();
        run.settings.traffic = CLOSED;
    });
    only(&nothing, "nothing_answered", Invalid, &["no request came due"]);
}

#[test]
fn the_most_frequent_error_is_named_and_the_first_of_equals() {
    let run = with(|run| {
        run.total.errors.add_n(ErrorKind::Status4xx, 1000);
        run.total.errors.add_n(ErrorKind::Timeout, 1001);
        run.total.errors.add_n(ErrorKind::Reset, 1001);
    });
    assert!(found(&run, "errors").unwrap().1.contains("most were timeouts: 1001"));
}

#[test]
fn lower_bounds_among_the_percentiles_are_a_remark() {
    let run = |count| {
        with(|run| {
            run.total.response = latency(&[(MS, REQUESTS - count)]);
            run.total.response.record_at_least_n(S, count);
        })
    };
    assert_eq!(level(&run(100), "unanswered"), None);
    only(&run(101), "unanswered", Valid, &["0.101% of the requests", "`>=`"]);
}

#[test]
fn connections_that_failed_are_a_remark_and_suspect_where_we_had_no_port() {
    let run = |kind| with(|run| run.total.errors.add_connect(kind));
    assert_eq!(level(&calm(), "connects"), None);
    only(&run(ConnectError::Refused), "connects", Valid, &["1 connection not opened", "connect refused: 1"]);
    for kind in [ConnectError::NoPort, ConnectError::NoDescriptor] {
        only(&run(kind), "connects", Suspect, &["--source"]);
    }
}

#[test]
fn percentiles_that_few_samples_carry_are_a_remark() {
    let run = |count| with(|run| run.total.response = latency(&[(MS, count)]));
    assert_eq!(level(&run(REQUESTS), "few_samples"), None, "10 above P99.99");
    for (count, carries) in [
        (REQUESTS - 1, "up to P99.9;"),
        (10_000, "up to P99.9;"),
        (9_999, "up to P99;"),
        (20, "up to P50;"),
        (19, "carry no percentile"),
    ] {
        only(&run(count), "few_samples", Valid, &[carries]);
    }
}

#[test]
fn other_bounds_give_another_verdict() {
    let strict = Bounds { steal_share: 0.0, steal_share_invalid: 0.001, ..Bounds::default() };
    let run = with(|run| run.host.steal_share = Some(0.002));
    assert_eq!((judge(&run, &Bounds::default()).level, judge(&run, &strict).level), (Valid, Invalid));
}

#[test]
fn every_reason_names_a_bound_or_is_a_plain_fact() {
    let run = with(|run| {
        run.floor = Some(Floor { p50_ns: MS, p99_ns: MS, rate: 1.0 });
        run.workers[0] = WorkerUse {
            cpu: Some(0),
            wall_ns: 10 * S,
            cpu_ns: 10 * S,
            run_delay_ns: S,
            cq_overflows: 1,
            no_buffers: 5000,
            hiccup_max_ns: S,
            ..WorkerUse::default()
        };
        run.host.retransmits = Some(5000);
        run.host.softnet_drops = Some(5000);
        run.host.listen_drops = Some(5);
        run.host.steal_share = Some(0.05);
        run.host.shard_requests = vec![1, 100_000];
        run.total.own_lag = latency(&[(2 * MS, REQUESTS)]);
        run.total.counts.sent = 95_000;
        run.total.errors.add_n(ErrorKind::Timeout, 5000);
        run.total.errors.add_connect(ConnectError::NoPort);
    });
    let verdict = judge(&run, &Bounds::default());
    assert!(verdict.reasons.len() >= 16, "{verdict:?}");
    for reason in verdict.reasons.iter().filter(|reason| reason.code != "same_host") {
        let text = &reason.text;
        assert!(text.contains("bound") || text.contains("suspect above"), "{}: {text}", reason.code);
        assert!(text.chars().any(|c| c.is_ascii_digit()), "{}: {text}", reason.code);
    }
}

/// A closed loop of ten slices, with as many answers in each.
fn closed_with(answers: [u64; 10], p50_ns: u64, think_ns: u64) -> Run {
    with(|run| {
        run.settings.traffic = Loop::Closed { think_ns, think_exponential: false };
        run.total.response = latency(&[(p50_ns, REQUESTS)]);
        run.slices = (0..10)
            .zip(answers)
            .map(|(at, completed)| {
                let mut slice = crate::model::Slice { start_ns: at * S, len_ns: S, ..Default::default() };
                slice.tally.counts.completed = completed;
                slice
            })
            .collect();
        run.total.counts.completed = answers.iter().sum();
    })
}

#[test]
fn a_closed_loop_whose_server_went_half_way_is_suspect() {
    let gone = [1000, 1000, 1000, 1000, 1000, 0, 0, 0, 0, 0];
    only(&closed_with(gone, MS, 0), "silent", Level::Suspect, &["5 s", "50%", "5%"]);
    let all = [1000; 10];
    assert_eq!(level(&closed_with(all, MS, 0), "silent"), None);
    // What the schedule of an open loop asks meanwhile is in its percentiles.
    let open_loop = with(|run| run.slices = closed_with(gone, MS, 0).slices);
    assert_eq!(level(&open_loop, "silent"), None);
}

#[test]
fn a_silence_of_ten_usual_rounds_or_few_answers_is_none() {
    let steps = [1000, 0, 1000, 0, 1000, 0, 1000, 0, 1000, 0];
    assert_eq!(level(&closed_with(steps, 99 * MS, 0), "silent"), Some(Level::Suspect));
    assert_eq!(level(&closed_with(steps, 101 * MS, 0), "silent"), None);
    assert_eq!(level(&closed_with(steps, MS, 100 * MS), "silent"), None);
    let few = [50, 49, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(level(&closed_with(few, MS, 0), "silent"), None);
    let enough = [50, 50, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(level(&closed_with(enough, MS, 0), "silent"), Some(Level::Suspect));
}
