//! `loadgen compare` and `loadgen ab`: what may be compared, and servers that are started and ended for it.

use std::path::Path;

use sonic_rs::JsonContainerTrait;

use crate::common::{At, Ran, Server, null_server, run, temp_dir, until};

/// Runs in a file, against a server of their own.
fn saved(dir: &Path, name: &str, repeat: &str, connections: &str) -> String {
    let (_server, addr) = null_server(&[]);
    let file = dir.join(name).to_str().unwrap().to_owned();
    let url = format!("http://{addr}/");
    let words = [url.as_str(), "--rate", "500", "-d", "200ms", "--warmup", "0s", "--quiet"];
    let more = ["-c", connections, "--repeat", repeat, "--json", &file];
    let ran = run(&[&words[..], &more].concat());
    assert!(matches!(ran.code, Some(0 | 2)), "{ran:?}");
    file
}

/// What a busy host made of the runs: refused for that alone.
fn is_busy(ran: &Ran) -> bool {
    ran.code == Some(2) && ran.err.contains("is INVALID")
}

/// Whether a row says what became of A in B: a share, or a factor where that is ten and more.
fn tells_a_change(line: &str) -> bool {
    let is_factor = |word: &str| word.strip_prefix('x').is_some_and(|number| number.parse::<f64>().is_ok());
    line.split_whitespace().any(|word| word.ends_with('%') || is_factor(word))
}

#[test]
fn three_runs_of_each_side_are_compared() {
    let dir = temp_dir();
    let (a, b) = (saved(dir.path(), "a.json", "3", "4"), saved(dir.path(), "b.json", "3", "4"));
    let ran = run(&["compare", &a, &b]);
    let ran = if is_busy(&ran) { run(&["compare", &a, &b, "--force"]) } else { ran };
    assert_eq!(ran.code, Some(0), "{ran:?}");
    for row in ["rate", "P50", "P99"] {
        let line = ran.out.lines().find(|line| line.starts_with(row));
        assert!(line.is_some_and(tells_a_change), "{row}: {}", ran.out);
    }
    assert!(ran.out.contains("(3 runs)") && ran.out.contains("95 % interval"), "{}", ran.out);
    let widest = ran.out.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(80), "{}", ran.out);
}

