//! The server over real sockets, with plain clients.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::*;

/// Longest any single step may take.
const PATIENCE: Duration = Duration::from_secs(10);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";

fn server(speaks: Speaks) -> NullServer {
    start(NullConfig { speaks, ..NullConfig::default() }).unwrap()
}

fn client(server: &NullServer) -> TcpStream {
    let client = TcpStream::connect(server.addr()).unwrap();
    client.set_nodelay(true).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.set_write_timeout(Some(PATIENCE)).unwrap();
    client
}

#[track_caller]
fn expect(client: &mut TcpStream, wanted: &[u8]) {
    let mut got = vec![0; wanted.len()];
    client.read_exact(&mut got).unwrap();
    assert!(got == wanted, "{:?}", String::from_utf8_lossy(&got[..got.len().min(200)]));
}

#[track_caller]
fn expect_end(client: &mut TcpStream) {
    match client.read(&mut [0; 16]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("open: {other:?}"),
    }
}

#[test]
fn a_request_is_answered_and_the_connection_stays() {
    let server = server(Speaks::Http1);
    let mut client = client(&server);
    for _ in 0..3 {
        client.write_all(REQUEST).unwrap();
        expect(&mut client, ANSWER);
    }
    drop(client);
    let served = server.stop().unwrap();
    assert_eq!((served.connections, served.requests, served.cut), (1, 3, 0));
}

#[test]
fn a_body_has_the_length_asked_for() {
    for len in [0, 1, 13, 14, 100_000, BODY_LEN_MAX] {
        let server = start(NullConfig { body_len: len, ..NullConfig::default() }).unwrap();
        let mut client = client(&server);
        client.write_all(REQUEST).unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len}\r\n\r\n");
        expect(&mut client, head.as_bytes());
        let body: Vec<u8> = BODY.iter().copied().cycle().take(len).collect();
        expect(&mut client, &body);
    }
}

#[test]
fn requests_cut_anywhere_are_answered_once() {
    let server = server(Speaks::Http1);
    let mut client = client(&server);
    for cut in 1..REQUEST.len() {
        client.write_all(&REQUEST[..cut]).unwrap();
        client.write_all(&REQUEST[cut..]).unwrap();
        expect(&mut client, ANSWER);
    }
    assert_eq!(server.stop().unwrap().requests, REQUEST.len() as u64 - 1);
}

#[test]
fn a_thousand_requests_on_several_connections_are_all_answered() {
    let server = server(Speaks::Http1);
    let mut clients: Vec<TcpStream> = (0..8).map(|_| client(&server)).collect();
    // In batches, with all connections busy at once.
    for batch in [1, 25, 99] {
        for client in &mut clients {
            client.write_all(&REQUEST.repeat(batch)).unwrap();
        }
        for client in &mut clients {
            expect(client, &ANSWER.repeat(batch));
        }
    }
    let served = server.stop().unwrap();
    assert_eq!((served.connections, served.requests), (8, 1000));
}

#[test]
fn resp_commands_have_their_answers_in_order() {
    let server = server(Speaks::Resp);
    let mut client = client(&server);
    let get = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n";
    let set = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:000000000001\r\n$5\r\n\r\n*1\r\r\n";
    let ping = b"*1\r\n$4\r\nPING\r\n";
    client.write_all(&[&get[..], set, get, ping, set].concat().repeat(300)).unwrap();
    expect(&mut client, &b"$-1\r\n+OK\r\n$-1\r\n-ERR unknown command\r\n+OK\r\n".repeat(300));
    client.write_all(&get[..20]).unwrap();
    client.write_all(&get[20..]).unwrap();
    expect(&mut client, b"$-1\r\n");
    client.write_all(b"PING\r\n").unwrap();
    expect_end(&mut client);
    let served = server.stop().unwrap();
    assert_eq!((served.requests, served.cut), (1501, 1));
}

