//! Connections among shards on real rings: shares, limits, what cannot go, and drains in the middle.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod cluster;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use cluster::{Client, Cluster, Plan, small, until};
use corelane_base::Limits;
use corelane_net::Http1Config;
use corelane_sys::socket::{ListenOptions, UnixOptions, listen, listen_unix};
use corelane_uring::Features;

fn with_peers(limits: Limits, without: Features) -> Plan {
    let http = Http1Config { peers: true, ..Http1Config::default() };
    Plan { limits, without, http, descriptors: None, also: None }
}

/// Ways for a connection to get to another shard: by the ring, with and without the address, and by number.
fn ways() -> [Features; 4] {
    let old = Features::PEER_NAME.with(Features::MULTISHOT_ACCEPT);
    [Features::NONE, Features::PEER_NAME, Features::DIRECT, Features::DIRECT.with(old)]
}

#[test]
fn sixty_four_connections_to_one_shard_of_four_are_shared_evenly_and_all_served() {
    for without in ways() {
        let cluster = Cluster::new(4, small(), without);
        let mut clients: Vec<Client> = (0..64).map(|_| cluster.connect(0)).collect();
        let mut of_shard = [0; 4];
        for client in &mut clients {
            of_shard[client.shard()] += 1;
        }
        let (most, least) = (*of_shard.iter().max().unwrap(), *of_shard.iter().min().unwrap());
        eprintln!("without {without}: {of_shard:?}");
        assert!(f64::from(most) <= 1.5 * f64::from(least), "{of_shard:?}");
        assert_eq!(cluster.loads(), of_shard.map(|n| u32::try_from(n).unwrap()));
        let handed = cluster.nodes[0].stat("handed");
        assert_eq!(handed, cluster.sum("arrived"));
        assert_eq!(handed, 64 - u64::try_from(of_shard[0]).unwrap());
        // They stay where they are, and work.
        for client in &mut clients {
            let first = client.shard();
            assert_eq!(client.shard(), first);
        }
        drop(clients);
        until("all places are given back", || cluster.loads() == [0; 4]);
        cluster.end();
    }
}

#[test]
fn what_the_hash_of_a_group_spreads_badly_is_spread_well_in_the_end() {
    let first = listen(([127, 0, 0, 1], 0).into(), &ListenOptions::default()).unwrap();
    let addr = first.local_addr();
    let mut group = vec![first];
    group.extend((1..4).map(|_| listen(addr, &ListenOptions::default()).unwrap()));
    let group: Vec<_> = group.into_iter().map(|listener| Arc::new(OwnedFd::from(listener))).collect();
    let cluster = Cluster::with(4, |shard| Plan {
        limits: small(),
        without: Features::NONE,
        http: Http1Config::default(),
        descriptors: None,
        also: Some(Arc::clone(&group[shard])),
    });
    drop(group);
    let mut clients: Vec<Client> = (0..64).map(|_| Client::connect(addr)).collect();
    let mut of_shard = [0; 4];
    for client in &mut clients {
        of_shard[client.shard()] += 1;
    }
    let came: Vec<u64> = cluster.nodes.iter().map(|node| node.stat("accepted")).collect();
    eprintln!("came as {came:?}, served as {of_shard:?}");
    let (most, least) = (*of_shard.iter().max().unwrap(), *of_shard.iter().min().unwrap());
    assert!(f64::from(most) <= 1.5 * f64::from(least), "{of_shard:?}");
    drop(clients);
    cluster.end();
}

#[test]
fn connections_that_come_evenly_stay_where_they_come() {
    let cluster = Cluster::new(2, small(), Features::NONE);
    let mut clients = Vec::new();
    for round in 0..40 {
        let mut client = cluster.connect(round % 2);
        assert_eq!(client.shard(), round % 2);
        clients.push(client);
    }
    assert_eq!(cluster.sum("handed"), 0);
    drop(clients);
    cluster.end();
}

