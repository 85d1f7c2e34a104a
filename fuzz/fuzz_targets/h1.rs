//! Fuzz target: the HTTP/1.1 machine, whole and cut, against plain oracles.
//!
//! Byte 0 chooses limits and policy, byte 1 the cuts, the rest is what the peer sends: see `check` in `proto-h1`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| corelane_proto_h1::check::check(data));
