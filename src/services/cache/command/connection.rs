//! Commands about connections, the node, and all shards at once: what they are. Run by the connection, by their names.
//!
//! Not here: running them (`session`), the replies of COMMAND (`describe`).

use super::{Keys, Spec};

/// The table of these commands.
pub const TABLE: &[Spec] = &[
    Spec::new("ping", -1, "fast", "fast connection").docs(
        "connection",
        "1.0.0",
        "O(1)",
        "Replies PONG, or its argument: a sign of life.",
    ),
    Spec::new("echo", 2, "loading stale fast", "fast connection").docs(
        "connection",
        "1.0.0",
        "O(1)",
        "Replies its argument.",
    ),
    Spec::new("hello", -1, "noscript loading stale fast no_auth", "fast connection").docs(
        "connection",
        "6.0.0",
        "O(1)",
        "Chooses the version of the protocol, and may log in and name the connection.",
    ),
    Spec::new("auth", -2, "noscript loading stale fast no_auth", "fast connection").docs(
        "connection",
        "1.0.0",
        "O(N), N being the passwords of the user",
        "Logs in.",
    ),
    Spec::new("select", 2, "loading stale fast", "fast connection").docs(
        "connection",
        "1.0.0",
        "O(1)",
        "Chooses a database: there is only 0.",
    ),
    Spec::new("client", -2, "", "slow")
        .docs("connection", "2.4.0", "that of the subcommand", "About connections of clients.")
        .with(CLIENT),
    Spec::new("quit", -1, "noscript loading stale fast no_auth", "fast connection").docs(
        "connection",
        "1.0.0",
        "O(1)",
        "Closes the connection after its reply.",
    ),
    Spec::new("reset", 1, "noscript loading stale fast no_auth", "fast connection").docs(
        "connection",
        "6.2.0",
        "O(1)",
        "Puts the connection back to how it began.",
    ),
    Spec::new("command", -1, "loading stale", "slow connection")
        .docs("server", "2.8.13", "O(N), N being the number of commands", "About the commands there are.")
        .with(COMMAND),
    Spec::new("multi", 1, "noscript loading stale fast", "fast transaction").docs(
        "transactions",
        "1.2.0",
        "O(1)",
        "Begins a transaction: what follows is queued.",
    ),
    Spec::new("exec", 1, "noscript loading stale skip_slowlog", "slow transaction").docs(
        "transactions",
        "1.2.0",
        "that of the commands queued",
        "Runs what was queued, as one.",
    ),
    Spec::new("discard", 1, "noscript loading stale fast", "fast transaction").docs(
        "transactions",
        "2.0.0",
        "O(N), N being the commands queued",
        "Forgets what was queued.",
    ),
    Spec::new("watch", -2, "noscript loading stale fast", "fast transaction").keys(Keys::ALL).docs(
        "transactions",
        "2.2.0",
        "O(N), N being the number of keys",
        "Lets the next EXEC fail if one of these keys changes before it.",
    ),
    Spec::new("unwatch", 1, "noscript loading stale fast", "fast transaction").docs(
        "transactions",
        "2.2.0",
        "O(1)",
        "Forgets all watched keys.",
    ),
    Spec::new("subscribe", -2, "pubsub noscript loading stale", "pubsub slow").docs(
        "pubsub",
        "2.0.0",
        "O(N), N being the number of channels or patterns",
        "Receives what is published on channels.",
    ),
    Spec::new("psubscribe", -2, "pubsub noscript loading stale", "pubsub slow").docs(
        "pubsub",
        "2.0.0",
        "O(N), N being the number of channels or patterns",
        "Receives what is published on channels that match patterns.",
    ),
    Spec::new("unsubscribe", -1, "pubsub noscript loading stale", "pubsub slow").docs(
        "pubsub",
        "2.0.0",
        "O(N), N being the number of channels or patterns",
        "Receives no more from channels, or from all.",
    ),
    Spec::new("punsubscribe", -1, "pubsub noscript loading stale", "pubsub slow").docs(
        "pubsub",
        "2.0.0",
        "O(N), N being the number of channels or patterns",
        "Receives no more by patterns, or by all of them.",
    ),
    Spec::new("publish", 3, "pubsub loading stale fast", "pubsub fast").docs(
        "pubsub",
        "2.0.0",
        "O(N + M), N being the subscribers of the channel, M all patterns",
        "Sends a message to those who subscribed to a channel.",
    ),
    Spec::new("pubsub", -2, "", "slow")
        .docs("pubsub", "2.8.0", "that of the subcommand", "About channels and who subscribed to them.")
        .with(PUBSUB),
    Spec::new("info", -1, "loading stale", "slow dangerous").docs(
        "server",
        "1.0.0",
        "O(1)",
        "Replies facts and counters, by sections.",
    ),
    Spec::new("config", -2, "", "slow")
        .docs("server", "2.0.0", "that of the subcommand", "About settings.")
        .with(CONFIG),
    Spec::new("memory", -2, "", "slow")
        .docs("server", "4.0.0", "that of the subcommand", "About memory.")
        .with(MEMORY),
    Spec::new("time", 1, "loading stale fast", "fast").docs(
        "server",
        "2.6.0",
        "O(1)",
        "Replies the time of the host: seconds since 1970 and microseconds.",
    ),
    Spec::new("scan", -2, "readonly", "keyspace read slow").docs(
        "generic",
        "2.8.0",
        "O(1) for each call, O(N) for all keys",
        "Goes through all keys, some of them with each call.",
    ),
    Spec::new("randomkey", 1, "readonly", "keyspace read slow").docs(
        "generic",
        "1.0.0",
        "O(1)",
        "Replies any key.",
    ),
    Spec::new("save", 1, "admin noscript no_multi", "admin slow dangerous").docs(
        "server",
        "1.0.0",
        "O(N), N being the number of keys",
        "Makes a snapshot of all keys, and waits for it.",
    ),
    Spec::new("bgsave", -1, "admin noscript", "admin slow dangerous").docs(
        "server",
        "1.0.0",
        "O(1)",
        "Begins a snapshot of all keys.",
    ),
    Spec::new("lastsave", 1, "loading stale fast", "admin fast dangerous").docs(
        "server",
        "1.0.0",
        "O(1)",
        "Replies when the last snapshot was made, in seconds since 1970.",
    ),
    Spec::new("hotkeys", -1, "admin loading stale", "admin slow dangerous").docs(
        "server",
        "7.0.0",
        "O(N), N being the number of shards",
        "Replies the keys used most, with estimates of how often.",
    ),
];

