//! Starts that cannot work: each cause provoked, each answered with its cure, exit code 2, one line, at once.
//!
//! Causes that this host can show are shown to the built program; sysctls and releases are also shown as fake
//! trees to the library.
//!
//! Not here: mistakes in the configuration (`config.rs`).

#![allow(clippy::unwrap_used)]

mod program;

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use corelane::config::Listen;
use corelane::placement::Wish;
use corelane::preflight::{self, Demand, HOST_MEMLOCK_MIN, Host};
use corelane::{Limits, RingFeatures, ShardHost, StartError};
use corelane_sys::limits::Rlimit;
use program::{Ended, Node, has, is_root, put, run, run_with, through};

const ANY: &str = "127.0.0.1:0";

fn same(limit: u64) -> Rlimit {
    Rlimit { soft: limit, hard: limit }
}

/// A host of two CPUs that has enough of everything.
fn host(root: &Path) -> Host {
    put(root, "proc/sys/kernel/osrelease", "6.18.1-generic\n");
    Host::below(root, same(100_000), same(u64::MAX), vec![0, 1])
}

fn demand(limits: &Limits) -> Demand<'_> {
    let (wish, without) = (Wish::default(), RingFeatures::NONE);
    Demand {
        listen: &[],
        resp_listen: &[],
        admin: None,
        handed: &[],
        limits,
        wish,
        huge_pages: false,
        without,
        on: ShardHost::Native,
    }
}

/// Whether the program runs its shards in glommio (`scripts/test --host`).
fn is_on_glommio() -> bool {
    std::env::var("TEST_HOST").is_ok_and(|host| host == "glommio")
}

fn says(outcome: Result<(), StartError>) -> String {
    outcome.map_or_else(|error| error.to_string(), |()| "nothing".to_owned())
}

/// The program under another user's limits: root needs another uid for limits to bind, others have their own.
/// Each call takes a uid of its own, as the kernel gives locked memory back only a moment after a process ended.
fn unprivileged(binary: &Path, limits: &[&str], arguments: &[&str]) -> Command {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let uid = 200_000 + std::process::id() * 16 + NEXT.fetch_add(1, Ordering::Relaxed);
    let mut command = through("prlimit", limits);
    if is_root() {
        command.args(["setpriv", "--clear-groups", "--inh-caps=-all", "--reuid", &uid.to_string()]);
    }
    command.arg(binary).args(arguments);
    command
}

/// The program where every user may run it.
fn public_binary() -> (tempfile::TempDir, std::path::PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("corelane");
    std::fs::copy(program::path(), &path).unwrap();
    for path in [dir.path(), &path] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    (dir, path)
}

/// The program in `sh`, after `ulimit -n`.
fn with_nofile(limit: u32, arguments: &str) -> Command {
    through("sh", &["-c", &format!("ulimit -n {limit} && exec {} {arguments}", program::path())])
}

#[test]
fn an_old_kernel_is_named_with_the_one_that_is_needed() {
    let root = tempfile::tempdir().unwrap();
    let mut host = host(root.path());
    for (release, expected) in [
        ((6, 1), "nothing"),
        ((6, 0), "this kernel is Linux 6.0; run Linux 6.1 or newer"),
        ((5, 15), "this kernel is Linux 5.15; run Linux 6.1 or newer"),
        ((7, 0), "nothing"),
    ] {
        host.release = release;
        assert_eq!(says(host.check_kernel()), expected);
    }
    put(root.path(), "proc/sys/kernel/osrelease", "5.10.0-28-amd64\n");
    let old = Host::below(root.path(), same(1), same(1), vec![0]);
    assert_eq!(old.release, (5, 10), "the release is read below the root");
}

