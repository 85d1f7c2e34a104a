//! Running the node, and finding out whether it would run.
//!
//! Not here: flags (`cli`), the log (`logging`), the node's routes (`corelane::node`).

use corelane::boot::describe_shard;
use corelane::config::{Config, LogFormat, Settings};
use corelane::preflight::{self, Demand, Host};
use corelane::{RingFeatures, Server, node};

use super::{CannotRun, Exit, logging, print, tell};

/// The variable with the ring features to leave off.
pub(super) const WITHOUT_ENV: &str = "CORELANE_RING_WITHOUT";

/// Settings that fit this host.
struct Fitted {
    settings: Settings,
    without: RingFeatures,
    host: Host,
    /// What was lowered, and why.
    notes: Vec<String>,
}

fn fitted(config: &Config) -> Result<Fitted, CannotRun> {
    let host = Host::this()?;
    let without = match std::env::var_os(WITHOUT_ENV) {
        None => RingFeatures::NONE,
        Some(text) => {
            let text = text.to_string_lossy();
            text.parse().map_err(|error| CannotRun(format!("{WITHOUT_ENV}: {error}")))?
        }
    };
    let mut settings = config.settings().clone();
    let shards = settings.cpus.as_ref().map_or(1, Vec::len);
    let is_default = |field: &str| config.is_default_limit(field);
    let notes = preflight::fit(&mut settings.limits, &is_default, shards, without, &host);
    Ok(Fitted { settings, without, host, notes })
}

/// Starts the node and waits for its end.
pub(crate) fn run(config: &Config) -> Result<Exit, CannotRun> {
    let Fitted { settings, without, host, notes } = fitted(config)?;
    // The kernel first: on one that cannot run at all, nothing else is of interest.
    host.check_kernel()?;
    let log = logging::start(&settings.log, settings.log_format)?;
    let json = settings.log_format == LogFormat::Json;
    let mut server = Server::new(tcp_of(&settings)?)
        .limits(settings.limits)
        .pin(settings.pin)
        .without(without)
        .server_field(server_field(settings.server_field));
    if let Some(cpus) = settings.cpus {
        server = server.cpus(cpus);
    }
    let running = match server.start(|_shard| node::app()) {
        Ok(running) => running,
        Err(error) => {
            log.end();
            return Err(error.into());
        }
    };
    let say = |line: &str| {
        if json {
            tracing::info!("{line}");
        } else {
            tell(format_args!("{line}"));
        }
    };
    say(&format!("corelane {}, Linux {}.{}", env!("CARGO_PKG_VERSION"), host.release.0, host.release.1));
    for line in running.describe() {
        say(&line);
    }
    for note in &notes {
        say(&format!("note: {note}"));
    }
    if json {
        tracing::info!("listening on http://{}", running.addr());
    }
    // Whoever started it may not read this; the node serves all the same.
    let _ = print(format_args!("listening on http://{}\n", running.addr()));
    let outcome = running.wait();
    log.end();
    match outcome {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            tell(format_args!("corelane: {error}"));
            Ok(Exit::Failed)
        }
    }
}

/// Says what would run, having tried everything short of listening.
pub(crate) fn check(config: &Config) -> Result<Exit, CannotRun> {
    let Fitted { settings, without, host, notes } = fitted(config)?;
    let listen = tcp_of(&settings)?;
    let demand = Demand {
        listen,
        limits: &settings.limits,
        cpus: settings.cpus.as_deref(),
        pin: settings.pin,
        without,
    };
    let cpus = demand.check(&host)?;
    let (granted, lacking) = demand.try_rings(cpus.len())?;
    let mut text = format!("Linux {}.{}\n", host.release.0, host.release.1);
    text.push_str(&format!("would listen on http://{listen}\n"));
    for (id, cpu) in (0..).zip(cpus) {
        text.push_str(&describe_shard(id, cpu, granted, &lacking));
        text.push('\n');
    }
    let limits = &settings.limits;
    text.push_str(&format!(
        "connections of a shard: {}; open files: {}; locked memory: {}\n",
        limits.connections_max,
        host.nofile,
        host.memlock.map_or("unlimited".to_owned(), |bytes| format!("{bytes} bytes")),
    ));
    for note in notes {
        text.push_str(&format!("note: {note}\n"));
    }
    Ok(print(format_args!("{text}ok: it would start\n")))
}

fn tcp_of(settings: &Settings) -> Result<std::net::SocketAddr, CannotRun> {
    let addr = settings.first_tcp();
    addr.ok_or_else(|| CannotRun("--listen has no ADDR:PORT; name one".to_owned()))
}

/// For the life of the process, which is that of the node.
fn server_field(value: String) -> Option<&'static str> {
    if value.is_empty() { None } else { Some(value.leak()) }
}
