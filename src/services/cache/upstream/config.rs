//! What the configuration says of the second tier.
//!
//! Not here: what follows from it on one shard ([`Settings`]).

use std::time::Duration;

use super::{Mode, Settings, Url};

/// The second tier of a node; numbers are of each shard.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UpstreamConfig {
    /// Where it is; without, there is none.
    pub url: Option<Url>,
    /// When it gets writes.
    pub mode: Mode,
    /// For an answer.
    pub timeout: Duration,
    /// Commands that may be unanswered.
    pub in_flight_max: u64,
    /// Bytes of a value that is fetched.
    pub value_len_max: u64,
    /// Expiry of fetched values at most; zero for what the upstream says.
    pub ttl_max: Duration,
    /// Keys known to be absent.
    pub absent_keys_max: u64,
    /// For how long.
    pub absent_ttl: Duration,
    /// Keys whose writes wait.
    pub queue_keys_max: u64,
    /// Bytes of them.
    pub queue_bytes_max: u64,
    /// Whether to ask for invalidations.
    pub tracking: bool,
    /// Failures in a row after which it is left alone.
    pub breaker_failures: u32,
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

fn size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Default for UpstreamConfig {
    fn default() -> UpstreamConfig {
        let all = Settings::new(Url::local());
        UpstreamConfig {
            url: None,
            mode: all.mode,
            timeout: all.timeout,
            in_flight_max: number(all.in_flight_max),
            value_len_max: number(all.value_len_max),
            ttl_max: all.ttl_max.unwrap_or_default(),
            absent_keys_max: number(all.absent_keys_max),
            absent_ttl: all.absent_ttl,
            queue_keys_max: number(all.queue_keys_max),
            queue_bytes_max: number(all.queue_bytes_max),
            tracking: all.tracking,
            breaker_failures: all.breaker.failures,
        }
    }
}

impl UpstreamConfig {
    /// For one shard, if there is a second tier.
    pub(crate) fn settings(&self, seed: u64) -> Option<Settings> {
        let mut all = Settings::new(self.url.clone()?);
        all.mode = self.mode;
        all.timeout = self.timeout;
        all.in_flight_max = size(self.in_flight_max);
        all.value_len_max = size(self.value_len_max);
        all.ttl_max = Some(self.ttl_max).filter(|max| !max.is_zero());
        all.absent_keys_max = size(self.absent_keys_max);
        all.absent_ttl = self.absent_ttl;
        all.queue_keys_max = size(self.queue_keys_max);
        all.queue_bytes_max = size(self.queue_bytes_max);
        all.tracking = self.tracking;
        all.breaker.failures = self.breaker_failures;
        all.seed = seed;
        Some(all)
    }
}