#[test]
fn a_sysctl_that_forbids_io_uring_is_named_with_its_cure() {
    let root = tempfile::tempdir().unwrap();
    let host = host(root.path());
    let set = |disabled: &str, group: &str, status: &str| {
        put(root.path(), "proc/sys/kernel/io_uring_disabled", disabled);
        put(root.path(), "proc/sys/kernel/io_uring_group", group);
        put(root.path(), "proc/self/status", status);
        says(host.check_kernel())
    };
    let nobody = "Gid:\t7\t8\t9\t9\nGroups:\t20 30\nCapEff:\t0000000000000000\n";
    let admin = "Gid:\t7\t8\t9\t9\nGroups:\t20 30\nCapEff:\t0000000000200000\n";
    assert_eq!(set("0", "-1", nobody), "nothing");
    assert!(set("2", "-1", nobody).contains("nobody may use io_uring; allow it with `sysctl -w kernel.io"));
    assert!(set("2", "20", admin).contains("is 2"), "not even root");
    assert!(set("1", "-1", nobody).contains("no group is excepted"));
    assert!(set("1", "2", nobody).contains("for group 2 only; add this user to it"));
    assert_eq!(set("1", "20", nobody), "nothing", "a further group");
    assert_eq!(set("1", "8", nobody), "nothing", "the effective group");
    assert!(set("1", "7", nobody).contains("group 7"), "the real group does not count");
    assert_eq!(set("1", "-1", admin), "nothing");
}

/// A file of the test bound over one below `/proc/sys` in a mount namespace of the program's own.
fn bound_over(file: &str, text: &str) -> Option<Ended> {
    let script = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let unshared = |arguments: &[&str]| {
        let mut all = vec!["-m", "sh", "-c", script, "sh"];
        all.extend(arguments);
        run(&mut through("unshare", &all))
    };
    let fake = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&fake, text).unwrap();
    let fake = fake.path().to_str().unwrap();
    if !has("unshare") || !is_root() || unshared(&[fake, file, "true"]).code != Some(0) {
        eprintln!("skipped: needs mounts of its own");
        return None;
    }
    Some(unshared(&[fake, file, program::path(), "--listen", ANY]))
}

#[test]
fn the_program_refuses_an_old_kernel_and_a_forbidding_sysctl() {
    if let Some(ended) = bound_over("/proc/sys/kernel/osrelease", "5.15.0-1\n") {
        assert_eq!(ended.refusal(), "this kernel is Linux 5.15; run Linux 6.1 or newer");
    }
    if Path::new("/proc/sys/kernel/io_uring_disabled").exists()
        && let Some(ended) = bound_over("/proc/sys/kernel/io_uring_disabled", "2\n")
    {
        assert!(ended.refusal().contains("`sysctl -w kernel.io_uring_disabled=0`"), "{ended:?}");
    }
}

#[test]
fn a_seccomp_filter_is_told_from_other_causes_of_eperm() {
    // Load the call's number; if it is 425, io_uring_setup, answer EPERM, else allow.
    const FILTERED: &str = "
import ctypes, os, struct, sys
libc = ctypes.CDLL(None)
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 425), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)]
code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *i) for i in code))
class Program(ctypes.Structure):
    _fields_ = [('len', ctypes.c_ushort), ('filter', ctypes.c_void_p)]
program = Program(4, ctypes.addressof(code))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program)) == 0
os.execv(sys.argv[1], sys.argv[1:])
";
    if has("python3") {
        let ended = run(&mut through("python3", &["-c", FILTERED, program::path(), "--listen", ANY]));
        let says = ended.refusal();
        assert!(
            says.contains(
                "under a seccomp filter: allow io_uring_setup, io_uring_enter and io_uring_register"
            )
        );
    }
    if let Some(ended) = injected("EPERM") {
        assert!(ended.refusal().contains("a security module"), "{ended:?}");
    }
}

/// The program on a kernel that answers its ring set-up with this error.
fn injected(error: &str) -> Option<Ended> {
    let inject = format!("inject=io_uring_setup:error={error}");
    let strace = ["-f", "-qq", "-o", "/dev/null", "-e", "trace=io_uring_setup", "-e", &inject];
    has("strace").then(|| run(through("strace", &strace).args([program::path(), "--listen", ANY])))
}

#[test]
fn a_kernel_without_io_uring_is_said_to_be_one() {
    if let Some(ended) = injected("ENOSYS") {
        let says = ended.refusal();
        assert!(says.starts_with("cannot set up io_uring: the kernel has no io_uring"), "{says}");
        assert!(says.contains("run Linux 6.1 or newer"), "{says}");
    }
}