#[test]
fn the_generators_own_requests_are_understood() {
    use crate::protocol::Protocol;
    use crate::resp::{Resp, reader::Reader};
    let server = server(Speaks::Resp);
    let mut client = client(&server);
    let spec = crate::model::RespSpec { get_share: 0.5, ..Default::default() };
    let mut resp = Resp::new(spec, 1).unwrap();
    let mut bytes = Vec::new();
    let asks: Vec<_> = (0..200).map(|number| resp.write(number, &mut bytes)).collect();
    client.write_all(&bytes).unwrap();
    let mut answers = vec![0; asks.len() * 5];
    client.read_exact(&mut answers).unwrap();
    let (mut rest, mut conn) = (&answers[..], Reader::default());
    for ask in asks {
        let answer = resp.read(&mut conn, &mut rest, ask).unwrap().unwrap();
        assert_eq!(answer.error, None, "{ask:?}");
    }
    assert!(rest.is_empty());
}

#[test]
fn echoed_bytes_are_those_sent_and_messages_are_counted() {
    let config = NullConfig { speaks: Speaks::Echo, echo_len: 100, ..NullConfig::default() };
    let server = start(config).unwrap();
    let mut client = client(&server);
    for len in [1, 99, 100, 4096, 70_000] {
        let bytes: Vec<u8> = (0..len).map(|at: u32| at.to_le_bytes()[0] ^ at.to_le_bytes()[1]).collect();
        client.write_all(&bytes).unwrap();
        expect(&mut client, &bytes);
    }
    assert_eq!(server.stop().unwrap().requests, (1 + 99 + 100 + 4096 + 70_000) / 100);
}

#[test]
fn a_large_echo_comes_back_whole_while_it_is_sent() {
    let config = NullConfig { speaks: Speaks::Echo, echo_len: echo::LEN_MAX, ..NullConfig::default() };
    let server = start(config).unwrap();
    let mut reading = client(&server);
    let bytes: Vec<u8> = (0..echo::LEN_MAX).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let mut writing = reading.try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| writing.write_all(&bytes).unwrap());
        expect(&mut reading, &bytes);
    });
    assert_eq!(server.stop().unwrap().requests, 1);
}

#[test]
fn a_peer_that_never_reads_is_held_up_and_others_are_served() {
    let server = server(Speaks::Echo);
    let mut greedy = client(&server);
    greedy.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
    // The sockets of both sides take some, the server up to its bound; then the writer must wait.
    let piece = vec![7; 1 << 20];
    let mut sent = 0;
    let error = loop {
        match greedy.write(&piece) {
            Ok(count) => sent += count,
            Err(error) => break error,
        }
        assert!(sent < 256 << 20, "the server takes everything");
    };
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
    let mut other = client(&server);
    other.write_all(b"hello").unwrap();
    expect(&mut other, b"hello");
    // All that was taken comes back, once somebody reads.
    let mut left = sent;
    let mut into = vec![0; 1 << 20];
    while left > 0 {
        let count = greedy.read(&mut into).unwrap();
        assert!(count > 0 && into[..count].iter().all(|&byte| byte == 7));
        left -= count;
    }
    assert_eq!(server.stop().unwrap().cut, 0);
}

