//! The invariants of the tree that no compiler checks: layout, floors, where `unsafe` may be, docs that agree.
//!
//! Runs with the other tests, so that `cargo test` is the only gate. Reads every file that is tracked or
//! new and not ignored. A failure names `file:line` for each finding. The rules are pure functions in
//! `rules`, each with samples of what it must and must not find.
//!
//! Not here: format, lints and shell (`scripts/check`), dependencies from outside (`scripts/audit`).

#[path = "tidy/code.rs"]
mod code;
#[path = "tidy/rules.rs"]
mod rules;
#[path = "tidy/samples.rs"]
mod samples;

use std::path::Path;
use std::process::Command;

use rules::Package;
use serde::Deserialize;

/// Where `unsafe` may be: five crates, and the yardsticks of the benchmarks.
const MAY_BE_UNSAFE: [&str; 6] =
    ["shards/sys/", "shards/lanes/", "shards/pools/", "shards/uring/", "shards/exec/", "bench/src/limit/"];

/// Where a ring may be named: its crate, and the yardsticks that do without that crate.
const MAY_NAME_A_RING: [&str; 2] = ["shards/uring/", "bench/src/limit/"];

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What `program` prints; panics with what it said when it fails.
fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(root()).output();
    let output = output.unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap_or_else(|error| panic!("{program} {arguments:?}: {error}"))
}

