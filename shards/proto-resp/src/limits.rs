//! Limits: every maximum of the parser, with its default and what happens beyond it.
//!
//! Not here: the size of receive buffers, of replies and of whole pipelines (the floors above own those).

/// What one connection may make us hold. All counts are inclusive: standing on a limit is accepted.
///
/// A value may change between two polls, and holds from the next length that is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Arguments of one command, its name among them. Beyond: "invalid multibulk length".
    ///
    /// 8 bytes each while the command is read, and only for those that have arrived: 8 MiB by default.
    pub arguments_max: u32,
    /// Bytes of one argument. Beyond: "invalid bulk length". Default: `proto-max-bulk-len` of Redis, 512 MiB.
    pub bulk_bytes_max: u32,
    /// Bytes of an inline command or of the line of a length, with its first byte and without its end.
    /// Beyond: "too big inline request", "too big mbulk count string" or "too big bulk count string".
    /// Default: 64 KiB, as Redis.
    pub line_bytes_max: u32,
    /// Bytes of one whole command with all its lengths. Beyond, as soon as a length announces it: "command
    /// too long". Default: `client-query-buffer-limit` of Redis, 1 GiB. Redis closes without a word there.
    pub command_bytes_max: u32,
    /// Arguments of one command of a guest ([`crate::Parser::set_guest`]). Beyond: "unauthenticated multibulk
    /// length". Default: 10, as Redis from 6.2.6 on.
    pub guest_arguments_max: u32,
    /// Bytes of one argument of a guest. Beyond: "unauthenticated bulk length". Default: 16 KiB, as Redis.
    pub guest_bulk_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            arguments_max: 1 << 20,
            bulk_bytes_max: 512 << 20,
            line_bytes_max: 64 << 10,
            command_bytes_max: 1 << 30,
            guest_arguments_max: 10,
            guest_bulk_bytes_max: 16 << 10,
        }
    }
}
