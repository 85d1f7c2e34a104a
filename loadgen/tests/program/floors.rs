//! Noise floors: measured by `loadgen calibrate`, kept, and held against later runs.

use std::path::Path;

use sonic_rs::JsonValueTrait;

use crate::common::{At, Ran, loadgen, null_server, run_within, temp_dir};

/// The program with a cache of its own.
#[track_caller]
fn with_cache(cache: &Path, words: &[&str]) -> Ran {
    run_within(loadgen(words).env("XDG_CACHE_HOME", cache))
}

const SHAPE: [&str; 6] = ["--rate", "500", "--warmup", "100ms", "-c", "4"];

#[test]
fn a_calibrated_floor_is_kept_and_later_runs_are_held_against_it() {
    let dir = temp_dir();
    let calibrate = [&["calibrate", "--only", "-d", "300ms"][..], &SHAPE].concat();
    // A floor that was measured on a busy host is not kept: it would excuse too much.
    let mut kept = false;
    for _ in 0..5 {
        let ran = with_cache(dir.path(), &calibrate);
        assert!(ran.out.contains("open 500/s, 4 connections"), "{ran:?}");
        kept = ran.code == Some(0);
        assert_eq!(kept, !ran.out.contains("not kept"), "{ran:?}");
        assert_eq!(kept, ran.out.contains(&format!("kept in {}", dir.path().display())), "{ran:?}");
        if kept {
            break;
        }
        assert_eq!(ran.code, Some(2), "{ran:?}");
    }
    let (_server, addr) = null_server(&[]);
    let url = format!("http://{addr}/");
    let words = [&[url.as_str(), "-d", "300ms", "--quiet", "--json", "/dev/stderr"][..], &SHAPE].concat();
    let ran = with_cache(dir.path(), &words);
    let json = crate::common::parse(&ran.err).unwrap();
    assert_eq!(json.at("floor").is_null(), !kept, "{:?}", json.at("floor"));
    assert_eq!(ran.out.contains("against the null server"), kept, "{}", ran.out);
    assert_eq!(ran.out.contains("no noise floor is known"), !kept, "{}", ran.out);
    if kept {
        assert!(json.count("floor.p50_ns") > 0 && json.count("floor.p99_ns") >= json.count("floor.p50_ns"));
    }
    // Traffic of another kind has no floor.
    let words = [
        url.as_str(),
        "-d",
        "200ms",
        "--quiet",
        "--warmup",
        "0s",
        "-c",
        "4",
        "--requests-per-connection",
        "1",
    ];
    let ran = with_cache(dir.path(), &words);
    assert!(ran.out.contains("no noise floor is known"), "{}", ran.out);
}

#[test]
fn a_cache_that_is_broken_is_said_and_replaced() {
    let dir = temp_dir();
    let file = dir.path().join("corelane/loadgen-floor.json");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "{\"schema\": 1, \"entries\": 7}").unwrap();
    let (_server, addr) = null_server(&[]);
    let url = format!("http://{addr}/");
    let words = [url.as_str(), "-d", "200ms", "--quiet", "--warmup", "0s", "-c", "4", "--rate", "100"];
    let ran = with_cache(dir.path(), &words);
    assert!(ran.out.contains("verdict"), "{ran:?}");
    assert!(
        ran.err.contains("loadgen-floor.json are not used") && ran.err.contains("loadgen calibrate"),
        "{ran:?}"
    );
}

#[test]
fn a_calibration_without_a_place_to_keep_it_is_refused() {
    let mut command = loadgen(&["calibrate", "--only"]);
    run_within(command.env_remove("XDG_CACHE_HOME").env_remove("HOME")).refused(&["XDG_CACHE_HOME", "HOME"]);
    let dir = temp_dir();
    with_cache(dir.path(), &["calibrate", "--only", "--scheme", "gopher"]).refused(&["gopher"]);
}
