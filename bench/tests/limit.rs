//! The limit servers answer every request once and in order, over real sockets.
//!
//! A yardstick that loses or repeats answers under pressure would measure nothing. Each scenario
//! runs against both loops. Not here: speed.

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketType, sockopt};
use rustix::process::{Pid, Resource, Rlimit, Signal};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const RESPONSE_LEN: usize = 128;

struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(kind: &str, arguments: &[&str]) -> Self {
        raise_nofile();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_bench"))
            .args([kind, "--listen", &format!("127.0.0.1:{port}")])
            .args(arguments)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self { child, port };
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < Duration::from_secs(10), "{kind} does not accept");
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn connect_with_small_receive_buffer(&self) -> TcpStream {
        let socket = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
        rustix::net::connect(&socket, &SocketAddr::from(([127, 0, 0, 1], self.port))).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }

    fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn raise_nofile() {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// Asks once and returns the answer, checked against its declared length.
fn ask(stream: &mut TcpStream) -> Vec<u8> {
    stream.write_all(GET).unwrap();
    read_answers(stream, 1)
}

fn read_answers(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count * RESPONSE_LEN];
    stream.read_exact(&mut bytes).unwrap();
    let first = &bytes[..RESPONSE_LEN];
    assert!(first.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert!(first.ends_with(b"\r\n\r\nHello, World!"));
    assert!(bytes.chunks(RESPONSE_LEN).all(|answer| answer == first));
    bytes
}

fn assert_silent(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let kind = stream.read(&mut [0]).map_err(|error| error.kind());
    assert!(matches!(kind, Err(ErrorKind::WouldBlock | ErrorKind::TimedOut)), "{kind:?}");
}

fn both(scenario: impl Fn(&Server)) {
    for kind in ["limit-uring", "limit-epoll"] {
        eprintln!("against {kind}");
        scenario(&Server::start(kind, &[]));
    }
}

#[test]
fn pipelined_requests_cut_at_odd_places_get_one_answer_each() {
    both(|server| {
        let mut stream = server.connect();
        let requests = GET.repeat(100);
        for piece in requests.chunks(37) {
            stream.write_all(piece).unwrap();
        }
        read_answers(&mut stream, 100);
        assert_silent(&mut stream);
    });
}

#[test]
fn a_peer_that_reads_late_gets_every_byte_in_order() {
    const REQUESTS: usize = 200_000; // 25.6 MB of answers, more than any socket buffer
    both(|server| {
        let mut stream = server.connect();
        let mut writer = stream.try_clone().unwrap();
        let writing = thread::spawn(move || writer.write_all(&GET.repeat(REQUESTS)).unwrap());
        thread::sleep(Duration::from_millis(500));
        read_answers(&mut stream, REQUESTS);
        writing.join().unwrap();
        ask(&mut stream);
        assert_silent(&mut stream);
    });
}

#[test]
fn a_half_closed_peer_gets_its_answers_before_the_end() {
    both(|server| {
        for count in [1, 3, 200, 60_000] {
            let mut stream = server.connect();
            let mut writer = stream.try_clone().unwrap();
            let writing = thread::spawn(move || {
                writer.write_all(&GET.repeat(count)).unwrap();
                writer.shutdown(Shutdown::Write).unwrap();
            });
            writing.join().unwrap();
            thread::sleep(Duration::from_millis(50));
            read_answers(&mut stream, count);
            assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        }
    });
}

#[test]
fn a_malformed_head_ends_that_connection_only() {
    both(|server| {
        let mut good = server.connect();
        ask(&mut good);
        for head in [&b"\x00\r\n\r\n"[..], &[b'x'; 3 * 4096]] {
            let mut bad = server.connect();
            bad.write_all(head).unwrap();
            let mut rest = Vec::new();
            match bad.read_to_end(&mut rest) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
            assert!(rest.is_empty());
        }
        ask(&mut good);
    });
}

#[test]
fn a_peer_that_resets_while_owed_does_not_disturb_the_next_one() {
    both(|server| {
        for _ in 0..20 {
            let mut rude = server.connect();
            rude.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            let _ = rude.write_all(&GET.repeat(100_000)); // dropped unread: the kernel resets
            drop(rude);
            let mut next = server.connect();
            ask(&mut next);
            assert_silent(&mut next);
        }
    });
}

#[test]
fn more_waiting_connections_than_buffers_are_all_answered() {
    const CONNECTIONS: usize = 100;
    let server = Server::start("limit-uring", &["--buffers", "2"]);
    let mut streams: Vec<_> = (0..CONNECTIONS).map(|_| server.connect()).collect();
    for _ in 0..10 {
        for stream in &mut streams {
            ask(stream);
        }
        server.signal(Signal::STOP);
        for stream in &mut streams {
            stream.write_all(GET).unwrap();
        }
        server.signal(Signal::CONT);
        for stream in &mut streams {
            read_answers(stream, 1);
        }
    }
}

#[test]
fn a_send_cut_short_is_continued_without_another_request() {
    const BATCH: usize = 100; // 12.8 kB of answers: one send, taken whole unless the socket is full
    both(|server| {
        let mut stream = server.connect_with_small_receive_buffer();
        let (mut asked, mut whole) = (0, 0);
        loop {
            let before = unacknowledged(server, &stream);
            stream.write_all(&GET.repeat(BATCH)).unwrap();
            asked += BATCH;
            assert!(asked < 1_000_000, "the server's socket never filled");
            let start = Instant::now();
            let mut grown = false;
            while !grown && start.elapsed() < Duration::from_millis(200) {
                thread::sleep(Duration::from_micros(200));
                grown = unacknowledged(server, &stream) == before + BATCH * RESPONSE_LEN;
            }
            // Once our window is shut every send stays in the server's queue, until one does not fit.
            if !grown && whole > 3 {
                break;
            }
            whole = if grown { whole + 1 } else { 0 };
        }
        sockopt::set_socket_recv_buffer_size(&stream, 1 << 20).unwrap();
        read_answers(&mut stream, asked);
        assert_silent(&mut stream);
    });
}

/// Bytes in the server's send queue for `stream`: asked for by its addresses where the kernel answers such questions
/// (sock_diag(7)), else looked for in `/proc/net/tcp`, which is long beside tests of many short connections.
fn unacknowledged(server: &Server, stream: &TcpStream) -> usize {
    let client = stream.local_addr().unwrap().port();
    queued(server.port, client).unwrap_or_else(|| listed(server.port, client))
}

/// Bytes of a message's head, of the question behind it, and where the answer has the queue (sock_diag(7)).
const HEAD_LEN: usize = 16;
const QUESTION_LEN: usize = 56;
const QUEUED_AT: usize = HEAD_LEN + 4 + 48 + 8;

/// What the kernel has queued on the socket of loopback with port `here` that is connected to port `there`.
fn queued(here: u16, there: u16) -> Option<usize> {
    const BY_FAMILY: u16 = 20;
    let diag = Some(rustix::net::netlink::SOCK_DIAG);
    let socket = rustix::net::socket(AddressFamily::NETLINK, SocketType::DGRAM, diag).ok()?;
    let mut ask = u32::try_from(HEAD_LEN + QUESTION_LEN).unwrap().to_ne_bytes().to_vec();
    ask.extend([BY_FAMILY.to_ne_bytes(), 1_u16.to_ne_bytes()].concat()); // a request
    ask.extend([0; 8]); // no number, to the kernel
    ask.extend([2, 6, 0, 0]); // AF_INET, IPPROTO_TCP, nothing more about it
    ask.extend([0xff; 4]); // in any state
    ask.extend([here.to_be_bytes(), there.to_be_bytes()].concat());
    for _ in 0..2 {
        ask.extend([127, 0, 0, 1]);
        ask.extend([0; 12]);
    }
    ask.extend([0; 4]); // by any interface
    ask.extend([0xff; 8]); // without a cookie
    rustix::net::send(&socket, &ask, rustix::net::SendFlags::empty()).ok()?;
    let mut answer = [0; 512];
    let flags = rustix::net::RecvFlags::empty();
    let (len, _) = rustix::net::recv(&socket, &mut answer[..], flags).ok()?;
    let is_answer = u16::from_ne_bytes([answer[4], answer[5]]) == BY_FAMILY;
    let bytes = answer[..len].get(QUEUED_AT..QUEUED_AT + 4).filter(|_| is_answer)?;
    usize::try_from(u32::from_ne_bytes(bytes.try_into().ok()?)).ok()
}

/// The same as `/proc/net/tcp` has it. While connections of others come and go the kernel may leave one out.
fn listed(here: u16, there: u16) -> usize {
    let ports = format!(" 0100007F:{here:04X} 0100007F:{there:04X} ");
    for _ in 0..100 {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        if let Some(line) = table.lines().find(|line| line.contains(&ports)) {
            let queues = line.split_whitespace().nth(4).unwrap();
            return usize::from_str_radix(queues.split(':').next().unwrap(), 16).unwrap();
        }
    }
    panic!("no connection from port {there} in /proc/net/tcp");
}

#[test]
fn the_queue_of_a_socket_is_what_the_kernel_lists() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let here = listener.local_addr().unwrap().port();
    let client = TcpStream::connect(("127.0.0.1", here)).unwrap();
    let there = client.local_addr().unwrap().port();
    let mut server = listener.accept().unwrap().0;
    assert_eq!(listed(here, there), 0);
    assert!(matches!(queued(here, there), Some(0) | None));
    // More than the client's buffer takes.
    server.set_nonblocking(true).unwrap();
    while server.write(&[b'x'; 1 << 16]).is_ok() {}
    // What is on its way meanwhile changes it; then it rests, as nobody reads.
    let same = (0..500).any(|_| {
        thread::sleep(Duration::from_millis(10));
        let waiting = listed(here, there);
        waiting > 0 && queued(here, there).is_none_or(|bytes| bytes == waiting)
    });
    assert!(same, "{:?} of {}", queued(here, there), listed(here, there));
}

#[test]
fn thousands_of_short_connections_reuse_slots_cleanly() {
    both(|server| {
        for _ in 0..4000 {
            ask(&mut server.connect());
        }
    });
}
