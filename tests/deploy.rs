//! What `deploy/`, the Dockerfile and `scripts/install` promise: units that systemd takes and that leave the node what it
//! needs, a seccomp profile that is enough and no more, files that come and go.
//!
//! Not here: images (no engine is needed for these tests), what a supervisor hears (`supervisor.rs`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod program;

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use program::{Guarded, Node, has, path, run, through};
use sonic_rs::{JsonContainerTrait, JsonValueTrait};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What `program` says, on both streams; panics when it fails.
#[track_caller]
fn said(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = [stdout, stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(status.success(), "{command:?}: {text}");
    text
}

/// The units with the program that was built, in a directory.
fn units() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for unit in ["corelane.service", "corelane.socket"] {
        let text = read(&format!("deploy/{unit}")).replace("/usr/local/bin/corelane", path());
        std::fs::write(dir.path().join(unit), text).unwrap();
    }
    dir
}

#[test]
fn systemd_takes_the_units_and_finds_little_exposed() {
    if !has("systemd-analyze") {
        return;
    }
    let dir = units();
    let file = |unit: &str| dir.path().join(unit).to_str().unwrap().to_owned();
    let verified = said(
        through("systemd-analyze", &["verify", &file("corelane.service"), &file("corelane.socket")]).env(
            // Other units of this host are not what is looked at.
            "SYSTEMD_UNIT_PATH",
            format!("{}:/usr/lib/systemd/system:/lib/systemd/system", dir.path().display()),
        ),
    );
    assert!(!verified.contains("corelane"), "{verified}");
    // Out of 100; above the number it fails. 15 with systemd 252.
    let arguments = ["security", "--offline=yes", "--threshold=20", "--no-pager", &file("corelane.service")];
    said(&mut through("systemd-analyze", &arguments));
}

/// The value of a directive; the last one if there are several.
fn directive(unit: &str, name: &str) -> String {
    let mut lines = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    lines.next_back().unwrap_or_else(|| panic!("no {name}")).to_owned()
}

#[test]
fn the_unit_gives_a_node_of_default_limits_what_it_asks_for() {
    let unit = read("deploy/corelane.service");
    assert_eq!(directive(&unit, "Type"), "notify");
    let limits = corelane::Limits::default();
    let files: u64 = directive(&unit, "LimitNOFILE").parse().unwrap();
    assert!(files > 4 * u64::from(limits.connections_max + limits.descriptors_headroom));
    let locked: u64 = directive(&unit, "LimitMEMLOCK").strip_suffix('M').unwrap().parse().unwrap();
    // 128 shards, and a second node beside them.
    assert!(locked << 20 >= 2 * 128 * corelane::preflight::ring_bytes(&limits));
    let seconds = |name: &str| directive(&unit, name).trim_end_matches('s').parse::<u64>().unwrap();
    assert!(seconds("TimeoutStopSec") > limits.drain_time.as_secs());
    assert!(u128::from(seconds("WatchdogSec")) * 1_000 > 100 * limits.stall_time.as_millis());
}

/// The names of a set of systemd, with those of the sets in it.
fn set(name: &str, into: &mut BTreeSet<String>) {
    let text = said(&mut through("systemd-analyze", &["syscall-filter", "--no-pager", name]));
    for word in text.lines().skip(1).map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if word.starts_with('@') {
            set(word, into);
        } else {
            into.insert(word.to_owned());
        }
    }
}

/// The calls that the unit's filter lets through, as systemd reads its lines one after the other.
fn allowed_by_unit() -> BTreeSet<String> {
    let unit = read("deploy/corelane.service");
    let mut allowed = BTreeSet::new();
    // What systemd itself needs to start the program, whatever a filter says.
    set("@default", &mut allowed);
    for line in unit.lines().filter_map(|line| line.strip_prefix("SystemCallFilter=")) {
        let (takes, list) = line.strip_prefix('~').map_or((false, line), |list| (true, list));
        for word in list.split(' ') {
            let mut names = BTreeSet::new();
            if word.starts_with('@') {
                set(word, &mut names);
            } else {
                names.insert(word.to_owned());
            }
            if takes {
                allowed = &allowed - &names;
            } else {
                allowed.extend(names);
            }
        }
    }
    allowed
}

/// A program under a seccomp profile; None where there is no libseccomp.
fn under(profile: &Path, without: &str, program: &str, arguments: &[&str]) -> Option<Command> {
    if !has("python3") {
        return None;
    }
    let check = "import ctypes; ctypes.CDLL('libseccomp.so.2')";
    let found = through("python3", &["-c", check]).output().unwrap().status.success();
    assert!(found || std::env::var("CI").as_deref() != Ok("true"), "libseccomp2 is missing");
    if !found {
        eprintln!("skipped: needs libseccomp2");
        return None;
    }
    let loader = root().join("tests/deploy/seccomp.py");
    let mut command = through("python3", &[loader.to_str().unwrap(), profile.to_str().unwrap()]);
    if !without.is_empty() {
        command.args(["--without", without]);
    }
    command.arg(program).args(arguments);
    Some(command)
}

