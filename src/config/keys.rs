//! Every key of the configuration, once: its name, kind, flag, variable and help.
//!
//! The parser of the file, the command line, `--print-config` and `docs/corelane.example.toml` are all made
//! from these tables. Defaults are not here: they are those of [`Settings`] and [`Limits`].
//!
//! Not here: how a kind is written (`kinds`), which layer wins (`mod.rs`).

use corelane_base::Limits;

use super::kinds::{self, Given, Kind};
use super::{LogFormat, Settings};

/// A flag of the command line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flag {
    /// `--long VALUE`.
    Value {
        /// Without the dashes.
        long: &'static str,
        /// What stands for the value in the help.
        value: &'static str,
    },
    /// `--long`, which sets the key to `false`.
    Off {
        /// Without the dashes.
        long: &'static str,
        /// What it does, as the key's own help says the opposite.
        help: &'static str,
    },
}

/// One key.
#[derive(Debug)]
pub struct Key {
    /// As in the file, with its table: `listen`, `limits.connections_max`.
    pub name: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// What there is to say beyond that, for `--help`; may be empty.
    pub more: &'static str,
    /// Its flag.
    pub flag: Option<Flag>,
    /// Its variable of the environment.
    pub env: Option<&'static str>,
    pub(super) read: fn(&mut Settings, &Given<'_>) -> bool,
    pub(super) write: fn(&Settings) -> String,
    pub(super) may_be: fn() -> String,
}

impl Key {
    /// Its name inside its table.
    pub fn short(&self) -> &'static str {
        self.name.strip_prefix("limits.").unwrap_or(self.name)
    }

    /// Its value in `settings`, as TOML.
    pub fn write(&self, settings: &Settings) -> String {
        (self.write)(settings)
    }

    /// What it may be, as the end of a sentence that starts with "write".
    pub fn may_be(&self) -> String {
        (self.may_be)()
    }
}

/// All keys, in the order of the file.
pub fn all() -> impl Iterator<Item = &'static Key> {
    TOP.iter().chain(LIMITS)
}

/// The key called `name`.
pub fn find(name: &str) -> Option<&'static Key> {
    all().find(|key| key.name == name)
}

macro_rules! key {
    ($($field:ident).+ : $kind:ident, $name:expr, $help:literal, $more:literal, $flag:expr, $env:expr) => {
        Key {
            name: $name,
            help: $help,
            more: $more,
            flag: $flag,
            env: $env,
            read: |settings, given| match kinds::$kind::read(given) {
                Some(value) => {
                    settings.$($field).+ = value;
                    true
                }
                None => false,
            },
            write: |settings| <kinds::$kind as Kind<_>>::write(&settings.$($field).+),
            may_be: || {
                fn of<T, K: Kind<T>>(_: fn(&Settings) -> &T) -> String {
                    K::may_be()
                }
                of::<_, kinds::$kind>(|settings| &settings.$($field).+)
            },
        }
    };
}

static TOP: &[Key] = &[
    key!(
        listen: Address,
        "listen",
        "Address and port to listen on",
        "Port 0 takes any free port; the line on standard output says which.",
        Some(Flag::Value { long: "listen", value: "ADDR:PORT" }),
        Some("CORELANE_LISTEN")
    ),
    key!(
        cpus: Cpus,
        "cpus",
        "CPUs to run on, one shard on each, like 0,2-5",
        "\"auto\" is one shard on the first CPU this process may use.",
        Some(Flag::Value { long: "cpus", value: "LIST" }),
        Some("CORELANE_CPUS")
    ),
    key!(
        pin: Truth,
        "pin",
        "Keep each shard on its CPU",
        "On a host shared with other work it is better to let the kernel place them.",
        Some(Flag::Off { long: "no-pin", help: "Let the kernel move the shards between CPUs" }),
        Some("CORELANE_PIN")
    ),
    key!(
        log: LogFilter,
        "log",
        "Lines to log: off, error, warn, info, debug or trace",
        "For single modules too: info,corelane_net=debug.",
        Some(Flag::Value { long: "log", value: "LEVEL" }),
        Some("CORELANE_LOG")
    ),
    key!(
        log_format: Word,
        "log_format",
        "How log lines are written: text or json",
        "With json, everything that is said on standard error while it runs is.",
        Some(Flag::Value { long: "log-format", value: "FORMAT" }),
        Some("CORELANE_LOG_FORMAT")
    ),
    key!(
        server_field: FieldValue,
        "server_field",
        "The Server field of answers; empty sends none",
        "",
        None,
        None
    ),
];

