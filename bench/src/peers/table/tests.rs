//! The tables as text: order, ratios, rows without figures.
#![allow(clippy::unwrap_used)]

use super::super::figures::tests::row;
use super::super::loads;
use super::super::model::Subject;
use super::*;
use crate::ab::machine::Machine;

/// A report of these rows, with all loads and the subjects of the rows.
pub(in super::super) fn report(rows: Vec<Row>) -> Report {
    let mut names: Vec<String> = rows.iter().map(|row| row.subject.clone()).collect();
    names.dedup();
    let subject = |name: String| Subject {
        is_limit: name.starts_with("limit-"),
        what: format!("{name} 1.0"),
        name,
        absent: None,
    };
    let text = |text: &str| text.to_owned();
    Report {
        schema: 1,
        machine: Machine {
            cpu: text("some CPU"),
            kernel: text("Linux 6"),
            tcp: text("cubic"),
            commit: text("0123"),
            date: text("2026-11-28T00:00:00Z"),
            command: text("bench peers"),
        },
        quick: false,
        window_ms: 500,
        server_cpu: 0,
        client_cpu: 1,
        subjects: names.into_iter().map(subject).collect(),
        scenarios: loads::all().iter().map(loads::Load::scenario).collect(),
        rows,
        targets: Vec::new(),
        notes: Vec::new(),
        elapsed_s: 61.0,
    }
}

/// The table of a scenario, line by line, each as its cells.
fn lines(report: &Report, id: &str) -> Vec<Vec<String>> {
    let scenario = report.scenarios.iter().find(|scenario| scenario.id == id).unwrap();
    let text = table(report, scenario);
    text.lines().map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

#[test]
fn rows_are_sorted_by_cost_and_limit_loops_are_marked() {
    let mut absent = row("nginx", "plaintext-64", &[]);
    absent.absent = Some("not installed: apt-get install nginx".to_owned());
    let report = report(vec![
        row("corelane", "plaintext-64", &[5.0, 5.5, 6.0]),
        absent,
        row("limit-uring", "plaintext-64", &[5.0, 5.0, 5.0]),
        row("hyper", "plaintext-64", &[6.0, 6.6, 7.0]),
    ]);
    let lines = lines(&report, "plaintext-64");
    let names: Vec<&str> = lines[2..].iter().map(|line| line[0].as_str()).collect();
    assert_eq!(names, ["limit-uring*", "corelane", "hyper", "nginx:"]);
    assert_eq!(lines[4][1..5], ["6.600", "6.000..7.000", "1.200", "1.167..1.200"]);
    assert_eq!(lines[3][3..5], ["1.000", "1.000..1.000"]);
    assert_eq!(lines[5].join(" "), "nginx: not installed: apt-get install nginx");
}

#[test]
fn every_kind_of_table_has_a_heading_for_each_cell() {
    let mut rows = Vec::new();
    for id in ["plaintext-64", "open-80", "blob", "idle-10k"] {
        let mut row = row("corelane", id, &[2.0]);
        row.samples[0].cpu_s_per_gib = Some(0.4);
        row.samples[0].gb_per_s = Some(2.0);
        row.samples[0].idle_bytes = Some(380.0);
        row.samples[0].open_s = Some(0.5);
        rows.push(row);
    }
    let report = report(rows);
    for (kind, id) in [
        (Kind::Closed, "plaintext-64"),
        (Kind::Open, "open-80"),
        (Kind::Download, "blob"),
        (Kind::Idle, "idle-10k"),
    ] {
        let found = report.row("corelane", id).unwrap();
        let cost = spread(found, main_figure(kind)).unwrap();
        assert_eq!(cells(&report, kind, found, cost, Some(found)).len(), columns(kind).len(), "{id}");
        assert!(!lines(&report, id).is_empty());
    }
    assert_eq!(lines(&report, "idle-10k")[2][1], "380.0");
}

#[test]
fn numbers_have_four_digits_where_they_mean_something() {
    let shown = [0.39851, 5.1234, 53.127, 512.34, 12_345.6].map(number);
    assert_eq!(shown, ["0.3985", "5.123", "53.13", "512.3", "12346"]);
}

#[test]
fn the_header_says_where_and_what_and_targets_say_how_it_went() {
    let mut report = report(vec![row("limit-epoll", "plaintext-64", &[5.0])]);
    let target = |met| Target { text: "a <= 1.05 x b".to_owned(), found: Some(1.1), bound: 1.05, met };
    report.targets = vec![target(Some(true)), target(Some(false)), target(None)];
    report.notes = vec!["NOISY".to_owned()];
    let text = text(&report);
    for part in [
        "machine  some CPU; server on CPU 0, client on CPU 1\n",
        "kernel   Linux 6, TCP cubic\n",
        "1:01 in all",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.contains("servers  limit-epoll*: limit-epoll 1.0\n"), "{text}");
    for verdict in ["  met  ", "  MISSED  ", "  not judged  "] {
        assert!(text.contains(verdict), "{verdict} in {text}");
    }
    assert!(text.ends_with("\nnotes\n  NOISY\n"), "{text}");
}

#[test]
fn others_and_clients_that_held_the_server_up_are_noted() {
    let mut slow = row("corelane", "plaintext-64", &[5.0, 5.0, 5.0]);
    slow.samples.iter_mut().for_each(|sample| sample.busy = Some(0.7));
    slow.samples[1].others = Some(0.4);
    let mut crowded = row("hyper", "plaintext-64", &[5.0]);
    crowded.samples[0].busy = Some(0.3);
    crowded.samples[0].others = Some(0.6);
    let mut one = row("corelane", "plaintext-1", &[5.0]);
    one.samples[0].busy = Some(0.2);
    let notes = notes(&report(vec![slow, crowded, one]));
    assert_eq!(notes.len(), 2, "{notes:?}");
    assert!(notes[0].contains("in 2 of 5 windows, up to 60 %"), "{}", notes[0]);
    assert!(notes[1].contains("at plaintext-64") && notes[1].ends_with("corelane (70 %)"), "{}", notes[1]);
    assert!(super::notes(&report(vec![row("corelane", "plaintext-64", &[5.0])])).is_empty());
}
