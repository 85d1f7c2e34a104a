//! Several shards in one node, seen from outside: who gets a connection, what one that stands still costs the
//! others, what rest costs, how all of them end together.
//!
//! Not here: the node with one shard (`limits.rs`, `drain.rs`, `slow.rs`), calls between shards under every
//! order of events (`exec`, on the simulator), where shards run (`placement.rs`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;
mod program;

#[path = "shards/balance.rs"]
mod balance;
#[path = "shards/drain.rs"]
mod drain;
#[path = "shards/places.rs"]
mod places;
#[path = "shards/rest.rs"]
mod rest;
#[path = "shards/service.rs"]
mod service;
#[path = "shards/stops.rs"]
mod stops;
#[path = "shards/thread.rs"]
mod thread;
