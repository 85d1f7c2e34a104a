//! `bench icount` as a user meets it: a table, exit codes, the baseline it writes and compares with. Valgrind is
//! played by a script that says what every case costs; one test runs the real one.
//!
//! Not here: reading callgrind's file and exact comparison (unit tests of `icount`).

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// What stands before the figure is chosen: the options of callgrind, the case and its count are taken apart.
const FAKE: &str = r#"#!/bin/sh
if [ "$1" = --version ]; then echo valgrind-0; exit 0; fi
for argument; do
    case $argument in --callgrind-out-file=*) out=${argument#*=} ;; esac
    case_name=$ops
    ops=$argument
done
each=100
"#;

const FAKE_END: &str = r#"
echo "a CPU"
echo "events: Ir" >"$out"
echo "totals: $((5000000 + ops * each))" >>"$out"
"#;

struct Bench {
    folder: TempDir,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { folder: TempDir::new().unwrap() };
        bench.costs("");
        bench
    }

    fn baseline(&self) -> PathBuf {
        self.folder.path().join("icount.toml")
    }

    /// From now on every case costs 100 instructions, unless these lines of the script set `each` otherwise.
    fn costs(&self, lines: &str) {
        let program = self.folder.path().join("valgrind");
        fs::write(&program, [FAKE, lines, FAKE_END].concat()).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let path = format!("{}:/usr/bin:/bin", self.folder.path().display());
        let mut command = icount(&self.baseline());
        told(&command.args(arguments).env("PATH", path).output().unwrap())
    }

    /// With a baseline of what everything costs now.
    fn with_baseline() -> Bench {
        let bench = Bench::new();
        let (code, text, talk) = bench.run(&["--update"]);
        assert_eq!(code, Some(0), "{text}\n{talk}");
        bench
    }
}

fn icount(baseline: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
    command.arg("icount").arg("--baseline").arg(baseline);
    command
}

fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn row<'t>(table: &'t str, case: &str) -> Vec<&'t str> {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(case));
    line.unwrap_or_else(|| panic!("no row of {case} in\n{table}")).split_whitespace().collect()
}

const POOL: &str = "[ $case_name = pool/small ] && each=";

#[test]
fn a_baseline_that_was_just_written_is_met_by_the_next_run() {
    let bench = Bench::with_baseline();
    let (code, table, talk) = bench.run(&[]);
    assert_eq!((code, talk.as_str()), (Some(0), ""), "{table}");
    assert_eq!(row(&table, "pool/small"), ["pool/small", "100.0", "100.0", "+0.0%"]);
    let (_, list, _) = bench.run(&["--list"]);
    assert_eq!(table.lines().count(), 1 + list.lines().count());
    let file = fs::read_to_string(bench.baseline()).unwrap();
    assert!(file.starts_with("# Instructions of one operation"), "{file}");
    assert!(file.contains("valgrind = \"valgrind-0\"\n") && file.contains("cpu = \"a CPU\"\n"), "{file}");
}

#[test]
fn a_rise_of_three_percent_passes_and_one_above_fails_by_name() {
    let bench = Bench::with_baseline();
    bench.costs(&format!("{POOL}103"));
    let (code, table, _) = bench.run(&[]);
    assert_eq!(code, Some(0), "{table}");
    bench.costs(&format!("{POOL}104"));
    let (code, table, talk) = bench.run(&[]);
    assert_eq!(code, Some(1), "{table}");
    assert_eq!(row(&table, "pool/small"), ["pool/small", "104.0", "100.0", "+4.0%", "ROSE"]);
    assert!(talk.contains("rose by more than 3%: pool/small\n"), "{talk}");
    assert!(talk.contains("icount --update") && talk.contains("say why in the commit"), "{talk}");
    for (arguments, expected) in
        [(["--max-rise", "4%"], 0), (["--case", "pool/"], 1), (["--case", "lane/"], 0)]
    {
        let (code, table, _) = bench.run(&arguments);
        assert_eq!(code, Some(expected), "{arguments:?}\n{table}");
    }
}

#[test]
fn a_fall_is_remarked_and_is_no_failure() {
    let bench = Bench::with_baseline();
    bench.costs(&format!("{POOL}90"));
    let (code, table, talk) = bench.run(&[]);
    assert_eq!(code, Some(0), "{table}");
    assert_eq!(row(&table, "pool/small")[3..], ["-10.0%", "fell"]);
    assert!(talk.contains("fell by more than 3%: pool/small;") && talk.contains("--update"), "{talk}");
}

#[test]
fn a_case_without_a_baseline_and_a_baseline_without_a_case_fail_by_name() {
    let bench = Bench::with_baseline();
    let file = fs::read_to_string(bench.baseline()).unwrap();
    fs::write(bench.baseline(), file.replace("\"pool/small\"", "\"pool/gone\"")).unwrap();
    let (code, table, talk) = bench.run(&[]);
    assert_eq!(code, Some(1), "{table}");
    assert!(talk.contains("no baseline for pool/small:"), "{talk}");
    assert!(talk.contains("what is no case: pool/gone:"), "{talk}");
    let (code, _, talk) = bench.run(&["--case", "lane/push-pop"]);
    assert_eq!(code, Some(0), "only what was chosen is looked at: {talk}");
    assert_eq!(bench.run(&["--update"]).0, Some(0));
    assert_eq!(bench.run(&[]).0, Some(0), "an update puts both right");
}

