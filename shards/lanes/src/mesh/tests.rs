//! Tests of the mesh: credits, budgets, turns of the sources, and who is rung how often.
#![allow(clippy::disallowed_methods, reason = "the run on threads has a deadline")]
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::thread::Thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

type Mesh = Vec<Port<u32, u32>>;

fn mesh_of(shards: usize, credits: u32) -> Mesh {
    mesh(&MeshConfig { shards, credits })
}

/// What one `take` gave.
#[derive(Debug, Default, Eq, PartialEq)]
struct Taken {
    requests: Vec<(usize, u32)>,
    responses: Vec<(usize, u32)>,
    left: bool,
}

fn take(port: &mut Port<u32, u32>, budget: usize) -> Taken {
    let mut taken = Taken::default();
    taken.left = port.take(budget, &mut taken.requests, &mut taken.responses);
    taken
}

fn nobody_sleeps(shard: usize) {
    panic!("shard {shard} is rung though it does not sleep");
}

#[test]
fn a_request_and_its_response_arrive_when_published_and_not_before() {
    let mut mesh = mesh_of(2, 4);
    mesh[0].request(1, 7).unwrap();
    assert!(mesh[0].has_unpublished());
    assert_eq!(take(&mut mesh[1], 10), Taken::default());
    assert!(mesh[1].is_quiet());
    mesh[0].publish(nobody_sleeps);
    assert!(!mesh[0].has_unpublished());
    assert!(!mesh[1].is_quiet());
    assert_eq!(take(&mut mesh[1], 10), Taken { requests: vec![(0, 7)], ..Taken::default() });
    mesh[1].respond(0, 8);
    assert_eq!(take(&mut mesh[0], 10), Taken::default());
    mesh[1].publish(nobody_sleeps);
    assert_eq!(take(&mut mesh[0], 0), Taken { responses: vec![(1, 8)], ..Taken::default() });
    assert!(mesh.iter().all(Port::is_quiet));
}

#[test]
fn a_credit_is_spent_by_a_request_and_comes_back_with_the_response() {
    let mut mesh = mesh_of(3, 2);
    mesh[0].request(1, 1).unwrap();
    mesh[0].request(1, 2).unwrap();
    assert_eq!((mesh[0].credits(1), mesh[0].credits(2)), (0, 2));
    assert_eq!(mesh[0].request(1, 3), Err(3));
    mesh[0].publish(nobody_sleeps);
    assert_eq!(take(&mut mesh[1], 10).requests, [(0, 1), (0, 2)]);
    assert_eq!(mesh[0].request(1, 3), Err(3), "taken is not answered");
    mesh[1].respond(0, 1);
    mesh[1].publish(nobody_sleeps);
    assert_eq!(mesh[0].request(1, 3), Err(3), "answered is not taken");
    assert_eq!(take(&mut mesh[0], 10).responses, [(1, 1)]);
    assert_eq!(mesh[0].credits(1), 1);
    mesh[0].request(1, 3).unwrap();
    assert_eq!(mesh[0].credits(1), 0);
}

/// Sends `requests` from one shard to another, and publishes.
fn send(mesh: &mut Mesh, from: usize, to: usize, requests: impl IntoIterator<Item = u32>) {
    for request in requests {
        mesh[from].request(to, request).unwrap();
    }
    mesh[from].publish(nobody_sleeps);
}

#[test]
fn a_response_lane_is_never_full_with_any_number_of_credits() {
    for credits in 1..=9 {
        let mut mesh = mesh_of(2, credits);
        for _ in 0..3 {
            send(&mut mesh, 0, 1, 0..credits);
            assert_eq!(mesh[0].request(1, 9), Err(9));
            assert_eq!(take(&mut mesh[1], 100).requests.len(), credits as usize);
            // All answers wait in the lane at once, and so do as many requests of the other way.
            (0..credits).for_each(|response| mesh[1].respond(0, response));
            send(&mut mesh, 1, 0, 0..credits);
            let taken = take(&mut mesh[0], 100);
            assert_eq!((taken.requests.len(), taken.responses.len()), (credits as usize, credits as usize));
            assert_eq!(mesh[0].credits(1), credits);
            (0..credits).for_each(|response| mesh[0].respond(1, response));
            mesh[0].publish(nobody_sleeps);
            assert_eq!(take(&mut mesh[1], 0).responses.len(), credits as usize);
        }
    }
}

