//! The loads: what is asked, on how many connections, in how many rounds.
//!
//! # Rules
//! 1. The order here is that of the tables. `plaintext-64` comes before the open loops, whose rate follows
//!    from it.
//! 2. A load asks for one path only; what its answer must be is in [`Target`].
//!
//! Not here: who answers (`subjects`), how the client is told (`client`).

use super::model::{Kind, Scenario};

/// Bytes of `/blob` and `/file`, as in `bench/peers/work`.
pub(super) const BLOB_LEN: usize = 1 << 20;

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Target {
    /// `GET /plaintext`: `Hello, World!`.
    Plaintext,
    /// `GET /json`: one object of one field.
    Json,
    /// `POST /echo` with a body of so many bytes, which comes back.
    Echo(usize),
    /// `GET /blob`: [`BLOB_LEN`] bytes out of memory.
    Blob,
    /// `GET /file`: the same out of a file.
    File,
}

impl Target {
    /// Its path.
    pub(super) fn path(self) -> &'static str {
        match self {
            Self::Plaintext => "/plaintext",
            Self::Json => "/json",
            Self::Echo(_) => "/echo",
            Self::Blob => "/blob",
            Self::File => "/file",
        }
    }

    /// Bytes of the body of an answer.
    pub(super) fn body_len(self) -> usize {
        self.body().len()
    }

    /// Whether `body` is the whole and only right one.
    pub(super) fn is_answered_by(self, body: &[u8]) -> bool {
        self.body() == body
    }

    /// The body of the right answer; of `/blob` and `/file` every byte is an x.
    pub(super) fn body(self) -> Vec<u8> {
        match self {
            Self::Plaintext => b"Hello, World!".to_vec(),
            Self::Json => br#"{"message":"Hello, World!"}"#.to_vec(),
            Self::Echo(len) => vec![b'e'; len],
            Self::Blob | Self::File => vec![b'x'; BLOB_LEN],
        }
    }
}

/// How the connections are used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Mode {
    /// Each asks again as soon as it was answered.
    Closed,
    /// As `Closed`, with a connection for each request.
    Connect,
    /// At this share of the slowest peer's peak, in per cent.
    Open(u32),
    /// Each asks once and rests.
    Idle,
    /// As `Idle`, from eight addresses to eight shards.
    Crowd,
    /// As `Closed`, with one shard and with two on the same CPU.
    Shards,
}

/// One load.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Load {
    /// As in [`Scenario::id`].
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) target: Target,
    pub(super) mode: Mode,
    pub(super) connections: u32,
    pub(super) pipeline: u32,
    /// Rounds of a quick run and of a whole one.
    pub(super) rounds: [u32; 2],
}

impl Load {
    /// What its figures are.
    pub(super) fn kind(&self) -> Kind {
        match (self.mode, self.target) {
            (Mode::Open(_), _) => Kind::Open,
            (Mode::Idle | Mode::Crowd, _) => Kind::Idle,
            (_, Target::Blob | Target::File) => Kind::Download,
            _ => Kind::Closed,
        }
    }

    /// As it stands in a report; the rate of an open loop is not known before it runs.
    pub(super) fn scenario(&self) -> Scenario {
        Scenario {
            id: self.id.to_owned(),
            title: self.title.to_owned(),
            kind: self.kind(),
            connections: self.connections,
            pipeline: self.pipeline,
            rate: None,
        }
    }

    /// Whether latencies are what it is for. Its client and its server are looked at less often while it
    /// runs.
    pub(super) fn is_of_latency(&self) -> bool {
        self.kind() == Kind::Open || self.connections == 1
    }
}

/// The load whose peak decides the rates of the open loops.
pub(super) const PEAK: &str = "plaintext-64";

/// The load whose requests have a header line of their own each: what a server remembers of the one before is of no
/// use to it.
pub(super) const VARIED: &str = "pipelined-varied";

