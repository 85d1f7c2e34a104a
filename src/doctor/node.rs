//! What a node says of itself on `/metrics`, in the text format 0.0.4.
//!
//! Not here: asking it (`cli`), what series mean (`docs/METRICS.md`).

use std::collections::BTreeMap;

/// Shards that are listened to: as many as a node can have.
const SHARDS_MAX: usize = crate::config::SHARDS_MAX as usize;

/// What one shard said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardSample {
    /// Its series without further labels, by name.
    values: BTreeMap<String, f64>,
}

/// What a node said, or why it said nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeNumbers {
    /// Where it was asked.
    pub url: String,
    /// Why there is no answer.
    pub silent: Option<String>,
    /// By number.
    pub shards: BTreeMap<u16, ShardSample>,
}

impl ShardSample {
    /// A value; 0 where there is none.
    pub fn get(&self, name: &str) -> f64 {
        self.values.get(name).copied().unwrap_or_default()
    }
}

impl NodeNumbers {
    /// Reads an answer. Lines that are not understood are left out.
    pub fn read(url: &str, text: &str) -> NodeNumbers {
        let mut shards: BTreeMap<u16, ShardSample> = BTreeMap::new();
        for (name, shard, value) in text.lines().filter_map(sample) {
            if shards.len() < SHARDS_MAX || shards.contains_key(&shard) {
                shards.entry(shard).or_default().values.insert(name.to_owned(), value);
            }
        }
        let silent = shards.is_empty().then(|| "its answer has no series of a shard".to_owned());
        NodeNumbers { url: url.to_owned(), silent, shards }
    }

    /// It did not answer.
    pub fn silent(url: &str, why: String) -> NodeNumbers {
        NodeNumbers { url: url.to_owned(), silent: Some(why), shards: BTreeMap::new() }
    }

    /// The sum over all shards.
    pub fn sum(&self, name: &str) -> f64 {
        self.shards.values().map(|shard| shard.get(name)).sum()
    }

    /// The shard with most, and how much.
    pub fn most(&self, name: &str) -> Option<(u16, f64)> {
        let all = self.shards.iter().map(|(id, shard)| (*id, shard.get(name)));
        all.max_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Counters as what they grew by since `before`. A node that began anew meanwhile keeps what it has.
    pub(super) fn subtract(&mut self, before: &NodeNumbers) {
        for (id, shard) in &mut self.shards {
            let Some(old) = before.shards.get(id) else { continue };
            for (name, value) in &mut shard.values {
                if name.ends_with("_total") && old.get(name) <= *value {
                    *value -= old.get(name);
                }
            }
        }
    }
}

/// A line like `name{shard="0"} 12`. Series with more labels than that are not what is judged here.
fn sample(line: &str) -> Option<(&str, u16, f64)> {
    let (name, rest) = line.split_once("{shard=\"")?;
    let (shard, value) = rest.split_once("\"} ")?;
    let is_name =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':');
    let value: f64 = value.split(' ').next()?.parse().ok()?;
    (is_name && value.is_finite()).then_some((name, shard.parse().ok()?, value))
}
