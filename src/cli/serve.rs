//! Running the node, and finding out whether it would run.
//!
//! Not here: flags (`cli`), the log (`logging`), the node's routes (`corelane::node`).

use corelane::boot::describe_shard;
use corelane::config::{Config, Listen, LogFormat, Settings};
use corelane::placement::{self, Wish};
use corelane::preflight::{self, Demand, Host, StartError};
use corelane::supervisor::{Handed, Supervisor};
use corelane::{Cache, RingFeatures, Server, node};

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

/// Ring features that are to be left off.
pub(super) fn masked() -> Result<RingFeatures, CannotRun> {
    let Some(text) = std::env::var_os(WITHOUT_ENV) else { return Ok(RingFeatures::NONE) };
    let text = text.to_string_lossy();
    text.parse().map_err(|error| CannotRun(format!("{WITHOUT_ENV}: {error}")))
}

fn fitted(config: &Config) -> Result<Fitted, CannotRun> {
    let host = Host::this()?;
    let without = masked()?;
    // The kernel first: on one that cannot run at all, nothing else is of interest.
    host.check_kernel()?;
    let mut settings = config.settings().clone();
    if !settings.host.is_built() {
        return Err(preflight::StartError::NoGlommio.into());
    }
    let shards = placement::place(&wish_of(&settings), &host, &settings.limits)?.shards.len();
    let is_default = |field: &str| config.is_default_limit(field);
    let listens = settings.listen.len() + settings.resp_listen.len();
    let kinds = (without, settings.host);
    let notes = preflight::fit(&mut settings.limits, &is_default, shards, listens, kinds, &host);
    Ok(Fitted { settings, without, host, notes })
}

/// Starts the node and waits for its end.
pub(crate) fn run(mut config: Config) -> Result<Exit, CannotRun> {
    let env = |name: &str| std::env::var_os(name);
    // Before anything of ours can have their numbers.
    let handed = Handed::of_env(&env)
        .map_err(|error| StartError::System { step: "take over the sockets of LISTEN_FDS", error })?;
    config.add_handed(&handed.http(), &handed.resp())?;
    let Fitted { settings, without, host, mut notes } = fitted(&config)?;
    let log = logging::start(&settings.log, settings.log_format)?;
    let json = settings.log_format == LogFormat::Json;
    let (cache, by_http) = (Cache::new(settings.cache), settings.cache_http);
    let mut server = server_of(settings, without).cache(cache.clone()).handed(handed);
    match Supervisor::of_env(&env) {
        Ok(None) => {}
        Ok(Some(supervisor)) => server = server.supervisor(supervisor),
        Err(error) => notes.push(format!("NOTIFY_SOCKET cannot be reached, so nobody is told: {error}")),
    }
    let app = move |_shard| if by_http { node::app_with(&cache) } else { node::app() };
    let running = match server.start(app) {
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
    for note in notes.iter().chain(running.notes()) {
        say(&format!("note: {note}"));
    }
    if let Some(addr) = running.admin() {
        say(&format!("admin interface on http://{addr}"));
    }
    for place in running.listens() {
        let place = url_of(place);
        if json {
            tracing::info!("listening on {place}");
        }
        // Whoever started it may not read this; the node serves all the same.
        let _ = print(format_args!("listening on {place}\n"));
    }
    for place in running.resp_listens() {
        let place = resp_url_of(place);
        if json {
            tracing::info!("listening on {place}");
        }
        let _ = print(format_args!("listening on {place}\n"));
    }
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

/// Says what would run, having tried everything short of listening; addresses only if they are to be `free`.
pub(crate) fn check(config: &Config, free: bool) -> Result<Exit, CannotRun> {
    let Fitted { settings, without, host, notes } = fitted(config)?;
    let all: Vec<Listen> = settings.listen.iter().chain(&settings.resp_listen).cloned().collect();
    let demand = Demand {
        listen: &settings.listen,
        resp_listen: &settings.resp_listen,
        admin: settings.admin.filter(|_| free),
        // Those that listen already are not tried.
        handed: if free { &[] } else { &all },
        limits: &settings.limits,
        wish: wish_of(&settings),
        huge_pages: settings.huge_pages,
        without,
        on: settings.host,
    };
    let placement = demand.check(&host)?;
    let cpus = placement.cpus();
    let (granted, lacking) = demand.try_rings(cpus.len())?;
    let mut text = format!("Linux {}.{}\n", host.release.0, host.release.1);
    for listen in &settings.listen {
        text.push_str(&format!("would listen on {}\n", url_of(listen)));
    }
    for listen in &settings.resp_listen {
        text.push_str(&format!("would listen on {}\n", resp_url_of(listen)));
    }
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
    for note in notes.into_iter().chain(placement.notes) {
        text.push_str(&format!("note: {note}\n"));
    }
    Ok(print(format_args!("{text}ok: it would start\n")))
}

/// A node of these settings, before it starts.
fn server_of(settings: Settings, without: RingFeatures) -> Server {
    let mut server = Server::at(settings.listen)
        .limits(settings.limits)
        .smt(settings.smt)
        .pin(settings.pin)
        .host(settings.host)
        .numa(settings.numa)
        .huge_pages(settings.huge_pages)
        .cpu_wake_time(settings.cpu_wake_time)
        .accept(settings.accept)
        .steer(settings.steer)
        .proxy_protocol(settings.proxy_protocol)
        .trusted_proxies(settings.trusted_proxies)
        .snapshots(settings.snapshots)
        .upstream(settings.upstream)
        .resp_password(settings.resp_password)
        .resp_users(settings.resp_users)
        .resp_debug(settings.resp_debug_commands)
        .without(without)
        .server_field(server_field(settings.server_field));
    for place in settings.resp_listen {
        server = server.resp(place);
    }
    if let Some(shards) = settings.shards {
        server = server.shards(shards);
    }
    if let Some(cpus) = settings.cpus {
        server = server.cpus(cpus);
    }
    if let Some(addr) = settings.admin {
        server = server.admin(addr, settings.admin_token);
    }
    server
}

/// Where its shards are to run.
fn wish_of(settings: &Settings) -> Wish<'_> {
    Wish { shards: settings.shards, cpus: settings.cpus.as_deref(), smt: settings.smt, pin: settings.pin }
}

/// What a client is given to connect to.
fn url_of(place: &Listen) -> String {
    match place {
        Listen::Tcp(addr) => format!("http://{addr}"),
        Listen::Unix(_) => place.to_string(),
    }
}

/// The same for a Redis client.
fn resp_url_of(place: &Listen) -> String {
    match place {
        Listen::Tcp(addr) => format!("redis://{addr}"),
        Listen::Unix(_) => place.to_string(),
    }
}

/// For the life of the process, which is that of the node.
fn server_field(value: String) -> Option<&'static str> {
    if value.is_empty() { None } else { Some(value.leak()) }
}
