//! Fake machines with servers on them, and this one.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::host::fake::{link, machine, put};

const HEAD: &str =
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

/// A line of `/proc/net/tcp`. The address as the kernel of a little-endian machine writes it.
fn socket(local: &str, state: &str, inode: u64) -> String {
    format!(
        " 0: {local} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000 0 0 {inode} 1 0 100 0\n"
    )
}

/// The line `stat` of a thread, with these fields and anything else zero.
fn stat(tid: u32, used: u64, began: u64, cpu: usize) -> String {
    let mut fields = vec!["0".to_owned(); 53];
    fields[0] = tid.to_string();
    fields[1] = "(odd ) name)".to_owned();
    fields[2] = "R".to_owned();
    fields[13] = (used / 2).to_string();
    fields[14] = (used - used / 2).to_string();
    fields[21] = began.to_string();
    fields[38] = cpu.to_string();
    fields.join(" ")
}

fn put_thread(root: &Path, (pid, tid): (u32, u32), used: u64, cpu: usize, allowed: &str) {
    put(root, &format!("proc/{pid}/task/{tid}/stat"), &stat(tid, used, 5, cpu));
    put(
        root,
        &format!("proc/{pid}/task/{tid}/status"),
        &format!("Name:\tx\nCpus_allowed_list:\t{allowed}\n"),
    );
}

