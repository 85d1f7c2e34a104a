//! A small echo server on the trait, with all that a server has to care for, under every fault.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{Done, Driver, chain, token};
use corelane_base::{AcceptMode, ListenerId, Op, Payload, RecvMode, Rng, ShutdownHow, Sock, Wait};
use corelane_sim::{Fault, Faults, Peer, SimConfig, seeds};
use libc::{EAGAIN, ECANCELED, ENOBUFS};

const ACCEPT: u8 = 0;
const RECV: u8 = 1;
const SEND: u8 = 2;
const SHUTDOWN: u8 = 3;
const CLOSE: u8 = 4;
const CANCEL: u8 = 5;

#[derive(Default)]
struct Conn {
    /// Received and not yet handed to a send.
    waiting: Vec<u8>,
    receiving: bool,
    sending: bool,
    eof: bool,
    failed: bool,
    shut: bool,
    cancelled: bool,
}

struct Echo {
    driver: Driver,
    listener: ListenerId,
    mode: RecvMode,
    accepting: bool,
    stopping: bool,
    conns: BTreeMap<u32, Conn>,
}

impl Echo {
    fn new(config: SimConfig, mode: RecvMode) -> Echo {
        let driver = Driver::new(config);
        let listener = driver.world.add_listener();
        Echo { driver, listener, mode, accepting: false, stopping: false, conns: BTreeMap::new() }
    }

    fn turn(&mut self, wait: Wait) {
        if !self.accepting && !self.stopping {
            self.accepting = true;
            let (listener, token) = (self.listener, token(ACCEPT, 0));
            self.driver.push(Op::Accept { listener, token, mode: AcceptMode::Multi });
        }
        for done in self.driver.turn(wait) {
            self.take(done);
        }
        let indices: Vec<u32> = self.conns.keys().copied().collect();
        for index in indices {
            self.go_on(index);
        }
    }

    fn take(&mut self, done: Done) {
        let index = done.token.index();
        match done.token.tag() {
            ACCEPT => {
                self.accepting = done.more;
                if let Ok(slot) = u32::try_from(done.result) {
                    assert!(self.conns.insert(slot, Conn::default()).is_none());
                }
            }
            RECV => {
                let bytes = match done.payload {
                    Payload::Received(buffer) => self.driver.take_buffer(buffer, done.result),
                    _ => Vec::new(),
                };
                let conn = self.conns.get_mut(&index).unwrap();
                conn.receiving = done.more;
                conn.waiting.extend(&bytes);
                conn.eof |= done.result == 0;
                conn.failed |= done.result < 0 && ![-ENOBUFS, -EAGAIN, -ECANCELED].contains(&done.result);
            }
            SEND => {
                let Payload::Sent(data) = done.payload else { panic!("a send gave nothing back") };
                let conn = self.conns.get_mut(&index).unwrap();
                conn.sending = false;
                match usize::try_from(done.result) {
                    Ok(count) => {
                        let mut rest: Vec<u8> = data.slices().flatten().copied().skip(count).collect();
                        rest.append(&mut conn.waiting);
                        conn.waiting = rest;
                    }
                    Err(_) => conn.failed = true,
                }
            }
            SHUTDOWN | CANCEL | CLOSE => {}
            tag => panic!("unknown tag {tag}"),
        }
    }

    fn go_on(&mut self, index: u32) {
        let sock = Sock(index);
        let conn = self.conns.get_mut(&index).unwrap();
        if conn.failed || conn.shut {
            if conn.receiving && !conn.cancelled {
                conn.cancelled = true;
                self.driver.push(Op::CancelSock { sock, token: corelane_base::Token::NONE });
            } else if !conn.receiving && !conn.sending {
                self.conns.remove(&index);
                self.driver.push(Op::Close { sock, token: token(CLOSE, index) });
            }
            return;
        }
        if !conn.sending && !conn.waiting.is_empty() {
            conn.sending = true;
            let data = chain(&std::mem::take(&mut conn.waiting));
            self.driver.push(Op::Send { sock, token: token(SEND, index), data });
        }
        if !conn.receiving && !conn.eof && conn.waiting.len() < 4096 {
            conn.receiving = true;
            self.driver.push(Op::Recv { sock, token: token(RECV, index), mode: self.mode });
        }
        if conn.eof && !conn.sending && conn.waiting.is_empty() {
            conn.shut = true;
            let token = corelane_base::Token::NONE;
            self.driver.push(Op::Shutdown { sock, token, how: ShutdownHow::Write });
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        while self.accepting || !self.conns.is_empty() || !self.driver.is_idle() {
            if self.accepting {
                let target = token(ACCEPT, 0);
                self.driver.push(Op::Cancel { target, token: token(CANCEL, 0) });
            }
            self.turn(Wait::No);
            self.driver.world.advance(Duration::from_millis(1));
        }
        self.driver.world.check_quiet();
    }
}

struct Client {
    peer: Peer,
    bytes: Vec<u8>,
    written: usize,
    back: Vec<u8>,
}

impl Client {
    fn act(&mut self, rng: &mut Rng) {
        self.back.extend(self.peer.read(1 + rng.index(5_000)));
        let count = (1 + rng.index(3_000)).min(self.bytes.len() - self.written);
        self.written += self.peer.write(&self.bytes[self.written..self.written + count]);
        match rng.below(20) {
            0 => self.peer.stop_reading(),
            1..5 => self.peer.start_reading(),
            _ => {}
        }
        if self.written == self.bytes.len() {
            self.peer.shutdown_write();
        }
    }