#[test]
fn a_port_that_is_taken_is_refused_also_by_a_node_of_ours() {
    let other = TcpListener::bind(ANY).unwrap();
    let addr = other.local_addr().unwrap();
    let ended = run_with(&["--listen", &addr.to_string()]);
    let port = addr.port();
    assert_eq!(
        ended.refusal(),
        format!(
            "cannot listen on {addr}: another process does; see which with `ss -ltnp 'sport = :{port}'`, or \
             choose another port with --listen"
        )
    );
    let node = Node::start(&["--no-pin"]);
    let ended = run_with(&["--listen", &node.addr.to_string()]);
    assert!(ended.refusal().contains("another process does"), "{ended:?}");
    assert!(node.get("/health").starts_with("HTTP/1.1 200"));
}

#[test]
fn every_place_to_listen_at_is_looked_at_before_the_start() {
    let root = tempfile::tempdir().unwrap();
    let (host, limits) = (host(root.path()), Limits::default());
    let taken = TcpListener::bind(ANY).unwrap().local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.sock");
    let check =
        |listen: &[Listen], admin| says(Demand { listen, admin, ..demand(&limits) }.check(&host).map(drop));
    let free = Listen::Tcp(ANY.parse().unwrap());
    let places = [free.clone(), Listen::Unix(path.clone()), free];
    assert_eq!(check(&places, Some(taken)), "nothing");
    assert!(!path.exists(), "looking leaves nothing behind");

    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let refused = check(&places, None);
    let start = format!("cannot listen on unix:{}: ", path.display());
    assert!(refused.starts_with(&start) && refused.contains("`ss -lxp"), "{refused}");
    drop(listener);
    assert_eq!(check(&places, None), "nothing", "left behind by one that died");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    assert!(check(&places, None).contains("is not a socket"));

    let taken = TcpListener::bind(ANY).unwrap();
    let addr = taken.local_addr().unwrap();
    assert_eq!(
        check(&[], Some(addr)),
        format!(
            "the admin interface cannot listen on {addr}: another process does, maybe another node; choose another \
             port with --admin 127.0.0.1:PORT, or do without one with --admin off"
        )
    );
    let elsewhere = "203.0.113.7:9901".parse().unwrap();
    assert!(check(&[], Some(elsewhere)).contains("choose another address with --admin"));
}

#[test]
fn many_shards_need_descriptors_of_their_own() {
    let root = tempfile::tempdir().unwrap();
    let mut host = host(root.path());
    let limits = Limits { connections_max: 100, descriptors_headroom: 64, ..Limits::default() };
    let listen = [Listen::Tcp(ANY.parse().unwrap())];
    let mut least_on = |on, shards: u16| {
        let wish = Wish { shards: Some(shards), pin: false, ..Wish::default() };
        (1..10_000_u64)
            .find(|&nofile| {
                host.nofile = nofile;
                Demand { listen: &listen, wish, on, ..demand(&limits) }.check(&host).is_ok()
            })
            .unwrap()
    };
    let [one, eight, nine, thousand] = [1, 8, 9, 1000].map(|shards| least_on(ShardHost::Native, shards));
    assert_eq!((one, eight), (228, 228), "a table, and a few");
    assert_eq!(nine, 228 + 4);
    assert_eq!(thousand, 228 + 4 * 1000 - 32, "ring, the number others write to, event and listener of each");
    let executors = least_on(ShardHost::Glommio, 1000) - thousand;
    assert_eq!(executors, 5 * 1000, "three rings of each executor, its event, and our signal");
}

#[test]
fn an_address_of_another_host_and_a_port_for_root_are_refused_with_a_cure() {
    let ended = run_with(&["--listen", "203.0.113.7:8080"]);
    assert!(ended.refusal().contains("see this host's addresses with `ip -br address`"), "{ended:?}");

    let first = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first: u16 = first.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
    if first > 80 && has("prlimit") && has("setpriv") {
        let (_dir, binary) = public_binary();
        let ended = run(&mut unprivileged(&binary, &[], &["--listen", "127.0.0.1:80"]));
        assert!(ended.refusal().contains("choose a port from 1024 up"), "{ended:?}");
    }
}