/// Process 42 listens at 127.0.0.1:8080 (inode 900).
fn one_server() -> tempfile::TempDir {
    let tcp = [HEAD.to_owned(), socket("0100007F:1F90", "0A", 900)].concat();
    let root = machine(&[("proc/net/tcp", &tcp), ("proc/uptime", "100.00 300.00\n")]);
    link(root.path(), "proc/42/fd/0", "/dev/null");
    link(root.path(), "proc/42/fd/7", "socket:[900]");
    link(root.path(), "proc/43/fd/7", "socket:[901]");
    root
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn threads_that_worked_are_where_they_are_pinned() {
    let root = one_server();
    put_thread(root.path(), (42, 42), 10, 0, "0-3");
    put_thread(root.path(), (42, 50), 10, 1, "1");
    put_thread(root.path(), (42, 51), 10, 2, "2");
    let before = ServerThreads::find(root.path(), at("127.0.0.1:8080")).unwrap();
    assert_eq!(before.processes(), [42]);
    put(root.path(), "proc/uptime", "110.00 300.00\n");
    put_thread(root.path(), (42, 42), 60, 0, "0-3"); // 50 of 1,000 is 5 %: not above
    put_thread(root.path(), (42, 50), 61, 1, "1"); // 51 is
    put_thread(root.path(), (42, 51), 900, 2, "2");
    let after = before.again(root.path()).unwrap();
    assert_eq!(after.cpus_since(&before), [1, 2]);
    assert_eq!(ServerThreads::find(root.path(), at("127.0.0.1:8080")), Some(after));
}

#[test]
fn threads_that_roam_count_where_they_were_last_unless_they_fill_what_they_may_use() {
    let root = one_server();
    put_thread(root.path(), (42, 42), 0, 0, "0-2");
    let before = ServerThreads::find(root.path(), at("127.0.0.1:8080")).unwrap();
    put(root.path(), "proc/uptime", "110.00 300.00\n");
    put_thread(root.path(), (42, 42), 500, 2, "0-2");
    put_thread(root.path(), (42, 50), 500, 2, "0-2"); // new, and two are fewer than three
    assert_eq!(before.again(root.path()).unwrap().cpus_since(&before), [2]);
    put_thread(root.path(), (42, 51), 500, 1, "0-2");
    assert_eq!(before.again(root.path()).unwrap().cpus_since(&before), [0, 1, 2]);
}

#[test]
fn a_thread_with_the_number_of_an_older_one_begins_at_nothing() {
    let root = one_server();
    put_thread(root.path(), (42, 42), 400, 0, "0");
    let before = ServerThreads::find(root.path(), at("127.0.0.1:8080")).unwrap();
    put(root.path(), "proc/uptime", "110.00 300.00\n");
    put(root.path(), "proc/42/task/42/stat", &stat(42, 300, 9_999, 0));
    assert_eq!(before.again(root.path()).unwrap().cpus_since(&before), [0]);
}

#[test]
fn the_very_address_comes_before_the_wildcard_and_ipv6_takes_ipv4_last() {
    let tcp = [
        HEAD.to_owned(),
        socket("00000000:1F90", "0A", 1), // 0.0.0.0:8080
        socket("0200000A:1F90", "0A", 2), // 10.0.0.2:8080
        socket("0200000A:1F91", "0A", 3), // another port
        socket("0200000A:1F90", "01", 4), // established
    ];
    let tcp6 = [
        HEAD.to_owned(),
        socket("00000000000000000000000000000000:1F90", "0A", 5), // [::]:8080
        socket("00000000000000000000000001000000:1F90", "0A", 6), // [::1]:8080
        socket("0000000000000000FFFF00000100007F:1F92", "0A", 7), // [::ffff:127.0.0.1]:8082
        socket("00000000000000000000000000000000:1F93", "0A", 8), // [::]:8083
    ];
    let root = machine(&[("proc/net/tcp", &tcp.concat()), ("proc/net/tcp6", &tcp6.concat())]);
    for (addr, inodes) in [
        ("10.0.0.2:8080", &[2][..]),
        ("[::ffff:10.0.0.2]:8080", &[2]),
        ("127.0.0.1:8080", &[1]),
        ("0.0.0.0:8080", &[1]),
        ("[::1]:8080", &[6]),
        ("[::]:8080", &[6]),
        ("[2001:db8::1]:8080", &[5]),
        ("127.0.0.1:8082", &[7]),
        ("127.0.0.1:8083", &[8]),
        ("127.0.0.1:8081", &[]),
        ("10.0.0.2:9", &[]),
    ] {
        let found: Vec<u64> = listeners(root.path(), at(addr)).into_iter().collect();
        assert_eq!(found, inodes, "{addr}");
    }
}

#[test]
fn siblings_that_share_a_port_are_all_found_and_this_process_is_not() {
    let root = one_server();
    let tcp = [socket("0100007F:1F90", "0A", 900), socket("0100007F:1F90", "0A", 902)].concat();
    put(root.path(), "proc/net/tcp", &tcp);
    link(root.path(), "proc/44/fd/3", "socket:[902]");
    link(root.path(), "proc/45/fd/3", "socket:[902]");
    link(root.path(), "proc/self", "45");
    for pid in [42, 44, 45] {
        put_thread(root.path(), (pid, pid), 0, 0, "0");
    }
    assert_eq!(ServerThreads::find(root.path(), at("127.0.0.1:8080")).unwrap().processes(), [42, 44]);
}

#[test]
fn descriptors_beyond_the_bound_are_not_looked_at() {
    let root = one_server();
    put_thread(root.path(), (44, 44), 0, 0, "0");
    put_thread(root.path(), (42, 42), 0, 0, "0");
    std::fs::remove_file(root.path().join("proc/42/fd/7")).unwrap();
    for fd in 1..DESCRIPTORS_MAX - 1 {
        link(root.path(), &format!("proc/42/fd/{fd}"), "/dev/null");
    }
    link(root.path(), "proc/42/fd/9999", "socket:[900]");
    assert!(ServerThreads::find(root.path(), at("127.0.0.1:8080")).is_some(), "the last within the bound");
    link(root.path(), "proc/42/fd/9998", "/dev/null");
    assert_eq!(ServerThreads::find(root.path(), at("127.0.0.1:8080")), None);
}

#[test]
fn a_server_that_cannot_be_seen_is_unknown() {
    let addr = at("127.0.0.1:8080");
    assert_eq!(ServerThreads::find(machine(&[]).path(), addr), None);
    let root = one_server();
    assert_eq!(ServerThreads::find(root.path(), addr), None, "no thread");
    for bad in ["", "42 (x", "42 (x) R 1 2", &stat(42, 0, 0, 0).replace(" R ", " R x").replace('0', "z")] {
        put(root.path(), "proc/42/task/42/stat", bad);
        assert_eq!(ServerThreads::find(root.path(), addr), None, "{bad}");
    }
    put_thread(root.path(), (42, 42), 0, 0, "none");
    assert!(ServerThreads::find(root.path(), addr).is_some(), "where it may be is not needed");
    for bad in ["", "x", "1", "1.x", "1.2"] {
        put(root.path(), "proc/uptime", bad);
        assert_eq!(ServerThreads::find(root.path(), addr), None, "{bad}");
    }
    for bad in ["0: x:1F90 0 0A 0 0 0 0 0 900", "0: 0100007F 0 0A 0 0 0 0 0 900", "0: é 0 0A 0 0 0 0 0 900"]
    {
        put(root.path(), "proc/net/tcp", bad);
        assert_eq!(listeners(root.path(), addr).len(), 0, "{bad}");
    }
}

#[test]
fn cpus_of_one_core_are_beside_each_other() {
    let root = machine(&[
        ("sys/devices/system/cpu/cpu1/topology/core_cpus_list", "1,5\n"),
        ("sys/devices/system/cpu/cpu2/topology/core_cpus_list", "2,6\n"),
    ]);
    assert_eq!(cpus_beside(root.path(), &[1, 2]), [5, 6]);
    assert_eq!(cpus_beside(root.path(), &[1, 5]), [0; 0]);
    assert_eq!(cpus_beside(root.path(), &[9]), [0; 0], "a machine that does not say");
}

#[test]
fn a_listener_of_this_process_is_found_among_the_sockets_of_this_machine() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let root = Path::new("/");
    let inodes = listeners(root, addr);
    assert_eq!(inodes.len(), 1);
    assert_eq!(ServerThreads::find(root, addr), None, "this process is left out");
    // As another process would see it.
    let seen = ServerThreads::of(root, vec![std::process::id()]).unwrap();
    assert!(!seen.threads.is_empty());
}
