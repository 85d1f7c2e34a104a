//! Fuzz target: what a RESP server sends, whole and cut, against a plain reader of whole values.
//!
//! Byte 0 chooses the command, byte 1 the cuts, the rest is what the server sends: see `check` in `loadgen::resp`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| loadgen::resp::check::check(data));