#[test]
fn a_cpu_that_is_not_there_is_told_from_one_that_is_not_allowed() {
    let ended = run_with(&["--listen", ANY, "--cpus", "999"]);
    assert!(ended.refusal().starts_with("this host has no CPU 999; choose from "), "{ended:?}");
    let ended = run_with(&["--listen", ANY, "--cpus", "9999"]);
    assert!(
        ended.refusal().starts_with("--cpus 9999: write at most 1024 CPU numbers below 8192"),
        "{ended:?}"
    );

    let cpus = corelane_sys::cpu::allowed_cpus().unwrap();
    if let [first, .., last] = cpus[..]
        && has("taskset")
    {
        let mut command = through("taskset", &["-c", &last.to_string(), program::path(), "--listen", ANY]);
        let ended = run(command.args(["--cpus", &first.to_string()]));
        let expected =
            format!("CPU {first} is not among those this process may use ({last}); choose from these");
        assert!(ended.refusal().starts_with(&expected), "{ended:?}");
    }
    // Without pins a list only counts shards.
    let root = tempfile::tempdir().unwrap();
    let host = host(root.path());
    let limits = Limits::default();
    let named = Wish { cpus: Some(&[7, 9]), ..Wish::default() };
    let loose = Demand { wish: Wish { pin: false, ..named }, ..demand(&limits) };
    assert_eq!(loose.check(&host).unwrap().cpus(), [None, None]);
    let pinned = Demand { wish: named, ..demand(&limits) };
    assert!(matches!(pinned.check(&host), Err(StartError::Cpu { cpu: 7, .. })));
    assert_eq!(demand(&limits).check(&host).unwrap().cpus(), [Some(0), Some(1)]);
}

#[test]
fn a_low_limit_of_open_files_lowers_what_nobody_set_and_says_so() {
    let mut node = Node::spawn(&mut with_nofile(1024, &format!("--no-pin --listen {ANY}")));
    let said = node.said();
    assert!(
        said.contains(
            "note: the limit of open files is 1024, so connections_max is 840 instead of 16384 and \
             descriptors_headroom is 120 instead of 1024; `ulimit -n 17472` before the start allows all"
        ),
        "{said}"
    );
    assert!(node.get("/health").starts_with("HTTP/1.1 200"));
    assert_eq!(node.stop().0, Some(0));
}

#[test]
fn a_limit_of_open_files_below_what_was_set_is_refused() {
    let ended = run(&mut with_nofile(1024, &format!("--listen {ANY} --limit connections_max=1000")));
    let says = ended.refusal();
    assert!(says.starts_with("the limit of open files is 1024, and connections_max with"), "{says}");
    assert!(says.contains("raise it with `ulimit -n 2088`"), "{says}");
    // What was set fits once the headroom, which was not, is lowered.
    let fits = run(&mut with_nofile(1024, &format!("--check --listen {ANY} --limit connections_max=800")));
    assert_eq!(fits.code, Some(0), "{fits:?}");
    assert!(fits.out.contains("so descriptors_headroom is 160 instead of 1024;"), "{fits:?}");
    let none = run(&mut with_nofile(64, &format!("--listen {ANY}")));
    assert!(none.refusal().starts_with("the limit of open files is 64, "), "{none:?}");
}

