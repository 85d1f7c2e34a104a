//! Fuzz target: what a client of RESP sends, whole and cut, against a plain reader of whole commands.
//!
//! Byte 0 chooses limits and what is received apart, byte 1 the cuts, the rest is what the peer sends: see
//! `check` in `proto-resp`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| corelane_proto_resp::check::check(data));
