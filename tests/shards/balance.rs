//! Who gets a new connection.

use std::thread;

use corelane::{Accept, Server};

use crate::common::{self, Client, Node};
use crate::service::{app, shard_of};

const SHARDS: u16 = 4;
const CONNECTIONS: usize = 64;

fn server(accept: Accept) -> Server {
    common::server().shards(SHARDS).accept(accept)
}

/// A node of which every shard accepts. `start` returns when they have been told to.
fn node(accept: Accept) -> Node {
    let node = Node::serving(server(accept), app);
    // Listening follows the turn in which a shard was told to: the second answer comes after it.
    for shard in (0..usize::from(SHARDS)).chain(0..usize::from(SHARDS)) {
        node.ask(shard, |_| ());
    }
    node
}

/// Connections of each shard, of 64 that were opened by a few clients at once. All stay, and all are served.
fn spread(node: &Node) -> Vec<usize> {
    let addr = node.addr;
    let clients = (0..4).map(|_| {
        thread::spawn(move || {
            let mut all: Vec<Client> = (0..CONNECTIONS / 4).map(|_| Client::connect(addr)).collect();
            let places: Vec<usize> = all.iter_mut().map(shard_of).collect();
            (all, places)
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut counts = vec![0; usize::from(SHARDS)];
    let joined: Vec<_> = clients.into_iter().map(|client| client.join().unwrap()).collect();
    for (mut all, places) in joined {
        for (client, place) in all.iter_mut().zip(places) {
            assert_eq!(shard_of(client), place, "a connection stays on its shard");
            counts[place] += 1;
        }
    }
    counts
}

/// Busiest by idlest.
fn ratio(counts: &[usize]) -> f64 {
    let (most, least) = (*counts.iter().max().unwrap(), *counts.iter().min().unwrap());
    most as f64 / least as f64
}

#[test]
fn balanced_connections_are_spread_evenly_over_the_shards() {
    for _ in 0..10 {
        let node = node(Accept::Balanced);
        let counts = spread(&node);
        eprintln!("balanced: {counts:?}, {:.2}", ratio(&counts));
        assert_eq!(counts.iter().sum::<usize>(), CONNECTIONS);
        assert!(ratio(&counts) <= 1.5, "{counts:?}");
    }
}

#[test]
fn balanced_connections_stay_even_as_others_leave() {
    let node = node(Accept::Balanced);
    let mut all: Vec<(usize, Client)> = (0..CONNECTIONS)
        .map(|_| {
            let mut client = Client::connect(node.addr);
            (shard_of(&mut client), client)
        })
        .collect();
    // One shard loses all it has; what comes next goes there.
    all.retain(|(shard, _)| *shard != 2);
    let room = CONNECTIONS - all.len();
    common::until("they are let go", || common::sockets(node.addr) == all.len());
    let mut counts = vec![0; usize::from(SHARDS)];
    for _ in 0..room {
        let mut client = Client::connect(node.addr);
        all.push((shard_of(&mut client), client));
    }
    for (shard, _) in &all {
        counts[*shard] += 1;
    }
    assert!(ratio(&counts) <= 1.5, "{counts:?}");
}

#[test]
fn reuseport_serves_all_connections_wherever_the_hash_puts_them() {
    for _ in 0..3 {
        let node = node(Accept::Reuseport);
        let counts = spread(&node);
        eprintln!("reuseport: {counts:?}, {:.2}", ratio(&counts));
        assert_eq!(counts.iter().sum::<usize>(), CONNECTIONS);
    }
}