#[test]
fn pipelined_answers_past_the_bound_arrive_all_the_same() {
    let server = start(NullConfig { body_len: 200_000, ..NullConfig::default() }).unwrap();
    let mut client = client(&server);
    client.write_all(&REQUEST.repeat(40)).unwrap();
    for _ in 0..40 {
        expect(&mut client, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 200000\r\n\r\n");
        let body: Vec<u8> = BODY.iter().copied().cycle().take(200_000).collect();
        expect(&mut client, &body);
    }
    client.write_all(REQUEST).unwrap();
    expect(&mut client, b"HTTP/1.1 200 OK\r\n");
}

#[test]
fn a_peer_that_ends_its_side_still_has_its_answers() {
    let server = server(Speaks::Http1);
    let mut client = client(&server);
    client.write_all(&REQUEST.repeat(50)).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    expect(&mut client, &ANSWER.repeat(50));
    expect_end(&mut client);
    assert_eq!(server.stop().unwrap().cut, 0);
}

#[test]
fn clients_that_vanish_leave_their_places_to_others() {
    let server = server(Speaks::Http1);
    for round in 0..100 {
        let mut gone = client(&server);
        // Nothing, half a request, or requests whose answers nobody reads: the last end in a reset.
        let bytes = match round % 3 {
            0 => vec![],
            1 => REQUEST[..9].to_vec(),
            _ => REQUEST.repeat(20),
        };
        gone.write_all(&bytes).unwrap();
        drop(gone);
    }
    let mut client = client(&server);
    client.write_all(REQUEST).unwrap();
    expect(&mut client, ANSWER);
    assert_eq!(server.stop().unwrap().connections, 101);
}

#[test]
fn the_last_place_is_given_and_one_more_is_refused_until_one_is_free() {
    let server = start(NullConfig { connections_max: 3, ..NullConfig::default() }).unwrap();
    let mut clients: Vec<TcpStream> = (0..3).map(|_| client(&server)).collect();
    for client in &mut clients {
        client.write_all(REQUEST).unwrap();
        expect(client, ANSWER);
    }
    expect_end(&mut client(&server));
    // The place is free a moment after its connection ended.
    drop(clients.pop());
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        let mut next = client(&server);
        if next.write_all(REQUEST).is_ok() && next.read(&mut [0; 256]).is_ok_and(|len| len > 0) {
            break;
        }
    }
    let served = server.stop().unwrap();
    assert_eq!((served.connections, served.requests), (4, 4));
    assert!(served.refused >= 1, "{served:?}");
}

#[test]
fn a_server_stops_in_time_with_connections_open_and_idle() {
    for speaks in [Speaks::Http1, Speaks::Echo, Speaks::Resp] {
        let server = server(speaks);
        let mut clients: Vec<TcpStream> = (0..5).map(|_| client(&server)).collect();
        // One is owed more than it takes.
        clients[0].set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        while clients[0].write(&REQUEST.repeat(10_000)).is_ok_and(|count| count > 0) {}
        let start = Instant::now();
        let addr = server.addr();
        drop(server);
        assert!(start.elapsed() < PATIENCE, "{speaks:?}: {:?}", start.elapsed());
        for client in &mut clients[1..] {
            expect_end(client);
        }
        assert!(TcpStream::connect(addr).is_err(), "nobody listens any more");
    }
}

#[test]
fn a_flag_stops_a_server_without_a_handle() {
    let stop = Arc::new(AtomicBool::new(false));
    let served = std::thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let flag = &stop;
        let serving =
            scope.spawn(move || serve(&NullConfig::default(), flag, |addr| tell.send(addr).unwrap()));
        let mut client = TcpStream::connect(told.recv().unwrap()).unwrap();
        client.write_all(REQUEST).unwrap();
        expect(&mut client, ANSWER);
        stop.store(true, Ordering::Release);
        serving.join().unwrap().unwrap()
    });
    assert_eq!((served.connections, served.requests), (1, 1));
}

#[test]
fn what_cannot_work_is_said_with_the_cure() {
    let taken = server(Speaks::Http1);
    let on = |change: fn(NullConfig) -> NullConfig| start(change(NullConfig::default())).unwrap_err();
    let error = start(NullConfig { addr: taken.addr(), ..NullConfig::default() }).unwrap_err();
    assert!(error.contains(&format!("cannot listen on {}", taken.addr())), "{error}");
    assert!(error.contains("take another address, or port 0"), "{error}");
    let error = on(|config| NullConfig { cpu: Some(100_000), ..config });
    assert!(error.contains("cannot stay on CPU 100000") && error.contains("may run on 0"), "{error}");
    let error = on(|config| NullConfig { body_len: BODY_LEN_MAX + 1, ..config });
    assert!(error.contains("a body of 16777217 bytes"), "{error}");
    for count in [0, CONNECTIONS_MAX + 1] {
        let error = start(NullConfig { connections_max: count, ..NullConfig::default() }).unwrap_err();
        assert!(error.contains(&format!("{count} connections")), "{error}");
    }
    for len in [0, echo::LEN_MAX + 1] {
        let error = start(NullConfig { echo_len: len, ..NullConfig::default() }).unwrap_err();
        assert!(error.contains(&format!("a message of {len} bytes")), "{error}");
    }
}
