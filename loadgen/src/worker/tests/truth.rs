//! Queues whose truth is known: a worker against simulated servers with one queue, held against Lindley's
//! recursion over the same seeded draws.
//!
//! # Rules
//! 1. A simulated server sees a request up to [`LOOK`] after it was sent. Lindley's recursion is monotone in
//!    the arrivals and moves with them: a queue that is fed late, by a time at most, ends no request earlier,
//!    and none later by more than that time. So a measured percentile is no less than the computed one, and
//!    no more than it and [`SLACK_NS`].
//!
//! Not here: the same against real servers, in real time (`examples/truth`).

use super::*;
use crate::echo::Echo;
use crate::model::Arrivals;
use crate::plan::draw::Draws;
use crate::plan::{Dealt, constant_rate};

#[path = "../../../examples/truth/lindley.rs"]
mod lindley;

use lindley::{Request, Stop, percentile, responses};

/// The look of the server, and the turns of the worker before and after it at a microsecond each.
const SLACK_NS: u64 = 55_000;

/// A server that takes one request after another, in the order of their numbers.
struct Queue {
    peers: Vec<Rc<Peer>>,
    /// By number.
    work_ns: Vec<u64>,
    /// On the clock of the world.
    stops: Vec<Stop>,
    free_ns: u64,
}

fn nanos(of: Duration) -> u64 {
    u64::try_from(of.as_nanos()).unwrap()
}

/// Takes what came, and says when it will be answered.
fn look(world: &World, queue: Rc<RefCell<Queue>>) {
    let now = nanos(world.now());
    let mut came = Vec::new();
    for peer in &queue.borrow().peers {
        if peer.received_len() > 0 {
            let bytes = peer.take();
            came.extend(bytes.chunks(8).map(|number| (u64_of(number), Rc::clone(peer))));
        }
    }
    came.sort_by_key(|(number, _)| *number);
    for (number, peer) in came {
        let mut queue = queue.borrow_mut();
        let work_ns = queue.work_ns[usize::try_from(number).unwrap()];
        // One request that comes when the server is free of those before it.
        let begins = Request { comes_ns: now.max(queue.free_ns), work_ns };
        queue.free_ns = begins.comes_ns + responses(&[begins], &queue.stops)[0];
        world.after(Duration::from_nanos(queue.free_ns - now), move |_| {
            peer.write(&number.to_le_bytes());
        });
    }
    world.after(LOOK, move |world| look(world, queue));
}

fn u64_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().unwrap())
}

/// What a queue is given.
struct Case {
    arrivals: Arrivals,
    rate: f64,
    connections: u32,
    duration_ns: u64,
    /// Work of each request, ns: exponential with this mean, or just this much.
    work_ns: u64,
    exponential: bool,
    /// From the start of the schedule.
    stops: Vec<Stop>,
}

/// Runs it, and works it out. Response times of the window: measured, computed; and the whole tally.
fn measure(case: &Case) -> (Tally, Vec<u64>) {
    let schedule = || Schedule::new(&case.arrivals, &constant_rate(case.rate), 7, Dealt::ALL).unwrap();
    let config = Config {
        traffic: Traffic::Open(schedule()),
        connections: case.connections,
        duration_ns: case.duration_ns,
        timeout_ns: 10 * SECOND,
        drain_ns: 10 * SECOND,
        ..config()
    };
    let (warmup_ns, end_ns) = (config.warmup_ns, config.warmup_ns + config.duration_ns);

    let slots: Vec<u64> = schedule().map(|slot| slot.at_ns).take_while(|&at| at < end_ns).collect();
    let mut draws = Draws::new(11);
    #[allow(clippy::cast_possible_truncation)] // at most 37 times the mean
    let mut work = || match case.exponential {
        true => (draws.exponential() * case.work_ns as f64) as u64,
        false => case.work_ns,
    };
    let work_ns: Vec<u64> = slots.iter().map(|_| work()).collect();
    let all = slots.iter().zip(&work_ns).map(|(&comes_ns, &work_ns)| Request { comes_ns, work_ns });
    let computed = responses(&all.collect::<Vec<_>>(), &case.stops);
    let in_window = slots.iter().zip(computed).filter(|(at, _)| **at >= warmup_ns);
    let computed: Vec<u64> = in_window.map(|(_, response)| response).collect();

    let sim = SimConfig { clock_cost: Duration::from_micros(1), ..SimConfig::default() };
    let (kernel, world) = Sim::new(sim);
    let queue = Queue { peers: Vec::new(), work_ns, stops: Vec::new(), free_ns: 0 };
    let queue = Rc::new(RefCell::new(queue));
    let mine = Rc::clone(&queue);
    world.serve_with(config.target, move |peer| mine.borrow_mut().peers.push(Rc::new(peer)));
    look(&world, Rc::clone(&queue));
    let pools = Pools::new(&PoolConfig::default()).unwrap();
    let mut worker = Worker::new(kernel, pools, Echo::new(8, 1).unwrap(), config);
    let mut kept = Kept::default();
    while worker.stage() < Stage::Done {
        worker.turn(&mut kept).unwrap();
        if worker.stage() == Stage::Ready {
            let start = nanos(world.now()) + MS;
            worker.start(start);
            let stops = case.stops.iter().map(|&(from, to)| (start + from, start + to));
            queue.borrow_mut().stops = stops.collect();
        }
    }
    let total = kept.total();
    assert_eq!(total.errors.total(), 0);
    assert_eq!(total.response.count(), computed.len() as u64);
    (total, computed)
}

