//! Latencies of a shard that polls before it sleeps.
#![allow(clippy::unwrap_used)]

mod common;

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use common::{Bench, get, routes};
use corelane_base::Limits;
use corelane_net::http1::measure;
use corelane_net::{Answer, Incoming, Response};
use corelane_sim::{SimConfig, World};

#[test]
fn an_answer_to_what_a_busy_poll_found_took_as_long_as_its_handler() {
    let clock: Rc<RefCell<Option<World>>> = Rc::default();
    let hands = Rc::clone(&clock);
    let limits = Limits { busy_poll: Duration::from_millis(1), ..Limits::default() };
    let clock_cost = Duration::from_micros(1);
    let config = SimConfig { free_running: false, clock_cost, ..SimConfig::of(&limits) };
    let call = move |request: Incoming<'_, '_, '_>| {
        if request.head.target.path() == "/work" {
            hands.borrow().as_ref().unwrap().advance(Duration::from_millis(3));
            return Answer::Now(Response::text("done"));
        }
        routes(request)
    };
    let mut b = Bench::on(config, limits, Box::new(call));
    clock.replace(Some(b.world.clone()));
    let (first, second) = (b.connect(), b.connect());
    let second = Rc::new(second);
    for _ in 0..10 {
        // Comes while the other one is worked for: the poll after that turn finds it.
        let late = Rc::clone(&second);
        b.world.after(Duration::from_millis(1), move |_| {
            late.write(&get("/work"));
        });
        b.ask(&first, &get("/work"));
    }
    b.settle();
    assert!(second.take().ends_with(b"done"));
    let numbers = b.rt.within(|shard| measure::numbers(shard));
    assert_eq!(numbers.latency.len(), 20);
    let sum = numbers.latency_sum_ns;
    assert!((60_000_000..61_000_000).contains(&sum), "{sum} ns of 60 ms");
    assert!(numbers.latency.min() > 2_900_000, "{} ns", numbers.latency.min());
}