const CLIENT: &[Spec] = &[
    Spec::new("client|getname", 2, "noscript loading stale", "slow connection").docs(
        "connection",
        "2.6.9",
        "O(1)",
        "Replies the name of this connection.",
    ),
    Spec::new("client|getredir", 2, "noscript loading stale", "slow connection").docs(
        "connection",
        "6.0.0",
        "O(1)",
        "Replies where invalidations go: nowhere, as there is no tracking.",
    ),
    Spec::new("client|help", 2, "loading stale", "slow connection").docs(
        "connection",
        "5.0.0",
        "O(1)",
        "Replies these lines.",
    ),
    Spec::new("client|id", 2, "noscript loading stale", "slow connection").docs(
        "connection",
        "5.0.0",
        "O(1)",
        "Replies the number of this connection.",
    ),
    Spec::new("client|info", 2, "noscript loading stale", "slow connection").docs(
        "connection",
        "6.2.0",
        "O(1)",
        "Replies one line about this connection.",
    ),
    Spec::new("client|kill", -3, "admin noscript loading stale", "admin slow dangerous connection").docs(
        "connection",
        "2.4.0",
        "O(N), N being the number of those named or replied",
        "Closes connections.",
    ),
    Spec::new("client|list", -2, "admin noscript loading stale", "admin slow dangerous connection").docs(
        "connection",
        "2.4.0",
        "O(N), N being the number of those named or replied",
        "Replies one line about each connection.",
    ),
    Spec::new("client|no-evict", 3, "admin noscript loading stale", "admin slow dangerous connection").docs(
        "connection",
        "7.0.0",
        "O(1)",
        "Exempts this connection from being closed where memory is short.",
    ),
    Spec::new("client|pause", -3, "admin noscript loading stale", "admin slow dangerous connection").docs(
        "connection",
        "3.0.0",
        "O(N), N being the number of clients",
        "Holds the commands of all clients up, or their writes.",
    ),
    Spec::new("client|reply", 3, "noscript loading stale", "slow connection").docs(
        "connection",
        "3.2.0",
        "O(1)",
        "Has the server reply, not reply, or skip one reply.",
    ),
    Spec::new("client|setname", 3, "noscript loading stale", "slow connection").docs(
        "connection",
        "2.6.9",
        "O(1)",
        "Names this connection.",
    ),
    Spec::new("client|trackinginfo", 2, "noscript loading stale", "slow connection").docs(
        "connection",
        "6.2.0",
        "O(1)",
        "Replies how keys are tracked: not at all.",
    ),
    Spec::new("client|unblock", -3, "admin noscript loading stale", "admin slow dangerous connection").docs(
        "connection",
        "5.0.0",
        "O(N), N being the number of clients",
        "Ends the wait of a client that waits for a key.",
    ),
    Spec::new("client|unpause", 2, "admin noscript loading stale", "admin slow dangerous connection").docs(
        "connection",
        "6.2.0",
        "O(N), N being the number of clients",
        "Ends a pause.",
    ),
];

