//! Errors: why the bytes of a peer are no command, in the words of Redis.
//!
//! Not here: the reply itself (`writer`), closing (the caller).

use core::fmt;

/// Why bytes were refused. The peer must act; the connection ends after the reply.
///
/// `Display` gives what Redis says after `-ERR `, so that clients that look for its words find them.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ProtocolError {
    /// The number of arguments is not a decimal number, or above `arguments_max`, or CR without LF follows
    /// it.
    InvalidMultibulkLength,
    /// The length of an argument is not a decimal number, or negative, or above `bulk_bytes_max`, or no CRLF
    /// stands behind it or behind the bytes it announced.
    InvalidBulkLength,
    /// This byte where the length of an argument must begin.
    ExpectedDollar(u8),
    /// No CR within `line_bytes_max` of the start of a command.
    MultibulkCountTooLong,
    /// No CR within `line_bytes_max` of the start of an argument.
    BulkCountTooLong,
    /// No LF within `line_bytes_max` of the start of an inline command.
    InlineTooLong,
    /// A quote of an inline command is not closed, or something other than a blank follows the closing one.
    UnbalancedQuotes,
    /// More arguments than `guest_arguments_max` from a guest.
    GuestMultibulkLength,
    /// An argument above `guest_bulk_bytes_max` from a guest.
    GuestBulkLength,
    /// The command is above `command_bytes_max`. Redis has no words for it: it closes.
    CommandTooLong,
}

impl ProtocolError {
    /// The reason without the byte that was found: for metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidMultibulkLength => "invalid multibulk length",
            Self::InvalidBulkLength => "invalid bulk length",
            Self::ExpectedDollar(_) => "expected '$'",
            Self::MultibulkCountTooLong => "too big mbulk count string",
            Self::BulkCountTooLong => "too big bulk count string",
            Self::InlineTooLong => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::GuestMultibulkLength => "unauthenticated multibulk length",
            Self::GuestBulkLength => "unauthenticated bulk length",
            Self::CommandTooLong => "command too long",
        }
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Protocol error: {}", self.as_str())?;
        match self {
            Self::ExpectedDollar(got) => write!(f, ", got '{}'", got.escape_ascii()),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for ProtocolError {}