#[test]
fn a_baseline_torn_by_a_merge_is_replaced_by_a_whole_update_only() {
    let bench = Bench::with_baseline();
    let file = fs::read_to_string(bench.baseline()).unwrap();
    fs::write(bench.baseline(), format!("<<<<<<< ours\n{file}")).unwrap();
    for arguments in [&["--update", "--case", "pool/small"][..], &[]] {
        let (code, _, talk) = bench.run(arguments);
        assert_eq!(code, Some(2), "{arguments:?}");
        assert!(talk.contains("icount.toml: TOML parse error"), "{talk}");
    }
    assert_eq!(bench.run(&["--update"]).0, Some(0));
    assert_eq!(fs::read_to_string(bench.baseline()).unwrap(), file);
}

#[test]
fn figures_of_another_compiler_warn_and_do_not_fail() {
    let bench = Bench::with_baseline();
    let file = fs::read_to_string(bench.baseline()).unwrap();
    let own = file.lines().find(|line| line.starts_with("rustc = ")).unwrap();
    fs::write(bench.baseline(), file.replace(own, "rustc = \"1.2.3\"")).unwrap();
    bench.costs(&format!("{POOL}200"));
    let (code, table, talk) = bench.run(&[]);
    assert_eq!(code, Some(0), "{table}");
    assert_eq!(row(&table, "pool/small")[3..], ["+100.0%", "ROSE"]);
    assert!(talk.contains("WARNING") && talk.contains("rustc: `1.2.3`, here `1."), "{talk}");
    let (code, _, talk) = bench.run(&["--update", "--case", "pool/small"]);
    assert_eq!(code, Some(2), "one figure of here among those of elsewhere");
    assert!(talk.contains("update all cases"), "{talk}");
}

#[test]
fn runs_that_differ_show_their_spread_and_count_by_their_median() {
    let bench = Bench::with_baseline();
    // Each run of the longer count of this case costs one more than the one before.
    let lines = format!(
        "if [ $case_name = pool/small ] && [ $ops -gt 20000 ]; then\n\
         until mkdir \"{0}/lock\" 2>/dev/null; do :; done\n\
         read -r n 2>/dev/null <\"{0}/n\" || n=0\n\
         echo $((n + 1)) >\"{0}/n\"\n\
         rmdir \"{0}/lock\"\n\
         ops=$((ops + n * 200))\n\
         fi",
        bench.folder.path().display()
    );
    bench.costs(&lines);
    let (code, table, talk) = bench.run(&["--runs", "3", "--case", "pool/"]);
    assert_eq!(code, Some(0), "{table}\n{talk}");
    assert_eq!(row(&table, "pool/small"), ["pool/small", "101.0", "100.0", "+1.0%", "+2.0%", "UNSTEADY"]);
    assert_eq!(row(&table, "pool/large"), ["pool/large", "100.0", "100.0", "+0.0%", "+0.0%"]);
}

#[test]
fn what_cannot_run_exits_with_2_and_says_what_to_do() {
    let bench = Bench::new();
    let (code, _, talk) = bench.run(&[]);
    assert_eq!(code, Some(2));
    assert!(talk.contains("the baseline") && talk.contains("--update"), "{talk}");
    let (code, _, talk) = bench.run(&["--case", "no/such"]);
    assert_eq!(code, Some(2));
    assert!(talk.contains("`no/such`") && talk.contains("pool/small"), "{talk}");
    bench.costs("echo out of luck >&2; exit 3");
    let (code, table, talk) = bench.run(&["--update"]);
    assert_eq!((code, table.as_str()), (Some(2), ""));
    assert!(talk.contains("times: valgrind ended with exit status: 3: out of luck"), "{talk}");
    assert!(!bench.baseline().exists(), "nothing half measured is kept");
    let empty = TempDir::new().unwrap();
    let output = icount(&bench.baseline()).arg("--update").env("PATH", empty.path()).output().unwrap();
    let (code, _, talk) = told(&output);
    assert_eq!(code, Some(2));
    assert!(talk.contains("needs valgrind") && talk.contains("apt-get install valgrind"), "{talk}");
}

#[test]
fn a_build_for_tests_does_not_write_the_baseline_of_the_repository() {
    if cfg!(debug_assertions) {
        let output = Command::new(env!("CARGO_BIN_EXE_bench")).args(["icount", "--update"]).output().unwrap();
        let (code, _, talk) = told(&output);
        assert_eq!(code, Some(2));
        assert!(talk.contains("cargo run --release"), "{talk}");
    }
}

#[test]
fn a_case_by_itself_names_its_cpu_and_refuses_parts_of_a_round() {
    let case = |name: &str, ops: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bench"));
        told(&command.args(["icount-case", name, ops]).output().unwrap())
    };
    let (code, text, talk) = case("request/plaintext-x16", "64");
    assert_eq!(code, Some(0), "{talk}");
    assert_eq!(text.lines().count(), 1, "{text}");
    for (name, ops, why) in [("pool/small", "63", "64"), ("pool/small", "0", "64"), ("pool", "64", "`pool`")]
    {
        let (code, _, talk) = case(name, ops);
        assert_eq!(code, Some(2));
        assert!(talk.contains(why), "{talk}");
    }
}

#[test]
fn under_the_real_callgrind_two_measurements_of_a_case_agree() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "a build machine has valgrind");
        eprintln!("skipped: valgrind is not installed");
        return;
    }
    let folder = TempDir::new().unwrap();
    let baseline = folder.path().join("icount.toml");
    let measure = |arguments: &[&str]| {
        told(&icount(&baseline).args(["--case", "lane/push-pop"]).args(arguments).output().unwrap())
    };
    let (code, _, talk) = measure(&["--update"]);
    assert_eq!(code, Some(0), "{talk}");
    let (code, table, talk) = measure(&["--max-rise", "0.5%"]);
    assert_eq!(code, Some(0), "{table}\n{talk}");
    assert!(!talk.contains("WARNING") && !talk.contains("fell"), "{talk}");
}
