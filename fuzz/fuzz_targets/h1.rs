//! Fuzz target: the HTTP/1.1 machine under every policy, whole and cut, against plain oracles.
//!
//! Byte 0 chooses the limits, byte 1 the cuts, the rest is what the peer sends (`corelane_proto_h1::check`).
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| corelane_proto_h1::check::check(data));
