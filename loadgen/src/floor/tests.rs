//! Floors that are kept, found again, and lost with a damaged file.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::model::{RespSpec, Stage};

const CLOSED: Loop = Loop::Closed { think_ns: 0, think_exponential: false };

fn open(rate: f64) -> Loop {
    Loop::Open { arrivals: Arrivals::Poisson, stages: vec![Stage { from: rate / 2.0, to: rate, len_ns: 1 }] }
}

fn settings(traffic: Loop, connections: u32, pipeline: u32) -> Settings {
    Settings {
        url: String::new(),
        speaks: Speaks::Http1,
        host: String::new(),
        port: 0,
        requests: Vec::new(),
        resp: RespSpec::default(),
        echo_len: 64,
        traffic,
        connections,
        pipeline,
        requests_per_connection: 0,
        ramp_ns: 0,
        warmup_ns: 0,
        duration_ns: 0,
        timeout_ns: 0,
        drain_ns: 0,
        slice_ns: 0,
        seed: 0,
        threads: 1,
        busy_poll: false,
        cpus: Vec::new(),
        sources: Vec::new(),
        expect_status: Vec::new(),
    }
}

fn here() -> Provenance {
    Provenance { host_id: "a".into(), kernel: "6.18".into(), ..Provenance::default() }
}

fn floor(p50_ns: u64) -> Floor {
    Floor { p50_ns, p99_ns: 2 * p50_ns, rate: 1e5 }
}

/// A store of one host with these: connections, pipeline, P50.
fn closed(entries: &[(u32, u32, u64)]) -> Store {
    let mut store = Store::default();
    for &(connections, pipeline, p50_ns) in entries {
        store.insert(&settings(CLOSED, connections, pipeline), &here(), floor(p50_ns));
    }
    store
}

fn p50(store: &Store, settings: &Settings) -> Option<u64> {
    store.find(settings, &here()).map(|floor| floor.p50_ns)
}

#[test]
fn the_nearest_load_is_found_and_none_beyond_a_factor_of_4() {
    let store = closed(&[(10, 1, 1000), (100, 1, 9000)]);
    let at = |connections| p50(&store, &settings(CLOSED, connections, 1));
    assert_eq!(at(10), Some(1000));
    assert_eq!(at(31), Some(1000), "3.1 and 3.2 times");
    assert_eq!(at(32), Some(9000 * 32 / 100), "3.2 and 3.1 times, scaled down");
    assert_eq!((at(400), at(401)), (Some(9000), None));
    assert_eq!((at(3), at(2)), (Some(300), None), "3.3 and 5 times");
}

#[test]
fn the_least_sum_of_doublings_is_nearest_and_each_counts() {
    let store = closed(&[(64, 1, 1), (16, 4, 2)]);
    assert_eq!(p50(&store, &settings(CLOSED, 64, 2)), Some(1));
    assert_eq!(p50(&store, &settings(CLOSED, 16, 8)), Some(2));
    assert_eq!(p50(&store, &settings(CLOSED, 64, 17)), None, "17 times and 4.25 times");
}

#[test]
fn of_two_as_near_the_lighter_one_is_taken_and_then_the_newest() {
    let store = closed(&[(128, 1, 1000), (32, 1, 200)]);
    assert_eq!(p50(&store, &settings(CLOSED, 64, 1)), Some(200));
    let store = closed(&[(32, 1, 200), (128, 1, 1000)]);
    assert_eq!(p50(&store, &settings(CLOSED, 64, 1)), Some(200));
    let mut store = closed(&[(32, 2, 200), (64, 1, 300)]);
    assert_eq!(p50(&store, &settings(CLOSED, 64, 2)), Some(300));
    store.insert(&settings(CLOSED, 32, 2), &here(), floor(250));
    assert_eq!((p50(&store, &settings(CLOSED, 64, 2)), store.len()), (Some(250), 2), "measured anew");
}

#[test]
fn only_a_closed_loop_without_thinking_is_scaled() {
    let thinking =
        |connections| settings(Loop::Closed { think_ns: 5, think_exponential: true }, connections, 1);
    let mut store = closed(&[(64, 1, 1000)]);
    store.insert(&thinking(64), &here(), floor(70));
    store.insert(&settings(open(5e4), 64, 1), &here(), floor(30));
    let found = store.find(&settings(CLOSED, 32, 1), &here()).unwrap();
    assert_eq!((found.p50_ns, found.p99_ns, found.rate), (500, 1000, 1e5));
    assert_eq!(p50(&store, &settings(CLOSED, 128, 1)), Some(1000), "a lighter one as it is");
    assert_eq!(p50(&store, &thinking(32)), Some(70));
    assert_eq!(p50(&store, &settings(open(5e4), 32, 1)), Some(30));
}

