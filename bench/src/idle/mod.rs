//! Idle connections: how many a server holds, and what each costs.
//!
//! The server is one process. Its clients are several ([`holder`]): a process may open only so many files, and one
//! address has only so many ports, so each holder is a process of its own with an address of its own in 127/8.
//! Every connection asks once as it is opened, so that it is one that is kept alive, and then rests. Then some of
//! them, drawn at random, ask again.
//!
//! Not here: sockets (`holder`), what is read of memory (`memory`), the server's process (`ab::process`).

mod holder;
pub(crate) mod memory;

use std::fmt::Write;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use crate::ab::machine::Machine;
use crate::ab::plan::words;
use crate::ab::process::{Running, free_port};
use holder::Holder;
pub(crate) use holder::{HoldOptions, hold};
use memory::{Kernel, descriptors, resident, threads};

/// Connections that are opened and closed before anything is measured: code, pools and tables of the kernel that
/// the first ones bring in once for all.
const WARM_UP: u32 = 400;

/// Holders at most: 127.0.0.2 is the first one's address.
const HOLDERS_MAX: u8 = 250;

/// How many idle connections, and of whom.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Connections to open.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,
    /// Program and arguments of the server; {port} stands for the port of 127.0.0.1 it is to listen on.
    #[arg(long, value_name = "COMMAND")]
    server: String,
    /// What is asked for.
    #[arg(long, default_value = "/plaintext")]
    path: String,
    /// Processes that hold the connections, each with an address of its own.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(1..=i64::from(HOLDERS_MAX)))]
    holders: u8,
    /// Connections, drawn at random, that ask once more in the end.
    #[arg(long, default_value_t = 1_000)]
    ask: u32,
    /// Seconds of rest before that, in which the server's CPU time is taken.
    #[arg(long, default_value_t = 5)]
    rest: u32,
    /// Seconds an answer may take.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    patience: u32,
    /// What the random draw begins with.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What was seen.
#[derive(Debug, Default)]
struct Found {
    opened: u32,
    open_time: Duration,
    resident: [u64; 2],
    kernel: [Kernel; 2],
    descriptors: usize,
    threads: usize,
    /// Open files the server may have, as the kernel writes it.
    files: String,
    /// Of one core, while everything rests.
    cpu: f64,
    asked: u32,
    answered: u32,
    slowest: Duration,
    /// Why the first one failed that did.
    why: Option<String>,
}

/// Runs it and prints it. `Ok(false)`: not all were opened, or not all that asked were answered.
///
/// # Errors
/// Why it could not run.
pub(crate) fn run(options: &Options) -> Result<bool, String> {
    let machine = Machine::here();
    let found = measure(options)?;
    let passed = found.opened == options.connections && found.answered == found.asked;
    let text = report(options, &machine, &found).map_err(|error| error.to_string())?;
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(passed),
    }
}

fn measure(options: &Options) -> Result<Found, String> {
    let text = |error: io::Error| error.to_string();
    let port = free_port().map_err(text)?;
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let command: Vec<String> =
        words(&options.server)?.iter().map(|word| word.replace("{port}", &port.to_string())).collect();
    let server = Running::start(&command, None, port)?;
    let start = |n: u8| Holder::start(from(n), to, &options.path, options.patience);
    let mut holders = (0..options.holders).map(start).collect::<Result<Vec<_>, _>>()?;
    let mut found = Found { files: memory::files(server.id()).map_err(text)?, ..Found::default() };

    eprintln!("warming up with {WARM_UP} connections");
    open(&mut holders, WARM_UP.min(options.connections), &mut found)?;
    holders.iter_mut().try_for_each(Holder::close)?;
    found = Found { files: found.files, why: found.why, ..Found::default() };
    thread::sleep(Duration::from_secs(1));
    found.resident[0] = resident(server.id()).map_err(text)?;
    found.kernel[0] = Kernel::now().map_err(text)?;

    eprintln!("opening {} connections from {} addresses", options.connections, options.holders);
    let began = Instant::now();
    let held = open(&mut holders, options.connections, &mut found)?;
    found.open_time = began.elapsed();
    found.opened = held.iter().sum();

    eprintln!("{} are open; at rest for {} s", found.opened, options.rest);
    thread::sleep(Duration::from_secs(1));
    let (began, before) = (Instant::now(), server.cpu_time().map_err(text)?);
    thread::sleep(Duration::from_secs(options.rest.into()));
    let used = server.cpu_time().map_err(text)?.since(before);
    found.cpu = Duration::from_nanos(used.exact_ns).as_secs_f64() / began.elapsed().as_secs_f64();
    found.resident[1] = resident(server.id()).map_err(text)?;
    found.kernel[1] = Kernel::now().map_err(text)?;
    found.descriptors = descriptors(server.id()).map_err(text)?;
    found.threads = threads(server.id()).map_err(text)?;

    eprintln!("asking again on {} of them", options.ask);
    ask(&mut holders, &held, options, &mut found)?;
    Ok(found)
}

