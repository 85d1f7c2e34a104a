//! Every key of the configuration, once: its name, kind, flag, variable and help.
//!
//! The parser of the file, the command line, `--print-config` and `docs/corelane.example.toml` are all made
//! from these tables. Defaults are not here: they are those of [`Settings`] and [`Limits`].
//!
//! Not here: how a kind is written (`kinds`), which layer wins (`mod.rs`).

use corelane_base::Limits;

use super::kinds::{self, Given, Kind};
use super::{Accept, LogFormat, Numa, Settings, ShardHost};
use crate::services::cache::snapshot::OnError;
use crate::services::cache::store::Eviction;
use crate::services::cache::upstream::Mode;

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
    /// `--long VALUE`, which may be repeated: the values are joined by commas.
    Values {
        /// Without the dashes.
        long: &'static str,
        /// What stands for one value in the help.
        value: &'static str,
    },
    /// `--long`, which sets the key to `true`.
    On {
        /// Without the dashes.
        long: &'static str,
    },
    /// `--long`, which sets the key to `false`.
    Off {
        /// Without the dashes.
        long: &'static str,
        /// What it does, as the key's own help says the opposite.
        help: &'static str,
    },
}

impl Flag {
    /// Its name, without the dashes.
    pub fn long(&self) -> &'static str {
        match self {
            Flag::Value { long, .. }
            | Flag::Values { long, .. }
            | Flag::On { long }
            | Flag::Off { long, .. } => long,
        }
    }
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
    /// Whether its value is never shown.
    pub is_secret: bool,
    pub(super) read: fn(&mut Settings, &Given<'_>) -> bool,
    pub(super) write: fn(&Settings) -> String,
    pub(super) may_be: fn() -> String,
}

impl Key {
    /// Its name inside its table.
    pub fn short(&self) -> &'static str {
        self.name.rsplit_once('.').map_or(self.name, |(_, short)| short)
    }

    /// The table it is in; empty for the top of the file.
    pub fn table(&self) -> &'static str {
        self.name.rsplit_once('.').map_or("", |(table, _)| table)
    }

    /// Its value in `settings`, as TOML; of a secret only whether it is set.
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
    TOP.iter().chain(SERVICES).chain(LIMITS)
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
            is_secret: false,
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
        listen: Listens,
        "listen",
        "Address and port to listen on, or unix:/path",
        "Repeat it for several. Port 0 takes any free one, and standard output says which.",
        Some(Flag::Values { long: "listen", value: "ADDR:PORT" }),
        Some("CORELANE_LISTEN")
    ),
    key!(
        shards: Shards,
        "shards",
        "How many shards to run",
        "\"auto\" is one for each physical core, as far as CPU quota and memory limit allow.",
        Some(Flag::Value { long: "shards", value: "N" }),
        Some("CORELANE_SHARDS")
    ),
    key!(
        cpus: Cpus,
        "cpus",
        "CPUs to run on, one shard on each, like 0,2-5",
        "\"auto\" leaves the choice to the node; a list is taken as it is.",
        Some(Flag::Value { long: "cpus", value: "LIST" }),
        Some("CORELANE_CPUS")
    ),
    key!(
        smt: Truth,
        "smt",
        "Use all hardware threads of a core, not one only",
        "Two shards of one core share its execution units and first caches.",
        Some(Flag::On { long: "smt" }),
        Some("CORELANE_SMT")
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
        host: Word,
        "host",
        "What gives a shard its thread: native or glommio",
        "With glommio each shard is a task of an executor; takes a build with --features glommio.",
        Some(Flag::Value { long: "host", value: "HOST" }),
        Some("CORELANE_HOST")
    ),
    key!(
        numa: Word,
        "numa",
        "Memory of a shard on the node of its CPU: auto or off",
        "With auto it comes from there as long as there is some.",
        None,
        Some("CORELANE_NUMA")
    ),
    key!(
        huge_pages: Truth,
        "huge_pages",
        "Ask for huge pages for pools and receive buffers",
        "Fewer misses of the address cache, more memory in use.",
        None,
        Some("CORELANE_HUGE_PAGES")
    ),
    key!(
        cpu_wake_time: Time,
        "cpu_wake_time",
        "Keep CPUs of the host from sleeping so deep that they wake slower; 0s: as they do",
        "Held in /dev/cpu_dma_latency while it runs. 2us is shallow sleep only: less delay, more power.",
        None,
        Some("CORELANE_CPU_WAKE_TIME")
    ),
    key!(
        accept: Word,
        "accept",
        "Shard of a new connection: reuseport or balanced",
        "With reuseport the kernel chooses, with balanced the shard with the fewest has it.",
        Some(Flag::Value { long: "accept", value: "HOW" }),
        Some("CORELANE_ACCEPT")
    ),
    key!(
        steer: Truth,
        "steer",
        "Give a new connection to the shard of the CPU that took its packet",
        "Worth it where each CPU has a queue of the network card.",
        Some(Flag::On { long: "steer" }),
        Some("CORELANE_STEER")
    ),
    key!(
        proxy_protocol: Networks,
        "proxy_protocol",
        "Networks whose connections begin with a PROXY protocol header",
        "From there a connection without one is refused; from elsewhere none is read.",
        None,
        Some("CORELANE_PROXY_PROTOCOL")
    ),
    key!(
        trusted_proxies: Networks,
        "trusted_proxies",
        "Networks whose Forwarded and X-Forwarded-For are believed",
        "",
        None,
        Some("CORELANE_TRUSTED_PROXIES")
    ),
    key!(
        admin: Address,
        "admin",
        "Admin interface: address and port, or off",
        "One that other hosts can reach needs an admin_token.",
        Some(Flag::Value { long: "admin", value: "ADDR:PORT" }),
        Some("CORELANE_ADMIN")
    ),
    Key {
        is_secret: true,
        ..key!(
            admin_token: Token,
            "admin_token",
            "What requests of the admin interface must carry; empty asks for nothing",
            "Better in the environment than in a file. There is no flag, as others could see it.",
            None,
            Some("CORELANE_ADMIN_TOKEN")
        )
    },
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