#[test]
fn an_open_loop_is_found_by_its_largest_rate() {
    let mut store = Store::default();
    store.insert(&settings(open(1000.0), 64, 1), &here(), floor(10));
    store.insert(&settings(open(8000.0), 64, 1), &here(), floor(20));
    let at = |rate| p50(&store, &settings(open(rate), 64, 1));
    assert_eq!((at(2000.0), at(3000.0)), (Some(10), Some(20)));
    assert_eq!((at(32_000.0), at(32_001.0)), (Some(20), None));
    let trace = Loop::Open { arrivals: Arrivals::Trace("x".into()), stages: Vec::new() };
    store.insert(&settings(trace.clone(), 64, 1), &here(), floor(1));
    assert_eq!((store.len(), p50(&store, &settings(trace, 64, 1))), (2, None));
}

#[test]
fn another_host_kernel_protocol_or_thread_count_is_another_shape() {
    let store = closed(&[(64, 1, 1000)]);
    let asked = settings(CLOSED, 64, 1);
    assert!(store.find(&asked, &here()).is_some());
    assert_eq!(store.find(&asked, &Provenance { host_id: "b".into(), ..here() }), None);
    assert_eq!(store.find(&asked, &Provenance { kernel: "6.19".into(), ..here() }), None);
    assert_eq!(p50(&store, &Settings { speaks: Speaks::Echo, ..asked.clone() }), None);
    assert_eq!(p50(&store, &Settings { threads: 2, ..asked }), None);
}

#[test]
fn the_size_of_a_message_counts_where_the_null_server_sends_it_back() {
    let mut store = Store::default();
    let echo = |echo_len| Settings { speaks: Speaks::Echo, echo_len, ..settings(CLOSED, 64, 1) };
    store.insert(&echo(64), &here(), floor(10));
    assert_eq!((p50(&store, &echo(256)), p50(&store, &echo(257))), (Some(10), None));
    let resp = |value_len| Settings {
        speaks: Speaks::Resp,
        resp: RespSpec { value_len, ..RespSpec::default() },
        ..settings(CLOSED, 64, 1)
    };
    store.insert(&resp(32), &here(), floor(10));
    assert_eq!((p50(&store, &resp(0)), p50(&store, &resp(8))), (None, Some(10)));
    store.insert(&settings(CLOSED, 64, 1), &here(), floor(10));
    assert_eq!(p50(&store, &Settings { echo_len: 9999, ..settings(CLOSED, 64, 1) }), Some(10));
}

#[test]
fn what_was_saved_is_loaded_again() {
    let dir = tempfile::tempdir().unwrap();
    let below = dir.path().join("a/b");
    let mut store = closed(&[(64, 1, 1000), (128, 2, 2000)]);
    store.insert(&settings(open(1234.5), 64, 1), &here(), floor(30));
    store.save(&below).unwrap();
    let loaded = Store::load(&below);
    assert_eq!((loaded.warning(), &loaded.entries), (None, &store.entries));
    let names: Vec<_> = fs::read_dir(&below).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [FILE], "nothing else is left there");
}

#[test]
fn a_missing_file_is_an_empty_store_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::load(dir.path());
    assert!(store.is_empty());
    assert_eq!((store.warning(), p50(&store, &settings(CLOSED, 1, 1))), (None, None));
}

#[test]
fn a_damaged_file_is_told_of_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let deep = format!("{{\"x\":{}", "[".repeat(FILE_LEN_MAX - 5));
    let bytes: [(&[u8], &str); 6] = [
        (b"{\"schema\":1,\"entries\":[", "damaged"),
        (b"", "damaged"),
        (b"{\"schema\":2,\"entries\":[]}", "its schema is 2"),
        (b"\xff", "UTF-8"),
        (deep.as_bytes(), "nested too deep"),
        (b"[]", "damaged"),
    ];
    for (bytes, why) in bytes {
        fs::write(&path, bytes).unwrap();
        let mut store = Store::load(dir.path());
        let warning = store.warning().unwrap();
        assert!(warning.contains(why) && warning.contains("loadgen calibrate"), "{warning}");
        assert!(store.is_empty());
        store.insert(&settings(CLOSED, 64, 1), &here(), floor(1000));
        store.save(dir.path()).unwrap();
        let store = Store::load(dir.path());
        assert_eq!((store.warning(), store.len()), (None, 1));
    }
}

#[test]
fn a_file_may_have_as_many_bytes_as_its_bound_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE);
    let mut text = closed(&[(64, 1, 1000)]).text().unwrap();
    text.push_str(&" ".repeat(FILE_LEN_MAX - text.len()));
    fs::write(&path, &text).unwrap();
    assert_eq!(Store::load(dir.path()).len(), 1);
    text.push(' ');
    fs::write(&path, &text).unwrap();
    let store = Store::load(dir.path());
    assert!(store.warning().unwrap().contains("more than 1048576 bytes"));
    assert!(store.is_empty());
}

