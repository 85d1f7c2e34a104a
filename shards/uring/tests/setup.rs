//! Rings that cannot be made, and rings that are made without something. What old kernels and strict hosts
//! answer comes from a system call filter on the test's own thread.
#![allow(clippy::unwrap_used)]

mod common;

use std::thread;

use common::{Bed, small, token};
use corelane_base::{Kernel, Op, RecvMode};
use corelane_sys::{MapOptions, Refusal};
use corelane_uring::{Features, Lacking, Ring, RingConfig, SetupError, Why};

const SETUP: libc::c_long = libc::SYS_io_uring_setup;
const REGISTER: libc::c_long = libc::SYS_io_uring_register;

/// From now on, on this thread: `call` (with `second` as its second argument, if any) answers `errno`.
fn refuse(call: libc::c_long, second: Option<u32>, errno: i32) {
    let stmt = |code: u32, k: u32| libc::sock_filter { code: u16::try_from(code).unwrap(), jt: 0, jf: 0, k };
    let skip_unless = |k: u32, jf: u8| {
        let code = u16::try_from(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K).unwrap();
        libc::sock_filter { code, jt: 0, jf, k }
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    // struct seccomp_data: the number at 0, the second argument at 24.
    let mut program = vec![stmt(load, 0)];
    match second {
        None => program.push(skip_unless(u32::try_from(call).unwrap(), 1)),
        Some(second) => {
            program.push(skip_unless(u32::try_from(call).unwrap(), 3));
            program.push(stmt(load, 24));
            program.push(skip_unless(second, 1));
        }
    }
    program.push(stmt(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno.cast_unsigned()));
    program.push(stmt(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    let filter =
        libc::sock_fprog { len: u16::try_from(program.len()).unwrap(), filter: program.as_mut_ptr() };
    // SAFETY: the filter lives through the call; both calls change this thread only.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter), 0);
    }
}

/// Runs on a thread of its own, where such a call is refused.
fn refused<T: Send + 'static>(
    call: libc::c_long,
    second: Option<u32>,
    errno: i32,
    run: impl FnOnce() -> T + Send + 'static,
) -> T {
    thread::spawn(move || {
        refuse(call, second, errno);
        run()
    })
    .join()
    .unwrap()
}

fn setup_error(config: &RingConfig) -> SetupError {
    Ring::new(config).map(drop).unwrap_err()
}

#[test]
fn a_kernel_without_io_uring_is_told_from_one_that_forbids_it() {
    let without = refused(SETUP, None, libc::ENOSYS, || setup_error(&small()));
    assert_eq!(without, SetupError::Enosys);
    let forbidden = refused(SETUP, None, libc::EPERM, || setup_error(&small()));
    assert_eq!(forbidden, SetupError::Disabled { errno: libc::EPERM });
    assert!(forbidden.to_string().contains("io_uring_disabled"));
    let full = refused(SETUP, None, libc::EMFILE, || setup_error(&small()));
    assert_eq!(full, SetupError::Other { errno: libc::EMFILE, step: "io_uring_setup" });
}

#[test]
fn a_kernel_that_refuses_every_flag_is_asked_once_for_each_and_then_given_up() {
    let error = refused(SETUP, None, libc::EINVAL, || setup_error(&small()));
    assert_eq!(error, SetupError::Other { errno: libc::EINVAL, step: "io_uring_setup" });
}

#[test]
fn a_size_beyond_the_kernels_maximum_needs_clamp() {
    let config = RingConfig { entries: 1 << 20, completion_entries: 1 << 21, ..small() };
    let ring = Ring::new(&config).unwrap();
    assert!(ring.granted().contains(Features::CLAMP));
    drop(ring);
    let error = setup_error(&RingConfig { without: Features::CLAMP, ..config });
    assert_eq!(error.errno(), libc::EINVAL);
}

#[test]
fn a_ring_descriptor_that_cannot_be_registered_is_lacking_and_the_ring_works() {
    let register_ring_fds = 20;
    refused(REGISTER, Some(register_ring_fds), libc::EINVAL, || {
        let mut bed = Bed::new(&small());
        let lacking = Lacking { feature: Features::RING_FD, why: Why::Refused(libc::EINVAL) };
        assert_eq!(bed.ring.lacking(), [lacking]);
        let (_end, _peer) = bed.pair();
    });
}

#[test]
fn without_one_more_descriptor_no_ring_writes_to_it_and_it_is_woken_all_the_same() {
    let lack = |feature, errno| [Lacking { feature, why: Why::Refused(errno) }];
    let duplicate = u32::try_from(libc::F_DUPFD_CLOEXEC).unwrap();
    refused(libc::SYS_fcntl, Some(duplicate), libc::EMFILE, move || {
        let mut ring = Ring::new(&small()).unwrap();
        assert_eq!(ring.lacking(), lack(Features::MSG_RING, libc::EMFILE));
        assert_eq!(ring.unpark().ring(), None);
        ring.unpark().unpark();
        ring.enter(corelane_base::Wait::Until(None)).unwrap();
    });
}

#[test]
fn a_ring_that_could_not_try_to_ask_for_peers_does_without() {
    refused(libc::SYS_socket, None, libc::EACCES, || {
        let ring = Ring::new(&small()).unwrap();
        let lacking = Lacking { feature: Features::PEER_NAME, why: Why::Refused(libc::EACCES) };
        assert_eq!(ring.lacking(), [lacking]);
        assert!(!ring.abilities().peer_name);
    });
}

#[test]
fn buffers_go_back_by_operation_where_a_buffer_ring_is_refused() {
    let register_pbuf_ring = 22;
    refused(REGISTER, Some(register_pbuf_ring), libc::EINVAL, || {
        let mut bed = Bed::new(&small());
        let lacking = Lacking { feature: Features::BUFFER_RING, why: Why::Refused(libc::EINVAL) };
        assert_eq!(bed.ring.lacking(), [lacking]);
        let (end, mut peer) = bed.pair();
        std::io::Write::write_all(&mut peer, b"x").unwrap();
        bed.recv(end, token(common::RECV, 0), RecvMode::Once);
        let got = bed.of(token(common::RECV, 0));
        assert_eq!(bed.bytes(&got), b"x");
        bed.push(Op::Close { sock: end, token: token(common::CLOSE, 0) });
        assert_eq!(bed.of(token(common::CLOSE, 0)).result, 0);
    });
    let error = refused(REGISTER, Some(register_pbuf_ring), libc::ENOMEM, || setup_error(&small()));
    assert_eq!(error, SetupError::Buffers { errno: libc::ENOMEM });
}

/// A byte goes through receive buffers in memory of this kind.
fn received_in(memory: &MapOptions) -> Bed {
    let mut bed = Bed::new(&small());
    bed.ring = Ring::with_memory(&RingConfig { recv_buffers: 1024, ..small() }, memory).unwrap();
    let (end, mut peer) = bed.pair();
    std::io::Write::write_all(&mut peer, b"x").unwrap();
    bed.recv(end, token(common::RECV, 0), RecvMode::Once);
    let got = bed.of(token(common::RECV, 0));
    assert_eq!(bed.bytes(&got), b"x");
    bed.push(Op::Close { sock: end, token: token(common::CLOSE, 0) });
    assert_eq!(bed.of(token(common::CLOSE, 0)).result, 0);
    bed
}

#[test]
fn receive_buffers_of_huge_pages_on_a_node_work_and_so_they_do_where_that_is_refused() {
    let memory = MapOptions { node: Some(0), huge_pages: true, ..MapOptions::default() };
    let granted = received_in(&memory);
    // A kernel may have neither nodes nor huge pages.
    assert!(granted.ring.refusals().len() <= 2, "{:?}", granted.ring.refusals());
    refused(libc::SYS_mbind, None, libc::EPERM, move || {
        let without = received_in(&memory);
        let is_node = |refusal: &Refusal| matches!(refusal, Refusal::Node { node: 0, error } if error.raw_os_error() == Some(libc::EPERM));
        assert_eq!(without.ring.refusals().iter().filter(|one| is_node(one)).count(), 1);
    });
    assert!(received_in(&MapOptions::default()).ring.refusals().is_empty());
}

#[test]
fn a_table_at_the_descriptor_limit_is_made_and_one_past_it_is_an_error_with_the_number() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: fills one rlimit.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    // The kernel's own maximum is 2^20.
    let most = u32::try_from(limit.rlim_cur.min(1 << 20)).unwrap();
    assert!(Ring::new(&RingConfig { descriptors: most, ..small() }).is_ok());
    let error = setup_error(&RingConfig { descriptors: most + 1, ..small() });
    assert_eq!(error, SetupError::Table { descriptors: most + 1, errno: libc::EMFILE });
    // Without a table there is nothing to limit.
    let plain = RingConfig { descriptors: most + 1, without: Features::DIRECT, ..small() };
    assert!(Ring::new(&plain).is_ok());
}

