//! The program from outside: the built `loadgen`, real sockets on loopback, servers that answer well and
//! badly.
//!
//! # Rules
//! 1. Every run is bounded: windows of a second at most, children ended by their process number.
//! 2. No time is a pass or a fail. A busy host makes a run INVALID, which is exit code 2 and said in the
//!    report; a test holds the two together and does not ask for VALID.
//! 3. What is counted is exact on both sides: what the program says it sent is held against what a server
//!    saw.
//!
//! Not here: agents (`loadgen/src/agent`), speed, and whether latencies are true (`loadgen/examples`).

#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

mod common;

mod faults;
mod floors;
mod help;
mod load;
mod objectives;
mod outputs;
mod refusals;
mod requests;
mod search;
mod servers;
mod sides;
mod signals;
