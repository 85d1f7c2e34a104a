//! The `corelane` program: flags, file and environment to a running node, and an exit code.
//!
//! Exit codes: 0 done, 1 ran and failed, 2 could not run. Not here: anything else.
#![forbid(unsafe_code)]

mod cli;

fn main() -> std::process::ExitCode {
    cli::main(std::env::args_os())
}