/// The tables of the file, each with what is said above it.
pub(super) const TABLES: &[(&str, &str)] = &[
    ("resp", "Redis clients. Off unless it listens somewhere."),
    ("cache", "The keyed store, of the whole node."),
    (
        "cache.upstream",
        "A Redis or Valkey server behind it; numbers are of each shard. Off unless there is a url.",
    ),
    ("limits", "Of one shard, unless it says otherwise. docs/LIMITS.md: what happens at each."),
];

static SERVICES: &[Key] = &[
    key!(
        resp_listen: Places,
        "resp.listen",
        "Address and port for Redis clients, unix:/path, or off",
        "Whoever reaches it can read and write all keys: keep it on loopback, or set a password.",
        Some(Flag::Values { long: "resp", value: "ADDR:PORT" }),
        Some("CORELANE_RESP_LISTEN")
    ),
    Key {
        is_secret: true,
        ..key!(
            resp_password: Token,
            "resp.password",
            "What Redis clients must give by AUTH; empty asks for nothing",
            "Needed where resp.listen can be reached from other hosts. Better in the environment than in a file.",
            None,
            Some("CORELANE_RESP_PASSWORD")
        )
    },
    Key {
        is_secret: true,
        ..key!(
            resp_users: Secrets,
            "resp.users",
            "Users of Redis clients and what they may do, like \"alice on #SHA256 ~app:* +@read\"",
            "The user default may do everything by resp.password, unless it is one of these.",
            None,
            None
        )
    },
    key!(
        resp_debug_commands: Truth,
        "resp.debug_commands",
        "Let Redis clients use DEBUG SLEEP, which has a shard stand still for up to 60 s",
        "For tests of clients only.",
        None,
        Some("CORELANE_RESP_DEBUG_COMMANDS")
    ),
    key!(
        cache.memory_max: Bytes,
        "cache.memory_max",
        "Bytes that all keys and values may hold; 0 is no maximum",
        "Each shard has an equal part. Past it keys go, as cache.eviction says.",
        None,
        Some("CORELANE_CACHE_MEMORY_MAX")
    ),
    key!(
        cache.eviction: Word,
        "cache.eviction",
        "Which keys go when memory is short",
        "One of s3-fifo, lru, lfu, fifo, random; with noeviction writes are refused instead.",
        None,
        Some("CORELANE_CACHE_EVICTION")
    ),
    key!(
        cache_http: Truth,
        "cache.http",
        "Serve the strings of the cache over HTTP, under /cache/",
        "Whoever reaches a listener can then read and write all of them: nothing is asked for.",
        None,
        Some("CORELANE_CACHE_HTTP")
    ),
    key!(
        snapshots.dir: Directory,
        "cache.snapshot_dir",
        "Directory to save all keys to, and to take them from at the start; or off",
        "It must be there, and belong to this node alone. Whoever reads it reads all keys.",
        None,
        Some("CORELANE_CACHE_SNAPSHOT_DIR")
    ),
    key!(
        snapshots.every: Time,
        "cache.snapshot_every",
        "Save this often, if keys were changed; 0s is only at a drain and when asked to",
        "",
        None,
        Some("CORELANE_CACHE_SNAPSHOT_EVERY")
    ),
    key!(
        snapshots.at_drain: Truth,
        "cache.snapshot_at_drain",
        "Save when the node drains, if there is a directory",
        "Within limits.drain_time, after the last connection has ended.",
        None,
        Some("CORELANE_CACHE_SNAPSHOT_AT_DRAIN")
    ),
    key!(
        snapshots.on_error: Word,
        "cache.snapshot_on_error",
        "What a start does with a damaged snapshot: refuse or empty",
        "With refuse it fails and says why; with empty the node starts without keys.",
        None,
        Some("CORELANE_CACHE_SNAPSHOT_ON_ERROR")
    ),
    Key {
        is_secret: true,
        ..key!(
            upstream.url: Upstream,
            "cache.upstream.url",
            "Where it is, redis://user:password@host:6379/0; or off",
            "With a password in it, better in the environment than in a file.",
            None,
            Some("CORELANE_CACHE_UPSTREAM_URL")
        )
    },
    key!(
        upstream.mode: Word,
        "cache.upstream.mode",
        "When it gets writes: through, behind or read",
        "With through before the client is answered, with behind later, with read never.",
        None,
        Some("CORELANE_CACHE_UPSTREAM_MODE")
    ),
    key!(
        upstream.timeout: Time,
        "cache.upstream.timeout",
        "For an answer of it",
        "At most half of limits.call_time.",
        None,
        Some("CORELANE_CACHE_UPSTREAM_TIMEOUT")
    ),
    key!(
        upstream.in_flight_max: Count,
        "cache.upstream.in_flight_max",
        "Commands that may be unanswered; past it a read finds nothing, a write fails",
        "",
        None,
        None
    ),
    key!(
        upstream.value_len_max: Bytes,
        "cache.upstream.value_len_max",
        "Bytes of a value that is fetched; a longer one ends the connection",
        "",
        None,
        None
    ),
    key!(
        upstream.ttl_max: Time,
        "cache.upstream.ttl_max",
        "Expiry of fetched values at most; 0s is what it says itself",
        "Bounds how old a value can be where it cannot tell of changes.",
        None,
        None
    ),
    key!(
        upstream.absent_keys_max: Count,
        "cache.upstream.absent_keys_max",
        "Keys that are known not to be there",
        "",
        None,
        None
    ),
    key!(
        upstream.absent_ttl: Time,
        "cache.upstream.absent_ttl",
        "For how long that is known",
        "",
        None,
        None
    ),
    key!(
        upstream.queue_keys_max: Count,
        "cache.upstream.queue_keys_max",
        "With behind: keys whose writes wait; past it a write fails",
        "",
        None,
        None
    ),
    key!(
        upstream.queue_bytes_max: Bytes,
        "cache.upstream.queue_bytes_max",
        "With behind: bytes of writes that wait; past it a write fails",
        "",
        None,
        None
    ),
    key!(
        upstream.tracking: Truth,
        "cache.upstream.tracking",
        "Have it tell of changes by others",
        "Takes Redis 6 or newer.",
        None,
        None
    ),
    key!(
        upstream.breaker_failures: Count,
        "cache.upstream.breaker_failures",
        "Failures in a row after which it is left alone for a second, then longer",
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
    gather_time: Time, "How long a busy shard waits for several completions before it takes the first";
    host_ring_entries: Count, "Glommio host: entries of each of its rings; a power of two";
    host_io_bytes: Bytes, "Glommio host: memory for direct I/O of each shard";
    host_preempt_time: Time, "Glommio host: how long one task queue keeps the CPU";
}

impl kinds::Words for Accept {
    const ALL: &'static [(&'static str, Accept)] =
        &[("reuseport", Accept::Reuseport), ("balanced", Accept::Balanced)];
}

impl kinds::Words for ShardHost {
    const ALL: &'static [(&'static str, ShardHost)] =
        &[("native", ShardHost::Native), ("glommio", ShardHost::Glommio)];
}

impl kinds::Words for Eviction {
    const ALL: &'static [(&'static str, Eviction)] = &[
        ("s3-fifo", Eviction::S3Fifo),
        ("lru", Eviction::Lru),
        ("lfu", Eviction::Lfu),
        ("fifo", Eviction::Fifo),
        ("random", Eviction::Random),
        ("noeviction", Eviction::NoEviction),
    ];
}

impl kinds::Words for Mode {
    const ALL: &'static [(&'static str, Mode)] =
        &[("through", Mode::Through), ("behind", Mode::Behind), ("read", Mode::Read)];
}

impl kinds::Words for OnError {
    const ALL: &'static [(&'static str, OnError)] = &[("refuse", OnError::Refuse), ("empty", OnError::Empty)];
}

impl kinds::Words for Numa {
    const ALL: &'static [(&'static str, Numa)] = &[("auto", Numa::Auto), ("off", Numa::Off)];
}

impl kinds::Words for LogFormat {
    const ALL: &'static [(&'static str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];
}
