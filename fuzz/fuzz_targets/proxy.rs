//! Fuzz target: headers of the PROXY protocol, whole and cut, against a plain reader.
//!
//! Byte 0 chooses the maximum, byte 1 the cuts, the rest is what the peer sends: see `check` in `proto-proxy`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| corelane_proto_proxy::check::check(data));
