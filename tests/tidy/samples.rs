//! A rule that finds nothing proves nothing: each one here meets text it must pass and text it must not.
//!
//! Patterns that the rules forbid in tracked files are put together from pieces.

use super::rules::*;

#[test]
fn a_file_without_opening_docs_is_found() {
    assert!(opens_with_docs("a.rs", "//! What it is.\nfn f() {}").is_empty());
    assert_eq!(opens_with_docs("a.rs", "use x;\n//! Late."), ["a.rs:1: the first line is no `//!`"]);
}

fn package(name: &str, floor: Option<u32>, dependencies: &[(&str, Option<&str>, bool)]) -> Package {
    Package {
        name: name.into(),
        manifest_path: format!("{name}/Cargo.toml"),
        metadata: floor.map(|level| Metadata { floor: Some(Floor { level }) }),
        dependencies: dependencies
            .iter()
            .map(|&(name, kind, optional)| Dependency {
                name: name.into(),
                kind: kind.map(Into::into),
                optional,
            })
            .collect(),
        targets: vec![],
    }
}

#[test]
fn a_dependency_that_does_not_point_down_is_found() {
    let low = package("low", Some(1), &[("outside", None, false)]);
    let good = package("good", Some(2), &[("low", None, false), ("high", Some("dev"), false)]);
    let high = package("high", Some(3), &[("low", None, false)]);
    assert_eq!(floors_descend(&[low.clone(), good, high.clone()]), [""; 0]);
    let same = package("same", Some(3), &[("high", None, false)]);
    let build = package("build", Some(0), &[("low", Some("build"), false)]);
    assert_eq!(
        floors_descend(&[low, high, same, build]),
        [
            "same/Cargo.toml:1: same (floor 3) depends on high (floor 3)",
            "build/Cargo.toml:1: build (floor 0) depends on low (floor 1)",
        ]
    );
}

#[test]
fn a_crate_without_a_floor_is_found() {
    assert_eq!(
        floors_descend(&[package("lost", None, &[])]),
        ["lost/Cargo.toml:1: lost has no [package.metadata.floor] level"]
    );
}

#[test]
fn a_dependency_that_should_be_optional_and_is_not_is_found() {
    let with = |optional| package("user", Some(6), &[("guest", None, optional)]);
    assert!(is_optional("guest", &[package("other", Some(1), &[]), with(true)]).is_empty());
    assert_eq!(
        is_optional("guest", &[with(true), with(false)]),
        ["user/Cargo.toml:1: guest is not optional"]
    );
    assert_eq!(is_optional("guest", &[package("other", Some(1), &[])]).len(), 1, "nobody has it");
}

#[test]
fn the_simulator_outside_tests_and_features_is_found() {
    let sim = package("corelane-sim", Some(3), &[]);
    let with = |kind, optional| package("user", Some(6), &[("corelane-sim", kind, optional)]);
    assert!(floors_descend(&[sim.clone(), with(Some("dev"), false)]).is_empty());
    assert!(floors_descend(&[sim.clone(), with(None, true)]).is_empty());
    assert_eq!(floors_descend(&[sim, with(None, false)]).len(), 1);
}

#[test]
fn a_crate_that_does_not_forbid_unsafe_is_found() {
    assert!(forbids_unsafe("lib.rs", "//! A.\n#![forbid(unsafe_code)]\nmod a;").is_empty());
    let only_said = "//! A.\n// #![forbid(unsafe_code)]\n#![deny(unsafe_code)]";
    assert_eq!(forbids_unsafe("lib.rs", only_said), ["lib.rs:1: no #![forbid(unsafe_code)]"]);
}

#[test]
fn unsafe_code_is_found_and_talk_of_it_is_not() {
    assert!(has_no_unsafe("a.rs", "// unsafe\nlet a = \"unsafe\";\n#![forbid(unsafe_code)]").is_empty());
    assert!(has_no_unsafe("a.rs", "fn f() {\n    unsafe { g() }\n}")[0].starts_with("a.rs:2: `unsafe`"));
}

#[test]
fn an_allocator_that_counts_is_for_tests_only() {
    let counting =
        "#[global_allocator]\nstatic A: Counting = Counting;\nunsafe impl GlobalAlloc for Counting {}";
    assert!(has_no_unsafe("shards/http/tests/allocations.rs", counting).is_empty());
    assert_eq!(has_no_unsafe("src/main.rs", counting).len(), 1);
    assert_eq!(has_no_unsafe("tests/a.rs", "// #[global_allocator]\nunsafe fn f() {}").len(), 1);
}

