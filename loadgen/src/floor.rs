//! Noise floors that were measured on this host, in a file of the user's cache.
//!
//! A floor is what the built-in null server showed with traffic of some shape. It is a floor for other
//! traffic only where that could not be quicker, so an entry is taken for a run when
//! - the host, its kernel, the protocol, the kind of loop and the number of threads are the same, and
//! - connections, pipeline, size of a message and rate are each within a factor of 4 ([`FACTOR_MAX`]).
//!
//! The nearest of those is taken: that with the least sum of the ratios' logarithms, and among equals that
//! with less traffic, whose floor is surely not too high, then the newest.
//!
//! In a closed loop that never thinks an entry with more requests under way than the run is scaled down by
//! that ratio: throughput does not fall with the number of customers of a closed queue (asymptotic bounds;
//! Denning and Buzen 1978), so by Little's law the time for `n` of `N` is at least `n / N` of theirs.
//!
//! # Rules
//! 1. The environment is read by the caller: functions take its variables, or the directory.
//! 2. A file that is damaged or too large is worth a warning, not an error; the next save replaces it.
//! 3. The file is replaced whole or not at all. Of two who save at once the later one wins.
//!
//! Not here: measuring a floor (`calibrate`), what it means for a run (`verdict`).

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::is_nested_within;
use crate::model::{Arrivals, Floor, Loop, Provenance, Settings, Speaks};

/// Name of the file in its directory.
pub const FILE: &str = "loadgen-floor.json";
/// Version of the file; another one is not read.
const SCHEMA: u32 = 1;
/// Entries that are kept; the oldest go first. A calibration of five shapes on two hundred kernels.
pub const ENTRIES_MAX: usize = 1000;
/// Bytes of a file that is read or written: [`ENTRIES_MAX`] of 1 KiB, four times what they take.
pub const FILE_LEN_MAX: usize = 1 << 20;
/// Brackets within brackets: this file has 5.
const DEPTH_MAX: u32 = 16;
/// Bytes of the host and the kernel in an entry; what is longer is not kept.
const TEXT_LEN_MAX: usize = 256;
/// An entry further away than this, in any respect, says nothing: 4, two doublings.
pub const FACTOR_MAX: f64 = 4.0;

/// Where the file lives: `$XDG_CACHE_HOME/corelane`, or `~/.cache/corelane`; from the values of
/// `XDG_CACHE_HOME` and `HOME`. A path that is not absolute counts as missing (XDG Base Directory
/// Specification 0.8). None without either.
pub fn directory(xdg_cache_home: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |path: Option<OsString>| path.map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute(xdg_cache_home).or_else(|| Some(absolute(home)?.join(".cache")));
    Some(cache?.join("corelane"))
}

/// What decides when requests are sent, as far as a floor is concerned.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Closed,
    /// Closed, with time to think: nobody waits for as long as in a closed loop at its limit.
    Thinking,
    Open,
}

/// What must be the same.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct Shape {
    host_id: String,
    kernel: String,
    speaks: Speaks,
    kind: Kind,
    threads: u32,
}

/// What must be near.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
struct Load {
    connections: u32,
    pipeline: u32,
    /// Bytes of an echoed message or a value; 0 for HTTP, where the null server has one answer.
    message_len: u32,
    /// Requests a second in an open loop, the most of its stages; 0 in a closed one.
    rate: f64,
}

#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Entry {
    shape: Shape,
    load: Load,
    floor: Floor,
}

#[derive(Debug, Deserialize, Serialize)]
struct Stored {
    schema: u32,
    entries: Vec<Entry>,
}

/// The floors that are known.
#[derive(Clone, Debug, Default)]
pub struct Store {
    /// Oldest first.
    entries: Vec<Entry>,
    warning: Option<String>,
}

