//! What a node runs with: defaults, then a file, then the environment, then flags.
//!
//! Each key is defined once (`keys`), each way to write a value once (`kinds`). A later layer wins key by
//! key, and [`Config::origin`] says which one it was. Nothing is read from a place nobody named: without
//! `--config` or `CORELANE_CONFIG` there is no file.
//!
//! Not here: whether this host can give what is asked for ([`preflight`](crate::preflight)), bounds
//! ([`Limits::check`]).

mod error;
mod file;
pub mod keys;
mod kinds;
mod listen;
mod secret;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use corelane_base::Limits;
use ipnet::IpNet;

use crate::services::cache::session::Users;
pub use crate::services::cache::snapshot::SnapshotConfig;
pub use crate::services::cache::store::Config as CacheConfig;
pub use crate::services::cache::upstream::UpstreamConfig;
pub use error::{ConfigError, Origin};
pub use keys::{Flag, Key};
use kinds::Given;
pub use listen::{Listen, UNIX_PATH_LEN_MAX};
pub use secret::Secret;

/// Most shards of a node: four times the hardware threads of the largest machines of two sockets.
pub const SHARDS_MAX: u16 = 1024;

/// What the keys of a node may hold if nothing else is said: 256 MiB.
const CACHE_MEMORY_MAX: u64 = 256 << 20;

/// What stands for a secret in messages.
const HIDDEN: &str = "(not shown)";

/// How log lines are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// How new connections come to shards.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Accept {
    /// Each shard has a listener, and the kernel chooses one by a hash of the addresses (`SO_REUSEPORT`).
    #[default]
    Reuseport,
    /// Each goes to the shard with the fewest connections.
    Balanced,
}

/// What gives shards their threads.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum ShardHost {
    /// Each has a thread of its own, which sleeps in its ring.
    #[default]
    Native,
    /// Each is a task of a glommio executor, and code on it may use glommio. Takes a build with the feature `glommio`.
    Glommio,
}

impl ShardHost {
    /// As it is written in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            ShardHost::Native => "native",
            ShardHost::Glommio => "glommio",
        }
    }

    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        self == ShardHost::Native || cfg!(feature = "glommio")
    }
}

/// Where the memory of a shard is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Numa {
    /// On the node of its CPU, as long as there is some.
    #[default]
    Auto,
    /// Where the kernel finds it.
    Off,
}

/// What a node runs with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where it listens: at least one place.
    pub listen: Vec<Listen>,
    /// How many shards; none leaves the choice to the node.
    pub shards: Option<u16>,
    /// The CPU of each shard; none leaves the choice to the node.
    pub cpus: Option<Vec<usize>>,
    /// Whether hardware threads of one core are as good as cores.
    pub smt: bool,
    /// Whether shards stay on their CPUs.
    pub pin: bool,
    /// What gives shards their threads.
    pub host: ShardHost,
    /// Where the memory of a shard is.
    pub numa: Numa,
    /// Whether pools and receive buffers ask for huge pages.
    pub huge_pages: bool,
    /// How long a CPU may take to wake; zero is no wish.
    pub cpu_wake_time: Duration,
    /// How new connections come to shards.
    pub accept: Accept,
    /// Whether they go to the shard of the CPU that took their packet.
    pub steer: bool,
    /// Where connections come from that begin with a PROXY protocol header.
    pub proxy_protocol: Vec<IpNet>,
    /// Where requests come from whose Forwarded and X-Forwarded-For are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Where the admin interface listens, if it does.
    pub admin: Option<SocketAddr>,
    /// What its requests must carry; empty asks for nothing.
    pub admin_token: Secret,
    /// Which log lines are written: a level, or levels of modules by commas.
    pub log: String,
    /// How they are written.
    pub log_format: LogFormat,
    /// The value of the `Server` field; empty for none.
    pub server_field: String,
    /// Where Redis clients are listened for, if anywhere.
    pub resp_listen: Vec<Listen>,
    /// What they must give by AUTH; empty asks for nothing.
    pub resp_password: Secret,
    /// Further users of theirs: of each its name and its rules.
    pub resp_users: Vec<Secret>,
    /// Whether they may use DEBUG.
    pub resp_debug_commands: bool,
    /// The keyed store of the node.
    pub cache: CacheConfig,
    /// When it is saved, and where.
    pub snapshots: SnapshotConfig,
    /// What is behind it.
    pub upstream: UpstreamConfig,
    /// Whether its strings are served under `/cache/`.
    pub cache_http: bool,
    /// Every maximum.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: vec![Listen::Tcp(SocketAddr::from(([0, 0, 0, 0], 8080)))],
            shards: None,
            cpus: None,
            smt: false,
            pin: true,
            host: ShardHost::default(),
            numa: Numa::default(),
            huge_pages: false,
            cpu_wake_time: Duration::ZERO,
            accept: Accept::default(),
            steer: false,
            proxy_protocol: Vec::new(),
            trusted_proxies: Vec::new(),
            admin: Some(SocketAddr::from(([127, 0, 0, 1], 9901))),
            admin_token: Secret::default(),
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            server_field: "corelane".to_owned(),
            resp_listen: Vec::new(),
            resp_password: Secret::default(),
            resp_users: Vec::new(),
            resp_debug_commands: false,
            cache: CacheConfig { memory_max: CACHE_MEMORY_MAX, ..CacheConfig::default() },
            snapshots: SnapshotConfig::default(),
            upstream: UpstreamConfig::default(),
            cache_http: false,
            limits: Limits::default(),
        }
    }
}

