//! The keyed store: a cache whose keys are spread over the shards, reached by Redis clients, by HTTP and by handlers.
//!
//! A key belongs to one shard, chosen by a hash of it or of its `{tag}`. Reading order: [`store`] the keys of one
//! shard; [`value`] the kinds of values; [`command`] what can be done with them, one command at a time; [`glob`] patterns
//! of names.
//!
//! # Rules
//! 1. A key is read and written by its own shard only, inside that shard's turn.
//! 2. `store`, `value` and `command` are pure: no sockets, no clock, no lanes.
//!
//! Not here: the bytes of the protocol (`proto-resp`), sockets (`net`).

pub mod command;
pub mod glob;
pub mod store;
pub mod value;
