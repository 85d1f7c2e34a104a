//! The manifest: which files make up the snapshot. Whoever replaces it has replaced the snapshot. Pure.
//!
//! Text, so that people can read it: a line of what it is, one for each file, one with the checksum of all before it.
//!
//! # Rules
//! 1. A manifest that is not exactly as [`Manifest::to_bytes`] writes it is refused.
//! 2. Names of files are made here from numbers: a manifest cannot name a file elsewhere.
//!
//! Not here: reading and replacing it (`node`).

use super::format::{Sum, VERSION};

/// Its name in the directory.
pub const NAME: &str = "cache.manifest";
/// What is written first, and then renamed to [`NAME`].
pub const NEW_NAME: &str = "cache.manifest.new";
/// Bytes of one: a line has at most 90, and a node 65,536 shards.
pub const LEN_MAX: usize = 8 << 20;

/// One file of a snapshot.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Part {
    /// The shard that wrote it.
    pub shard: u16,
    /// What it is known by.
    pub sum: Sum,
}

/// A whole snapshot.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Manifest {
    /// Grows by one with each.
    pub generation: u64,
    /// When it was begun, milliseconds since 1970.
    pub unix_ms: u64,
    /// Its files.
    pub parts: Vec<Part>,
}

/// The name of a file.
pub fn file_name(generation: u64, shard: u16) -> String {
    format!("cache-{generation}-{shard}.snap")
}

/// Whether a file in the directory is one that snapshots leave there.
pub fn is_ours(name: &str) -> bool {
    let numbers = name.strip_prefix("cache-").and_then(|name| name.strip_suffix(".snap"));
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    numbers
        .and_then(|numbers| numbers.split_once('-'))
        .is_some_and(|(generation, shard)| is_number(generation) && is_number(shard))
}

impl Manifest {
    /// Entries of all files.
    pub fn entries(&self) -> u64 {
        self.parts.iter().map(|part| part.sum.entries).sum()
    }

    /// As it is written.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut text =
            format!("corelane-cache {VERSION} {} {} {}\n", self.generation, self.unix_ms, self.parts.len());
        for Part { shard, sum } in &self.parts {
            text.push_str(&format!("file {shard} {} {} {:08x}\n", sum.entries, sum.bytes, sum.crc));
        }
        let crc = crc32fast::hash(text.as_bytes());
        text.push_str(&format!("end {crc:08x}\n"));
        text.into_bytes()
    }

    /// As it was written.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Manifest, String> {
        let Ok(text) = std::str::from_utf8(bytes) else { return Err("it is no text".into()) };
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let mut words = first.split(' ');
        if words.next() != Some("corelane-cache") {
            let shown: String = first.chars().take(40).collect();
            return Err(format!("it begins with {shown:?}, which no manifest does"));
        }
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let version = number().ok_or("it has no version")?;
        if version > VERSION.into() {
            return Err(format!("version {version} is newer than {VERSION}, the newest this release reads"));
        }
        let damaged = || "it is damaged: its checksum does not fit".to_owned();
        let (Some(generation), Some(unix_ms)) = (number(), number()) else { return Err(damaged()) };
        let parts: Option<Vec<Part>> =
            lines.take_while(|line| !line.starts_with("end ")).map(part_of).collect();
        let manifest = Manifest { generation, unix_ms, parts: parts.ok_or_else(damaged)? };
        // Rule 1, the checksum and the count of files among it.
        if manifest.to_bytes() == bytes { Ok(manifest) } else { Err(damaged()) }
    }
}

fn part_of(line: &str) -> Option<Part> {
    let mut words = line.strip_prefix("file ")?.split(' ');
    let shard = words.next()?.parse().ok()?;
    let (entries, bytes) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let crc = u32::from_str_radix(words.next()?, 16).ok()?;
    Some(Part { shard, sum: Sum { entries, bytes, crc } })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn some() -> Manifest {
        let part = |shard: u16| Part {
            shard,
            sum: Sum { entries: 10 + u64::from(shard), bytes: 1_000, crc: 0xab00 },
        };
        Manifest { generation: 3, unix_ms: 12, parts: (0..3).map(part).collect() }
    }

    #[test]
    fn a_manifest_is_read_as_it_was_written() {
        assert_eq!(Manifest::from_bytes(&some().to_bytes()), Ok(some()));
        assert_eq!(some().entries(), 33);
    }

    #[test]
    fn a_manifest_that_is_cut_or_changed_anywhere_is_refused() {
        let whole = some().to_bytes();
        for at in 0..whole.len() {
            Manifest::from_bytes(&whole[..at]).expect_err("it is cut");
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                Manifest::from_bytes(&changed).expect_err("it is changed");
            }
        }
    }

    #[test]
    fn only_files_of_snapshots_are_ours() {
        assert!(is_ours(&file_name(12, 3)));
        for name in [NAME, "cache-1.snap", "cache--1.snap", "cache-1-x.snap", "cache-1-2.snap.bak", "x"] {
            assert!(!is_ours(name), "{name}");
        }
    }
}