#[test]
fn the_locked_memory_limit_of_an_unprivileged_user_is_told_apart() {
    // SAFETY: the child only makes a ring and exits; it shares nothing with the threads of its parent.
    let child = unsafe { libc::fork() };
    assert!(child >= 0);
    if child == 0 {
        let low = libc::rlimit { rlim_cur: 64 << 10, rlim_max: 64 << 10 };
        // SAFETY: plain calls on the child itself.
        unsafe {
            libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const low);
            if libc::geteuid() == 0 {
                libc::syscall(libc::SYS_setresuid, 61_234, 61_234, 61_234);
            }
        }
        let config = RingConfig { entries: 4096, completion_entries: 32_768, ..small() };
        let code = match Ring::new(&config) {
            Err(SetupError::Memlock { errno: libc::ENOMEM }) => 7,
            Err(_) => 8,
            Ok(_) => 9,
        };
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(code) };
    }
    let mut status = 0;
    // SAFETY: fills one int.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), 7);
}

#[test]
fn nothing_is_lacking_on_a_new_kernel_but_what_it_does_not_have() {
    let ring = Ring::new(&small()).unwrap();
    let missing = ring.lacking().iter().fold(Features::NONE, |sum, lacking| sum.with(lacking.feature));
    assert_eq!(ring.granted().with(missing), Features::ALL);
    // Linux 6.1 has all of these.
    let newer = Features::NO_SQARRAY.with(Features::PEER_NAME).with(Features::NO_IOWAIT);
    let floor = Features::ALL.without(newer);
    assert!(ring.granted().contains(floor), "{:?}", ring.lacking());
}