#[test]
fn descriptors_are_fitted_to_the_very_last_one() {
    let root = tempfile::tempdir().unwrap();
    let mut host = host(root.path());
    let fitted = |host: &Host, set: &[&str], limits: &Limits, shards: usize, without: RingFeatures| {
        let (mut limits, kinds) = (limits.clone(), (without, ShardHost::Native));
        let notes = preflight::fit(&mut limits, &|name| !set.contains(&name), shards, 1, kinds, host);
        (limits.connections_max, limits.descriptors_headroom, notes.len())
    };
    let defaults = Limits::default();
    let (all, table) = (RingFeatures::NONE, RingFeatures::DIRECT);
    host.nofile = 16_384 + 1_024 + 64;
    assert_eq!(fitted(&host, &[], &defaults, 1, all), (16_384, 1_024, 0));
    assert_eq!(fitted(&host, &[], &defaults, 8, all), (16_384, 1_024, 0), "each table has the whole limit");
    host.nofile -= 1;
    assert_eq!(fitted(&host, &[], &defaults, 1, all), (16_383, 1_024, 1));
    // Without tables all shards share the limit.
    host.nofile = 64 + 2 * 1_600;
    assert_eq!(fitted(&host, &[], &defaults, 2, table), (1_400, 200, 1));
    assert_eq!(fitted(&host, &[], &defaults, 1, all), (2_800, 400, 1));

    let set = Limits { connections_max: 936, ..Limits::default() };
    host.nofile = 64 + 1_000;
    assert_eq!(fitted(&host, &["connections_max"], &set, 1, all), (936, 64, 1), "on the bound");
    host.nofile -= 1;
    assert_eq!(fitted(&host, &["connections_max"], &set, 1, all), (936, 1_024, 0), "left to be refused");
    let both = ["connections_max", "descriptors_headroom"];
    assert_eq!(fitted(&host, &both, &defaults, 1, all), (16_384, 1_024, 0));
    assert_eq!(
        fitted(&host, &["descriptors_headroom"], &defaults, 1, all),
        (16_384, 1_024, 0),
        "no room at all"
    );
    host.nofile = 64 + 1_024 + 1;
    assert_eq!(fitted(&host, &["descriptors_headroom"], &defaults, 1, all), (1, 1_024, 1));
}

#[test]
fn rings_are_fitted_to_locked_memory_only_where_it_is_charged() {
    let root = tempfile::tempdir().unwrap();
    let mut host = host(root.path());
    let fitted = |host: &Host, set: &[&str], shards: usize| {
        let (mut limits, kinds) = (Limits::default(), (RingFeatures::NONE, ShardHost::Native));
        preflight::fit(&mut limits, &|name| !set.contains(&name), shards, 1, kinds, host);
        limits.check().unwrap();
        (
            limits.submission_entries,
            limits.completion_entries,
            limits.recv_buffers,
            preflight::ring_bytes(&limits),
        )
    };
    let whole = (1_024, 8_192, 1_024);
    let bytes = preflight::ring_bytes(&Limits::default());
    let sizes =
        |(submission, completion, buffers, _): (u32, u32, u16, u64)| (submission, completion, buffers);
    assert_eq!(sizes(fitted(&host, &[], 1)), whole, "unlimited");
    host.memlock = Some(2 * bytes);
    assert_eq!(sizes(fitted(&host, &[], 1)), whole, "on the bound");
    host.memlock = Some(2 * bytes - 1);
    let (.., needed) = fitted(&host, &[], 1);
    assert!(needed < bytes && 2 * needed < 2 * bytes);
    host.memlock = Some(64 << 10);
    let small = fitted(&host, &[], 1);
    assert!(2 * small.3 <= 64 << 10, "twice for a hot restart: {small:?}");
    assert_eq!(sizes(fitted(&host, &["recv_buffers"], 1)), whole, "one was set: nothing is lowered");
    assert_eq!(sizes(fitted(&host, &[], 64)), whole, "nothing would fit: left to be refused");
    host.release = (6, 13);
    assert_eq!(sizes(fitted(&host, &[], 1)), whole, "not charged");
}

#[test]
fn little_locked_memory_makes_smaller_rings_and_says_so() {
    if !has("prlimit") || !has("setpriv") {
        return;
    }
    let (_dir, binary) = public_binary();
    let arguments = ["--listen", ANY, "--no-pin", "--shards", "1"];
    // glommio needs more than that, and has a refusal of its own.
    let limit = if is_on_glommio() { HOST_MEMLOCK_MIN } else { 64 << 10 };
    let mut node = Node::spawn(&mut unprivileged(&binary, &[&format!("--memlock={limit}")], &arguments));
    assert!(node.get("/health").starts_with("HTTP/1.1 200"));
    if Host::this().unwrap().release >= (6, 14) {
        let said = node.said();
        let note = format!("note: the limit of locked memory is {limit} bytes, so submission_entries is");
        assert!(said.contains(&note), "{said}");
        assert_eq!(said.contains("; host_io_bytes is 65536;"), is_on_glommio(), "{said}");
    }
    assert_eq!(node.stop().0, Some(0));
}