/// An environment: the value of a variable.
pub type Env<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// What was given to a start, besides its defaults.
#[derive(Default)]
pub struct Layers<'a> {
    /// The file that a flag names; it wins over `CORELANE_CONFIG`.
    pub file: Option<PathBuf>,
    /// The environment; none is an empty one.
    pub env: Option<Env<'a>>,
    /// Flags of single keys, with their values.
    pub flags: Vec<(&'static Key, String)>,
    /// `--limit NAME=VALUE`, as given.
    pub limits: Vec<String>,
}

impl std::fmt::Debug for Layers<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Layers { file, flags, limits, env: _ } = self;
        f.debug_struct("Layers").field("file", file).field("flags", flags).field("limits", limits).finish()
    }
}

/// The variable that names the file.
pub const CONFIG_ENV: &str = "CORELANE_CONFIG";

/// Settings, each with where it came from.
#[derive(Clone, Debug, Default)]
pub struct Config {
    settings: Settings,
    origins: BTreeMap<&'static str, Origin>,
}

impl Config {
    /// Puts the layers on top of each other and checks the limits. A variable that is empty counts as unset.
    ///
    /// # Errors
    /// The first thing that is wrong, with where it is and what it may be.
    pub fn load(layers: &Layers<'_>) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        let env = |name: &str| layers.env.and_then(|get| get(name)).filter(|value| !value.is_empty());
        if let Some(path) = layers.file.clone().or_else(|| env(CONFIG_ENV).map(PathBuf::from)) {
            file::read(&mut config, &path)?;
        }
        for key in keys::all() {
            let Some((name, value)) = key.env.and_then(|name| Some((name, env(name)?))) else { continue };
            config.set_word(key, &value.to_string_lossy(), Origin::Env(name))?;
        }
        for (key, value) in &layers.flags {
            let long = key.flag.map_or(key.name, |flag| flag.long());
            config.set_word(key, value, Origin::Flag(format!("--{long}")))?;
        }
        for given in &layers.limits {
            let (name, value) = given.split_once('=').unwrap_or((given, ""));
            let Some(key) = keys::find(&format!("limits.{name}")) else {
                let nearest = file::nearest(name).map(Key::short);
                let origin = Origin::Flag("--limit".to_owned());
                return Err(ConfigError::UnknownKey { origin, key: file::one_line(name), nearest });
            };
            config.set_word(key, value, Origin::Flag(format!("--limit {name}")))?;
        }
        config.check()?;
        Ok(config)
    }