#[test]
fn fewer_than_three_runs_are_refused_unless_forced_and_then_said() {
    let dir = temp_dir();
    let (a, b) = (saved(dir.path(), "a.json", "3", "4"), saved(dir.path(), "b.json", "2", "4"));
    let ran = run(&["compare", &a, &b]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
    for words in ["b.json has 2 runs, and 3 are needed", "--repeat 5", "--force"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    let ran = run(&["compare", &a, &b, "--force"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.out.contains("FORCED: ") && ran.out.contains("has 2 runs"), "{}", ran.out);
}

#[test]
fn runs_of_other_settings_are_refused_with_the_setting() {
    let dir = temp_dir();
    let (a, b) = (saved(dir.path(), "a.json", "3", "4"), saved(dir.path(), "b.json", "3", "5"));
    let ran = run(&["compare", &a, &b]);
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{ran:?}");
    assert!(ran.err.contains("setting connections differs: 4 in"), "{}", ran.err);
    let ran = run(&["compare", &a, &b, "--force"]);
    assert!(ran.out.contains("FORCED: the setting connections differs"), "{}", ran.out);
}

#[test]
fn files_that_are_no_results_are_refused_by_their_names() {
    let dir = temp_dir();
    let a = saved(dir.path(), "a.json", "1", "4");
    run(&["compare", &a, "/no/such/file.json"]).refused(&["/no/such/file.json"]);
    let other = dir.path().join("other.json");
    for text in ["", "{}", "[1,2", "{\"schema\": 99, \"runs\": []}", &"[".repeat(100_000)] {
        std::fs::write(&other, text).unwrap();
        run(&["compare", &a, other.to_str().unwrap()]).refused(&["other.json"]);
    }
    let whole = std::fs::read_to_string(&a).unwrap();
    std::fs::write(&other, &whole[..whole.len() / 2]).unwrap();
    run(&["compare", &a, other.to_str().unwrap()]).refused(&["other.json"]);
    assert_eq!(run(&["compare", &a]).code, Some(2), "one file is no comparison");
}

#[test]
fn two_servers_are_measured_in_turn() {
    let (a, b) = (Server::good(), Server::good());
    let (url_a, url_b) = (a.url(""), b.url(""));
    let words = ["ab", "--a", &url_a, "--b", &url_b, "--rounds", "3", "-d", "300ms", "--warmup", "0s"];
    let more = ["-c", "4", "--rate", "500", "--force", "--json", "-"];
    let ran = run(&[&words[..], &more].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let json = ran.json();
    for side in ["a", "b"] {
        assert_eq!(json.at(side).as_array().unwrap().len(), 3, "{side}");
    }
    assert_eq!(json.at("comparisons").as_array().unwrap().len(), 1);
    assert_eq!((a.requests(), b.requests()), (450, 450));
    // The table goes to the other stream; turns are told in their order.
    assert!(ran.err.contains("95 % interval"), "{}", ran.err);
    let turns: Vec<usize> = ["[A 1/3]", "[B 1/3]", "[A 2/3]", "[B 2/3]", "[A 3/3]", "[B 3/3]"]
        .iter()
        .map(|turn| ran.err.find(turn).unwrap_or_else(|| panic!("{turn}: {}", ran.err)))
        .collect();
    assert!(turns.is_sorted(), "{turns:?}");
}

#[test]
fn servers_that_were_started_for_a_comparison_are_gone_after_it() {
    let dir = temp_dir();
    let pids = dir.path().join("pids");
    let command = |size: &str| {
        format!(
            "sh -c 'echo $$ >> {}; exec {} null --listen 127.0.0.1:{{port}} --size {size}'",
            pids.display(),
            env!("CARGO_BIN_EXE_loadgen")
        )
    };
    let (a, b) = (command("13"), command("14"));
    let words = ["ab", "--a", &a, "--b", &b, "--rounds", "3", "-d", "300ms", "--warmup", "0s", "-c", "4"];
    let more = ["--rate", "200", "--force", "--quiet"];
    let ran = run(&[&words[..], &more].concat());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    // Each has another port, which is no other target.
    assert!(!ran.out.contains("different targets") && ran.out.contains("95 % interval"), "{}", ran.out);
    let pids = std::fs::read_to_string(&pids).unwrap();
    assert_eq!(pids.lines().count(), 6, "a server of its own for each measurement: {pids}");
    for pid in pids.lines() {
        assert!(!Path::new("/proc").join(pid).exists(), "{pid} still runs");
    }
}

#[test]
fn an_interrupted_comparison_ends_its_server_too() {
    let dir = temp_dir();
    let pids = dir.path().join("pids");
    let program = env!("CARGO_BIN_EXE_loadgen");
    let command =
        format!("sh -c 'echo $$ >> {}; exec {program} null --listen 127.0.0.1:{{port}}'", pids.display());
    let words =
        ["ab", "--a", &command, "--b", &command, "-d", "60s", "--warmup", "0s", "-c", "2", "--rate", "50"];
    let child = crate::common::Child::start(&mut crate::common::loadgen(&words));
    child.says("[A 1/5]  1.0 s");
    child.signal("INT");
    let ran = child.ended();
    assert_eq!(ran.code, Some(2), "{ran:?}");
    assert!(ran.err.contains("nothing is compared"), "{}", ran.err);
    let pid = std::fs::read_to_string(&pids).unwrap();
    until("its server is gone", || !Path::new("/proc").join(pid.trim()).exists());
}

#[test]
fn a_command_that_cannot_serve_is_refused_with_what_to_try() {
    let server = Server::good();
    let url = server.url("");
    let ab = |a: &str| run(&["ab", "--a", a, "--b", &url, "--rounds", "3", "--quiet", "-d", "200ms"]);
    ab("sleep 60").refused(&["{port}"]);
    ab("/no/such/server {port}").refused(&["/no/such/server", "cannot start"]);
    ab("sh -c 'exit 3' {port}").refused(&["ended early", "exit status: 3", "by itself"]);
    ab("sh -c 'unclosed {port}").refused(&["quotes"]);
    run(&["ab", "--a", &url, "--b", &url, "--rounds", "0"]).refused(&["--rounds 0"]);
    assert_eq!(server.requests(), 0);
}