/// The address of a holder.
fn from(n: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, 2 + n)
}

/// Opens `count` connections, all holders at once. How many each has then.
fn open(holders: &mut [Holder], count: u32, found: &mut Found) -> Result<Vec<u32>, String> {
    let parts = u32::try_from(holders.len()).unwrap_or(1);
    for (n, holder) in (0..).zip(&mut *holders) {
        // The first ones have one more where it does not divide.
        holder.tell(&format!("open {}", count / parts + u32::from(n < count % parts)))?;
    }
    let mut held = Vec::new();
    for holder in holders {
        let done = holder.hear()?;
        held.push(done.count);
        found.why = found.why.take().or(done.why);
    }
    Ok(held)
}

/// Has `options.ask` connections of all that are held ask once more.
fn ask(holders: &mut [Holder], held: &[u32], options: &Options, found: &mut Found) -> Result<(), String> {
    let all: u32 = held.iter().sum();
    let mut drawn = draw(options.seed, all, options.ask);
    drawn.sort_unstable();
    found.asked = u32::try_from(drawn.len()).unwrap_or(u32::MAX);
    let mut first = 0;
    for (holder, &count) in holders.iter_mut().zip(held) {
        let own = drawn.iter().filter(|&&n| (first..first + count).contains(&n));
        let list: Vec<String> = own.map(|n| (n - first).to_string()).collect();
        holder.tell(&format!("ask {}", list.join(" ")))?;
        first += count;
    }
    for holder in holders {
        let done = holder.hear()?;
        found.answered += done.count;
        found.slowest = found.slowest.max(done.slowest);
        found.why = found.why.take().or(done.why);
    }
    Ok(())
}

/// `count` different numbers below `all`, or all of them: a partial shuffle (Fisher and Yates) with SplitMix64
/// (Steele, Lea, Flood, "Fast splittable pseudorandom number generators").
fn draw(seed: u64, all: u32, count: u32) -> Vec<u32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let mut numbers: Vec<u32> = (0..all).collect();
    let count = count.min(all) as usize;
    for at in 0..count {
        let left = (numbers.len() - at) as u64;
        let other = at + usize::try_from(next() % left).unwrap_or(0);
        numbers.swap(at, other);
    }
    numbers.truncate(count);
    numbers
}

fn report(options: &Options, machine: &Machine, found: &Found) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let each = |bytes: i64| bytes.checked_div(i64::from(found.opened)).unwrap_or(0);
    let grown =
        |of: fn(&Kernel) -> u64| of(&found.kernel[1]).cast_signed() - of(&found.kernel[0]).cast_signed();
    let mib = |bytes: i64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    writeln!(text, "{}; {}; commit {}; {}", machine.cpu, machine.kernel, machine.commit, machine.date)?;
    writeln!(text, "$ {}", machine.command)?;
    writeln!(
        text,
        "connections  {} of {} in {:.2} s, {:.0} a second, from {} to {}",
        found.opened,
        options.connections,
        found.open_time.as_secs_f64(),
        f64::from(found.opened) / found.open_time.as_secs_f64(),
        from(0),
        from(options.holders - 1),
    )?;
    writeln!(
        text,
        "server       {} threads, {} descriptors of at most {}, {:.2} % of a core at rest",
        found.threads,
        found.descriptors,
        found.files,
        found.cpu * 100.0
    )?;
    let [before, after] = found.resident.map(u64::cast_signed);
    writeln!(
        text,
        "resident     {} before, {} after: {} bytes a connection",
        mib(before),
        mib(after),
        each(after - before)
    )?;
    let (slabs, buffers) = (grown(|kernel| kernel.slab_bytes), grown(|kernel| kernel.tcp_bytes));
    writeln!(
        text,
        "kernel       {} more in slabs: {} bytes a connection, both ends; {} in TCP buffers",
        mib(slabs),
        each(slabs),
        mib(buffers)
    )?;
    for (name, count, bytes) in found.kernel[1].grown_most(&found.kernel[0]) {
        writeln!(text, "  {name:<22} {count:>8} more, {:>5} bytes a connection", each(bytes))?;
    }
    writeln!(
        text,
        "answered     {} of {} asked again, the slowest in {:.1} ms",
        found.answered,
        found.asked,
        found.slowest.as_secs_f64() * 1e3
    )?;
    if let Some(why) = &found.why {
        writeln!(text, "failed       first with: {why}")?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_is_of_different_numbers_and_repeats_with_its_seed() {
        let drawn = draw(7, 1_000, 300);
        assert_eq!(drawn, draw(7, 1_000, 300));
        assert_ne!(drawn, draw(8, 1_000, 300));
        let mut sorted = drawn.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 300);
        assert!(sorted[0] < 50 && sorted[299] > 950 && sorted[299] < 1_000, "from everywhere: {sorted:?}");
        let mut all = draw(7, 20, 50);
        all.sort_unstable();
        assert_eq!(all, Vec::from_iter(0..20), "no more than there are");
        assert!(draw(7, 0, 5).is_empty());
    }
}
