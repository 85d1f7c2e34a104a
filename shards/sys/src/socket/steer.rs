//! Which socket of a `SO_REUSEPORT` group gets a connection: the one whose shard runs on the CPU that took the
//! packet, so that a connection's interrupts, protocol work and handlers share one cache.
//!
//! A classic BPF program of the group answers with an index (socket(7), `SO_ATTACH_REUSEPORT_CBPF`). Without
//! it, or where its answer is out of range, the kernel chooses by a hash over both addresses, which is fair over
//! many connections and not at all over few.
//!
//! # What an index means
//! Sockets are numbered in the order of their listen(2). When one is closed, the last moves into its place, and
//! the program then answers with the wrong socket for up to two CPUs. No connection is lost by it, only
//! locality. So a drain, which closes the sockets one after the other, first takes the program off
//! ([`unsteer`]); whoever adds a socket again attaches a new one.
//!
//! Not here: which CPU a shard runs on (`boot`), what spreads connections after they were accepted (`net`).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, sock_filter, sock_fprog};

use super::check;

/// Instructions of a program at most (`BPF_MAXINSNS`).
const PROGRAM_MAX: usize = 4_096;

/// What a load from this address brings: the CPU that runs the program (`SKF_AD_OFF + SKF_AD_CPU`).
const CPU: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_CPU).cast_unsigned();

#[allow(clippy::cast_possible_truncation)] // opcodes are below 2^8
const fn op(code: u32, jt: u8, jf: u8, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}

/// Whether steering can help a group of `shards` sockets on `addr`: not with one shard, not with shards that
/// share CPUs (`cpus` has one entry for each that is pinned), and not on loopback, where the CPU that takes the
/// packet is the client's.
pub fn can_steer(addr: SocketAddr, shards: usize, cpus: &[usize]) -> bool {
    let mut own = cpus.to_vec();
    own.sort_unstable();
    own.dedup();
    shards > 1 && own.len() == shards && !addr.ip().to_canonical().is_loopback()
}

/// The program: CPU `cpus[i]` means index `i`. A CPU that has no shard gets, where the shards have the first
/// CPUs, the remainder of its number; else an index out of range, which leaves the choice to the hash.
fn program(cpus: &[usize]) -> io::Result<Vec<sock_filter>> {
    let too_many = || io::Error::new(io::ErrorKind::InvalidInput, "too many sockets to steer to");
    let count = u32::try_from(cpus.len()).map_err(|_| too_many())?;
    let mut code = vec![op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, CPU)];
    if cpus.iter().copied().eq(0..cpus.len()) && count > 0 {
        code.push(op(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, 0, 0, count));
        code.push(op(libc::BPF_RET | libc::BPF_A, 0, 0, 0));
    } else {
        for (index, &cpu) in (0..).zip(cpus) {
            let cpu = u32::try_from(cpu).map_err(|_| too_many())?;
            code.push(op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, cpu));
            code.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, index));
        }
        code.push(op(libc::BPF_RET | libc::BPF_K, 0, 0, count));
    }
    if code.len() > PROGRAM_MAX { Err(too_many()) } else { Ok(code) }
}

/// Has every connection to the group of `listener` go to the socket of the CPU that took its packet: `cpus` are
/// the CPUs of the sockets in the order of their listen(2). In place of what was attached before. For the whole
/// group, sockets that join later included, and at once.
///
/// # Errors
/// `InvalidInput` for more than some 2,000 sockets; `EINVAL` where the socket has no `SO_REUSEPORT`; what else
/// socket(7) names.
pub fn steer_by_cpu(listener: BorrowedFd<'_>, cpus: &[usize]) -> io::Result<()> {
    let mut code = program(cpus)?;
    let len = u16::try_from(code.len()).unwrap_or(u16::MAX);
    let program = sock_fprog { len, filter: code.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of::<sock_fprog>()).unwrap_or(0);
    let (fd, name) = (listener.as_raw_fd(), libc::SO_ATTACH_REUSEPORT_CBPF);
    // SAFETY: rule 1: a sock_fprog, and its own pointer to `len` instructions that live until the call is over;
    // the kernel copies them.
    check(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, (&raw const program).cast(), size) })?;
    Ok(())
}

