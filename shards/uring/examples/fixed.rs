//! The smallest server on a [`Ring`]: 128 fixed bytes for every request head, whatever it asks for.
//!
//! What the kernel seam alone costs; compare with the hand-written loops of `bench`:
//!
//! ```text
//! cargo build --release -p corelane-uring --example fixed
//! cargo run --release -p bench -- compare --server limit-uring \
//!     --server 'ring=target/release/examples/fixed 127.0.0.1:{port} {cpu}'
//! ```
//!
//! `CORELANE_RING_WITHOUT=defer_taskrun,direct` leaves features off. Not here: parsing, timeouts, limits.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::net::TcpListener;

use corelane_base::{AcceptMode, Kernel, Op, Payload, RecvMode, Sock, Token, Wait};
use corelane_pools::Chain;
use corelane_uring::{Ring, RingConfig};

const ANSWERS_MAX: usize = 64;
const ANSWER: &[u8; 128] = b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\nServer: ring-only\r\n\
Content-Type: text/plain\r\n\r\n01234567890123456789012345678901234567890123";

const ACCEPT: u8 = 0;
const RECV: u8 = 1;
const SEND: u8 = 2;

#[derive(Clone, Default)]
struct Conn {
    /// Answers not yet sent.
    owed: usize,
    sending: bool,
    ended: bool,
    dirty: bool,
}

struct Server {
    ring: Ring,
    answers: &'static [u8],
    conns: Vec<Conn>,
    dirty: Vec<u32>,
}

impl Server {
    fn push(&mut self, op: Op<Chain>) {
        let mut op = op;
        while let Err(back) = self.ring.push(op) {
            op = back;
            self.ring.enter(Wait::No).unwrap();
        }
    }

    fn touch(&mut self, index: u32) {
        if !std::mem::replace(&mut self.conns[index as usize].dirty, true) {
            self.dirty.push(index);
        }
    }

    fn flush(&mut self) {
        while let Some(index) = self.dirty.pop() {
            let conn = &mut self.conns[index as usize];
            conn.dirty = false;
            if conn.sending {
                continue;
            }
            let sock = Sock(index);
            if conn.ended {
                *conn = Conn::default();
                self.push(Op::Close { sock, token: Token::NONE });
            } else if conn.owed > 0 {
                let count = conn.owed.min(ANSWERS_MAX);
                conn.owed -= count;
                conn.sending = true;
                let data = Chain::from(&self.answers[..count * ANSWER.len()]);
                self.push(Op::Send { sock, token: Token::new(0, SEND, 0, index), data });
            }
        }
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let listen = args.next().unwrap_or_else(|| "127.0.0.1:8080".into());
    if let Some(cpu) = args.next() {
        let cpu: usize = cpu.parse().unwrap();
        // SAFETY: a zeroed set of CPUs is the empty one; both calls get that one live set.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set), 0);
        }
    }
    let without = std::env::var("CORELANE_RING_WITHOUT").unwrap_or_default().parse().unwrap();
    let config = RingConfig {
        entries: 1024,
        completion_entries: 8192,
        recv_buffers: 1024,
        recv_buffer_bytes: 4096,
        descriptors: 16_384,
        without,
    };
    let mut ring = Ring::new(&config).unwrap();
    for lacking in ring.lacking() {
        eprintln!("{lacking}");
    }
    let listener = TcpListener::bind(&listen).unwrap();
    let id = ring.add_listener(listener.into());
    let answers: &'static [u8] = ANSWER.repeat(ANSWERS_MAX).leak();
    let mut server = Server { ring, answers, conns: vec![Conn::default(); 20_000], dirty: Vec::new() };
    let accept = || Op::Accept { listener: id, token: Token::new(0, ACCEPT, 0, 0), mode: AcceptMode::Multi };
    server.push(accept());
    loop {
        while let Some(done) = server.ring.pop() {
            let index = done.token.index();
            match done.token.tag() {
                ACCEPT => {
                    if let Ok(index) = u32::try_from(done.result) {
                        let token = Token::new(0, RECV, 0, index);
                        server.push(Op::Recv { sock: Sock(index), token, mode: RecvMode::Multi });
                    }
                    if !done.more {
                        server.push(accept());
                    }
                }
                RECV => {
                    if let Payload::Received(buffer) = done.payload {
                        let bytes = server.ring.received(buffer, done.result.cast_unsigned());
                        let heads = bytes.windows(4).filter(|end| end == b"\r\n\r\n").count();
                        server.conns[index as usize].owed += heads;
                        server.ring.recycle(buffer);
                    }
                    if done.result > 0 || done.result == -libc::ENOBUFS {
                        if !done.more {
                            let mode = RecvMode::Multi;
                            server.push(Op::Recv { sock: Sock(index), token: done.token, mode });
                        }
                    } else {
                        server.conns[index as usize].ended = true;
                    }
                    server.touch(index);
                }
                _ => {
                    server.conns[index as usize].sending = false;
                    server.touch(index);
                }
            }
        }
        server.flush();
        server.ring.enter(Wait::Until(None)).unwrap();
    }
}
