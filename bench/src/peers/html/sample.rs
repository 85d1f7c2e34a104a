//! Reports that were never measured, to test the page and to look at it.
//!
//! Not here: a measurement of anything.

use crate::ab::machine::Machine;
use crate::peers::model::{Kind, Report, Row, Sample, Scenario, Subject, Target};

/// A report of nothing.
pub(super) fn empty() -> Report {
    Report {
        schema: 1,
        machine: Machine {
            cpu: "Made-up CPU @ 3.10GHz, 8 CPUs".into(),
            kernel: "Linux 6.12.0".into(),
            tcp: "cubic".into(),
            commit: "5f0c6e2a91d3".into(),
            date: "2025-11-28T20:14:07Z".into(),
            command: "bench peers --quick --html peers.html".into(),
        },
        quick: true,
        window_ms: 4_000,
        server_cpu: 0,
        client_cpu: 1,
        subjects: vec![],
        scenarios: vec![],
        rows: vec![],
        targets: vec![],
        notes: vec![],
        elapsed_s: 0.0,
    }
}

pub(super) fn subject(name: &str, is_limit: bool) -> Subject {
    Subject { name: name.into(), what: format!("{name} 1.0, one thread"), is_limit, absent: None }
}

pub(super) fn scenario(id: &str, kind: Kind) -> Scenario {
    Scenario {
        id: id.into(),
        title: format!("The load {id}"),
        kind,
        connections: 64,
        pipeline: 1,
        rate: None,
    }
}

pub(super) fn row(subject: &str, scenario: &str, samples: Vec<Sample>) -> Row {
    Row {
        subject: subject.into(),
        scenario: scenario.into(),
        absent: None,
        answer_len: Some(128),
        syscalls: None,
        samples,
    }
}

/// Numbers from 0 to 1 that look random and are the same each time (Knuth, MMIX).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        f64::from(u32::try_from(self.0 >> 33).unwrap_or(0)) / f64::from(1u32 << 31)
    }
}

/// Name, what it is, whether it is a loop of limits, and how it compares with Corelane.
const SUBJECTS: [(&str, &str, bool, f64); 14] = [
    ("corelane", "Corelane at this commit, all features, one shard", false, 1.0),
    ("limit-uring", "hand-written io_uring loop: the work and nothing else", true, 0.94),
    ("limit-epoll", "hand-written loop on edge-triggered epoll", true, 1.26),
    ("hyper", "hyper 1.12, one tokio thread", false, 1.62),
    ("axum", "axum 0.8 on hyper 1.12, one tokio thread", false, 1.93),
    ("actix-web", "actix-web 4.11, one worker", false, 1.71),
    ("ntex", "ntex 2.16 on io_uring, one worker", false, 1.44),
    ("may_minihttp", "may_minihttp 0.1, one worker", false, 1.31),
    ("monoio", "monoio 0.2 with httparse, one thread", false, 1.22),
    ("glommio", "glommio 0.9, its own TcpStream, one executor", false, 2.1),
    ("corelane-glommio", "Corelane on the glommio host", false, 1.15),
    ("ringline", "ringline 0.4, one worker", false, 0.99),
    ("nginx", "nginx 1.22.1, one worker, return 200", false, 2.35),
    ("haproxy", "haproxy 2.6.12, one thread, http-request return", false, 3.9),
];

/// Id, title, kind, connections, requests under way, rate, cost of Corelane in the unit of its figure.
type Load = (&'static str, &'static str, Kind, u32, u32, Option<f64>, f64);

const SCENARIOS: [Load; 14] = [
    ("plaintext-1", "One connection, /plaintext", Kind::Closed, 1, 1, None, 7.9),
    ("plaintext-64", "64 connections, /plaintext", Kind::Closed, 64, 1, None, 1.86),
    ("plaintext-512", "512 connections, /plaintext", Kind::Closed, 512, 1, None, 1.91),
    ("plaintext-4096", "4,096 connections, /plaintext", Kind::Closed, 4096, 1, None, 2.4),
    (
        "pipelined-16",
        "64 connections, /plaintext, 16 requests at once on each",
        Kind::Closed,
        64,
        16,
        None,
        0.34,
    ),
    ("json-64", "64 connections, /json", Kind::Closed, 64, 1, None, 2.02),
    ("echo-1k", "64 connections, POST of 1 KiB that comes back", Kind::Closed, 64, 1, None, 2.9),
    ("echo-64k", "64 connections, POST of 64 KiB that comes back", Kind::Closed, 64, 1, None, 31.0),
    ("connect", "A connection for each request", Kind::Closed, 64, 1, None, 19.0),
    ("download-1m", "1 MiB from memory, 16 connections", Kind::Download, 16, 1, None, 0.131),
    ("idle-10k", "10,000 connections at rest", Kind::Idle, 10_000, 1, None, 1_240.0),
    ("open-50", "Open loop at 50 % of the slowest peer's peak", Kind::Open, 64, 1, Some(61_000.0), 88.0),
    ("open-80", "Open loop at 80 % of the slowest peer's peak", Kind::Open, 64, 1, Some(98_000.0), 131.0),
    ("two-shards", "64 connections, /plaintext, two shards", Kind::Closed, 64, 1, None, 1.95),
];

