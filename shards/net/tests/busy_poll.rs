//! Shards that poll before they sleep, where sockets go from one to another as bare numbers.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod cluster;

use std::time::Duration;

use cluster::{Client, Cluster, Plan, small};
use corelane_base::{Limits, Rng};
use corelane_net::Http1Config;
use corelane_uring::Features;

/// Without `defer_taskrun` the wake is in the queue of completions before the shard enters its ring.
#[test]
fn a_connection_left_at_the_door_of_a_shard_that_polls_is_served() {
    let without = Features::DIRECT.with(Features::DEFER_TASKRUN);
    let limits = Limits { busy_poll: Duration::from_millis(3), ..small() };
    let http = Http1Config::default();
    let cluster = Cluster::with(2, |_| Plan {
        limits: limits.clone(),
        without,
        http: http.clone(),
        descriptors: None,
        also: None,
    });
    let mut rng = Rng::new(5);
    for _ in 0..500 {
        let mut clients: Vec<Client> = (0..3).map(|_| cluster.connect(0)).collect();
        for client in &mut clients {
            client.get("/");
        }
        drop(clients);
        std::thread::sleep(Duration::from_micros(rng.index(4_000) as u64));
    }
    cluster.end();
}