/// By rule 1, and the three digits of a histogram.
#[track_caller]
fn agree(total: &Tally, computed: &[u64], percents: &[f64]) {
    for &percent in percents {
        let (got, wanted) = (ns(total.response.percentile(percent)), percentile(computed, percent));
        let most = wanted + wanted / 1_000 + SLACK_NS;
        assert!(
            (wanted..=most).contains(&got),
            "P{percent}: {got} of {wanted}, {} off",
            got.wrapping_sub(wanted)
        );
    }
}

/// M/M/1 with a mean work of 1 ms.
fn single_server(utilisation: f64, connections: u32) -> Case {
    Case {
        arrivals: Arrivals::Poisson,
        rate: utilisation * 1_000.0,
        connections,
        duration_ns: 4 * SECOND,
        work_ns: MS,
        exponential: true,
        stops: Vec::new(),
    }
}

const PERCENTS: [f64; 8] = [10.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0];

#[test]
fn the_response_of_a_single_server_queue_is_that_of_the_recursion() {
    for utilisation in [0.5, 0.8] {
        let (total, computed) = measure(&single_server(utilisation, 16));
        agree(&total, &computed, &PERCENTS);
    }
}

#[test]
fn a_queue_is_as_long_wherever_its_requests_wait() {
    // Three are on the way to the server, and the rest wait here: it never finds nothing to do meanwhile.
    let (total, computed) = measure(&single_server(0.8, 3));
    agree(&total, &computed, &PERCENTS);
    assert!(total.counts.waited > 1_000, "{:?}", total.counts);
    assert!(ns(total.service.percentile(99.0)) < ns(total.response.percentile(99.0)) / 2);
}

#[test]
fn a_server_that_stands_still_each_second_is_charged_as_computed() {
    let stops = [0, 1].map(|at| (at * SECOND + 400 * MS, at * SECOND + 600 * MS));
    let case = Case {
        arrivals: Arrivals::Constant,
        rate: 10_000.0,
        connections: 64,
        duration_ns: 2 * SECOND,
        work_ns: 20_000,
        exponential: false,
        stops: stops.to_vec(),
    };
    let (total, computed) = measure(&case);
    agree(&total, &computed, &[85.0, 90.0, 95.0, 99.0, 99.9, 100.0]);
    // The request after 1,000 others of a stop: 100 ms of it are left, and their 20 us each. Neither is
    // small.
    near(percentile(&computed, 90.0), 120 * MS, 0.001);
    // The 64 that were on the way show a stop as service time, of 10,000 a second.
    assert!(ns(total.service.percentile(99.0)) < 10 * MS);
}

#[test]
fn the_recursion_gives_what_one_works_out_by_hand() {
    let request = |comes_ns, work_ns| Request { comes_ns, work_ns };
    let three = [request(10, 5), request(12, 5), request(30, 5)];
    assert_eq!(responses(&three, &[]), [5, 8, 5]);
    // Stopped while the first is worked on, and when the third comes; the stop after that is not reached.
    assert_eq!(responses(&three, &[(11, 14), (29, 40), (45, 50)]), [8, 11, 15]);
    // Work that ends as a stop begins is done; work that would begin then is not begun.
    assert_eq!(responses(&[request(0, 5), request(0, 5)], &[(5, 9)]), [5, 14]);
    // Two stops within one work, and one that was over before anything came.
    assert_eq!(responses(&[request(10, 5)], &[(1, 4), (11, 20), (22, 30)]), [32 - 10]);
    assert!(responses(&[], &[(1, 2)]).is_empty());
}

#[test]
fn the_computed_percentile_is_the_nearest_rank() {
    let values: Vec<u64> = (1..=1_000).rev().collect();
    let of = |percent| percentile(&values, percent);
    assert_eq!(
        [of(0.0), of(50.0), of(99.0), of(99.9), of(99.91), of(100.0)],
        [1, 500, 990, 999, 1_000, 1_000]
    );
    assert_eq!(percentile(&[], 50.0), 0);
}