    /// Adds places whose sockets were handed over by whoever started us. They take the place of `listen` where nobody
    /// set it, and are listened at besides what was set.
    ///
    /// # Errors
    /// Those of places that were written by hand: a Redis listener that others can reach needs a password.
    pub fn add_handed(&mut self, http: &[Listen], resp: &[Listen]) -> Result<(), ConfigError> {
        let handed = Origin::Env("LISTEN_FDS");
        if !http.is_empty() && *self.origin("listen") == Origin::Default {
            self.settings.listen.clear();
        }
        let Settings { listen, resp_listen, .. } = &mut self.settings;
        for (name, new, places) in [("listen", http, listen), ("resp.listen", resp, resp_listen)] {
            let before = places.len();
            for place in new {
                if !places.contains(place) {
                    places.push(place.clone());
                }
            }
            if places.len() > before {
                self.origins.insert(name, handed.clone());
            }
        }
        self.check()
    }

    /// What holds after all layers.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where the value of the key called `name` came from.
    pub fn origin(&self, name: &str) -> &Origin {
        self.origins.get(name).unwrap_or(&Origin::Default)
    }

    /// Whether nobody set the limit called `field`.
    pub fn is_default_limit(&self, field: &str) -> bool {
        *self.origin(&format!("limits.{field}")) == Origin::Default
    }

    /// Every key with its value, as a file that gives the same settings. A key that was set says where.
    pub fn to_toml(&self) -> String {
        let mut text = String::from(
            "# Corelane: every key with its value. Remove what should follow the defaults of the program.\n",
        );
        let mut table = "";
        for key in keys::all() {
            if key.table() != table {
                table = key.table();
                let about =
                    keys::TABLES.iter().find(|(name, _)| *name == table).map_or("", |(_, about)| about);
                // Writing to a String cannot fail.
                let _ = write!(text, "\n# {about}\n[{table}]\n");
            }
            let blank = if table.is_empty() { "\n" } else { "" };
            let more = if key.more.is_empty() { "" } else { " " };
            let value = key.write(&self.settings);
            // A secret that is set is not a value to read back.
            let hidden = key.is_secret && value != key.write(&Settings::default());
            let out = if hidden { "# " } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(text, "{blank}# {}.{more}{}\n{out}{} = {value}", key.help, key.more, key.short());
            let _ = match self.origin(key.name) {
                Origin::Default => writeln!(text),
                origin => writeln!(text, " # {}", origin.to_string().replace(char::is_control, "?")),
            };
        }
        text
    }

    /// Sets a key; `false` if the value is not understood.
    fn set(&mut self, key: &'static Key, given: &Given<'_>, origin: Origin) -> bool {
        let understood = (key.read)(&mut self.settings, given);
        if understood {
            self.origins.insert(key.name, origin);
        }
        understood
    }

    fn set_word(&mut self, key: &'static Key, value: &str, origin: Origin) -> Result<(), ConfigError> {
        if self.set(key, &Given::Word(value), origin.clone()) {
            return Ok(());
        }
        let value = match key.is_secret {
            true => HIDDEN.to_owned(),
            false => value.escape_debug().take(80).collect(),
        };
        Err(ConfigError::Value { origin, key: key.name, value, may_be: key.may_be() })
    }

    /// Bounds, and values that exclude each other, with the place of the one that is wrong.
    fn check(&self) -> Result<(), ConfigError> {
        self.check_limits()?;
        self.check_shards()?;
        self.check_resp()?;
        self.check_upstream()?;
        self.check_admin()
    }

    fn check_limits(&self) -> Result<(), ConfigError> {
        self.settings.limits.check().map_err(|error| {
            let origin = self.origin(&format!("limits.{}", error.field)).clone();
            let named = |key: &&Key| {
                error.wanted.split_whitespace().any(|word| word == key.short()) && key.short() != error.field
            };
            let beside: String = keys::all()
                .filter(named)
                .map(|key| format!("; {} is {}", key.short(), key.write(&self.settings)))
                .collect();
            ConfigError::Limit { origin, error, beside }
        })
    }

    fn check_shards(&self) -> Result<(), ConfigError> {
        let Settings { shards, cpus, pin, accept, steer, .. } = &self.settings;
        if let (Some(shards), Some(cpus)) = (shards, cpus)
            && usize::from(*shards) != cpus.len()
        {
            let cure = format!(
                "cannot work: cpus names {}, one for each shard; leave one of the two out",
                cpus.len()
            );
            return Err(self.conflict("shards", cure));
        }
        if *steer && *accept == Accept::Balanced {
            let cure = "cannot work: accept is balanced, which chooses the shard otherwise; leave one of the two out";
            return Err(self.conflict("steer", cure.to_owned()));
        }
        if *steer && !pin {
            let cure = "cannot work: shards that are not pinned have no CPU of their own; leave steer or --no-pin out";
            return Err(self.conflict("steer", cure.to_owned()));
        }
        Ok(())
    }

