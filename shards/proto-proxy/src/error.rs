//! Errors: why bytes are no header, and at which of them that showed.
//!
//! Not here: what to do about it. There is one answer to all of them: close.

use core::fmt;

macro_rules! why {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)+) => {
        /// The one reason for a refusal. The peer, or who configured it, must act.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Why { $($(#[$doc])* $name,)+ }

        impl Why {
            /// Every reason, in the order of declaration: for metrics and tests.
            pub const ALL: &'static [Why] = &[$(Why::$name,)+];

            /// A short text, fit for a log line.
            pub const fn as_str(self) -> &'static str {
                match self { $(Why::$name => $text,)+ }
            }
        }
    };
}

why! {
    /// Neither `PROXY ` nor the 12 bytes of version 2: most likely a client that came without its proxy.
    Signature = "not a PROXY protocol header";
    /// Version 1: not `TCP4`, `TCP6` or `UNKNOWN`, in capitals (section 2.1).
    Protocol = "protocol is not TCP4, TCP6 or UNKNOWN";
    /// Version 1: not an address of the announced family.
    Address = "malformed address";
    /// Version 1: not a port, 0 to 65535 without leading zeros.
    Port = "malformed port";
    /// Version 1: something other than exactly one space between fields, or CRLF behind the last.
    Separator = "fields are not separated by one space and ended by CRLF";
    /// Version 1: CR without LF, or LF without CR (section 2.1).
    BareCrLf = "carriage return or line feed alone";
    /// Version 1: no CRLF within [`LINE_BYTES_MAX`](crate::LINE_BYTES_MAX) bytes.
    LineTooLong = "line longer than 107 bytes";
    /// Version 2: the version nibble is not 2 (section 2.2).
    Version = "version is not 2";
    /// Version 2: a command other than LOCAL and PROXY.
    Command = "unknown command";
    /// Version 2: an address family that is not assigned.
    Family = "unknown address family";
    /// Version 2: a transport that is not assigned.
    Transport = "unknown transport protocol";
    /// Version 2: longer than the caller's maximum.
    TooLong = "header longer than the maximum";
    /// Version 2: the block cannot hold the addresses of its family.
    TooShort = "header too short for its addresses";
    /// Version 2: an extension that reaches beyond the header, or a rest too short to be one.
    Tlv = "extension does not fit the header";
    /// Version 2: a UNIQUE_ID of more than 128 bytes (section 2.2.5).
    UniqueId = "unique id longer than 128 bytes";
    /// Version 2: a CRC32C that is not 4 bytes long, or a second one.
    ChecksumForm = "malformed or repeated checksum";
    /// Version 2: the checksum is not that of the header (section 2.2.3).
    Checksum = "checksum does not match";
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Bytes that are no header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Error {
    /// The offset of the byte that decided it; for what is wrong with an extension, where that begins.
    pub at: usize,
    /// The reason.
    pub why: Why,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (byte {})", self.why, self.at)
    }
}

impl core::error::Error for Error {}
