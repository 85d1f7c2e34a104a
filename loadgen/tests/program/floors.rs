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