    fn check_resp(&self) -> Result<(), ConfigError> {
        let is_open = |place: &Listen| place.tcp().is_some_and(|addr| !addr.ip().is_loopback());
        let open = self.settings.resp_listen.iter().find(|place| is_open(place));
        let users = Users::new(&self.settings.resp_password, &self.settings.resp_users)
            .map_err(|why| self.conflict("resp.users", format!("cannot work: {why}")))?;
        if let Some(open) = open
            && users.is_open()
        {
            let cure = format!(
                "{open} can be reached from other hosts and needs a password: set CORELANE_RESP_PASSWORD=$(openssl \
                 rand -hex 32), or listen on 127.0.0.1"
            );
            return Err(self.conflict("resp.listen", cure));
        }
        let twice = self.settings.resp_listen.iter().find(|place| {
            self.settings.listen.contains(place) && place.tcp().is_none_or(|addr| addr.port() != 0)
        });
        if twice.is_some() {
            let cure = "cannot work: listen has the same place; choose another port for one of the two";
            return Err(self.conflict("resp.listen", cure.to_owned()));
        }
        Ok(())
    }

    fn check_upstream(&self) -> Result<(), ConfigError> {
        let Settings { upstream, limits, .. } = &self.settings;
        if upstream.url.is_none() {
            return Ok(());
        }
        let counts = [
            ("cache.upstream.in_flight_max", upstream.in_flight_max, 2),
            ("cache.upstream.value_len_max", upstream.value_len_max, 1),
            ("cache.upstream.queue_keys_max", upstream.queue_keys_max, 1),
            ("cache.upstream.queue_bytes_max", upstream.queue_bytes_max, 1),
            ("cache.upstream.breaker_failures", u64::from(upstream.breaker_failures), 1),
        ];
        if let Some((name, _, least)) = counts.iter().find(|(_, value, least)| value < least) {
            return Err(self.conflict(name, format!("cannot work: write at least {least}")));
        }
        if upstream.timeout.is_zero() || upstream.timeout > limits.call_time / 2 {
            let cure = format!(
                "cannot work: write more than 0s, and at most half of limits.call_time, which is {:?}",
                limits.call_time
            );
            return Err(self.conflict("cache.upstream.timeout", cure));
        }
        Ok(())
    }

    fn check_admin(&self) -> Result<(), ConfigError> {
        let Some(admin) = self.settings.admin else { return Ok(()) };
        if self.settings.listen.contains(&Listen::Tcp(admin)) && admin.port() != 0 {
            let cure = "cannot work: listen has the same address; choose another port for one of the two";
            return Err(self.conflict("admin", cure.to_owned()));
        }
        if self.settings.admin_is_open() {
            let cure = format!(
                "can be reached from other hosts and needs a token: set CORELANE_ADMIN_TOKEN=$(openssl rand -hex \
                 32), or choose 127.0.0.1:{} or off with --admin",
                admin.port()
            );
            return Err(self.conflict("admin", cure));
        }
        Ok(())
    }

    fn conflict(&self, name: &'static str, cure: String) -> ConfigError {
        let value = keys::find(name).map_or_else(String::new, |key| key.write(&self.settings));
        ConfigError::Conflict { origin: self.origin(name).clone(), key: name, value, cure }
    }
}

impl Settings {
    /// Whether other hosts can reach the admin interface and need no token there.
    pub fn admin_is_open(&self) -> bool {
        let loopback = |addr: SocketAddr| addr.ip().to_canonical().is_loopback();
        self.admin_token.is_empty() && self.admin.is_some_and(|addr| !loopback(addr))
    }

    /// The first address to listen on that is no path.
    pub fn first_tcp(&self) -> Option<SocketAddr> {
        self.listen.iter().find_map(Listen::tcp)
    }
}
