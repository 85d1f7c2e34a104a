//! `corelane doctor` on this machine: troubles that are made here, each named with what to type.
//!
//! Not here: machines that are made up (unit tests of `corelane::doctor`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod program;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use program::{Ended, Node, corelane, has, is_root, put, run, run_with, through};
use sonic_rs::{JsonContainerTrait, JsonValueTrait};

/// What was found: names, evidence and commands.
#[track_caller]
fn findings(ended: &Ended) -> Vec<(String, String, String)> {
    let report: sonic_rs::Value =
        sonic_rs::from_str(&ended.out).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let text = |value: &sonic_rs::Value, name: &str| value[name].as_str().unwrap().to_owned();
    let list = report["findings"].as_array().unwrap().iter();
    let found: Vec<_> =
        list.map(|one| (text(one, "id"), text(one, "evidence"), text(one, "command"))).collect();
    let bad = report["findings"].as_array().unwrap().iter().any(|one| one["severity"] != "advice");
    assert_eq!(ended.code, Some(if bad { 2 } else { 0 }), "{ended:?}");
    found
}

/// The finding of that name.
#[track_caller]
fn one(ended: &Ended, id: &str) -> (String, String) {
    let all = findings(ended);
    let found = all.iter().find(|(name, ..)| name == id);
    let (_, evidence, command) = found.unwrap_or_else(|| panic!("no {id} in {all:#?}"));
    (evidence.clone(), command.clone())
}

/// The program under another user's limits, where every user may run it.
fn unprivileged(dir: &tempfile::TempDir, limits: &[&str], arguments: &[&str]) -> Command {
    let path = dir.path().join("corelane");
    std::fs::copy(program::path(), &path).unwrap();
    for path in [dir.path(), &path] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = through("prlimit", limits);
    if is_root() {
        let uid = (300_000 + std::process::id()).to_string();
        command.args(["setpriv", "--clear-groups", "--inh-caps=-all", "--reuid", &uid]);
    }
    command.arg(path).args(arguments);
    command
}

#[test]
fn limits_of_a_user_that_are_too_small_are_named_with_what_is_enough() {
    if !has("prlimit") || !has("setpriv") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let limits = ["--nofile=1000:2000", "--memlock=100000:100000"];
    let doctor = ["doctor", "--json", "--shards", "1", "--no-pin"];
    let ended = run(&mut unprivileged(&dir, &limits, &doctor));
    let (evidence, command) = one(&ended, "nofile");
    assert!(evidence.contains("of this process is 2000 (hard), and 17472 are needed"), "{evidence}");
    assert_eq!(
        command,
        "sudo prlimit --pid $$ --nofile=17472:17472    # a unit: LimitNOFILE=17472; a container: --ulimit nofile=17472"
    );
    if corelane_sys::kernel::release() >= (6, 14) {
        let (evidence, command) = one(&ended, "memlock");
        assert!(evidence.contains("of this process is 100000 bytes (hard)"), "{evidence}");
        assert!(command.contains("LimitMEMLOCK="), "{command}");
    }
    // What it says to type is enough.
    let limits = ["--nofile=17472:17472", "--memlock=8388608:8388608"];
    let cured = findings(&run(&mut unprivileged(&dir, &limits, &doctor)));
    assert!(!cured.iter().any(|(id, ..)| id == "nofile" || id == "memlock"), "{cured:#?}");
}

#[test]
fn limits_of_another_process_are_looked_at_by_its_number() {
    if !has("prlimit") {
        return;
    }
    let mut child =
        program::Guarded(through("prlimit", &["--nofile=500:700", "sleep", "60"]).spawn().unwrap());
    let pid = child.0.id().to_string();
    let limits = format!("/proc/{pid}/limits");
    let set = || std::fs::read_to_string(&limits).is_ok_and(|text| text.contains(" 700 "));
    for _ in 0..1_000 {
        if set() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let (evidence, _) = one(&run_with(&["doctor", "--json", "--pid", &pid]), "nofile");
    assert!(
        evidence.starts_with(&format!("the limit of open files of process {pid} is 700 (hard)")),
        "{evidence}"
    );
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let gone = run_with(&["doctor", "--pid", &pid]);
    assert_eq!(
        (gone.code, gone.err),
        (Some(1), format!("corelane: --pid {pid}: there is no such process\n"))
    );
}

#[test]
fn each_refusal_of_a_ring_is_told_from_the_others() {
    if !has("strace") {
        return;
    }
    for (errno, id, cause) in [
        (
            "EPERM",
            "io-uring-refused",
            "kernel.io_uring_disabled and seccomp allow it, so a security module does not",
        ),
        ("ENOSYS", "io-uring-missing", "the kernel was built without io_uring"),
        ("ENOMEM", "memlock", "the kernel counts rings of all processes of this user"),
    ] {
        let inject = format!("inject=io_uring_setup:error={errno}");
        let mut command = through("strace", &["-f", "-qqq", "-o", "/dev/null", "-e", &inject]);
        let ended = run(command.arg(program::path()).args(["doctor", "--shards", "1", "--no-pin"]));
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.out.contains(&format!("\nblocks: {id}: asked for 1 ring: ")), "{ended:?}");
        // As root the limit of locked memory does not apply.
        let cause = if errno == "ENOMEM" && is_root() {
            "the limit of locked memory does not apply here"
        } else {
            cause
        };
        // A container of its own may filter.
        let filtered = ended.out.contains("under a seccomp filter");
        assert!(filtered || ended.out.contains(&format!("\n  cause   {cause}")), "{ended:?}");
    }
}