const COMMAND: &[Spec] = &[
    Spec::new("command|count", 2, "loading stale", "slow connection").docs(
        "server",
        "2.8.13",
        "O(1)",
        "Counts all commands.",
    ),
    Spec::new("command|docs", -2, "loading stale", "slow connection").docs(
        "server",
        "7.0.0",
        "O(N), N being the number of those named or replied",
        "Replies what commands are for.",
    ),
    Spec::new("command|getkeys", -4, "loading stale", "slow connection").docs(
        "server",
        "2.8.13",
        "O(N), N being the number of those named or replied",
        "Replies the keys of a command.",
    ),
    Spec::new("command|help", 2, "loading stale", "slow connection").docs(
        "server",
        "5.0.0",
        "O(1)",
        "Replies these lines.",
    ),
    Spec::new("command|info", -2, "loading stale", "slow connection").docs(
        "server",
        "2.8.13",
        "O(N), N being the number of those named or replied",
        "Replies the shapes of commands.",
    ),
    Spec::new("command|list", -2, "loading stale", "slow connection").docs(
        "server",
        "7.0.0",
        "O(N), N being the number of those named or replied",
        "Replies the names of commands.",
    ),
];

const PUBSUB: &[Spec] = &[
    Spec::new("pubsub|channels", -2, "pubsub loading stale", "pubsub slow").docs(
        "pubsub",
        "2.8.0",
        "O(N), N being the number of those named or replied",
        "Replies the channels somebody subscribed to.",
    ),
    Spec::new("pubsub|help", 2, "loading stale", "slow").docs(
        "pubsub",
        "6.2.0",
        "O(1)",
        "Replies these lines.",
    ),
    Spec::new("pubsub|numpat", 2, "pubsub loading stale", "pubsub slow").docs(
        "pubsub",
        "2.8.0",
        "O(1)",
        "Counts the patterns subscribed to.",
    ),
    Spec::new("pubsub|numsub", -2, "pubsub loading stale", "pubsub slow").docs(
        "pubsub",
        "2.8.0",
        "O(N), N being the number of those named or replied",
        "Counts the subscribers of channels.",
    ),
];

const CONFIG: &[Spec] = &[
    Spec::new("config|get", -3, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "2.0.0",
        "O(N), N being the number of those named or replied",
        "Replies the settings whose names match patterns.",
    ),
    Spec::new("config|help", 2, "loading stale", "slow").docs(
        "server",
        "5.0.0",
        "O(1)",
        "Replies these lines.",
    ),
    Spec::new("config|resetstat", 2, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "2.0.0",
        "O(1)",
        "Sets the counters of INFO to nothing.",
    ),
    Spec::new("config|set", -4, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "2.0.0",
        "O(N), N being the number of those named or replied",
        "Changes settings.",
    ),
];

const MEMORY: &[Spec] = &[
    Spec::new("memory|doctor", 2, "", "slow").docs(
        "server",
        "4.0.0",
        "O(N), N being the number of shards and clients",
        "Says what is wrong with the memory of the keys, and what to do.",
    ),
    Spec::new("memory|help", 2, "loading stale", "slow").docs(
        "server",
        "4.0.0",
        "O(1)",
        "Replies these lines.",
    ),
    Spec::new("memory|malloc-stats", 2, "", "slow").docs(
        "server",
        "4.0.0",
        "O(1)",
        "Replies what the allocator says of itself: nothing here.",
    ),
    Spec::new("memory|purge", 2, "", "slow").docs(
        "server",
        "4.0.0",
        "O(1)",
        "Gives free memory back to the host, where there is a way.",
    ),
    Spec::new("memory|stats", 2, "", "slow").docs(
        "server",
        "4.0.0",
        "O(N), N being the number of shards and clients",
        "Replies who holds how many bytes.",
    ),
    Spec::new("memory|usage", -3, "readonly", "read slow")
        .keys(Keys::Range { first: 2, last: 2, step: 1 })
        .run(super::Run::Data(super::data::keys::memory_usage))
        .docs("server", "4.0.0", "O(1)", "Replies how many bytes a key and its value hold."),
];
