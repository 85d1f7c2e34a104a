//! An answer that says `Connection: close` because the *server* decided so, while the client sends on.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
mod common;
use common::client::get;
use common::{Client, Cut, Node, pattern, until};
use corelane::*;
use std::net;
use std::thread;
use std::time::Duration;

fn look(client: &mut Client, want: usize) -> Result<(), String> {
    match client.next(false) {
        Ok(answer) if answer.body == pattern(want) && answer.closes() => Ok(()),
        Ok(answer) => Err(answer.head.clone()),
        Err(Cut::Partial(bytes, why)) => Err(format!("{} bytes, then {why}", bytes.len())),
        Err(cut) => Err(format!("{cut:?}")),
    }
}

#[test]
fn in_a_drain_the_last_answer_is_whole_though_the_client_has_sent_its_next_request() {
    let limits = Limits {
        drain_idle: Duration::from_secs(3),
        drain_time: Duration::from_secs(10),
        ..common::limits()
    };
    let node = Node::of(common::server().limits(limits));
    let addr = node.addr;
    let mut client = Client::connect(addr);
    assert_eq!(client.get("/plaintext").status, 200);
    let drain = thread::spawn(move || node.drain());
    until("the drain has begun", || net::TcpStream::connect(addr).is_err());
    client.send(get("/big/1500000")); // fits into the socket's buffer: the node is done with it at once
    thread::sleep(Duration::from_millis(200));
    client.try_send(get("/plaintext")); // the client has not read that it is the last
    thread::sleep(Duration::from_millis(100));
    let got = look(&mut client, 1_500_000);
    drop(client);
    drain.join().unwrap();
    assert_eq!(got, Ok(()));
}

#[test]
fn a_handler_that_closes_does_not_cost_its_answer() {
    let node = Node::serving(common::server(), || {
        App::new(()).get("/", |_| Response {
            close: true,
            ..Response::bytes("application/octet-stream", pattern(1_500_000))
        })
    });
    let mut client = Client::connect(node.addr);
    client.send(get("/"));
    thread::sleep(Duration::from_millis(500));
    client.try_send(get("/"));
    thread::sleep(Duration::from_millis(100));
    assert_eq!(look(&mut client, 1_500_000), Ok(()));
}