/// Fourteen subjects under fourteen loads of all kinds.
pub(super) fn full() -> Report {
    let mut report = empty();
    let mut dice = Dice(7);
    for (name, what, is_limit, _) in SUBJECTS {
        let absent = match name {
            "corelane-glommio" => Some("this build has no glommio host".into()),
            "haproxy" => Some("haproxy is not installed: apt-get install haproxy".into()),
            _ => None,
        };
        report.subjects.push(Subject { name: name.into(), what: what.into(), is_limit, absent });
    }
    for (id, title, kind, connections, pipeline, rate, cost) in SCENARIOS {
        let (id, title) = (id.to_owned(), title.to_owned());
        report.scenarios.push(Scenario { id: id.clone(), title, kind, connections, pipeline, rate });
        for (name, _, is_limit, factor) in SUBJECTS {
            let absent = match (name, id.as_str()) {
                ("corelane-glommio", _) => Some("this build has no glommio host"),
                ("haproxy", _) => Some("haproxy is not installed: apt-get install haproxy"),
                ("limit-uring" | "limit-epoll", "echo-1k" | "echo-64k" | "download-1m" | "two-shards") => {
                    Some("a limit loop reads no bodies and has one thread")
                }
                ("may_minihttp", "pipelined-16") => Some(
                    "stopped answering after 3.2 s: 64 of 64 connections timed out (see may_minihttp.log)",
                ),
                _ => None,
            };
            let shift = if name == "corelane" { 1.0 } else { 0.8 + 0.5 * dice.roll() };
            let far = if kind == Kind::Idle && !is_limit { factor.powf(3.0) } else { factor };
            let about = cost * if name == "corelane" { 1.0 } else { 1.0 + (far - 1.0) * shift };
            let samples =
                if absent.is_some() { vec![] } else { samples(&mut dice, kind, pipeline, rate, about) };
            let errors = samples.iter().map(|sample| sample.errors).sum::<u64>();
            assert_eq!(errors, 0, "the made-up runs are without errors until told so");
            let syscalls = (kind == Kind::Closed && absent.is_none()).then_some(0.06 * far * far);
            report.rows.push(Row {
                absent: absent.map(Into::into),
                answer_len: absent.is_none().then_some(128),
                syscalls,
                ..row(name, &id, samples)
            });
        }
    }
    report.rows[SUBJECTS.len() + 4].samples[1].errors = 17;
    report.targets = targets();
    report.notes = vec![
        "Others used up to 7 % of a measured CPU (plaintext-512, round 2): repeat on a quiet machine.".into(),
        "The client was the bottleneck of limit-uring at pipelined-16: its server used 83 % of its CPU."
            .into(),
    ];
    report.elapsed_s = 561.4;
    report
}

fn samples(dice: &mut Dice, kind: Kind, pipeline: u32, rate: Option<f64>, about: f64) -> Vec<Sample> {
    let mut one = || {
        let value = about * (0.97 + 0.06 * dice.roll());
        let mut sample = Sample {
            rss_kib: Some(9_300),
            busy: Some(0.93 + 0.06 * dice.roll()),
            others: Some(0.07 * dice.roll()),
            ..Sample::default()
        };
        match kind {
            Kind::Closed => {
                sample.cpu_us = Some(value);
                sample.client_us = Some(1.4 + 0.1 * dice.roll());
                sample.rate = Some(0.97e6 / value);
                if pipeline == 1 {
                    sample.p50_us = Some(value * 58.0);
                    sample.p99_us = Some(value * (90.0 + 20.0 * dice.roll()));
                }
            }
            Kind::Open => {
                sample.cpu_us = Some(value / 40.0);
                sample.rate = rate;
                sample.p50_us = Some(value * 0.4);
                sample.p99_us = Some(value);
                sample.p999_us = Some(value * (3.0 + 5.0 * dice.roll()));
            }
            Kind::Download => {
                sample.cpu_s_per_gib = Some(value);
                sample.gb_per_s = Some(1.07 / value);
                sample.rate = Some(1_020.0 / value);
            }
            Kind::Idle => {
                sample.idle_bytes = Some(value);
                (sample.busy, sample.others) = (None, None);
            }
        }
        sample
    };
    (0..5).map(|_| one()).collect()
}

fn targets() -> Vec<Target> {
    let target = |text: &str, found, bound, met| Target { text: text.into(), found, bound, met };
    vec![
        target("CPU a request at 64 connections <= 1.05 x limit-uring", Some(1.062), 1.05, Some(false)),
        target("CPU a request at 512 connections <= 1.05 x limit-uring", Some(1.041), 1.05, Some(true)),
        target("CPU a request pipelined x16 <= 1.20 x limit-uring", Some(1.108), 1.2, Some(true)),
        target("CPU a request at 512 connections <= 0.85 x hyper", Some(0.631), 0.85, Some(true)),
        target("CPU a request at 512 connections <= 0.80 x nginx", Some(0.4253), 0.8, Some(true)),
        target("P50 of one connection not above that of any peer", Some(1.0), 1.0, Some(true)),
        target(
            "P99 at 80 % of the slowest peer's peak not above that of any peer",
            Some(1.07),
            1.0,
            Some(false),
        ),
        target("user space a connection at rest <= 1,536 bytes", Some(1_243.6), 1_536.0, Some(true)),
        target("CPU a GiB from memory <= 0.5 x nginx's sendfile", None, 0.5, None),
    ]
}
