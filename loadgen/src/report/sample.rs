//! Runs that were never made, to test and look at reports: a queue simulated with a fixed seed.
//!
//! Not for measuring anything. Not here: real runs (`engine`).

use std::collections::VecDeque;

use crate::model::{
    Arrivals, Floor, HostUse, Level, Loop, Outcome, Provenance, Reason, RequestSpec, RespSpec, Run, Settings,
    Slice, Speaks, Stage, Verdict, WorkerUse,
};
use crate::record::{ConnectError, ErrorKind, KindTally, Tally};

const SECOND: u64 = 1_000_000_000;
const DURATION: u64 = 10 * SECOND;
const CONNECTIONS: usize = 64;

/// A generator of test numbers (Marsaglia, "Xorshift RNGs", 2003, with multiplier).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 up to 1, never 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self, mean_ns: f64) -> u64 {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // small and positive
        let ns = (-(1.0 - self.unit()).ln() * mean_ns) as u64;
        ns
    }
}

/// What a simulated server does to one request.
enum Fate {
    Good,
    Bad(ErrorKind),
    Never(ErrorKind, u64),
}

/// An open loop of Poisson arrivals, `rate` a second for 10 s, at a server that stands still for 0.4 s after
/// 5 s.
pub fn stalled(rate: f64) -> Run {
    let mut run = empty(open(rate), 100);
    simulate(&mut run, rate, Some((5 * SECOND, 2 * SECOND / 5)), |_, _| Fate::Good);
    let p99 = run.total.response.percentile(99.0).map_or(0, |value| value.ns());
    run.floor = Some(Floor { p50_ns: 9_200, p99_ns: 21_400, rate });
    run.verdict = verdict(vec![reason(
        Level::Valid,
        "stall",
        &format!(
            "response P99 ({} ms) is far above service P99: the server stood still for a while",
            p99 / 1_000_000
        ),
    )]);
    run
}

/// A closed loop of about `rate` a second for 10 s, in which nothing went wrong.
pub fn calm(rate: f64) -> Run {
    let mut run = empty(Loop::Closed { think_ns: 0, think_exponential: false }, 100);
    run.settings.pipeline = 16;
    run.host.same_host = false;
    simulate(&mut run, rate, None, |_, _| Fate::Good);
    run.verdict = verdict(Vec::new());
    run
}

/// An open loop of three kinds of request, some of which fail or are never answered; ended early and SUSPECT.
pub fn failing(rate: f64) -> Run {
    let mut run = empty(open(rate), 50);
    let request = |weight, name: &str, method: &str, path: &str| RequestSpec {
        weight,
        name: name.into(),
        method: method.into(),
        path: path.into(),
        ..RequestSpec::default()
    };
    run.settings.requests = vec![
        request(7, "read", "GET", "/items/{random:1000}"),
        request(2, "write", "POST", "/items"),
        request(1, "search", "GET", "/search?q={counter}"),
    ];
    run.total.kinds.resize_with(3, KindTally::default);
    run.interrupted = true;
    run.settings.duration_ns = 3 * DURATION;
    simulate(&mut run, rate, Some((7 * SECOND, SECOND / 5)), |number, at| match number % 1_000 {
        3 | 503 => Fate::Bad(ErrorKind::Status5xx),
        71 => Fate::Bad(ErrorKind::Status4xx),
        113 | 427 | 811 | 907 => Fate::Never(ErrorKind::Timeout, SECOND),
        500 => Fate::Never(ErrorKind::Reset, 700_000_000),
        _ if at > DURATION - 20_000_000 => Fate::Never(ErrorKind::Unanswered, DURATION + 5 * SECOND - at),
        _ => Fate::Good,
    });
    for _ in 0..7 {
        run.total.errors.add_connect(ConnectError::Refused);
    }
    run.host.retransmits = Some(412);
    run.verdict = verdict(vec![
        reason(
            Level::Suspect,
            "retransmits",
            "412 TCP segments were sent again on this host (bound: 0.1% of requests); latencies hold times of \
             retransmission: look for a lossy link or a full listen queue, then measure again",
        ),
        reason(
            Level::Suspect,
            "same_core",
            "client and server ran on CPU 1; pin them apart with --cpus and the server's own option",
        ),
        reason(Level::Valid, "early", "ended early by the user after 10.0 s of 30.0 s"),
    ]);
    run
}