impl Store {
    /// Reads the file in `dir`. One that is missing has nothing in it; one that cannot be understood neither,
    /// and [`Store::warning`] says so.
    pub fn load(dir: &Path) -> Store {
        let path = dir.join(FILE);
        match read(&path) {
            Ok(entries) => Store { entries, warning: None },
            Err(why) => {
                let warning = format!(
                    "the noise floors in {} are not used: {why}; `loadgen calibrate` replaces the file",
                    path.display()
                );
                Store { entries: Vec::new(), warning: Some(warning) }
            }
        }
    }

    /// What was wrong with the file, if anything was.
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// How many floors are known, of all hosts.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The floor for such a run: of the nearest entry, as the module says. None if none is near, or the rate
    /// of the run is not known beforehand (a trace).
    pub fn find(&self, settings: &Settings, provenance: &Provenance) -> Option<Floor> {
        let (shape, load) = (shape(settings, provenance), load(settings)?);
        let same = self.entries.iter().rev().filter(|entry| entry.shape == shape);
        let near = same.filter_map(|entry| Some((distance(&load, &entry.load)?, entry)));
        // Of equals the first is kept, which is the newest.
        let (_, entry) = near.reduce(|best, next| {
            let (closer, lighter) =
                (next.0 < best.0, next.0 == best.0 && next.1.load.sum() < best.1.load.sum());
            if closer || lighter { next } else { best }
        })?;
        let (asked, had) = (load.under_way(), entry.load.under_way());
        let scale = if shape.kind == Kind::Closed && had > asked { asked / had } else { 1.0 };
        Some(Floor {
            p50_ns: scaled(entry.floor.p50_ns, scale),
            p99_ns: scaled(entry.floor.p99_ns, scale),
            rate: entry.floor.rate,
        })
    }

    /// Keeps a floor that was measured with these settings, in place of an older one of the same traffic.
    /// Past [`ENTRIES_MAX`] the oldest goes. Not kept: traffic of a trace, and figures that are no floor (no
    /// time, no rate).
    pub fn insert(&mut self, settings: &Settings, provenance: &Provenance, floor: Floor) {
        let Some(load) = load(settings) else { return };
        let entry = Entry { shape: shape(settings, provenance), load, floor };
        if !entry.is_sound() {
            return;
        }
        self.entries.retain(|old| (&old.shape, old.load) != (&entry.shape, load));
        self.entries.push(entry);
        let over = self.entries.len().saturating_sub(ENTRIES_MAX);
        self.entries.drain(..over);
    }

    /// Writes the file in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// Which path could not be written, and why. What was there before is there still.
    pub fn save(&self, dir: &Path) -> Result<(), String> {
        let path = dir.join(FILE);
        let text = self.text().map_err(|error| format!("noise floors that are no JSON: {error}"))?;
        let temporary = dir.join(format!("{FILE}.{}.tmp", std::process::id()));
        let write = || {
            fs::create_dir_all(dir)?;
            let mut file = fs::File::create(&temporary)?;
            file.write_all(text.as_bytes())?;
            // The name must not come to stand for a file whose bytes are lost with the power.
            file.sync_all()?;
            fs::rename(&temporary, &path)
        };
        write().map_err(|error: std::io::Error| {
            // It may never have been made.
            let _ = fs::remove_file(&temporary);
            format!(
                "the noise floors could not be written to {}: {error}; see who owns it, or set \
                 XDG_CACHE_HOME",
                path.display()
            )
        })
    }

    /// At most [`FILE_LEN_MAX`] bytes: the oldest entries are left out if all would be more.
    fn text(&self) -> Result<String, sonic_rs::Error> {
        let mut skip = 0;
        loop {
            let text =
                sonic_rs::to_string(&Stored { schema: SCHEMA, entries: self.entries[skip..].to_vec() })?;
            if text.len() <= FILE_LEN_MAX || skip == self.entries.len() {
                return Ok(text);
            }
            skip += (self.entries.len() - skip).div_ceil(8);
        }
    }
}

