//! `bench`: the measurements of Corelane, one binary.
//!
//! `limit-uring` and `limit-epoll` are hand-written servers that do nothing but the work; they mark
//! what one core can do and everything else is compared with them. `compare` measures servers against
//! each other in interleaved rounds, `ab` two revisions of this repository, `mesh` ways for two cores to talk,
//! `idle` holds many connections to one server, `peers` puts Corelane beside other projects' servers, `resp`
//! its cache beside Redis and memcached, `icount` counts instructions of fixed inputs. Results go to standard output, talk to standard error. Exit codes: 0 done,
//! 1 ran but a target was missed, 2 could not run.
//!
//! Not here: micro benchmarks of one part, and peers that need heavy crates (`bench/peers`).

#![allow(clippy::disallowed_methods, reason = "a tool that times others reads the clock")]

mod ab;
mod icount;
mod idle;
mod limit;
mod mesh;
mod peers;
mod resp;
mod revisions;

use std::convert::Infallible;
use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "bench", about = "Measure Corelane and its peers on one machine.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve with the hand-written io_uring loop: the yardstick.
    LimitUring(limit::uring::UringOptions),
    /// Serve with the hand-written epoll loop.
    LimitEpoll(limit::Options),
    /// Measure the CPU cost of an answer of several servers, in interleaved rounds.
    Compare(ab::Options),
    /// Measure two revisions of this repository, built apart: the ratio of their costs, and how sure it is.
    Ab(revisions::Options),
    /// Measure messages between two cores: Corelane's beside other ways, in interleaved rounds.
    Mesh(mesh::Options),
    /// Count instructions of fixed inputs with callgrind, and compare them with the baseline.
    Icount(icount::Options),
    /// Do a case of `icount` so many times: part of it.
    #[command(hide = true)]
    IcountCase(icount::CaseOptions),
    /// Hold many idle connections to a server: how many it takes, and what each costs.
    Idle(idle::Options),
    /// Measure Corelane beside its peers: one table for each load, JSON and a page.
    Peers(peers::Options),
    /// Measure the cache beside redis-server and memcached: CPU time of a command, rates, latencies, memory.
    Resp(resp::Options),
    /// Hold connections as told on standard input: part of `idle`.
    #[command(hide = true)]
    IdleHold(idle::HoldOptions),
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::LimitUring(options) => end(limit::uring::serve(&options)),
        Command::LimitEpoll(options) => end(limit::epoll::serve(&options)),
        Command::Compare(options) => ab::compare(&options),
        Command::Ab(options) => revisions::run(&options),
        Command::Mesh(options) => mesh::run(&options),
        Command::Icount(options) => icount::run(&options),
        Command::IcountCase(options) => icount::run_case(&options),
        Command::Idle(options) => idle::run(&options),
        Command::Peers(options) => peers::run(&options),
        Command::Resp(options) => resp::run(&options),
        Command::IdleHold(options) => idle::hold(&options),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// A limit server ends only by an error.
fn end(served: io::Result<Infallible>) -> Result<bool, String> {
    match served {
        Ok(never) => match never {},
        Err(error) => Err(error.to_string()),
    }
}