/// `run` with only its first slices, for what takes long on all of them.
pub fn first_slices(mut run: Run, count: usize) -> Run {
    run.slices.truncate(count);
    run
}

/// Terms of an objective: one that is met and, where `missed`, two that are not.
pub fn outcomes(missed: bool) -> Vec<Outcome> {
    let term = |term: &str, seen: &str, met| Outcome { term: term.into(), seen: seen.into(), met };
    let mut all = vec![term("p50 <= 1 ms", "34.1 us", true)];
    if missed {
        all.push(term("p99.9 <= 50 ms", ">= 1.00 s", false));
        all.push(term("errors <= 0.1%", "0.80%", false));
    }
    all
}

fn open(rate: f64) -> Loop {
    Loop::Open { arrivals: Arrivals::Poisson, stages: vec![Stage { from: rate, to: rate, len_ns: DURATION }] }
}

fn reason(level: Level, code: &str, text: &str) -> Reason {
    Reason { level, code: code.into(), text: text.into() }
}

fn verdict(reasons: Vec<Reason>) -> Verdict {
    Verdict { level: reasons.iter().map(|reason| reason.level).max().unwrap_or_default(), reasons }
}

/// A single-server queue with exponential service, asked through connections that hold one request each.
fn simulate(run: &mut Run, rate: f64, stall: Option<(u64, u64)>, fate: impl Fn(u64, u64) -> Fate) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut intended, mut done, mut number) = (0, 0, 0);
    let mut busy: VecDeque<u64> = VecDeque::new();
    let kinds = run.settings.requests.len();
    let slices = run.slices.len() as u64;
    loop {
        intended += random.exponential(1e9 / rate);
        if intended >= DURATION {
            break;
        }
        let free =
            if busy.len() < CONNECTIONS { intended } else { busy.pop_front().unwrap_or(0).max(intended) };
        let own_lag = 400 + random.exponential(350.0) + if random.unit() < 0.002 { 11_000 } else { 0 };
        let submitted = free + own_lag;
        let network = 14_000 + random.exponential(3_000.0);
        let mut begin = (submitted + network).max(done);
        if let Some((at, len)) = stall
            && (at..at + len).contains(&begin)
        {
            begin = at + len;
        }
        done = begin + random.exponential((0.6e9 / rate).min(30_000.0));
        busy.push_back(done);
        let mut slow = done + if random.unit() < 0.001 { random.exponential(900_000.0) } else { 0 };
        let fate = fate(number, intended);
        if let Fate::Never(_, after) = fate {
            slow = submitted + after;
        }
        let slice = (slow * slices / DURATION).min(slices - 1);
        for tally in [&mut run.total, &mut run.slices[usize::try_from(slice).unwrap_or(0)].tally] {
            record(tally, &fate, [intended, free, submitted, slow]);
        }
        if kinds > 1 {
            let kind = [0, 0, 0, 0, 1, 0, 2, 0, 1, 0][usize::try_from(number % 10).unwrap_or(0)];
            let of = &mut run.total.kinds[kind];
            match fate {
                Fate::Never(..) => of.response.record_at_least(slow - intended),
                _ => of.response.record(slow - intended),
            }
            of.answered += u64::from(!matches!(fate, Fate::Never(..)));
            of.failed += u64::from(!matches!(fate, Fate::Good));
        }
        let due = usize::try_from(intended * slices / DURATION).unwrap_or(0);
        for counts in [&mut run.total.counts, &mut run.slices[due].tally.counts] {
            counts.intended += 1;
            counts.sent += 1;
            counts.waited += u64::from(free > intended);
            counts.bytes_out += 78;
        }
        number += 1;
    }
    let worker = |cpu, share: f64| {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // below ten seconds
        let cpu_ns = (share * DURATION as f64) as u64;
        let (spin_ns, enters) = (cpu_ns / 5, number / 4);
        let (run_delay_ns, hiccup_max_ns) = (3_100_000, 212_000);
        let wall_ns = DURATION;
        WorkerUse {
            cpu: Some(cpu),
            wall_ns,
            cpu_ns,
            spin_ns,
            run_delay_ns,
            enters,
            hiccup_max_ns,
            ..WorkerUse::default()
        }
    };
    run.workers = vec![worker(1, 0.76), worker(3, 0.79)];
    for _ in 0..CONNECTIONS {
        let ns = 90_000 + random.exponential(40_000.0);
        run.total.connect.record(ns);
        run.slices[0].tally.connect.record(ns);
    }
    run.total.counts.connects = CONNECTIONS as u64;
}