impl Entry {
    /// Whether it is worth keeping, or believing: files can be edited.
    fn is_sound(&self) -> bool {
        let texts = [&self.shape.host_id, &self.shape.kernel];
        let numbers = [self.load.rate, self.floor.rate];
        texts.iter().all(|text| text.len() <= TEXT_LEN_MAX)
            && numbers.iter().all(|number| number.is_finite() && *number >= 0.0)
            && self.floor.rate > 0.0
            && self.floor.p50_ns > 0
            && self.floor.p50_ns <= self.floor.p99_ns
    }
}

impl Load {
    /// Requests that are under way in a closed loop.
    fn under_way(&self) -> f64 {
        f64::from(self.connections.max(1)) * f64::from(self.pipeline.max(1))
    }

    /// Each respect as a logarithm; 0 counts as 1.
    fn logarithms(&self) -> [f64; 4] {
        let whole = [self.connections, self.pipeline, self.message_len];
        let [connections, pipeline, message_len] = whole.map(|number| f64::from(number.max(1)).log2());
        [connections, pipeline, message_len, self.rate.max(1.0).log2()]
    }

    fn sum(&self) -> f64 {
        self.logarithms().iter().sum()
    }
}

/// How many doublings lie between two loads, all respects together. None if it is too far in one.
fn distance(one: &Load, other: &Load) -> Option<f64> {
    let apart = one.logarithms().into_iter().zip(other.logarithms()).map(|(a, b)| (a - b).abs());
    // A little more, for what a logarithm of a quotient of 4 is not exactly.
    let most = FACTOR_MAX.log2() + 1e-9;
    apart.map(|apart| (apart <= most).then_some(apart)).sum()
}

fn shape(settings: &Settings, provenance: &Provenance) -> Shape {
    Shape {
        host_id: provenance.host_id.clone(),
        kernel: provenance.kernel.clone(),
        speaks: settings.speaks,
        kind: match settings.traffic {
            Loop::Closed { think_ns: 0, .. } => Kind::Closed,
            Loop::Closed { .. } => Kind::Thinking,
            Loop::Open { .. } => Kind::Open,
        },
        threads: settings.threads,
    }
}

/// None where the rate is that of a file.
fn load(settings: &Settings) -> Option<Load> {
    let rate = match &settings.traffic {
        Loop::Closed { .. } => 0.0,
        Loop::Open { arrivals: Arrivals::Trace(_), .. } => return None,
        Loop::Open { stages, .. } => {
            stages.iter().flat_map(|stage| [stage.from, stage.to]).fold(0.0, f64::max)
        }
    };
    let message_len = match settings.speaks {
        Speaks::Http1 => 0,
        Speaks::Echo => settings.echo_len,
        Speaks::Resp => settings.resp.value_len,
    };
    let (connections, pipeline) = (settings.connections, settings.pipeline);
    Some(Load { connections, pipeline, message_len, rate })
}

fn scaled(ns: u64, scale: f64) -> u64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // `scale` is 0 to 1
    let scaled = (ns as f64 * scale) as u64;
    scaled.max(1)
}

/// The entries of a file; none if there is no file.
fn read(path: &Path) -> Result<Vec<Entry>, String> {
    let file = match fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let mut text = String::new();
    file.take(FILE_LEN_MAX as u64 + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() > FILE_LEN_MAX {
        return Err(format!("the file has more than {FILE_LEN_MAX} bytes"));
    }
    if !is_nested_within(&text, DEPTH_MAX) {
        return Err("it is nested too deep".to_owned());
    }
    let mut stored: Stored = sonic_rs::from_str(&text).map_err(|error| {
        format!("it is damaged ({})", error.to_string().lines().next().unwrap_or_default())
    })?;
    if stored.schema != SCHEMA {
        return Err(format!("its schema is {}, and this program knows {SCHEMA}", stored.schema));
    }
    stored.entries.retain(Entry::is_sound);
    let over = stored.entries.len().saturating_sub(ENTRIES_MAX);
    stored.entries.drain(..over);
    Ok(stored.entries)
}

#[cfg(test)]
mod tests;