#[test]
fn too_little_locked_memory_is_refused_with_the_bytes_it_takes() {
    if !has("prlimit") || !has("setpriv") || Host::this().unwrap().release < (6, 14) {
        return;
    }
    let (_dir, binary) = public_binary();
    let defaults = Limits::default();
    let large = Limits { completion_entries: 65_536, ..Limits::default() };
    let mut cases = vec![("--memlock=1000000", Some("completion_entries=65536"), large)];
    if !is_on_glommio() {
        cases.push(("--memlock=65536", Some("submission_entries=1024"), defaults.clone()));
        cases.push(("--memlock=8192", None, defaults));
    }
    for (limit, set, limits) in cases {
        let mut command = unprivileged(&binary, &[limit], &["--listen", ANY]);
        if let Some(set) = set {
            command.args(["--limit", set]);
        }
        let ended = run(&mut command);
        let says = ended.refusal();
        let bytes = preflight::ring_bytes(&limits);
        assert!(says.contains(&format!("one ring needs {bytes} bytes of locked memory (twice")), "{says}");
        assert!(says.contains(&format!("`ulimit -l {}`", (2 * bytes).div_ceil(1024))), "{says}");
    }
}

#[test]
fn the_bytes_of_a_ring_are_what_the_kernel_charges_for_it() {
    if !has("prlimit") || !has("setpriv") || Host::this().unwrap().release < (6, 14) {
        return;
    }
    let (_dir, binary) = public_binary();
    let bytes = preflight::ring_bytes(&Limits::default());
    // One that was set keeps them all from being lowered. Two pages: a kernel may do without the index array.
    let check = |limit: u64| {
        let ring = ["--shards", "1", "--limit", "recv_buffers=1024", "--host", "native"];
        let arguments: Vec<&str> = ["--check", "--listen", ANY].into_iter().chain(ring).collect();
        run(&mut unprivileged(&binary, &[&format!("--memlock={limit}")], &arguments)).code
    };
    assert_eq!(check(bytes), Some(0));
    assert_eq!(check(bytes - 2 * 4096), Some(2));
}

#[test]
fn glommio_wants_locked_memory_even_of_those_who_are_exempt() {
    let root = tempfile::tempdir().unwrap();
    let limits = Limits::default();
    let check = |memlock: u64, cap: &str, on| {
        put(root.path(), "proc/self/status", &format!("CapEff:\t{cap}\n"));
        put(root.path(), "proc/sys/kernel/osrelease", "6.18.1-generic\n");
        let host = Host::below(root.path(), same(100_000), same(memlock), vec![0, 1]);
        says(Demand { on, ..demand(&limits) }.check(&host).map(drop))
    };
    let (nothing, root_like) = ("0000000000000000", "0000000000004000");
    let glommio = ShardHost::Glommio;
    assert_eq!(
        check(HOST_MEMLOCK_MIN - 1, root_like, glommio),
        "the limit of locked memory is 524287 bytes, and the glommio host needs 524288, also as root; raise it with \
         `ulimit -l 512` (in a unit: LimitMEMLOCK=524288), or use --host native"
    );
    assert_eq!(check(HOST_MEMLOCK_MIN, root_like, glommio), "nothing");
    assert_eq!(check(0, root_like, ShardHost::Native), "nothing");
    assert_eq!(check(u64::MAX, nothing, glommio), "nothing");
    // Two shards: their rings, three rings of each executor, and memory that is registered with each of the three.
    let pinned = 2 * 3 * limits.host_io_bytes;
    let all = pinned + 2 * (preflight::ring_bytes(&limits) + 3 * (2 * 4096 + 2 * 4096));
    assert_eq!(check(all, nothing, glommio), "nothing");
    assert_eq!(
        check(all - 1, nothing, glommio),
        format!(
            "the limit of locked memory is {} bytes, and the glommio host needs {all}, {pinned} of them for direct I/O \
             (three times host_io_bytes for each shard); raise it with `ulimit -l {}` (in a unit: LimitMEMLOCK={all}), \
             lower host_io_bytes, or use --host native",
            all - 1,
            all.div_ceil(1024)
        )
    );
}