macro_rules! limits {
    ($($field:ident: $kind:ident, $help:literal;)*) => {
        static LIMITS: &[Key] = &[
            $(key!(limits.$field: $kind, concat!("limits.", stringify!($field)), $help, "", None, None),)*
        ];

        /// Does not compile while a field of [`Limits`] has no key.
        const _: fn(Limits) = |Limits { $($field: _),* }| {};
    };
}

limits! {
    connections_max: Count, "Connections of a shard; lowered to the limit of open files if not set here";
    connections_per_peer_max: Count, "Connections of a shard from one peer address; 0 is no limit";
    descriptors_headroom: Count, "Descriptors kept free beyond connections_max";
    backlog: Count, "Connections waiting to be accepted; net.core.somaxconn caps it";
    recv_buffers: Count, "Buffers of the receive ring; a power of two";
    recv_buffer_bytes: Bytes, "Bytes of one receive buffer";
    submission_entries: Count, "Entries of the submission queue; a power of two";
    completion_entries: Count, "Entries of the completion queue";
    pool_small: Count, "Pool slots of 1 KiB";
    pool_medium: Count, "Pool slots of 64 KiB";
    pool_large: Count, "Pool slots of 1 MiB";
    pool_heap_bytes_max: Bytes, "Bytes the pools may take from the heap beyond their slots";
    line_bytes_max: Bytes, "Bytes of a request line; past it 414";
    head_bytes_max: Bytes, "Bytes of a request head; past it 431";
    headers_max: Count, "Header fields of a request; past it 431";
    body_bytes_max: Bytes, "Bytes of a request body; past it 413";
    drain_bytes_max: Bytes, "Unread body bytes swallowed to keep a connection";
    inbox_bytes_max: Bytes, "Received bytes a shard holds for partial heads and unread input";
    body_high_water: Bytes, "Body bytes waiting for a handler before receiving stops";
    output_high_water: Bytes, "Output bytes waiting on a connection before receiving stops";
    pipeline_max: Count, "Requests of one connection answered in one turn";
    tasks_max: Count, "Tasks of a shard; past it 503";
    timers_max: Count, "Timers of a shard besides those of connections";
    mesh_credits: Count, "Unanswered calls of a shard to one other shard";
    mesh_waiting_max: Count, "Calls of a shard that wait for a credit";
    mesh_budget: Count, "Requests of other shards taken in one turn";
    blocking_threads: Count, "Threads for what must block, shared by all shards";
    blocking_queue_max: Count, "Blocking jobs that wait for a thread";
    head_time: Time, "From the first byte of a head to its end; past it 408";
    body_time: Time, "From the end of a head to the end of its body; past it 408";
    write_time: Time, "For the peer to take what one send handed over; past it a reset";
    idle_time: Time, "Without a request; past it the connection is closed";
    handler_time: Time, "For an async handler to answer; past it 503";
    call_time: Time, "For a call to another shard to be answered";
    stall_time: Time, "A turn longer than this is counted and logged";
    half_close_time: Time, "For an async handler to go on after the peer ended its side";
    linger_time: Time, "To read and drop what a peer still sends after the last answer";
    drain_idle: Time, "In a drain: for idle connections to bring one more request";
    drain_time: Time, "In a drain: when everything left is cut";
    task_budget: Count, "Task polls in one turn";
    completion_budget: Count, "Completions taken in one turn";
    busy_poll: Time, "How long an idle shard polls before it sleeps";
}

impl kinds::Words for LogFormat {
    const ALL: &'static [(&'static str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
}