fn record(tally: &mut Tally, fate: &Fate, [intended, free, submitted, done]: [u64; 4]) {
    tally.send_lag.record(submitted - intended);
    tally.own_lag.record(submitted - free);
    match fate {
        Fate::Never(kind, _) => {
            tally.response.record_at_least(done - intended);
            tally.service.record_at_least(done - submitted);
            tally.errors.add(*kind);
        }
        Fate::Good | Fate::Bad(_) => {
            tally.response.record(done - intended);
            tally.service.record(done - submitted);
            tally.counts.completed += u64::from(done < DURATION);
            tally.counts.bytes_in += 123;
        }
    }
    if let Fate::Bad(kind) = fate {
        tally.failed.record(done - intended);
        tally.errors.add(*kind);
    }
}

fn empty(traffic: Loop, slices: u64) -> Run {
    let len_ns = DURATION / slices;
    let request = RequestSpec {
        weight: 1,
        name: "plaintext".into(),
        method: "GET".into(),
        path: "/plaintext".into(),
        ..RequestSpec::default()
    };
    Run {
        settings: Settings {
            url: "http://127.0.0.1:8080/plaintext".into(),
            speaks: Speaks::Http1,
            host: "127.0.0.1".into(),
            port: 8080,
            requests: vec![request],
            resp: RespSpec::default(),
            echo_len: 64,
            traffic,
            connections: 64,
            pipeline: 1,
            requests_per_connection: 0,
            ramp_ns: 0,
            warmup_ns: 2 * SECOND,
            duration_ns: DURATION,
            timeout_ns: SECOND,
            drain_ns: 5 * SECOND,
            slice_ns: len_ns,
            seed: 42,
            threads: 2,
            cpus: vec![1, 3],
            busy_poll: false,
            sources: Vec::new(),
            expect_status: Vec::new(),
        },
        provenance: Provenance {
            tool: "loadgen 0.1.0".into(),
            commit: Some("97365b7".into()),
            command: "loadgen http://127.0.0.1:8080/plaintext --rate 50k --slo p50=1ms --html run.html"
                .into(),
            kernel: "Linux 6.18.0 #1 SMP PREEMPT_DYNAMIC".into(),
            cpu_model: "Intel(R) Xeon(R) Processor @ 2.70GHz".into(),
            cpus: 4,
            memory_bytes: 16_712_683_520,
            governor: "none".into(),
            mitigations: vec![
                "meltdown: Not affected".into(),
                "spectre_v2: Mitigation: Enhanced IBRS; IBPB: conditional".into(),
            ],
            congestion_control: "cubic".into(),
            clocksource: "tsc".into(),
            virtualised: true,
            host_id: "5f0c6e2a91d3".into(),
            tuning_digest: None,
            started_unix_ms: 1_735_732_800_000,
        },
        measured_ns: DURATION,
        interrupted: false,
        total: Tally::default(),
        slices: (0..slices)
            .map(|at| Slice { start_ns: at * len_ns, len_ns, tally: Tally::default() })
            .collect(),
        workers: Vec::new(),
        host: HostUse {
            server_siblings: Vec::new(),
            retransmits: Some(0),
            listen_overflows: Some(0),
            listen_drops: Some(0),
            softnet_drops: Some(0),
            steal_share: Some(0.0012),
            same_host: true,
            server_cpus: vec![0, 2],
            shard_requests: vec![250_112, 249_011],
        },
        floor: None,
        verdict: Verdict::default(),
    }
}