#[test]
fn the_oldest_go_past_the_bound_of_entries() {
    let most = u32::try_from(ENTRIES_MAX).unwrap();
    let entries = (0..most)
        .map(|index| Entry {
            shape: shape(&settings(CLOSED, 1, 1), &Provenance { host_id: index.to_string(), ..here() }),
            load: load(&settings(CLOSED, 1, 1)).unwrap(),
            floor: floor(u64::from(index) + 1),
        })
        .collect();
    let mut store = Store { entries, warning: None };
    let find = |store: &Store, host: u32| {
        store.find(&settings(CLOSED, 1, 1), &Provenance { host_id: host.to_string(), ..here() }).is_some()
    };
    assert!(find(&store, 0));
    store.insert(&settings(CLOSED, 1, 1), &here(), floor(5));
    assert_eq!((store.len(), find(&store, 0), find(&store, 1)), (ENTRIES_MAX, false, true));
    // A file that has more is cut as well.
    store.entries.extend_from_within(..1);
    let dir = tempfile::tempdir().unwrap();
    store.save(dir.path()).unwrap();
    let loaded = Store::load(dir.path());
    assert_eq!((loaded.len(), loaded.warning(), find(&loaded, 2)), (ENTRIES_MAX, None, true));
}

#[test]
fn entries_with_the_longest_texts_still_fit_the_file() {
    let mut store = Store::default();
    // Each of these takes two bytes in JSON.
    let here = |index: usize| Provenance {
        host_id: format!("{index:0>TEXT_LEN_MAX$}"),
        kernel: "\"".repeat(TEXT_LEN_MAX),
        ..Provenance::default()
    };
    for index in 0..ENTRIES_MAX {
        store.insert(&settings(open(123_456.789), 65_536, 64), &here(index), floor(1_000_000_000));
    }
    assert_eq!(store.len(), ENTRIES_MAX);
    let whole = store.text().unwrap().len();
    assert!(whole <= FILE_LEN_MAX);
    // Were there more, the oldest would be left out.
    store.entries =
        store.entries.iter().cloned().cycle().take(FILE_LEN_MAX / whole * ENTRIES_MAX * 2).collect();
    assert!(store.text().unwrap().len() <= FILE_LEN_MAX);
}

#[test]
fn figures_that_are_no_floor_are_not_kept() {
    let mut store = Store::default();
    let long = Provenance { host_id: "x".repeat(TEXT_LEN_MAX + 1), ..here() };
    store.insert(&settings(CLOSED, 1, 1), &long, floor(1));
    let good = floor(10);
    for bad in [
        Floor { p50_ns: 0, ..good },
        Floor { p99_ns: 9, ..good },
        Floor { rate: 0.0, ..good },
        Floor { rate: f64::NAN, ..good },
        Floor { rate: f64::INFINITY, ..good },
    ] {
        store.insert(&settings(CLOSED, 1, 1), &here(), bad);
    }
    assert!(store.is_empty());
    store.insert(&settings(CLOSED, 0, 0), &here(), Floor { p99_ns: 10, ..good });
    assert_eq!(p50(&store, &settings(CLOSED, 1, 1)), Some(10), "zero counts as one");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let error = closed(&[(1, 1, 1)]).save(&dir.path().join("file/below")).unwrap_err();
    assert!(error.contains("file/below/loadgen-floor.json") && error.contains("XDG_CACHE_HOME"), "{error}");
    // The name is taken by a directory: what was written under another name is removed again.
    fs::create_dir(dir.path().join(FILE)).unwrap();
    assert!(closed(&[(1, 1, 1)]).save(dir.path()).is_err());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    assert!(Store::load(dir.path()).warning().is_some(), "nor can it be read");
}

#[test]
fn the_directory_follows_the_cache_of_the_user() {
    let of = |xdg: &str, home: &str| {
        let value = |text: &str| (text != "-").then(|| OsString::from(text));
        directory(value(xdg), value(home)).map(|path| path.display().to_string())
    };
    assert_eq!(of("/c", "/h").as_deref(), Some("/c/corelane"));
    assert_eq!(of("-", "/h").as_deref(), Some("/h/.cache/corelane"));
    assert_eq!(of("relative", "/h").as_deref(), Some("/h/.cache/corelane"));
    assert_eq!(of("", "/h").as_deref(), Some("/h/.cache/corelane"));
    assert_eq!((of("-", "-"), of("x", "y")), (None, None));
}