#[test]
fn a_sysctl_that_forbids_rings_is_found_in_a_tree() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "proc/sys/kernel/io_uring_disabled", "2\n");
    put(dir.path(), "proc/self/status", "CapEff:\t0\nCpus_allowed_list:\t0\n");
    let root = dir.path().to_str().unwrap();
    let (evidence, command) = one(&run_with(&["doctor", "--json", "--root", root]), "io-uring-sysctl");
    assert_eq!(evidence, "kernel.io_uring_disabled is 2");
    assert!(command.starts_with("scripts/tune apply --yes --only io_uring "), "{command}");
    put(dir.path(), "proc/sys/kernel/io_uring_disabled", "0\n");
    let ended = run_with(&["doctor", "--root", root]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.out.ends_with("\nok: nothing to do\n"), "{ended:?}");
    let nowhere = run_with(&["doctor", "--root", "/nonexistent"]);
    assert_eq!(nowhere.code, Some(1), "{nowhere:?}");
}

/// A ring is asked for and given back: a node may start right after.
#[test]
fn a_host_where_a_node_starts_has_nothing_that_blocks() {
    let ended = run_with(&["doctor", "--shards", "1", "--no-pin", "--watch", "1"]);
    assert!(!ended.out.contains("\nblocks: "), "{ended:?}");
    for line in
        ["\n  rings         ", "\n  shards        1 of ", "\n  open files    ", " by CPUs, within 1s\n"]
    {
        assert!(ended.out.contains(line), "{ended:?}");
    }
    assert_eq!(Node::start(&["--no-pin", "--shards", "1"]).stop().0, Some(0));
}

#[test]
fn a_listen_queue_that_overflows_is_found_while_it_does() {
    let node = Node::start(&["--no-pin", "--shards", "1", "--limit", "backlog=1"]);
    let addr = node.addr;
    node.signal("STOP");
    let knock = std::thread::spawn(move || {
        // Two fit; the others find the queue full until they give up.
        let all: Vec<_> = (0..16)
            .map(|_| {
                std::thread::spawn(move || TcpStream::connect_timeout(&addr, Duration::from_millis(2_500)))
            })
            .collect();
        all.into_iter().filter_map(|one| one.join().unwrap().ok()).count()
    });
    let watched = run_with(&["doctor", "--json", "--watch", "2", "--limit", "backlog=1"]);
    let (evidence, command) = one(&watched, "listen-overflow");
    assert!(evidence.contains("connections found the queue of a listener full within 2s"), "{evidence}");
    assert!(evidence.contains("; backlog is 1, net.core.somaxconn "), "{evidence}");
    assert!(command.ends_with("corelane --limit backlog=16384"), "{command}");
    knock.join().unwrap();
    node.signal("CONT");
    assert_eq!(node.stop().0, Some(0));
}

/// A free port of loopback.
fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

#[test]
fn a_node_that_runs_is_looked_at_by_its_numbers_and_its_token() {
    let admin = free().to_string();
    let url = format!("http://{admin}");
    let token = "0123456789abcdef-token";
    let mut command = corelane(&["--listen", "127.0.0.1:0", "--no-pin", "--limit", "connections_max=2"]);
    command.env("CORELANE_ADMIN", &admin).env("CORELANE_ADMIN_TOKEN", token);
    let node = Node::spawn(command.args(["--shards", "1"]));
    let look = |arguments: &[&str], token: &str| {
        let mut command = corelane(&["doctor", "--json", "--node", &url]);
        run(command.args(arguments).env("CORELANE_ADMIN_TOKEN", token))
    };
    let refused = look(&[], "");
    assert_eq!(one(&refused, "node-silent").0, format!("{url}/metrics: it answers 401"));
    let names = |ended: &Ended| findings(ended).into_iter().map(|(id, ..)| id).collect::<Vec<_>>();
    let well = look(&[], token);
    for id in ["node-silent", "shard-down", "accept-paused", "refused"] {
        assert!(!names(&well).contains(&id.to_owned()), "{well:?}");
    }
    // Its limits are looked at, not ours.
    if has("prlimit") {
        let id = node.id().to_string();
        let set = through("prlimit", &["--pid", &id, "--nofile=800:900"]).status().unwrap();
        assert!(set.success());
        let (evidence, _) = one(&look(&[], token), "nofile");
        assert!(evidence.contains(&format!("of process {id} is 900 (hard)")), "{evidence}");
    }
    // As many connections as it may hold, and one more.
    let ask = || {
        let mut stream = TcpStream::connect(node.addr).unwrap();
        stream.write_all(b"GET /plaintext HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        stream
    };
    let mut held: Vec<TcpStream> = (0..3).map(|_| ask()).collect();
    for stream in &mut held[..2] {
        stream.read_exact(&mut [0; 8]).unwrap();
    }
    let full = look(&["--limit", "connections_max=2"], token);
    let (evidence, command) = one(&full, "accept-paused");
    assert!(evidence.ends_with("of them on shard 0"), "{evidence}");
    assert!(command.starts_with("corelane --limit connections_max=4 "), "{command}");
    drop(held);
    assert_eq!(node.stop().0, Some(0));
    let gone = look(&[], token);
    assert!(one(&gone, "node-silent").0.contains("Connection refused"), "{gone:?}");
}
