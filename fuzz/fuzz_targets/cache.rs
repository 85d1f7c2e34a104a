//! Fuzz target: a stream of commands on the store of the cache, as one shard runs them.
//!
//! Byte 0 chooses policy, memory and protocol, byte 1 how the time goes on, the rest is what clients send: see `check` in
//! `corelane::services::cache::command`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| corelane::services::cache::command::check::check(data));