/// All loads. A short name is a promise: scripts and the page go by it.
pub(super) fn all() -> Vec<Load> {
    use Mode::{Closed, Connect, Crowd, Idle, Open, Shards};
    use Target::{Blob, Echo, File, Json, Plaintext};
    let load = |id, title, target, mode, connections, rounds| Load {
        id,
        title,
        target,
        mode,
        connections,
        pipeline: 1,
        rounds,
    };
    vec![
        load(
            "plaintext-1",
            "1 connection, GET /plaintext, a client that polls",
            Plaintext,
            Closed,
            1,
            [3, 5],
        ),
        load(PEAK, "64 connections, GET /plaintext", Plaintext, Closed, 64, [4, 5]),
        load("plaintext-512", "512 connections, GET /plaintext", Plaintext, Closed, 512, [4, 5]),
        load("plaintext-4096", "4,096 connections, GET /plaintext", Plaintext, Closed, 4096, [2, 5]),
        Load {
            pipeline: 16,
            ..load("pipelined-16", "64 connections, 16 in flight on each", Plaintext, Closed, 64, [4, 5])
        },
        Load {
            pipeline: 16,
            ..load(
                VARIED,
                "64 connections, 16 in flight on each, no two requests alike",
                Plaintext,
                Closed,
                64,
                [2, 5],
            )
        },
        load("json-64", "64 connections, GET /json", Json, Closed, 64, [2, 5]),
        load("echo-1k", "64 connections, POST /echo of 1 KiB", Echo(1 << 10), Closed, 64, [2, 5]),
        load("echo-64k", "16 connections, POST /echo of 64 KiB", Echo(64 << 10), Closed, 16, [2, 5]),
        load("blob", "8 connections, 1 MiB out of memory", Blob, Closed, 8, [2, 5]),
        load("file", "8 connections, 1 MiB out of a file", File, Closed, 8, [2, 5]),
        load("connect", "64 connections, a new one for each request", Plaintext, Connect, 64, [2, 5]),
        load("open-50", "open loop at 50 % of the slowest peer's peak", Plaintext, Open(50), 64, [1, 5]),
        load("open-80", "open loop at 80 % of the slowest peer's peak", Plaintext, Open(80), 64, [3, 5]),
        load("idle-10k", "10,000 connections at rest, each asked once", Plaintext, Idle, 10_000, [1, 3]),
        load("shards", "512 connections, one shard or two on one CPU", Plaintext, Shards, 512, [5, 5]),
        load(
            "idle-100k",
            "100,000 connections at rest, one process of 8 shards",
            Plaintext,
            Crowd,
            100_000,
            [1, 1],
        ),
    ]
}

/// Those that are asked for, in the order of [`all`]; an open loop brings [`PEAK`] along.
///
/// # Errors
/// A name that is none, with those that are.
pub(super) fn chosen(names: &[String]) -> Result<Vec<Load>, String> {
    let all = all();
    if names.iter().any(|name| name == "all") {
        return Ok(all);
    }
    if let Some(name) = names.iter().find(|name| !all.iter().any(|load| load.id == *name)) {
        let known: Vec<&str> = all.iter().map(|load| load.id).collect();
        return Err(format!("--scenarios {name}: there is none; there are all, {}", known.join(", ")));
    }
    let wants = |load: &Load| names.iter().any(|name| name == load.id);
    let open = all.iter().any(|load| wants(load) && load.kind() == Kind::Open);
    Ok(all.iter().filter(|load| wants(load) || (open && load.id == PEAK)).cloned().collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn ids(names: &[&str]) -> Vec<&'static str> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        chosen(&names).unwrap().iter().map(|load| load.id).collect()
    }

    #[test]
    fn every_load_has_a_name_of_its_own_and_rounds_to_run() {
        let all = all();
        for (index, load) in all.iter().enumerate() {
            assert!(!all[..index].iter().any(|other| other.id == load.id), "{}", load.id);
            assert!(load.rounds[0] >= 1 && load.rounds[1] >= load.rounds[0], "{}", load.id);
            assert!(load.pipeline >= 1 && load.connections >= 1, "{}", load.id);
        }
    }

    #[test]
    fn loads_run_in_the_order_of_the_tables_however_they_are_named() {
        assert_eq!(ids(&["blob", "plaintext-1"]), ["plaintext-1", "blob"]);
        assert_eq!(ids(&["all"]).len(), all().len());
    }

    #[test]
    fn an_open_loop_brings_the_load_that_decides_its_rate() {
        assert_eq!(ids(&["open-80"]), ["plaintext-64", "open-80"]);
        assert_eq!(ids(&["idle-10k"]), ["idle-10k"]);
    }

    #[test]
    fn an_unknown_load_is_refused_with_those_that_exist() {
        let error = chosen(&["plaintext-65".to_owned()]).unwrap_err();
        assert!(error.contains("plaintext-65") && error.contains("plaintext-64"), "{error}");
    }

    #[test]
    fn an_answer_is_right_only_byte_for_byte() {
        assert!(Target::Echo(3).is_answered_by(b"eee"));
        assert!(!Target::Echo(3).is_answered_by(b"eex"));
        assert!(!Target::Plaintext.is_answered_by(b"Hello, World"));
        assert_eq!(Target::File.body_len(), 1 << 20);
    }
}
