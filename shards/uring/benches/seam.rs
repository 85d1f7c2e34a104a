//! What one request costs on our side of the ring: push and pop, without the kernel's part.
//!
//! A batch of receives, then of sends, over connected loopback sockets; the clock runs around the pushes and
//! around the pops, not around the enters. Prints nanoseconds for each step and a checksum of the bytes.
//!
//! `cargo bench -p corelane-uring`, `ROUNDS=n` for another number of rounds (callgrind); as a test it runs one small round, so that it does not rot.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::print_stdout)]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use corelane_base::{AcceptMode, Kernel, Op, Payload, RecvMode, Sock, Token, Wait};
use corelane_pools::{Chain, PoolConfig, Pools};
use corelane_uring::{Features, Ring, RingConfig};

const CONNECTIONS: usize = 64;
const REQUEST: [u8; 40] = *b"GET /plaintext HTTP/1.1\r\nHost: local\r\n\r\n";
const ANSWER: [u8; 128] = [b'a'; 128];

fn main() {
    let bench = std::env::args().any(|arg| arg == "--bench");
    let rounds: u32 =
        std::env::var("ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(if bench { 20_000 } else { 3 });
    let config = RingConfig {
        entries: 1024,
        completion_entries: 8192,
        recv_buffers: 1024,
        recv_buffer_bytes: 4096,
        descriptors: 1024,
        without: Features::NONE,
    };
    let mut ring = Ring::new(&config).unwrap();
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let id = ring.add_listener(listener.into());
    let Ok(()) =
        ring.push(Op::Accept { listener: id, token: Token::new(0, 0, 0, 0), mode: AcceptMode::Multi })
    else {
        panic!("the queue is full")
    };
    let mut peers = Vec::new();
    let mut socks = Vec::new();
    while socks.len() < CONNECTIONS {
        let peer = TcpStream::connect(addr).unwrap();
        peer.set_nodelay(true).unwrap();
        peers.push(peer);
        let accepted = loop {
            ring.enter(Wait::Until(None)).unwrap();
            if let Some(accepted) = ring.pop() {
                break accepted;
            }
        };
        socks.push(Sock(u32::try_from(accepted.result).unwrap()));
    }
    for (index, sock) in (0..).zip(&socks) {
        let token = Token::new(0, 1, 0, index);
        assert!(ring.push(Op::Recv { sock: *sock, token, mode: RecvMode::Multi }).is_ok());
    }
    ring.enter(Wait::No).unwrap();

    let mut spent = Spent::default();
    let mut sum = 0_u64;
    for _ in 0..rounds {
        for peer in &mut peers {
            peer.write_all(&REQUEST).unwrap();
        }
        // An enter runs about twenty pieces of deferred work and leaves the rest to the next.
        while ring.needs_enter() {
            ring.enter(Wait::No).unwrap();
        }
        let start = Instant::now();
        let mut count = 0;
        while let Some(got) = ring.pop() {
            let Payload::Received(buffer) = got.payload else { panic!("{got:?}") };
            let bytes = ring.received(buffer, got.result.cast_unsigned());
            sum += u64::from(bytes[0]) + u64::from(got.token.index());
            ring.recycle(buffer);
            count += 1;
        }
        spent.receive += start.elapsed();
        assert_eq!(count, CONNECTIONS);

        let mut chains: Vec<Chain> = (0..CONNECTIONS)
            .map(|_| {
                let mut buf = pools.get(ANSWER.len()).unwrap();
                buf.put(&ANSWER);
                Chain::from(buf)
            })
            .collect();
        let start = Instant::now();
        for (index, sock) in (0..).zip(&socks) {
            let (token, data) = (Token::new(0, 2, 0, index), chains.pop().unwrap());
            assert!(ring.push(Op::Send { sock: *sock, token, data }).is_ok());
        }
        spent.send += start.elapsed();
        ring.enter(Wait::No).unwrap();
        let start = Instant::now();
        let mut count = 0;
        while let Some(sent) = ring.pop() {
            assert_eq!(sent.result, 128);
            sum += u64::from(sent.token.index());
            let Payload::Sent(data) = sent.payload else { panic!("no data back") };
            chains.push(data);
            count += 1;
        }
        spent.sent += start.elapsed();
        assert_eq!(count, CONNECTIONS);
        let mut answer = [0; ANSWER.len()];
        for peer in &mut peers {
            peer.read_exact(&mut answer).unwrap();
        }
        sum += u64::from(answer[0]);
    }
    let requests = f64::from(rounds) * 64.0;
    let ns = |time: Duration| time.as_secs_f64() * 1e9 / requests;
    println!(
        "receive (pop, read, recycle) {:.1} ns, send (push) {:.1} ns, sent (pop) {:.1} ns; checksum {sum:#x}",
        ns(spent.receive),
        ns(spent.send),
        ns(spent.sent),
    );
}

#[derive(Default)]
struct Spent {
    receive: Duration,
    send: Duration,
    sent: Duration,
}
