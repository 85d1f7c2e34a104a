//! Commands of whoever runs the node: what they are. Run by the connection, by their names.
//!
//! Not here: running them (`session`).

use super::Spec;

/// The table of these commands.
pub const TABLE: &[Spec] = &[
    Spec::new("acl", -2, "", "slow")
        .docs("server", "6.0.0", "that of the subcommand", "About users and what they may do.")
        .with(ACL),
    Spec::new("slowlog", -2, "", "slow")
        .docs("server", "2.2.12", "that of the subcommand", "About commands that took long.")
        .with(SLOWLOG),
    Spec::new("latency", -2, "", "slow")
        .docs("server", "2.8.13", "that of the subcommand", "About what took long, by its kind.")
        .with(LATENCY),
    Spec::new("debug", -2, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "1.0.0",
        "that of the subcommand",
        "For tests of clients: SLEEP has a shard stand still. Off unless resp.debug_commands is set.",
    ),
    Spec::new("shutdown", -1, "admin noscript loading stale no_multi", "admin slow dangerous").docs(
        "server",
        "1.0.0",
        "O(N), N being the number of keys that are saved, if they are",
        "Drains the node, and ends it.",
    ),
];

const SEEN: &str = "O(N), N being the number of those named or replied";

const ACL: &[Spec] = &[
    Spec::new("acl|cat", -2, "noscript loading stale", "slow").docs(
        "server",
        "6.0.0",
        SEEN,
        "Replies the categories of commands, or the commands of one.",
    ),
    Spec::new("acl|deluser", -3, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "6.0.0",
        SEEN,
        "Deletes users, and closes their connections.",
    ),
    Spec::new("acl|dryrun", -4, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "7.0.0",
        "O(1)",
        "Says whether a user may run a command, without running it.",
    ),
    Spec::new("acl|genpass", -2, "noscript loading stale", "slow").docs(
        "server",
        "6.0.0",
        "O(1)",
        "Replies a new password of so many random bits.",
    ),
    Spec::new("acl|getuser", 3, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "6.0.0",
        SEEN,
        "Replies what a user may do.",
    ),
    Spec::new("acl|help", 2, "loading stale", "slow").docs("server", "6.0.0", "O(1)", "Replies these lines."),
    Spec::new("acl|list", 2, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "6.0.0",
        SEEN,
        "Replies all users with their rules.",
    ),
    Spec::new("acl|log", -2, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "6.0.0",
        SEEN,
        "Replies who was denied what lately, or forgets it (RESET).",
    ),
    Spec::new("acl|setuser", -3, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "6.0.0",
        SEEN,
        "Makes a user, or changes one by rules.",
    ),
    Spec::new("acl|users", 2, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "6.0.0",
        SEEN,
        "Replies the names of all users.",
    ),
    Spec::new("acl|whoami", 2, "noscript loading stale", "slow").docs(
        "server",
        "6.0.0",
        "O(1)",
        "Replies the name of the user of this connection.",
    ),
];

const SLOWLOG: &[Spec] = &[
    Spec::new("slowlog|get", -2, "admin loading stale", "admin slow dangerous").docs(
        "server",
        "2.2.12",
        SEEN,
        "Replies the commands that took long, the newest first.",
    ),
    Spec::new("slowlog|help", 2, "loading stale", "slow").docs(
        "server",
        "6.2.0",
        "O(1)",
        "Replies these lines.",
    ),
    Spec::new("slowlog|len", 2, "admin loading stale", "admin slow dangerous").docs(
        "server",
        "2.2.12",
        "O(1)",
        "Counts them.",
    ),
    Spec::new("slowlog|reset", 2, "admin loading stale", "admin slow dangerous").docs(
        "server",
        "2.2.12",
        SEEN,
        "Forgets them.",
    ),
];

const LATENCY: &[Spec] = &[
    Spec::new("latency|doctor", 2, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "2.8.13",
        "O(1)",
        "Says what took long, and what to do.",
    ),
    Spec::new("latency|help", 2, "loading stale", "slow").docs(
        "server",
        "2.8.13",
        "O(1)",
        "Replies these lines.",
    ),
    Spec::new("latency|history", 3, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "2.8.13",
        "O(1)",
        "Replies when an event took how long.",
    ),
    Spec::new("latency|latest", 2, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "2.8.13",
        "O(1)",
        "Replies of all events the latest and the longest.",
    ),
    Spec::new("latency|reset", -2, "admin noscript loading stale", "admin slow dangerous").docs(
        "server",
        "2.8.13",
        "O(1)",
        "Forgets events, or all of them.",
    ),
];