#[test]
fn direct_io_of_glommio_is_fitted_to_what_rings_leave() {
    let root = tempfile::tempdir().unwrap();
    let mut host = host(root.path());
    let fitted = |host: &Host, set: &[&str]| {
        let (mut limits, kinds) = (Limits::default(), (RingFeatures::NONE, ShardHost::Glommio));
        let notes = preflight::fit(&mut limits, &|name| !set.contains(&name), 2, 1, kinds, host);
        (limits.host_io_bytes, limits.submission_entries, notes.len())
    };
    let rings = preflight::ring_bytes(&Limits::default()) + 3 * (2 * 4096 + 2 * 4096);
    let all = 2 * 2 * (rings + 3 * (1 << 20));
    host.memlock = Some(all);
    assert_eq!(fitted(&host, &[]), (1 << 20, 1_024, 0), "on the bound");
    host.memlock = Some(all - 4);
    assert_eq!(fitted(&host, &[]), ((1 << 20) - 4096, 1_024, 1), "a page less of each");
    assert_eq!(fitted(&host, &["host_io_bytes"]), (1 << 20, 1_024, 0), "what was set stays");
    host.memlock = Some(2 * 2 * rings);
    assert_eq!(fitted(&host, &[]), (64 << 10, 1_024, 1), "glommio's least");
    host.memlock = Some(2 * 2 * rings - 4);
    assert_eq!(fitted(&host, &[]), (64 << 10, 512, 1), "rings as well");
    host.release = (6, 13);
    let (io, entries, _) = fitted(&host, &[]);
    assert!(io > 64 << 10 && entries == 1_024, "rings are not charged, memory is: {io}");
}

#[test]
fn a_build_without_glommio_refuses_its_host_with_what_to_type() {
    for also in [None, Some("--check")] {
        let arguments: Vec<&str> = ["--listen", ANY, "--host", "glommio"].into_iter().chain(also).collect();
        if cfg!(feature = "glommio") {
            if also.is_some() {
                let ended = run_with(&arguments);
                assert_eq!(ended.code, Some(0), "{ended:?}");
            }
            continue;
        }
        let ended = run_with(&arguments);
        assert_eq!(ended.refusal(), StartError::NoGlommio.to_string());
        assert!(ended.refusal().contains("`cargo build --release --features glommio`"), "{ended:?}");
    }
}

#[cfg(feature = "glommio")]
#[test]
fn a_low_limit_of_locked_memory_is_refused_on_glommio_before_an_executor_is_made() {
    if !has("prlimit") || !has("setpriv") {
        return;
    }
    let (_dir, binary) = public_binary();
    for also in [None, Some("--check")] {
        let arguments: Vec<&str> = ["--listen", ANY, "--host", "glommio"].into_iter().chain(also).collect();
        let ended = run(&mut unprivileged(&binary, &["--memlock=65536"], &arguments));
        let says = ended.refusal();
        assert!(
            says.starts_with("the limit of locked memory is 65536 bytes, and the glommio host needs "),
            "{says}"
        );
        assert!(says.ends_with("or use --host native"), "{says}");
        // As root, who may lock what it likes.
        if is_root() {
            let ended = run(through("prlimit", &["--memlock=65536"]).arg(&binary).args(&arguments));
            assert!(ended.refusal().contains("needs 524288, also as root; "), "{ended:?}");
        }
        let set = ["--limit", "host_io_bytes=1GiB", "--shards", "1"];
        let mut command = unprivileged(&binary, &["--memlock=1000000"], &arguments);
        let ended = run(command.args(set));
        assert!(ended.refusal().contains(" 3221225472 of them for direct I/O "), "{ended:?}");
    }
}

#[test]
fn a_start_that_cannot_work_says_so_within_a_second() {
    let taken = TcpListener::bind(ANY).unwrap();
    let addr: SocketAddr = taken.local_addr().unwrap();
    let causes = [
        vec!["--listen".to_owned(), addr.to_string()],
        vec!["--cpus".to_owned(), "999".to_owned()],
        vec!["--listen".to_owned(), "203.0.113.7:1".to_owned()],
    ];
    for cause in causes {
        // On a busy machine one of a few tries gets a CPU at once.
        let fast = (0..20).any(|_| {
            let ended = run(program::corelane(&[]).args(&cause));
            assert_eq!(ended.code, Some(2));
            ended.took < Duration::from_secs(1)
        });
        assert!(fast, "{cause:?}");
    }
}