#[test]
fn a_peer_keeps_its_name_on_the_way() {
    for without in ways() {
        let cluster = Cluster::with(3, |_| with_peers(small(), without));
        let mut clients: Vec<Client> = (0..30).map(|_| cluster.connect(0)).collect();
        for client in &mut clients {
            let own = client.stream.local_addr().unwrap();
            assert_eq!(client.get("/peer"), format!("Some({own})"), "without {without}");
        }
        assert!(cluster.sum("arrived") >= 18, "without {without}");
        drop(clients);
        cluster.end();
    }
}

#[test]
fn the_limit_of_a_peer_holds_on_the_shard_that_has_it() {
    for without in ways() {
        let limits = Limits { connections_per_peer_max: 5, ..small() };
        let cluster = Cluster::with(2, |_| with_peers(limits.clone(), without));
        let mut clients: Vec<Client> = (0..20).map(|_| cluster.connect(0)).collect();
        let served = clients.iter_mut().map(|client| {
            client.stream.set_nodelay(true).unwrap();
            std::io::Write::write_all(&mut client.stream, b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").is_ok()
                && client.answer().is_some()
        });
        let served = served.filter(|&served| served).count();
        assert!((5..=10).contains(&served), "{served} with 5 on each of two shards");
        assert_eq!(cluster.sum("refused_per_peer"), 20 - served as u64, "without {without}");
        drop(clients);
        cluster.end();
    }
}

#[test]
fn rings_that_cannot_give_keep_what_they_accept() {
    let cluster = Cluster::new(2, small(), Features::MSG_RING);
    let mut clients: Vec<Client> = (0..10).map(|_| cluster.connect(0)).collect();
    for client in &mut clients {
        assert_eq!(client.shard(), 0);
    }
    assert_eq!(cluster.loads(), [10, 0]);
    drop(clients);
    cluster.end();
}

#[test]
fn the_queue_of_a_full_shard_is_served_by_those_that_have_room() {
    for without in ways() {
        let limits = Limits { connections_max: 8, descriptors_headroom: 64, ..small() };
        let cluster = Cluster::new(2, limits, without);
        let mut clients: Vec<Client> = (0..16).map(|_| cluster.connect(0)).collect();
        for client in &mut clients {
            client.shard();
        }
        assert_eq!(cluster.loads(), [8, 8], "without {without}");
        // All are full. Who had an accept under way may let some in beyond the limit; the rest waits.
        let mut more: Vec<Client> = (0..30).map(|_| cluster.connect(0)).collect();
        for client in &mut more {
            client.send("/");
        }
        std::thread::sleep(Duration::from_millis(150));
        let waiting = more.iter_mut().filter_map(|client| client.waits().then_some(())).count();
        assert!(waiting >= 14, "{waiting} of 30 wait");
        // Room on the other shard only: what waits here goes there.
        clients.retain_mut(|client| client.shard() == 0);
        for client in &mut more {
            assert!(client.answer().is_some(), "without {without}: {:?}", cluster.loads());
            // Each makes room for the next.
            client.stream.shutdown(std::net::Shutdown::Both).unwrap();
        }
        assert!(clients.iter_mut().all(|client| client.shard() == 0));
        assert_eq!(cluster.sum("refused_full"), 0);
        drop((clients, more));
        cluster.end();
    }
}

#[test]
fn room_on_one_shard_wakes_a_shard_that_sleeps_with_a_queue() {
    let limits = Limits { connections_max: 4, ..small() };
    let cluster = Cluster::new(2, limits, Features::NONE);
    let mut clients: Vec<Client> = (0..8).map(|_| cluster.connect(0)).collect();
    let there: Vec<usize> = clients.iter_mut().map(Client::shard).collect();
    // Shard 0 pauses with this one or one later in its queue.
    let mut late: Vec<Client> = (0..10).map(|_| cluster.connect(0)).collect();
    for client in &mut late {
        client.send("/");
    }
    std::thread::sleep(Duration::from_millis(200));
    let before = cluster.nodes[0].stat("closed");
    for (client, _) in clients.iter().zip(&there).filter(|(_, shard)| **shard == 1) {
        client.stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
    // Four places are free.
    let served =
        |late: &mut [Client]| late.iter_mut().filter_map(|client| (!client.waits()).then_some(())).count();
    until("four of those that wait are served", || served(&mut late) >= 4);
    for client in &mut late {
        if !client.waits() {
            assert!(client.answer().is_some());
        }
    }
    assert_eq!(cluster.nodes[0].stat("closed"), before, "nothing of its own ended");
    drop((clients, late));
    cluster.end();
}

#[test]
fn what_finds_no_descriptor_at_the_other_shard_stays_and_is_served() {
    let cluster = Cluster::with(2, |shard| Plan {
        limits: small(),
        without: Features::NONE,
        http: Http1Config::default(),
        descriptors: (shard == 1).then_some(6),
        also: None,
    });
    let mut clients: Vec<Client> = (0..40).map(|_| cluster.connect(0)).collect();
    let mut of_shard = [0; 2];
    for client in &mut clients {
        of_shard[client.shard()] += 1;
    }
    eprintln!("{of_shard:?}");
    assert_eq!(of_shard, [34, 6]);
    assert_eq!(cluster.loads(), [34, 6]);
    let failed = cluster.nodes[0].stat("hand_failed");
    assert!(failed >= 8, "{failed}");
    drop(clients);
    cluster.end();
}

#[test]
fn a_shard_whose_descriptors_are_gone_does_not_make_a_full_one_accept_without_end() {
    let cluster = Cluster::with(2, |shard| Plan {
        limits: Limits { connections_max: 20, descriptors_headroom: 40, ..small() },
        without: Features::NONE,
        http: Http1Config::default(),
        descriptors: (shard == 1).then_some(4),
        also: None,
    });
    // 24 fit, 40 more have descriptors at shard 0; the rest must wait, not be lost.
    let mut clients: Vec<Client> = (0..100).map(|_| cluster.connect(0)).collect();
    for client in &mut clients {
        client.send("/");
    }
    until("the table is full", || cluster.nodes[0].connections() >= 20);
    std::thread::sleep(Duration::from_millis(500));
    let taken = cluster.nodes[0].connections();
    assert!((20..=30).contains(&taken), "{taken} of 20");
    for client in &mut clients {
        assert!(client.answer().is_some(), "{:?}", cluster.loads());
        client.stream.shutdown(std::net::Shutdown::Both).unwrap();
    }
    assert_eq!(cluster.sum("refused_full") + cluster.sum("accept_errors"), 0);
    drop(clients);
    cluster.end();
}

#[test]
fn one_unix_socket_feeds_all_shards() {
    use std::io::{Read, Write};
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.sock");
    for without in ways() {
        let (fd, mut file) = {
            let (mut fds, file) = listen_unix(&path, &UnixOptions::default()).unwrap().share(1).unwrap();
            (Arc::new(fds.pop().unwrap()), file)
        };
        let cluster = Cluster::with(3, |_| {
            let mut plan = with_peers(small(), without);
            plan.also = Some(Arc::clone(&fd));
            plan
        });
        drop(fd);
        let mut clients = Vec::new();
        for _ in 0..30 {
            let mut client = std::os::unix::net::UnixStream::connect(&path).unwrap();
            client.set_read_timeout(Some(cluster::PATIENCE)).unwrap();
            client.write_all(b"GET /peer HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
            let mut bytes = [0; 1024];
            let n = client.read(&mut bytes).unwrap();
            let text = String::from_utf8_lossy(&bytes[..n]);
            assert!(text.ends_with("None"), "a Unix socket has no address: {text}");
            clients.push(client);
        }
        let loads = cluster.loads();
        assert!(loads.iter().all(|&n| (8..=12).contains(&n)), "{loads:?}");
        file.remove();
        drop(clients);
        cluster.end();
    }
}

#[test]
fn an_upgraded_connection_keeps_its_place_until_it_is_closed_and_no_drain_waits_for_it() {
    use std::io::{Read, Write};
    let mut cluster = Cluster::new(2, small(), Features::NONE);
    let mut clients: Vec<Client> = (0..8).map(|_| cluster.connect(0)).collect();
    for client in &mut clients {
        let request = b"GET /upgrade HTTP/1.1\r\nHost: t\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
        client.stream.write_all(request).unwrap();
        let mut head = [0; 256];
        let n = client.stream.read(&mut head).unwrap();
        assert!(head[..n].starts_with(b"HTTP/1.1 101 "));
    }
    until("they are no HTTP connections", || cluster.nodes.iter().all(|node| node.connections() == 0));
    assert_eq!(cluster.loads(), [4, 4]);
    let more = cluster.connect(0);
    until("it is shared out as before", || cluster.loads().iter().sum::<u32>() == 9);
    drop(more);
    clients.truncate(5);
    until("places are given back", || cluster.loads().iter().sum::<u32>() == 5);
    // Whoever ends the shard waits for streams, up to its own deadline; connections do not.
    let node = cluster.nodes.pop().unwrap();
    node.drain();
    node.join();
    drop(clients);
    until("nothing is left", || cluster.loads() == [0]);
    cluster.end();
}

#[test]
fn a_drain_in_the_middle_of_hand_overs_loses_no_connection() {
    for without in [Features::NONE, Features::DIRECT] {
        let mut cluster = Cluster::new(4, small(), without);
        let addr = cluster.nodes[0].addr;
        let stop = Arc::new(AtomicBool::new(false));
        let served = Arc::new(AtomicU64::new(0));
        let clients: Vec<_> = (0..3)
            .map(|_| {
                let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
                std::thread::spawn(move || {
                    let mut kept = std::collections::VecDeque::new();
                    while !stop.load(Ordering::Relaxed) {
                        let mut client = Client::connect(addr);
                        client.send("/");
                        assert!(client.answer().is_some(), "accepted and not served");
                        served.fetch_add(1, Ordering::Relaxed);
                        kept.push_back(client);
                        if kept.len() > 20 {
                            kept.pop_front();
                        }
                    }
                })
            })
            .collect();
        // One after the other, shards 3, 2 and 1 go while shard 0 gives them connections.
        for _ in 0..3 {
            let so_far = served.load(Ordering::Relaxed);
            until("connections come", || served.load(Ordering::Relaxed) > so_far + 150);
            let node = cluster.nodes.pop().unwrap();
            assert!(node.stat("arrived") > 0);
            node.drain();
            node.join();
        }
        let so_far = served.load(Ordering::Relaxed);
        until("connections still come", || served.load(Ordering::Relaxed) > so_far + 50);
        stop.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().unwrap();
        }
        assert_eq!((1..4).map(|shard| cluster.balance.assigned(shard)).sum::<u32>(), 0);
        cluster.end();
    }
}

/// A shard with nothing to do drains at once; what was promised to it before must still find it there.
#[test]
fn an_idle_shard_that_drains_waits_for_what_is_on_its_way() {
    let limits = Limits { drain_idle: Duration::from_millis(5), ..small() };
    let mut went = 0;
    for round in 0..100_u64 {
        let without = if round % 2 == 0 { Features::NONE } else { Features::DIRECT };
        let mut cluster = Cluster::new(2, limits.clone(), without);
        let mut first = cluster.connect(0);
        assert_eq!(first.shard(), 0);
        let addr = cluster.nodes[0].addr;
        let client = std::thread::spawn(move || {
            let mut client = Client::connect(addr);
            client.send("/");
            client.answer()
        });
        std::thread::sleep(Duration::from_micros(round % 50 * 4));
        let idle = cluster.nodes.pop().unwrap();
        idle.drain();
        idle.join();
        let answer = client.join().unwrap().expect("lost");
        went += u32::from(answer == "shard 1");
        drop(first);
        cluster.end();
    }
    eprintln!("{went} of 100 went to the shard that drained");
}

#[test]
fn all_shards_drain_at_once_with_connections_on_their_way() {
    for round in 0..12_u64 {
        let cluster = Cluster::new(3, small(), Features::NONE);
        let mut clients: Vec<Client> = (0..60).map(|_| cluster.connect(0)).collect();
        std::thread::sleep(Duration::from_micros(round * 150));
        for node in &cluster.nodes {
            node.drain();
        }
        // Connected before the drain began: each is served, wherever it was at that moment.
        for client in &mut clients {
            client.send("/");
        }
        for client in &mut clients {
            assert!(client.answer().is_some());
        }
        cluster.end();
    }
}