#[test]
fn ring_types_are_found_and_talk_of_them_is_not() {
    assert!(
        names_no_ring("a.rs", "//! No SQE, no io_uring::types here.\nuse corelane_uring::Ring;").is_empty()
    );
    assert!(names_no_ring("a.rs", "\nuse io_uring::opcode;")[0].starts_with("a.rs:2: `io_uring`"));
    assert_eq!(names_no_ring("a.rs", "fn f(e: squeue::Entry, c: &Cqe) {}").len(), 2);
}

#[test]
fn a_clock_or_a_socket_in_a_protocol_is_found() {
    assert!(
        is_sans_io("a.rs", "fn handle(&mut self, bytes: &[u8], now: Instant) {} // no Instant::now")
            .is_empty()
    );
    assert!(
        is_sans_io("a.rs", "let now = std::time::Instant::now();")[0].starts_with("a.rs:1: `Instant::now`")
    );
    assert_eq!(is_sans_io("a.rs", "use std::net::TcpStream;\nuse std::os::fd::OwnedFd;").len(), 3);
}

const LIMITS: &str =
    "/// Maxima.\npub struct Limits {\n    /// A.\n    pub a_max: u32,\n    pub b_time: Duration,\n}\n";
const DEFAULTS: &str = "Limits {\n    a_max: 64,\n    b_time: 10s,\n}";

#[test]
fn a_table_of_limits_that_agrees_passes() {
    let page = "# Limits\n\n| Field | Default |\n|---|---|\n| `a_max` | `64` (many) | x |\n| `b_time` | `10s` | y |\n";
    assert_eq!(limits_are_documented("L.md", LIMITS, DEFAULTS, page), [""; 0]);
}

#[test]
fn a_limit_that_is_missing_unknown_twice_or_wrong_is_found() {
    let page = "| `a_max` | `64` |\n| `a_max` | `65` |\n| `c` | `1` |\n";
    assert_eq!(
        limits_are_documented("L.md", LIMITS, DEFAULTS, page),
        [
            "L.md:2: the default of `a_max` is `64`",
            "L.md:2: `a_max` has two rows",
            "L.md:3: `c` is no field of Limits",
            "L.md:1: `b_time` has no row",
        ]
    );
    assert_eq!(limits_are_documented("L.md", "struct Other;", "", "").len(), 1, "no fields at all");
}

#[test]
fn a_counter_in_the_table_that_does_not_exist_is_found() {
    let row = |counter: &str| format!("| `a_max` | `64` | `b` | c `d` | {counter} |\n");
    let product = "pub struct Stats { a_refused: u64 }";
    assert!(counters_exist("L.md", &row("net: `a_refused`"), product).is_empty());
    assert!(counters_exist("L.md", &row(""), product).is_empty());
    assert!(counters_exist("L.md", &row("`Overflows` of the host"), product).is_empty());
    let found = counters_exist("L.md", &row("`a_refused`, `a_lost`"), product);
    assert_eq!(found, ["L.md:1: no counter `a_lost`"]);
}

#[test]
fn a_counter_that_nobody_counts_is_found() {
    let text = "//! S.\n\nstats! {\n    /// A.\n    taken,\n    /// B.\n    lost,\n}\n";
    assert!(counters_count("s.rs", text, "bump(&s.taken); bump(&s.lost)").is_empty());
    assert_eq!(
        counters_count("s.rs", text, "bump(&s.taken); let lost = 1;"),
        ["s.rs:7: `lost` is never counted"]
    );
    assert!(counters_count("s.rs", "//! No block.", "").is_empty());
}

#[test]
fn a_variable_that_nothing_reads_is_found() {
    let code = "const SEED: &str = \"CORELANE_SEED\";";
    assert!(variables_exist("T.md", "Set `CORELANE_SEED=N`, or CORELANE_SEED.", code).is_empty());
    assert_eq!(
        variables_exist("T.md", "\n`CORELANE_SEEDS=1 x`", code),
        ["T.md:2: nothing reads `CORELANE_SEEDS`"]
    );
}

