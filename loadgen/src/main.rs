//! The `loadgen` program: words to a plan, a run, outputs, an exit code.
//!
//! Exit codes: 0 done, 1 the target was missed, 2 could not run or the measurement is invalid.
#![forbid(unsafe_code)]

fn main() {}
