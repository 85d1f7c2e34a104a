//! The `loadgen` program: words to a plan, a run, outputs, an exit code.
//!
//! Exit codes: 0 done, 1 the target was missed, 2 could not run or the measurement is invalid.
//! Not here: anything else (`loadgen::cli`).
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    loadgen::cli::main(std::env::args_os())
}