#[test]
#[should_panic(expected = "every request taken from shard 0 has its response")]
fn a_request_is_answered_once() {
    let mut mesh = mesh_of(2, 4);
    send(&mut mesh, 0, 1, [1]);
    take(&mut mesh[1], 1);
    mesh[1].respond(0, 1);
    mesh[1].respond(0, 1);
}

#[test]
fn responses_are_taken_without_a_budget_and_do_not_wait_for_requests() {
    let mut mesh = mesh_of(2, 8);
    send(&mut mesh, 0, 1, 0..3);
    take(&mut mesh[1], 3);
    send(&mut mesh, 1, 0, 10..18);
    (0..3).for_each(|response| mesh[1].respond(0, response));
    mesh[1].publish(nobody_sleeps);
    let taken = take(&mut mesh[0], 2);
    assert_eq!(taken.responses, [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(taken.requests, [(1, 10), (1, 11)]);
    assert!(taken.left);
}

#[test]
fn what_a_budget_left_is_taken_next_without_another_knock() {
    let mut mesh = mesh_of(3, 8);
    send(&mut mesh, 1, 0, 0..5);
    let first = take(&mut mesh[0], 3);
    assert_eq!((first.requests.len(), first.left), (3, true));
    assert!(!mesh[0].door().is_dirty(), "nobody knocked since");
    mesh[0].door().announce_sleep();
    assert!(!mesh[0].is_quiet(), "but it must not sleep");
    mesh[0].door().awake();
    assert_eq!(take(&mut mesh[0], 0), Taken { left: true, ..Taken::default() });
    let rest = take(&mut mesh[0], 3);
    assert_eq!((rest.requests, rest.left), (vec![(1, 3), (1, 4)], false));
    assert!(mesh[0].is_quiet());
}

#[test]
fn a_budget_that_fits_exactly_leaves_nothing() {
    let mut mesh = mesh_of(3, 8);
    send(&mut mesh, 1, 0, 0..4);
    send(&mut mesh, 2, 0, 0..2);
    assert!(take(&mut mesh[0], 5).left);
    let rest = take(&mut mesh[0], 1);
    assert_eq!((rest.requests.len(), rest.left), (1, false));
}

#[test]
fn a_budget_is_shared_evenly_and_what_some_do_not_need_goes_to_the_others() {
    let mut mesh = mesh_of(4, 100);
    send(&mut mesh, 1, 0, 0..100);
    send(&mut mesh, 2, 0, 0..2);
    send(&mut mesh, 3, 0, 0..100);
    let taken = take(&mut mesh[0], 30).requests;
    let of = |source| taken.iter().filter(|(from, _)| *from == source).count();
    assert_eq!((of(1), of(2), of(3)), (10, 2, 18));
}

#[test]
fn no_source_starves_however_small_the_budget() {
    let mut mesh = mesh_of(4, 4);
    for from in 1..4 {
        send(&mut mesh, from, 0, 0..4);
    }
    let mut order = Vec::new();
    for _ in 0..8 {
        let requests = take(&mut mesh[0], 1).requests;
        assert_eq!(requests.len(), 1);
        let from = requests[0].0;
        order.push(from);
        // Whoever was served sends the next at once.
        mesh[0].respond(from, 0);
        mesh[0].publish(nobody_sleeps);
        take(&mut mesh[from], 0);
        send(&mut mesh, from, 0, [9]);
    }
    assert_eq!(order, [1, 2, 3, 1, 2, 3, 1, 2]);
}

#[test]
fn turns_go_round_over_more_sources_than_a_word_has() {
    let mut mesh = mesh_of(131, 1);
    for from in 1..131 {
        send(&mut mesh, from, 0, [7]);
    }
    let mut order = Vec::new();
    while take(&mut mesh[0], 0).left {
        order.extend(take(&mut mesh[0], 3).requests.into_iter().map(|(from, _)| from));
    }
    assert_eq!(order, (1..131).collect::<Vec<_>>());
    // Where it stopped is where it goes on, around the end.
    for from in order {
        mesh[0].respond(from, 0);
    }
    mesh[0].publish(nobody_sleeps);
    for from in [5, 64, 127, 128] {
        take(&mut mesh[from], 0);
        send(&mut mesh, from, 0, [8]);
    }
    mesh[0].next = 65;
    let order: Vec<_> = take(&mut mesh[0], 4).requests.into_iter().map(|(from, _)| from).collect();
    assert_eq!(order, [127, 128, 5, 64]);
}

#[test]
fn a_sleeper_is_rung_once_for_all_that_is_sent_to_it() {
    let mut mesh = mesh_of(3, 4);
    let mut rung = Vec::new();
    send(&mut mesh, 1, 0, [0]);
    take(&mut mesh[0], 1);
    mesh[0].door().announce_sleep();
    assert!(mesh[0].is_quiet());
    mesh[2].request(0, 1).unwrap();
    mesh[2].request(0, 2).unwrap();
    mesh[2].request(1, 3).unwrap();
    mesh[2].publish(|shard| rung.push(shard));
    assert_eq!(rung, [0], "once for two requests, and only who sleeps");
    send(&mut mesh, 1, 0, [4]);
    mesh[0].door().awake();
    assert_eq!(take(&mut mesh[0], 10).requests, [(2, 1), (2, 2), (1, 4)], "it is the turn of shard 2");
    mesh[1].door().announce_sleep();
    assert!(!mesh[1].is_quiet(), "there is a request from shard 2");
    mesh[1].door().awake();
    assert_eq!(take(&mut mesh[1], 10).requests, [(2, 3)]);
    mesh[1].door().announce_sleep();
    assert!(mesh[1].is_quiet());
    mesh[0].respond(1, 5);
    mesh[0].request(1, 6).unwrap();
    mesh[0].publish(|shard| rung.push(shard));
    assert_eq!(rung, [0, 1], "once for a request and a response");
    mesh[0].publish(nobody_sleeps);
}

#[test]
fn a_port_knows_its_place_and_the_depth_of_its_lanes() {
    let mut mesh = mesh_of(3, 4);
    assert!((0..3).all(|shard| mesh[shard].here() == shard));
    assert!(mesh.iter().all(|port| port.shards() == 3));
    assert!((0..3).all(|at| (0..3).all(|of| Arc::ptr_eq(mesh[at].door_of(of), mesh[of].door()))));
    mesh[0].request(1, 1).unwrap();
    mesh[0].request(1, 2).unwrap();
    assert_eq!((mesh[0].depth_out(1), mesh[1].depth_in(0)), (2, 0));
    mesh[0].publish(nobody_sleeps);
    assert_eq!((mesh[0].depth_out(1), mesh[1].depth_in(0), mesh[1].depth_in(2)), (2, 2, 0));
    take(&mut mesh[1], 1);
    assert_eq!((mesh[0].depth_out(1), mesh[1].depth_in(0)), (1, 1));
}

#[test]
fn a_mesh_of_one_shard_is_quiet_and_takes_nothing() {
    let mut mesh = mesh_of(1, 1);
    assert_eq!(take(&mut mesh[0], 10), Taken::default());
    mesh[0].publish(nobody_sleeps);
    mesh[0].door().announce_sleep();
    assert!(mesh[0].is_quiet());
    assert!(mesh[0].door().must_ring());
}

#[test]
#[should_panic(expected = "shard 1 has no lane to itself")]
fn a_shard_sends_nothing_to_itself() {
    let _ = mesh_of(2, 1)[1].request(1, 0);
}

#[test]
#[should_panic(expected = "1 to 1024 shards, not 1025")]
fn a_mesh_beyond_the_maximum_is_refused() {
    mesh_of(SHARDS_MAX + 1, 1);
}

#[test]
#[should_panic(expected = "without credits")]
fn a_mesh_without_credits_is_refused() {
    mesh_of(2, 0);
}

#[test]
fn what_is_on_its_way_is_dropped_with_the_last_port_that_knows_it() {
    let value = std::sync::Arc::new(());
    let mut mesh: Vec<Port<_, _>> = mesh(&MeshConfig { shards: 2, credits: 2 });
    mesh[0].request(1, std::sync::Arc::clone(&value)).unwrap();
    mesh[0].publish(nobody_sleeps);
    let (mut requests, mut responses) = (Vec::new(), Vec::new());
    mesh[1].take(9, &mut requests, &mut responses);
    mesh[1].respond(0, std::sync::Arc::clone(&value));
    mesh[1].publish(nobody_sleeps);
    mesh[0].request(1, std::sync::Arc::clone(&value)).unwrap();
    requests.clear();
    assert_eq!(std::sync::Arc::strong_count(&value), 3);
    mesh.pop();
    mesh.pop();
    assert_eq!(std::sync::Arc::strong_count(&value), 1);
}

/// What a shard of the model does next.
#[derive(Clone, Copy, Debug)]
enum Op {
    Request { from: usize, to: usize },
    Respond { at: usize },
    Publish { at: usize },
    Take { at: usize, budget: usize },
    Sleep { at: usize },
}

fn any_op(shards: usize) -> impl Strategy<Value = Op> {
    let at = 0..shards;
    prop_oneof![
        6 => (at.clone(), 1..shards).prop_map(move |(from, by)| Op::Request { from, to: (from + by) % shards }),
        4 => at.clone().prop_map(|at| Op::Respond { at }),
        4 => at.clone().prop_map(|at| Op::Publish { at }),
        4 => (at.clone(), 0_usize..8).prop_map(|(at, budget)| Op::Take { at, budget }),
        1 => at.prop_map(|at| Op::Sleep { at }),
    ]
}

/// A lane of the model: the first `published` can be taken.
#[derive(Clone, Default)]
struct Queue {
    values: VecDeque<u32>,
    published: usize,
}

impl Queue {
    fn publish(&mut self) -> bool {
        let new = self.published < self.values.len();
        self.published = self.values.len();
        new
    }

    fn take(&mut self, max: usize) -> Vec<u32> {
        let count = self.published.min(max);
        self.published -= count;
        self.values.drain(..count).collect()
    }
}

/// One way between two shards, as the model has it.
#[derive(Clone, Default)]
struct Way {
    requests: Queue,
    responses: Queue,
    /// Requests without a response that was taken, by the sender.
    open: usize,
    /// Requests taken and not answered, by the receiver.
    owed: VecDeque<u32>,
}

fn of_source<T: Copy>(taken: &[(usize, T)], source: usize) -> Vec<T> {
    taken.iter().filter(|(from, _)| *from == source).map(|(_, value)| *value).collect()
}

/// Does `ops` to a mesh and to queues of numbers, and compares. A request is a number, and so is its response.
fn compare(shards: usize, credits: u32, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut mesh = mesh_of(shards, credits);
    let max = credits as usize;
    // By sender, then receiver.
    let mut ways = vec![vec![Way::default(); shards]; shards];
    let mut asleep = vec![false; shards];
    for (number, op) in (0..).zip(ops) {
        match *op {
            Op::Request { from, to } => {
                let way = &mut ways[from][to];
                let expected = if way.open < max { Ok(()) } else { Err(number) };
                prop_assert_eq!(mesh[from].request(to, number), expected);
                if expected.is_ok() {
                    way.open += 1;
                    way.requests.values.push_back(number);
                }
            }
            Op::Respond { at } => {
                let Some(to) = (0..shards).find(|to| !ways[*to][at].owed.is_empty()) else { continue };
                let Some(response) = ways[to][at].owed.pop_front() else { continue };
                mesh[at].respond(to, response);
                ways[at][to].responses.values.push_back(response);
            }
            Op::Publish { at } => {
                let mut expected = Vec::new();
                for to in 0..shards {
                    let way = &mut ways[at][to];
                    if way.requests.publish() | way.responses.publish() && std::mem::take(&mut asleep[to]) {
                        expected.push(to);
                    }
                }
                let mut rung = Vec::new();
                mesh[at].publish(|shard| rung.push(shard));
                rung.sort_unstable();
                prop_assert_eq!(rung, expected);
                prop_assert!(!mesh[at].has_unpublished());
            }
            Op::Take { at, budget } => {
                mesh[at].door().awake();
                asleep[at] = false;
                let taken = take(&mut mesh[at], budget);
                let there: Vec<usize> = (0..shards).map(|from| ways[from][at].requests.published).collect();
                let total = there.iter().sum::<usize>();
                prop_assert_eq!(taken.requests.len(), total.min(budget));
                prop_assert_eq!(taken.left, total > budget);
                let sources = there.iter().filter(|count| **count > 0).count().max(1);
                for from in 0..shards {
                    let requests = of_source(&taken.requests, from);
                    prop_assert!(requests.len() >= there[from].min(budget / sources), "its share");
                    prop_assert_eq!(&ways[from][at].requests.take(requests.len()), &requests);
                    ways[from][at].owed.extend(requests);
                    let responses = of_source(&taken.responses, from);
                    prop_assert_eq!(&ways[from][at].responses.take(usize::MAX), &responses);
                    ways[at][from].open -= responses.len();
                }
            }
            Op::Sleep { at } => {
                mesh[at].door().announce_sleep();
                let from_any = |from: usize| &ways[from][at];
                let waits = |way: &Way| way.requests.published + way.responses.published > 0;
                let quiet = !(0..shards).map(from_any).any(waits);
                if quiet {
                    prop_assert!(mesh[at].is_quiet());
                }
                // A knock whose messages are taken already may keep it awake once, never the other way round.
                asleep[at] = mesh[at].is_quiet();
                prop_assert!(quiet || !asleep[at]);
                if !asleep[at] {
                    mesh[at].door().awake();
                }
            }
        }
        for (from, port) in mesh.iter().enumerate() {
            for to in (0..shards).filter(|to| *to != from) {
                let way = &ways[from][to];
                prop_assert_eq!(port.credits(to) as usize, max - way.open);
                prop_assert_eq!(port.depth_out(to), way.requests.values.len());
                prop_assert_eq!(mesh[to].depth_in(from), way.requests.published);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_mesh_is_queues_with_credits_whatever_the_shards_do(
        credits in 1_u32..5,
        (shards, ops) in (2_usize..5).prop_flat_map(|n| (Just(n), prop::collection::vec(any_op(n), 0..300))),
    ) {
        compare(shards, credits, &ops)?;
    }
}

/// Requests of each shard to each other in the run on threads.
const CALLS: u32 = 5_000;

/// One shard of that run: asks all others, answers them, and sleeps when there is nothing to do. Returns how
/// often it slept.
fn call_everybody(mut port: Port<u32, u32>, threads: &OnceLock<Vec<Thread>>) -> u32 {
    let (here, shards) = (port.here(), port.shards());
    let others = || (0..shards).filter(move |shard| *shard != here);
    let (mut asked, mut answered, mut served) = (vec![0; shards], vec![0; shards], vec![0; shards]);
    let (mut requests, mut responses, mut sleeps) = (Vec::new(), Vec::new(), 0);
    loop {
        let left = port.take(7, &mut requests, &mut responses);
        for (from, request) in requests.drain(..) {
            assert_eq!(request, served[from], "in order, none lost, none twice");
            served[from] += 1;
            port.respond(from, request * 2);
        }
        for (from, response) in responses.drain(..) {
            assert_eq!(response, answered[from] * 2);
            answered[from] += 1;
        }
        for to in others() {
            while asked[to] < CALLS && port.request(to, asked[to]).is_ok() {
                asked[to] += 1;
            }
        }
        port.publish(|shard| threads.wait()[shard].unpark());
        if others().all(|shard| answered[shard] == CALLS) && others().all(|shard| served[shard] == CALLS) {
            return sleeps;
        }
        if left || port.door().is_dirty() {
            continue;
        }
        port.door().announce_sleep();
        if port.is_quiet() {
            let start = Instant::now();
            // Another's ring may be left over from before; who is rung is no longer asleep.
            while port.door().sleeps() {
                std::thread::park_timeout(Duration::from_secs(20));
                assert!(start.elapsed() < Duration::from_secs(20), "shard {here} was not rung");
            }
            sleeps += 1;
        }
        port.door().awake();
    }
}

#[test]
fn shards_that_sleep_between_calls_lose_none_and_are_always_woken() {
    for (shards, credits) in [(2, 1), (3, 2), (3, 64)] {
        let threads = OnceLock::new();
        std::thread::scope(|scope| {
            let run = |port| scope.spawn(|| call_everybody(port, &threads));
            let shards: Vec<_> = mesh_of(shards, credits).into_iter().map(run).collect();
            threads.set(shards.iter().map(|shard| shard.thread().clone()).collect()).unwrap();
            let sleeps: u32 = shards.into_iter().map(|shard| shard.join().unwrap()).sum();
            assert!(sleeps > 0, "nobody ever slept: nothing was tried");
        });
    }
}
