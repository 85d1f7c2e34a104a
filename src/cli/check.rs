//! `corelane check`: whether a configuration is one, and fits this host, while a node may run.
//!
//! Not here: `corelane --check`, which tries the addresses as well (`serve`).

use corelane::config::Config;

use super::{CannotRun, Exit, serve};

/// Says what would run. Addresses are left alone: a node that is to be restarted holds them.
pub(super) fn run(config: &Config) -> Result<Exit, CannotRun> {
    serve::check(config, false)
}