/// Takes the program of the group off: the hash chooses from now on. Nothing attached is no error.
///
/// # Errors
/// What socket(7) names for `SO_DETACH_REUSEPORT_BPF` (Linux 5.3).
pub fn unsteer(listener: BorrowedFd<'_>) -> io::Result<()> {
    let none: c_int = 0;
    let size = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
    let (fd, name) = (listener.as_raw_fd(), libc::SO_DETACH_REUSEPORT_BPF);
    // SAFETY: rule 1: the option takes an int, whose value it ignores.
    let answer = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, (&raw const none).cast(), size) };
    match check(answer) {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::net::TcpStream;
    use std::os::fd::AsFd;

    use super::super::{ListenOptions, Listener, listen};
    use super::*;
    use crate::cpu::{allowed_cpus, pin_current_thread};

    /// Runs the program on a packet taken by `cpu`, as the kernel's interpreter would.
    fn run(code: &[sock_filter], cpu: u32) -> u32 {
        let (mut at, mut a) = (0, 0);
        loop {
            let now = code[at];
            at += 1;
            match u32::from(now.code) {
                c if c == libc::BPF_LD | libc::BPF_W | libc::BPF_ABS => {
                    assert_eq!(now.k, 0xffff_f024, "the ancillary load of the CPU");
                    a = cpu;
                }
                c if c == libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K => a %= now.k,
                c if c == libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K => {
                    at += usize::from(if a == now.k { now.jt } else { now.jf });
                }
                c if c == libc::BPF_RET | libc::BPF_A => return a,
                c if c == libc::BPF_RET | libc::BPF_K => return now.k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    #[test]
    fn the_first_cpus_map_to_themselves_and_the_others_wrap() {
        let code = program(&[0, 1, 2, 3]).unwrap();
        for cpu in 0..64 {
            assert_eq!(run(&code, cpu), cpu % 4);
        }
    }

    #[test]
    fn other_cpus_map_by_table_and_strangers_to_the_hash() {
        let code = program(&[6, 2, 40]).unwrap();
        assert_eq!([6, 2, 40].map(|cpu| run(&code, cpu)), [0, 1, 2]);
        for stranger in [0, 1, 3, 7, 41] {
            assert_eq!(run(&code, stranger), 3, "out of range");
        }
        assert_eq!(run(&program(&[1, 0]).unwrap(), 1), 0, "the order of the shards, not of the CPUs");
    }

    #[test]
    fn a_program_longer_than_the_kernel_takes_is_refused_here() {
        let cpus: Vec<usize> = (1..2_100).collect();
        assert_eq!(program(&cpus).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        assert!(program(&cpus[..2_040]).is_ok());
    }

    #[test]
    fn steering_is_left_off_where_it_cannot_help() {
        let any: SocketAddr = "0.0.0.0:80".parse().unwrap();
        assert!(can_steer(any, 2, &[0, 1]));
        assert!(can_steer(any, 2, &[5, 3]));
        assert!(!can_steer(any, 1, &[0]), "one shard");
        assert!(!can_steer(any, 2, &[]), "not pinned");
        assert!(!can_steer(any, 2, &[1, 1]), "on one CPU");
        for loopback in ["127.0.0.1:80", "[::1]:80", "[::ffff:127.0.0.1]:80"] {
            assert!(!can_steer(loopback.parse().unwrap(), 2, &[0, 1]), "{loopback}");
        }
    }

    /// A group of two on loopback, and where 24 connections from a thread on `cpu` end up.
    fn connections_from(cpu: usize, group: &[Listener]) -> Vec<usize> {
        let addr = group[0].local_addr();
        let clients: Vec<TcpStream> = std::thread::spawn(move || {
            pin_current_thread(cpu).unwrap();
            (0..24).map(|_| TcpStream::connect(addr).unwrap()).collect()
        })
        .join()
        .unwrap();
        let taken = group.iter().map(|listener| {
            let mut count = 0;
            while listener.accept_nonblocking().unwrap().is_some() {
                count += 1;
            }
            count
        });
        let taken = taken.collect();
        drop(clients);
        taken
    }

    fn group_of_two() -> Vec<Listener> {
        let first = listen("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        let second = listen(first.local_addr(), &ListenOptions::default()).unwrap();
        let group = vec![first, second];
        for listener in &group {
            listener.set_nonblocking().unwrap();
        }
        group
    }

    #[test]
    fn on_loopback_the_socket_of_the_clients_cpu_gets_its_connections() {
        let allowed = allowed_cpus().unwrap();
        let &[a, b, ..] = &allowed[..] else {
            eprintln!("one CPU only: nothing to tell apart");
            return;
        };
        let group = group_of_two();
        // In reverse, so that neither a remainder nor chance explains the outcome.
        steer_by_cpu(group[0].as_fd(), &[b, a]).unwrap();
        assert_eq!(connections_from(a, &group), [0, 24]);
        assert_eq!(connections_from(b, &group), [24, 0]);
        // A new program takes the place of the old.
        steer_by_cpu(group[1].as_fd(), &[a, b]).unwrap();
        assert_eq!(connections_from(a, &group), [24, 0]);
        assert_eq!(connections_from(b, &group), [0, 24]);
    }

    #[test]
    fn without_the_program_the_hash_spreads_again() {
        let group = group_of_two();
        let cpu = allowed_cpus().unwrap()[0];
        steer_by_cpu(group[0].as_fd(), &[cpu, cpu + 1]).unwrap();
        assert_eq!(connections_from(cpu, &group), [24, 0]);
        unsteer(group[1].as_fd()).unwrap();
        let spread = connections_from(cpu, &group);
        assert!(spread[0] > 0 && spread[1] > 0, "24 by a hash: {spread:?}");
        unsteer(group[0].as_fd()).unwrap();
    }

    #[test]
    fn a_cpu_without_a_shard_leaves_the_choice_to_the_hash() {
        let group = group_of_two();
        let cpu = allowed_cpus().unwrap()[0];
        steer_by_cpu(group[0].as_fd(), &[cpu + 7, cpu + 8]).unwrap();
        let spread = connections_from(cpu, &group);
        assert_eq!(spread.iter().sum::<usize>(), 24);
        assert!(spread[0] > 0 && spread[1] > 0, "24 by a hash: {spread:?}");
    }
}
