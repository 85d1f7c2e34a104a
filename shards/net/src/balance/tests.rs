//! Shares, places and rings among seats, without a shard behind them.

#![allow(clippy::unwrap_used)]

use super::*;

/// Counts how often it was rung.
#[derive(Debug, Default)]
struct Bell(AtomicU32);

impl Unpark for Bell {
    fn unpark(&self) {
        self.0.fetch_add(1, SeqCst);
    }
}

fn group(shards: usize, room: u32) -> (Arc<Balance>, Vec<Arc<Bell>>) {
    let balance = Balance::new(shards);
    let bells: Vec<Arc<Bell>> = (0..shards).map(|_| Arc::default()).collect();
    for (shard, bell) in bells.iter().enumerate() {
        let unpark = Arc::clone(bell) as Arc<dyn Unpark>;
        balance.open(shard, room, || Door { unpark, arrival: Token::new(1, 1, 0, 0) });
    }
    (balance, bells)
}

fn loads(balance: &Balance) -> Vec<u32> {
    (0..balance.seats.len()).map(|shard| balance.assigned(shard)).collect()
}

#[test]
fn connections_that_all_come_to_one_shard_are_spread_evenly() {
    let (balance, _) = group(4, 1_000);
    for _ in 0..64 {
        balance.assign(0);
    }
    let loads = loads(&balance);
    let (most, least) = (loads.iter().max().unwrap(), loads.iter().min().unwrap());
    assert_eq!(loads.iter().sum::<u32>(), 64);
    assert!(most - least <= 2, "{loads:?}");
}

#[test]
fn equal_loads_stay_at_home() {
    let (balance, _) = group(4, 1_000);
    for _ in 0..100 {
        for shard in 0..4 {
            assert_eq!(balance.assign(shard), shard);
        }
    }
}

#[test]
fn a_shard_may_be_an_eighth_above_the_least_loaded_and_no_more() {
    let (balance, _) = group(2, 10_000);
    for _ in 0..80 {
        balance.count(0);
        balance.count(1);
    }
    for _ in 0..10 {
        assert_eq!(balance.assign(0), 0);
    }
    assert_eq!(balance.assign(0), 1, "90 against 80");
    assert_eq!(loads(&balance), [90, 81]);
}

#[test]
fn a_full_shard_gives_away_what_equal_shares_would_keep_and_keeps_what_nobody_takes() {
    let (balance, _) = group(2, 3);
    for _ in 0..3 {
        balance.count(0);
    }
    balance.count(1);
    balance.count(1);
    assert_eq!(balance.assign(0), 1, "3 of 3 here, 2 of 3 there");
    assert_eq!(balance.assign(0), 0, "nobody has room: the caller sees to it");
    assert_eq!(loads(&balance), [4, 3]);
}

#[test]
fn a_shard_that_does_not_listen_yet_or_drains_is_given_nothing() {
    let balance = Balance::new(3);
    for _ in 0..5 {
        assert_eq!(balance.assign(1), 1);
    }
    let (balance, _) = group(3, 100);
    balance.close(0);
    balance.close(2);
    assert!(!balance.is_open(0));
    for _ in 0..5 {
        assert_eq!(balance.assign(1), 1);
    }
}

#[test]
fn what_does_not_come_to_a_draining_shard_rings_it() {
    let (balance, bells) = group(2, 100);
    balance.count(0);
    assert_eq!(balance.assign(0), 1);
    balance.close(1);
    balance.give_back(1);
    assert_eq!((balance.assigned(1), bells[1].0.load(SeqCst)), (0, 1));
    balance.count(0);
    balance.give_back(0);
    assert_eq!(bells[0].0.load(SeqCst), 0, "it does not drain");
}

#[test]
fn a_full_group_pauses_and_is_rung_once_when_one_has_room_again() {
    let (balance, bells) = group(3, 128);
    for shard in 0..3 {
        for _ in 0..128 {
            balance.count(shard);
        }
        assert_eq!(balance.pause(shard), shard == 2, "until then somebody has room");
    }
    assert!(balance.pause(0));
    assert!(balance.pause(1));
    balance.leave(1);
    assert!(balance.is_paused(0), "one place of 128 is not worth it");
    balance.leave(1);
    let rung = || bells.iter().map(|bell| bell.0.load(SeqCst)).collect::<Vec<_>>();
    assert_eq!(rung(), [1, 1, 1]);
    assert!((0..3).all(|shard| !balance.is_paused(shard)));
    balance.leave(1);
    assert_eq!(rung(), [1, 1, 1], "nobody waits any more");
    assert!(!balance.pause(0), "shard 1 has room");
}

#[test]
fn an_address_travels_in_a_letter_and_the_letter_is_used_again() {
    let (balance, _) = group(2, 100);
    for text in ["1.2.3.4:5", "[2001:db8::7]:65535", "[fe80::1%3]:80", "0.0.0.0:0"] {
        let peer: SocketAddr = text.parse().unwrap();
        let at = balance.write(1, peer).unwrap();
        assert_eq!(at, 0, "the first is free again");
        assert_eq!(balance.read(1, at), Some(peer));
        assert_eq!(balance.read(1, at), None);
    }
    let peer: SocketAddr = "1.2.3.4:5".parse().unwrap();
    for at in 0..64 {
        assert_eq!(balance.write(0, peer), Some(at));
    }
    assert_eq!(balance.write(0, peer), None, "all are out");
    assert_eq!(balance.read(0, 40), Some(peer));
    assert_eq!(balance.write(0, peer), Some(40));
    assert_eq!(balance.mail(1, None), 0);
    assert_eq!(balance.open_mail(0), None);
    let at = balance.write(1, peer);
    assert_eq!(balance.open_mail(balance.mail(1, at)), Some(peer));
    assert_eq!(balance.read(9, 0), None);
    assert_eq!(balance.read(0, 64), None);
}

#[test]
fn a_door_takes_so_many_and_then_refuses() {
    let (balance, bells) = group(2, 1_000);
    let arrival = |number| Arrival { sock: Sock(number), peer: None };
    for number in 0..256 {
        assert!(balance.post(1, arrival(number)));
    }
    assert!(!balance.post(1, arrival(256)));
    assert_eq!(bells[1].0.load(SeqCst), 256);
    assert_eq!(balance.take(1).map(|a| a.sock), Some(Sock(0)));
    assert!(balance.take(0).is_none());
}

/// Many threads that assign, close and drain at once: no place is counted twice or lost, and no shard takes
/// more than it has room for from others.
#[test]
fn places_are_counted_exactly_whoever_takes_them_at_the_same_time() {
    const ROOM: u32 = 50;
    let (balance, _) = group(4, ROOM);
    let threads: Vec<_> = (0..4)
        .map(|here| {
            let balance = Arc::clone(&balance);
            std::thread::spawn(move || {
                let mut owners = Vec::new();
                for round in 0..20_000_u32 {
                    let to = balance.assign(here);
                    if to != here {
                        assert!(balance.assigned(to) <= ROOM + 8, "places of others are taken, not assumed");
                    }
                    owners.push(to);
                    if owners.len() > 30 || round % 3 == 0 {
                        let owner = owners.swap_remove(round as usize % owners.len());
                        balance.leave(owner);
                    }
                }
                for owner in owners {
                    balance.leave(owner);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(loads(&balance), [0, 0, 0, 0]);
}
