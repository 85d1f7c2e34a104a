//! What is wrong with a configuration: where, which key, what it was, what it may be.
//!
//! All of it is for the user to mend. One line each; the program's name goes before it.
//!
//! Not here: what the host refuses (`preflight`).

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use corelane_base::LimitError;

/// Where a value came from. Later ones win over earlier ones.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Origin {
    /// Nobody said anything.
    Default,
    /// A line of the file.
    File {
        /// As it was named.
        path: Arc<PathBuf>,
        /// From 1.
        line: usize,
    },
    /// A variable of the environment.
    Env(&'static str),
    /// A flag, with its dashes.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Env(name) => f.write_str(name),
            Origin::Flag(name) => f.write_str(name),
        }
    }
}

/// Why a configuration was not accepted.
#[derive(Debug)]
pub enum ConfigError {
    /// The file cannot be read.
    Unreadable {
        /// As it was named.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The file is no TOML.
    Syntax {
        /// Where.
        origin: Origin,
        /// What the parser said.
        text: String,
    },
    /// There is no such key.
    UnknownKey {
        /// Where.
        origin: Origin,
        /// As it was written.
        key: String,
        /// What may have been meant.
        nearest: Option<&'static str>,
    },
    /// A value that is not understood.
    Value {
        /// Where.
        origin: Origin,
        /// Which key.
        key: &'static str,
        /// As it was written.
        value: String,
        /// What it may be.
        may_be: String,
    },
    /// Values that are understood and cannot work together.
    Conflict {
        /// Where.
        origin: Origin,
        /// Which key.
        key: &'static str,
        /// Its value.
        value: String,
        /// Why not, and what to write instead.
        cure: String,
    },
    /// A limit that is understood and cannot work.
    Limit {
        /// Where it came from.
        origin: Origin,
        /// The field, its value and what would work.
        error: LimitError,
        /// Other keys that were named, with their values; may be empty.
        beside: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unreadable { path, error } => {
                write!(f, "{}: cannot be read: {error}; name another with --config", path.display())
            }
            ConfigError::Syntax { origin, text } => write!(f, "{origin}: {text}"),
            ConfigError::UnknownKey { origin, key, nearest } => {
                write!(f, "{origin}: there is no key {key}; ")?;
                match nearest {
                    Some(name) => write!(f, "did you mean {name}?"),
                    None => write!(f, "`corelane --print-config` shows all"),
                }
            }
            ConfigError::Value { origin, key, value, may_be } => match origin {
                Origin::Flag(flag) => write!(f, "{flag} {value}: write {may_be}"),
                Origin::Env(name) => write!(f, "{name}={value}: write {may_be}"),
                _ => write!(f, "{origin}: {key} = {value}: write {may_be}"),
            },
            ConfigError::Conflict { origin, key, value, cure } => match origin {
                Origin::Default => write!(f, "{key} = {value} (its default) {cure}"),
                _ => write!(f, "{origin}: {key} = {value} {cure}"),
            },
            ConfigError::Limit { origin, error: LimitError { field, value, wanted }, beside } => {
                match origin {
                    Origin::Default => write!(f, "limits.{field} = {value} (its default)")?,
                    _ => write!(f, "{origin}: limits.{field} = {value}")?,
                }
                write!(f, " cannot work: set it to {wanted}{beside}")
            }
        }
    }
}

impl std::error::Error for ConfigError {}