/// A node serves HTTP, Redis clients and metrics under a profile, and drains.
#[track_caller]
fn serves_under(profile: &Path) {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (admin, resp) = (free(), free());
    let arguments = ["--listen", "127.0.0.1:0", "--resp", &resp.to_string(), "--shards", "2"];
    let Some(mut command) = under(profile, "", path(), &arguments) else { return };
    command.env("CORELANE_ADMIN", admin.to_string());
    let mut node = Node::spawn(&mut command);
    assert!(
        node.said().contains("shard 1 on CPU ") || node.said().contains("shard 1 not pinned"),
        "{}",
        node.said()
    );
    assert!(node.get("/plaintext").ends_with("Hello, World!"));
    assert!(node.get("/api/performance").contains("current_qps"));
    assert!(program::get(admin, "/metrics").contains("corelane_shard_up"));
    let mut client = std::net::TcpStream::connect(resp).unwrap();
    client.write_all(b"SET a b\r\nGET a\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "+OK\r\n$1\r\nb\r\n+OK\r\n");
    let (code, said) = node.stop();
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_node_serves_under_the_filter_of_the_unit() {
    if !has("systemd-analyze") {
        return;
    }
    let allowed = allowed_by_unit();
    for ring in ["io_uring_setup", "io_uring_enter", "io_uring_register"] {
        assert!(allowed.contains(ring), "{ring}");
    }
    for other in ["mount", "ptrace", "setuid", "bpf", "reboot", "init_module"] {
        assert!(!allowed.contains(other), "{other}");
    }
    let names: Vec<String> = allowed.iter().map(|name| format!("\"{name}\"")).collect();
    let json = format!(
        "{{\"defaultAction\":\"SCMP_ACT_ERRNO\",\"syscalls\":[{{\"action\":\"SCMP_ACT_ALLOW\",\"names\":[{}]}}]}}",
        names.join(",")
    );
    let file = tempfile::NamedTempFile::new().unwrap();
    // The loader's own start of the program; systemd's is not under the filter.
    std::fs::write(&file, json).unwrap();
    serves_under(file.path());
}

fn profile() -> PathBuf {
    root().join("deploy/seccomp-io_uring.json")
}

#[test]
fn the_seccomp_profile_is_enough_and_lets_exactly_three_calls_of_rings_through() {
    let text = read("deploy/seccomp-io_uring.json");
    let value: sonic_rs::Value = sonic_rs::from_str(&text).unwrap();
    assert_eq!(value["defaultAction"].as_str(), Some("SCMP_ACT_ERRNO"));
    let rules = value["syscalls"].as_array().unwrap().iter();
    let names: Vec<String> = rules
        .filter(|rule| rule["action"] == "SCMP_ACT_ALLOW")
        .flat_map(|rule| {
            rule["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned())
        })
        .collect();
    let unique: BTreeSet<&String> = names.iter().collect();
    assert_eq!(unique.len(), names.len(), "a call is named twice");
    let rings: Vec<&str> = unique.iter().map(|name| name.as_str()).filter(|n| n.starts_with("io_")).collect();
    assert_eq!(rings, ["io_uring_enter", "io_uring_register", "io_uring_setup"]);
    for other in ["mount", "ptrace", "bpf", "keyctl", "perf_event_open", "setns", "unshare", "userfaultfd"] {
        assert!(!names.iter().any(|name| name == other), "{other}");
    }
    serves_under(&profile());
}

#[test]
fn without_the_three_calls_a_start_is_refused_and_doctor_names_the_profile() {
    let rings = "io_uring_setup,io_uring_enter,io_uring_register";
    let Some(mut command) = under(&profile(), rings, path(), &["--listen", "127.0.0.1:0"]) else { return };
    let refused = run(&mut command);
    assert!(refused.refusal().contains("this process runs under a seccomp filter"), "{refused:?}");
    let Some(mut command) = under(&profile(), rings, path(), &["doctor"]) else { return };
    let doctor = run(&mut command);
    assert_eq!(doctor.code, Some(2), "{doctor:?}");
    assert!(doctor.out.contains("\nblocks: io-uring-refused: "), "{doctor:?}");
    assert!(doctor.out.contains("--security-opt seccomp=deploy/seccomp-io_uring.json"), "{doctor:?}");
    let namespaces = under(&profile(), "", "unshare", &["--user", "true"]).unwrap().output().unwrap();
    assert!(!namespaces.status.success(), "namespaces are refused");
}

#[test]
fn the_image_has_the_health_check_that_was_promised_and_no_root() {
    let file = read("Dockerfile");
    assert!(file.contains("HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 CMD"));
    let last = file.rsplit("\nFROM ").next().unwrap();
    assert!(last.starts_with("scratch\n"), "the image has nothing but what was put there");
    assert!(last.contains("\nUSER 65532:65532\n") && last.contains("\nEXPOSE 8080\n"), "{last}");
    // What the build reads is let through, and only files that are there.
    for line in read(".dockerignore").lines().filter_map(|line| line.strip_prefix('!')) {
        assert!(root().join(line).exists(), ".dockerignore: {line}");
    }
}

#[test]
fn a_socket_of_systemd_starts_the_node_that_answers_the_first_client() {
    if !has("systemd-socket-activate") {
        return;
    }
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let arguments = ["-l", &addr.to_string(), path(), "--no-pin", "--admin", "off"];
    let child = Guarded(through("systemd-socket-activate", &arguments).spawn().unwrap());
    for _ in 0..1_000 {
        if std::net::TcpStream::connect(addr).is_ok() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(program::get(addr, "/plaintext").ends_with("Hello, World!"));
    program::signal(child.0.id(), "TERM"); // It has become the node.
}

/// Everything below a directory, with what is in the files.
fn tree(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            found.push((path.clone(), String::new()));
            found.extend(tree(&path));
        } else {
            found.push((path.clone(), String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned()));
        }
    }
    found.sort();
    found
}

fn install(dir: &Path, more: &[&str]) -> Output {
    let mut command =
        through(root().join("scripts/install").to_str().unwrap(), &["--root", dir.to_str().unwrap()]);
    command.args(more).output().unwrap()
}

#[test]
fn what_is_installed_is_all_there_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let there = dir.path().join("etc/sysctl.d");
    std::fs::create_dir_all(&there).unwrap();
    std::fs::write(there.join("99-mine.conf"), "vm.swappiness = 1\n").unwrap();
    let before = tree(dir.path());
    for _ in 0..2 {
        let done = install(dir.path(), &["--binary", path()]);
        assert!(done.status.success(), "{done:?}");
    }
    let at = |path: &str| dir.path().join(path);
    assert_eq!(std::fs::read(at("usr/local/bin/corelane")).unwrap(), std::fs::read(path()).unwrap());
    for unit in ["corelane.service", "corelane.socket"] {
        let text = std::fs::read_to_string(at(&format!("etc/systemd/system/{unit}"))).unwrap();
        assert_eq!(text, read(&format!("deploy/{unit}")));
    }
    let settings = std::fs::read_to_string(at("etc/sysctl.d/50-corelane.conf")).unwrap();
    // What is to be at least so much may be better already: only `scripts/tune` can tell.
    assert!(settings.contains("\n#net.core.somaxconn = "), "{settings}");
    assert!(settings.contains("\nnet.ipv4.tcp_slow_start_after_idle = 0\n"), "{settings}");
    assert!(!settings.contains("nr_open"), "{settings}");
    let config = at("etc/corelane/corelane.toml");
    let ended = run(&mut through(
        at("usr/local/bin/corelane").to_str().unwrap(),
        &["check", config.to_str().unwrap()],
    ));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let gone = install(dir.path(), &["--uninstall"]);
    assert!(gone.status.success(), "{gone:?}");
    assert_eq!(tree(dir.path()), before);
    assert_eq!(install(dir.path(), &["--uninstall"]).status.code(), Some(2), "there is nothing to remove");
}

#[test]
fn a_configuration_that_was_changed_is_neither_overwritten_nor_removed_unasked() {
    let dir = tempfile::tempdir().unwrap();
    let before = tree(dir.path());
    assert!(install(dir.path(), &["--binary", "/bin/sh"]).status.success());
    let config = dir.path().join("etc/corelane/corelane.toml");
    std::fs::write(&config, "log = 'warn'\n").unwrap();
    assert!(install(dir.path(), &["--binary", "/bin/sh"]).status.success());
    assert_eq!(std::fs::read_to_string(&config).unwrap(), "log = 'warn'\n");
    let beside = config.with_extension("toml.new");
    assert_eq!(std::fs::read_to_string(&beside).unwrap(), read("deploy/corelane.toml"));
    let left = install(dir.path(), &["--uninstall"]);
    assert_eq!(left.status.code(), Some(1), "{left:?}");
    assert!(String::from_utf8_lossy(&left.stderr).contains(config.to_str().unwrap()), "{left:?}");
    assert!(config.exists() && !beside.exists() && !dir.path().join("usr/local/bin/corelane").exists());
    assert!(install(dir.path(), &["--uninstall", "--purge"]).status.success());
    assert_eq!(tree(dir.path()), before);
}
