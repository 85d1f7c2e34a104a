//! Fuzz target: the HTTP/1.1 client of `loadgen`, whole and cut, with memory and without, against a plain reader.
//!
//! Byte 0 chooses the requests and the statuses wanted, byte 1 the cuts, the rest is what the server sends: see
//! `check` in `loadgen::http1`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| loadgen::http1::check::check(data));
