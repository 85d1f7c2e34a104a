//! Services of the node: each a folder with its state, pure, and what makes it reachable.
//!
//! # Rules
//! 1. No service imports another one.
//! 2. State does no I/O and reads no clock: times and randomness are handed in.
//!
//! Not here: connections (`net`), which services a node has (its configuration).

pub mod cache;