#[test]
fn a_protocol_without_a_fuzz_target_is_found() {
    let target = |text: &str| ("h1.rs".to_owned(), text.to_owned());
    let used = target("use corelane_proto_h1::Machine;");
    assert!(protocols_are_fuzzed(&["corelane-proto-h1"], &[used]).is_empty());
    let only_said = target("// corelane_proto_h1\nuse corelane_proto_h12::Machine;");
    assert_eq!(
        protocols_are_fuzzed(&["corelane-proto-h1"], &[only_said]),
        ["fuzz/fuzz_targets:1: no target uses corelane-proto-h1"]
    );
}

#[test]
fn a_bench_that_no_test_runs_is_found() {
    let bench = |path: &str, test| Target { kind: vec!["bench".into()], src_path: path.into(), test };
    let with = |targets| Package { targets, ..package("shards/a", Some(1), &[]) };
    let file = |path: &str, text: &str| (path.to_owned(), text.to_owned());
    let root = "shards/a/benches/micro/main.rs";
    let files = [
        file(root, "mod one;\nmod two;\nfn main() {\n    divan::main();\n}"),
        file("shards/a/benches/micro/one.rs", ""),
        file("shards/a/benches/micro/two/mod.rs", ""),
        file("shards/a/benches/other.rs", "fn main() {} // divan::main()"),
    ];
    assert_eq!(benches_run_as_tests(&[with(vec![bench(root, true)])], &files), [""; 0]);
    assert_eq!(
        benches_run_as_tests(&[with(vec![])], &files),
        ["shards/a/Cargo.toml:1: shards/a has no benches"]
    );
    assert_eq!(
        benches_run_as_tests(&[package("src", Some(8), &[])], &files),
        [""; 0],
        "not a part of a shard"
    );
    assert_eq!(
        benches_run_as_tests(&[with(vec![bench("shards/a/benches/other.rs", false)])], &files),
        [
            "shards/a/benches/other.rs:1: no test runs it: add `test = true` to its [[bench]]",
            "shards/a/benches/other.rs:1: nothing calls divan::main()",
        ]
    );
    let more = [files.as_slice(), &[file("shards/a/benches/micro/lost.rs", "")]].concat();
    assert_eq!(
        benches_run_as_tests(&[with(vec![bench(root, true)])], &more),
        [format!("shards/a/benches/micro/lost.rs:1: nothing runs it: {root} has no `mod lost;`")]
    );
}

#[test]
fn a_file_on_the_size_limit_passes_and_one_past_it_is_found() {
    assert!(is_small("a.bin", BLOB_LEN_MAX).is_empty());
    assert!(is_small("fuzz/Cargo.lock", BLOB_LEN_MAX + 1).is_empty());
    assert_eq!(is_small("a.bin", BLOB_LEN_MAX + 1), ["a.bin:1: 102401 bytes are more than 102400"]);
}

#[test]
fn unfinished_work_is_found() {
    assert!(is_finished("a.sh", &format!("mktemp /tmp/a.{}{}", "XX", "XXXX")).is_empty());
    for (start, end) in [("to", "do!()"), ("unimpl", "emented!()"), ("FIX", "ME: later"), ("XX", "X")] {
        assert_eq!(is_finished("a.rs", &format!("//! A.\n    {start}{end}")).len(), 1, "{start}{end}");
    }
}

#[test]
fn a_registry_host_is_found() {
    assert!(names_no_registry("a.md", "the registry of Cargo, crates in io, example.org").is_empty());
    for (name, top) in [("static.crates", "io/x"), ("https://pypi", "org/simple"), ("docker", "io/library")] {
        assert_eq!(names_no_registry("a.md", &format!("\nfrom {name}.{top}")).len(), 1, "{name}");
    }
}

#[test]
fn a_changelog_without_unreleased_is_found() {
    assert!(has_unreleased("C.md", "# Changelog\n\n## [Unreleased]\n").is_empty());
    assert_eq!(has_unreleased("C.md", "# Changelog\n\n## [0.1.0]\n").len(), 1);
}

#[test]
fn a_test_that_is_no_sentence_is_found() {
    let good = "#[test]\nfn one_is_one() {}\nfn helper() {}\n#[test] fn two_is_two() {}";
    assert!(tests_are_sentences("a.rs", good).is_empty());
    let bad = "#[test]\n#[ignore]\nfn test_2() {}\n#[test]\nfn works() {}";
    assert_eq!(
        tests_are_sentences("a.rs", bad),
        ["a.rs:3: `test_2` is no sentence", "a.rs:5: `works` is no sentence"]
    );
}
