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

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;

use corelane_base::Limits;

pub use error::{ConfigError, Origin};
pub use keys::{Flag, Key};
use kinds::Given;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What a node runs with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Settings {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The CPU of each shard; none leaves the choice to the node.
    pub cpus: Option<Vec<usize>>,
    /// Whether shards stay on their CPUs.
    pub pin: bool,
    /// Which log lines are written: a level, or levels of modules by commas.
    pub log: String,
    /// How they are written.
    pub log_format: LogFormat,
    /// The value of the `Server` field; empty for none.
    pub server_field: String,
    /// Every maximum.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            cpus: None,
            pin: true,
            log: "info".to_owned(),
            log_format: LogFormat::Text,
            server_field: "corelane".to_owned(),
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
            let long = match key.flag {
                Some(Flag::Value { long, .. } | Flag::Off { long, .. }) => long,
                None => key.name,
            };
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
        let mut in_limits = false;
        for key in keys::all() {
            if key.name.starts_with("limits.") && !std::mem::replace(&mut in_limits, true) {
                text.push_str("\n# Of one shard, unless it says otherwise. docs/LIMITS.md: what happens at each.\n[limits]\n");
            }
            let blank = if in_limits { "" } else { "\n" };
            let more = if key.more.is_empty() { "" } else { " " };
            // Writing to a String cannot fail.
            let _ = write!(
                text,
                "{blank}# {}.{more}{}\n{} = {}",
                key.help,
                key.more,
                key.short(),
                key.write(&self.settings)
            );
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
        let value = value.escape_debug().take(80).collect();
        Err(ConfigError::Value { origin, key: key.name, value, may_be: key.may_be() })
    }

    /// Bounds, with the place of the value that is out of them.
    fn check(&self) -> Result<(), ConfigError> {
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
}