    fn is_done(&self) -> bool {
        self.peer.is_over() && self.peer.received_len() == 0
    }
}

/// Runs some clients to their end; the trace, and how many got all of their bytes back.
fn run(seed: u64, faults: Faults) -> (u64, usize, Echo) {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let config = SimConfig {
        recv_buffers: 4,
        recv_buffer_bytes: 512,
        descriptors: 16,
        submission_entries: 8,
        completion_entries: 8,
        link_bytes: 4096,
        latency: Duration::from_micros(rng.below(300)),
        bandwidth: std::num::NonZeroU64::new(rng.below(2) * 50_000_000),
        ..SimConfig::seeded(seed, faults)
    };
    let mode = [RecvMode::Multi, RecvMode::Once][rng.index(2)];
    let mut echo = Echo::new(config, mode);
    let mut clients: Vec<Client> = (0..1 + rng.index(6))
        .map(|_| Client {
            peer: echo.driver.world.connect(echo.listener),
            bytes: (0..rng.below(20_000)).map(|_| rng.next_u64().to_le_bytes()[0]).collect(),
            written: 0,
            back: Vec::new(),
        })
        .collect();
    for turn in 0.. {
        assert!(turn < 200_000, "no end:\n{}", echo.driver.world.log());
        echo.turn(Wait::Until(Some(200_000)));
        for client in &mut clients {
            client.act(&mut rng);
        }
        if clients.iter().all(Client::is_done) {
            break;
        }
    }
    let mut whole = 0;
    for client in &clients {
        let world = &echo.driver.world;
        assert!(client.bytes.starts_with(&client.back), "other bytes came back:\n{}", world.log());
        let all = client.back.len() == client.bytes.len() && client.peer.is_eof();
        let lost = client.peer.was_reset() || world.injected(Fault::AcceptTableFull) > 0;
        assert!(all || lost, "the end came before the last byte:\n{}", world.log());
        whole += usize::from(all);
        assert!(!client.peer.is_refused());
    }
    let all = clients.len();
    drop(clients);
    echo.stop();
    let trace = echo.driver.world.trace();
    (trace, all - whole, echo)
}

#[test]
fn under_all_faults_every_byte_comes_back_in_order_or_the_loss_is_reported() {
    let mut injected = [0; Fault::ALL.len()];
    let mut lost = 0;
    for seed in seeds(500) {
        let (_, lost_here, echo) = run(seed, Faults::all(0.02));
        lost += lost_here;
        for (sum, fault) in injected.iter_mut().zip(Fault::ALL) {
            *sum += echo.driver.world.injected(fault);
        }
    }
    if std::env::var(corelane_sim::SEED_VARIABLE).is_err() {
        assert!(lost > 100, "{lost}");
        for (count, fault) in injected.iter().zip(Fault::ALL) {
            use Fault::{ConnectRefused, ConnectTimeout, DiskError, DiskFull, ShortFile};
            let elsewhere = [ShortFile, ConnectRefused, ConnectTimeout, DiskFull, DiskError];
            assert!(*count > 10 || elsewhere.contains(&fault), "{fault:?} happened {count} times");
        }
    }
}

#[test]
fn under_benign_faults_no_byte_and_no_connection_is_lost() {
    for seed in seeds(300) {
        let (_, lost, echo) = run(seed, Faults::benign(0.2));
        assert_eq!(lost, 0, "{}", echo.driver.world.log());
    }
}

#[test]
fn the_same_seed_gives_the_same_events_and_another_seed_others() {
    let mut traces = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let (first, _, echo) = run(seed, Faults::all(0.05));
        let (second, _, again) = run(seed, Faults::all(0.05));
        assert_eq!(first, second, "seed {seed}");
        assert_eq!(echo.driver.world.log(), again.driver.world.log());
        traces.insert(first);
    }
    assert_eq!(traces.len(), 20);
}
