//! Files and outbound sockets.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

use std::ffi::CString;
use std::io::Read;
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use common::{Bed, CLOSE, OTHER, RECV, SEND, masks, small, sock, token, without};
use corelane_base::{Op, Payload, RecvMode, Sock};

/// A path of this process that is removed at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        Scratch(std::env::temp_dir().join(format!("corelane-uring-{}-{name}", std::process::id())))
    }

    fn path(&self) -> CString {
        CString::new(self.0.as_os_str().as_bytes()).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn open(bed: &mut Bed, scratch: &Scratch, flags: i32) -> i32 {
    bed.push(Op::Open { path: scratch.path(), flags, mode: 0o600, token: token(OTHER, 0) });
    let opened = bed.of(token(OTHER, 0));
    assert!(!opened.more);
    opened.result
}

#[test]
fn a_file_is_written_synced_read_back_and_closed() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let scratch = Scratch::new(&format!("rw-{mask}"));
        let file = sock(open(&mut bed, &scratch, libc::O_RDWR | libc::O_CREAT | libc::O_CLOEXEC));

        let data = b"..hello, disk".to_vec();
        bed.push(Op::Write { file, offset: 5, data, from: 2, token: token(OTHER, 1) });
        let wrote = bed.of(token(OTHER, 1));
        assert_eq!(wrote.result, 11);
        let Payload::Bytes(data) = wrote.payload else { panic!("no data back") };
        assert_eq!(data, b"..hello, disk");
        for data_only in [true, false] {
            bed.push(Op::Sync { file, data_only, token: token(OTHER, 2) });
            assert_eq!(bed.of(token(OTHER, 2)).result, 0);
        }
        assert_eq!(std::fs::read(&scratch.0).unwrap(), b"\0\0\0\0\0hello, disk");

        bed.push(Op::Read { file, offset: 12, data: vec![7; 8], token: token(OTHER, 3) });
        let read = bed.of(token(OTHER, 3));
        assert_eq!(read.result, 4);
        let Payload::Bytes(data) = read.payload else { panic!("no data back") };
        assert_eq!(data, b"disk\x07\x07\x07\x07");

        let mut room = bed.pools.get(8).unwrap();
        room.put(&[7; 8]);
        bed.push(Op::ReadInto { file, offset: 12, data: room.into(), token: token(OTHER, 5) });
        let read = bed.of(token(OTHER, 5));
        assert_eq!(read.result, 4);
        let Payload::Sent(data) = read.payload else { panic!("no data back") };
        assert_eq!(data.first(), b"disk\x07\x07\x07\x07");

        bed.push(Op::Close { sock: file, token: token(CLOSE, 0) });
        assert_eq!(bed.of(token(CLOSE, 0)).result, 0);
        bed.push(Op::Read { file, offset: 0, data: vec![7; 8], token: token(OTHER, 4) });
        let read = bed.of(token(OTHER, 4));
        assert_eq!(read.result, -libc::EBADF);
        assert!(matches!(read.payload, Payload::Bytes(data) if data == [7; 8]));
        assert_eq!(bed.ring.flights(), 0);
    }
}

#[test]
fn a_read_that_waits_forever_does_not_outlive_its_ring() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        let scratch = Scratch::new(&format!("fifo-{mask}"));
        // SAFETY: the path lives through the call.
        assert_eq!(unsafe { libc::mkfifo(scratch.path().as_ptr(), 0o600) }, 0);
        let file = sock(open(&mut bed, &scratch, libc::O_RDWR));
        // Nobody will ever write to it.
        bed.push(Op::Read { file, offset: 0, data: vec![0; 10], token: token(OTHER, 1) });
        let early = bed.next_within(Duration::from_millis(10));
        assert!(early.is_none(), "{mask}: {early:?}");
        assert_eq!(bed.ring.flights(), 1);
        let start = Instant::now();
        drop(bed);
        // A ring waits for two seconds for what does not end.
        assert!(start.elapsed() < Duration::from_millis(1_900), "{mask}: {:?}", start.elapsed());
    }
}

#[test]
fn a_file_that_is_not_there_is_an_errno() {
    let mut bed = Bed::new(&small());
    let scratch = Scratch::new("absent");
    assert_eq!(open(&mut bed, &scratch, libc::O_RDONLY), -libc::ENOENT);
}

#[test]
fn an_outbound_connection_carries_bytes_both_ways() {
    for mask in masks() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let mut bed = Bed::new(&without(mask));
            let listener = TcpListener::bind(any).unwrap();
            let addr = listener.local_addr().unwrap();
            bed.push(Op::Socket { v6: addr.is_ipv6(), token: token(OTHER, 0) });
            let end = sock(bed.of(token(OTHER, 0)).result);
            bed.push(Op::Connect { sock: end, token: token(OTHER, 1), addr });
            assert_eq!(bed.of(token(OTHER, 1)).result, 0, "{mask} {any}");
            let (mut peer, _) = listener.accept().unwrap();
            bed.send(end, token(SEND, 0), "ping");
            assert_eq!(bed.of(token(SEND, 0)).result, 4);
            let mut got = [0; 4];
            peer.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"ping");
            drop(peer);
            bed.recv(end, token(RECV, 0), RecvMode::Multi);
            assert_eq!(bed.of(token(RECV, 0)).result, 0);
        }
    }
}

#[test]
fn a_refused_connection_is_an_errno() {
    let mut bed = Bed::new(&small());
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    bed.push(Op::Socket { v6: false, token: token(OTHER, 0) });
    let end = sock(bed.of(token(OTHER, 0)).result);
    bed.push(Op::Connect { sock: end, token: token(OTHER, 1), addr });
    assert_eq!(bed.of(token(OTHER, 1)).result, -libc::ECONNREFUSED);
}

#[test]
fn a_socket_that_does_not_exist_is_an_errno_for_every_operation() {
    for mask in masks() {
        let mut bed = Bed::new(&without(mask));
        // Beyond the table, and beyond what a process may open.
        let none = Sock(50_000_000);
        bed.recv(none, token(RECV, 0), RecvMode::Multi);
        assert_eq!(bed.of(token(RECV, 0)).result, -libc::EBADF, "{mask}");
        bed.send(none, token(SEND, 0), "x");
        let sent = bed.of(token(SEND, 0));
        assert_eq!(sent.result, -libc::EBADF);
        assert!(matches!(sent.payload, Payload::Sent(_)));
        bed.push(Op::Close { sock: none, token: token(CLOSE, 0) });
        assert!(bed.of(token(CLOSE, 0)).result < 0);
        bed.push(Op::Sync { file: none, data_only: true, token: token(OTHER, 0) });
        assert_eq!(bed.of(token(OTHER, 0)).result, -libc::EBADF);
        bed.push(Op::CancelSock { sock: none, token: token(OTHER, 1) });
        assert!(bed.of(token(OTHER, 1)).result < 0);
    }
}
