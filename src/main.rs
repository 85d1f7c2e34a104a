//! The `corelane` program: flags, file and environment to a running node, and an exit code.
//!
//! Exit codes: 0 done, 1 ran and failed, 2 could not run. Not here: anything else.
#![forbid(unsafe_code)]

mod cli;

/// Free memory that each shard's heap may keep: a few bodies of the usual maximum.
const HEAP_KEPT: usize = 4 << 20;

fn main() -> std::process::ExitCode {
    // Where it cannot be had, requests with bodies cost more; nothing else changes.
    let _ = corelane_sys::heap::keep(HEAP_KEPT);
    cli::main(std::env::args_os())
}