/// The paths, from the root, of all files that are tracked or would be by `git add`.
fn paths() -> Vec<String> {
    let list = ["-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let mut paths: Vec<String> = output_of("git", &list).split_terminator('\0').map(str::to_owned).collect();
    paths.retain(|path| root().join(path).is_file());
    paths.sort();
    paths.dedup();
    assert!(paths.iter().any(|path| path == "Cargo.toml"), "the list of files is not of this repository");
    paths
}

/// The files whose path passes, with their text. Files that are not UTF-8 have none.
fn files(wanted: impl Fn(&str) -> bool) -> Vec<(String, String)> {
    let text = |path: String| std::fs::read_to_string(root().join(&path)).ok().map(|text| (path, text));
    paths().into_iter().filter(|path| wanted(path)).filter_map(text).collect()
}

fn is_rust(path: &str) -> bool {
    path.ends_with(".rs")
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The crates of the workspace, with manifests from the root.
fn packages() -> Vec<Package> {
    #[derive(Deserialize)]
    struct Answer {
        packages: Vec<Package>,
    }
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let json = output_of(&cargo, &["metadata", "--no-deps", "--format-version", "1"]);
    let answer: Answer = sonic_rs::from_str(&json).unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    let short = |path: &str| path.strip_prefix(&format!("{}/", root().display())).unwrap_or(path).to_owned();
    let mut packages = answer.packages;
    for package in &mut packages {
        package.manifest_path = short(&package.manifest_path);
        for target in &mut package.targets {
            target.src_path = short(&target.src_path);
        }
    }
    assert!(packages.len() > 1, "the workspace has more than one crate");
    packages
}

/// Applies a rule to files.
fn each(files: &[(String, String)], rule: impl Fn(&str, &str) -> Vec<String>) -> Vec<String> {
    assert!(!files.is_empty(), "a rule that is applied to no file checks nothing");
    files.iter().flat_map(|(path, text)| rule(path, text)).collect()
}

#[track_caller]
fn nothing_in(findings: &[String]) {
    assert!(findings.is_empty(), "{} found:\n{}", findings.len(), findings.join("\n"));
}

#[test]
fn every_rust_file_opens_by_saying_what_it_is() {
    nothing_in(&each(&files(is_rust), rules::opens_with_docs));
}

#[test]
fn every_dependency_points_to_a_lower_floor() {
    nothing_in(&rules::floors_descend(&packages()));
}

#[test]
fn only_a_build_that_asks_for_glommio_has_it() {
    let packages = packages();
    nothing_in(&rules::is_optional("glommio-ng", &packages));
    // What cargo builds it downloads, and no more: offline, this fails where something else were needed.
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let edges = "normal,build,dev";
    let tree = ["tree", "--workspace", "--locked", "--offline", "-e", edges, "--prefix", "none"];
    let built = output_of(&cargo, &tree);
    assert!(built.contains("corelane-exec v"), "the workspace is in its own tree: {built}");
    let found: Vec<_> = built.lines().filter(|line| line.contains("glommio")).map(str::to_owned).collect();
    nothing_in(&found);
}

#[test]
fn every_other_crate_forbids_unsafe_code() {
    let may = |path: &str| path.starts_with("bench/") || MAY_BE_UNSAFE.iter().any(|m| path.starts_with(m));
    let is_product = |kind: &String| kind == "lib" || kind == "bin";
    let roots = packages().into_iter().flat_map(|package| package.targets);
    let roots = roots.filter(|target| target.kind.iter().any(is_product) && !may(&target.src_path));
    let roots: Vec<_> = roots.map(|target| (target.src_path.clone(), read(&target.src_path))).collect();
    nothing_in(&each(&roots, rules::forbids_unsafe));
}

#[test]
fn unsafe_code_is_only_where_it_may_be() {
    let may_not = |path: &str| is_rust(path) && !MAY_BE_UNSAFE.iter().any(|m| path.starts_with(m));
    nothing_in(&each(&files(may_not), rules::has_no_unsafe));
}

#[test]
fn no_crate_above_uring_names_a_ring() {
    let may_not = |path: &str| {
        is_rust(path)
            && !path.starts_with("bench/peers/")
            && !MAY_NAME_A_RING.iter().any(|m| path.starts_with(m))
    };
    nothing_in(&each(&files(may_not), rules::names_no_ring));
}

#[test]
fn protocol_machines_have_no_socket_and_no_clock() {
    nothing_in(&each(
        &files(|path| is_rust(path) && path.starts_with("shards/proto-") && path.contains("/src/")),
        rules::is_sans_io,
    ));
}

#[test]
fn every_limit_has_its_row_with_its_default() {
    let (source, page) = (read("shards/base/src/limits.rs"), read("docs/LIMITS.md"));
    let defaults = format!("{:#?}", corelane_base::Limits::default());
    nothing_in(&rules::limits_are_documented("docs/LIMITS.md", &source, &defaults, &page));
}

#[test]
fn every_counter_of_the_limits_page_exists() {
    let product = |path: &str| is_rust(path) && (path.starts_with("shards/") || path.starts_with("src/"));
    let product: String = files(product).into_iter().map(|(_, text)| text).collect();
    nothing_in(&rules::counters_exist("docs/LIMITS.md", &read("docs/LIMITS.md"), &product));
}

#[test]
fn every_variable_of_the_docs_is_read() {
    let may_read = |path: &str| is_rust(path) && !path.starts_with("tests/tidy");
    let code: String = files(may_read).into_iter().map(|(_, text)| text + "\n").collect();
    nothing_in(&each(&files(|path| path.ends_with(".md")), |path, text| {
        rules::variables_exist(path, text, &code)
    }));
}

#[test]
fn every_counter_is_counted_somewhere() {
    let sources = files(|path| is_rust(path) && path.contains("src/"));
    let defining =
        sources.iter().filter(|(_, text)| rules::COUNTER_BLOCKS.iter().any(|open| text.contains(open)));
    let found = defining.flat_map(|(path, text)| {
        let crate_src = &path[..path.find("src/").unwrap_or(0) + "src/".len()];
        let of_crate = sources.iter().filter(|(other, _)| other.starts_with(crate_src));
        let code: String = of_crate.map(|(_, text)| code::strip(text)).collect();
        rules::counters_count(path, text, &code)
    });
    nothing_in(&found.collect::<Vec<_>>());
}

#[test]
fn every_protocol_machine_has_a_fuzz_target() {
    let packages = packages();
    let protocols = packages.iter().filter(|package| package.manifest_path.starts_with("shards/proto-"));
    let names: Vec<_> = protocols.map(|package| package.name.as_str()).collect();
    assert!(!names.is_empty(), "there is a protocol");
    let targets = files(|path| is_rust(path) && path.starts_with("fuzz/fuzz_targets/"));
    nothing_in(&rules::protocols_are_fuzzed(&names, &targets));
}

#[test]
fn every_bench_of_a_shard_runs_under_the_tests() {
    let benches = files(|path| is_rust(path) && path.starts_with("shards/") && path.contains("/benches/"));
    assert!(!benches.is_empty(), "shards have benches");
    nothing_in(&rules::benches_run_as_tests(&packages(), &benches));
}

#[test]
fn no_tracked_file_is_large() {
    let len = |path: &str| std::fs::metadata(root().join(path)).map_or(0, |metadata| metadata.len());
    let found: Vec<_> = paths().iter().flat_map(|path| rules::is_small(path, len(path))).collect();
    nothing_in(&found);
}

#[test]
fn no_tracked_file_is_unfinished() {
    nothing_in(&each(&files(|_| true), rules::is_finished));
}

#[test]
fn no_tracked_file_names_a_registry_host() {
    nothing_in(&each(&files(|path| !path.ends_with("Cargo.lock")), rules::names_no_registry));
}

#[test]
fn the_changelog_has_a_place_for_what_is_new() {
    nothing_in(&rules::has_unreleased("CHANGELOG.md", &read("CHANGELOG.md")));
}

#[test]
fn every_test_is_named_as_a_sentence() {
    nothing_in(&each(&files(is_rust), rules::tests_are_sentences));
}
