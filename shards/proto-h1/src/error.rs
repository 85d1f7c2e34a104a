//! Errors: why bytes of a peer were refused, and why an answer of the application was.
//!
//! Not here: the answer itself (`response`), the decision to close (`connection`).

use core::fmt;

macro_rules! why {
    ($($(#[$doc:meta])* $name:ident = $status:literal, $text:literal;)+) => {
        /// The one reason for a refusal. The peer must act, except where the variant says otherwise.
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum Why { $($(#[$doc])* $name,)+ }

        impl Why {
            /// Every reason, in the order of declaration: for metrics and tests.
            pub const ALL: &'static [Why] = &[$(Why::$name,)+];

            /// A short text, fit for a log line or the body of the answer.
            pub const fn as_str(self) -> &'static str {
                match self { $(Why::$name => $text,)+ }
            }

            /// The status that answers this reason.
            pub const fn status(self) -> u16 {
                match self { $(Why::$name => $status,)+ }
            }
        }
    };
}

why! {
    /// More than `empty_lines_max` empty lines before a request line.
    EmptyLines = 400, "too many empty lines before the request line";
    /// LF without CR before it (RFC 9112, 2.2).
    BareLf = 400, "line feed without carriage return";
    /// CR without LF after it (RFC 9112, 2.2).
    BareCr = 400, "carriage return without line feed";
    /// The method is not a token (RFC 9110, 9.1).
    MethodSyntax = 400, "method is not a token";
    /// The request line is not `method SP target SP version` (RFC 9112, 3).
    LineSyntax = 400, "malformed request line";
    /// The target holds a byte that no URI may hold (RFC 3986, 2).
    TargetByte = 400, "byte not allowed in the request target";
    /// `%` without two hexadecimal digits (RFC 3986, 2.1).
    TargetEscape = 400, "bad percent escape in the request target";
    /// The target holds a fragment (RFC 9112, 3.2).
    TargetFragment = 400, "fragment in the request target";
    /// The target has none of the four forms, or not one this method may use (RFC 9112, 3.2).
    TargetForm = 400, "request target form does not fit the method";
    /// The authority of an absolute or authority form is not acceptable (RFC 9110, 4.2).
    TargetAuthority = 400, "bad authority in the request target";
    /// Absolute form with a scheme other than `http` and `https`.
    TargetScheme = 400, "scheme not served";
    /// The request line is longer than `line_bytes_max`.
    LineTooLong = 414, "request line too long";
    /// Not `HTTP/D.D`, or no version at all (RFC 9112, 2.3).
    VersionSyntax = 400, "malformed HTTP version";
    /// A major version other than 1 (RFC 9110, 15.6.6).
    VersionMajor = 505, "HTTP major version not supported";
    /// A field line that starts with whitespace: obsolete line folding (RFC 9112, 5.2).
    ObsFold = 400, "folded or indented field line";
    /// The field name is empty or not a token (RFC 9112, 5).
    FieldName = 400, "malformed field name";
    /// Whitespace between field name and colon (RFC 9112, 5.1).
    FieldSpaceColon = 400, "whitespace before the colon of a field";
    /// A control byte in a field value (RFC 9110, 5.5).
    FieldValue = 400, "control byte in a field value";
    /// A field name that differs from a framing field only by an underscore.
    FieldLookalike = 400, "field name imitates a framing field";
    /// More field lines than `headers_max`.
    TooManyFields = 431, "too many header fields";
    /// The head is longer than `head_bytes_max`.
    HeadTooLong = 431, "request head too large";
    /// HTTP/1.1 without Host (RFC 9112, 3.2).
    HostMissing = 400, "Host field missing";
    /// More than one Host field line (RFC 9112, 3.2).
    HostDuplicate = 400, "more than one Host field";
    /// A Host value that is not `uri-host [ ":" port ]` (RFC 9110, 7.2).
    HostSyntax = 400, "malformed Host field";
    /// Content-Length is not one decimal number that fits 64 bits (RFC 9112, 6.3).
    LengthSyntax = 400, "malformed Content-Length";
    /// More than one Content-Length, even when equal.
    LengthDuplicate = 400, "more than one Content-Length";
    /// Content-Length and Transfer-Encoding together (RFC 9112, 6.1).
    LengthAndCoding = 400, "both Content-Length and Transfer-Encoding";
    /// Transfer-Encoding is not a list of codings, or empty.
    CodingSyntax = 400, "malformed Transfer-Encoding";
    /// `chunked` is missing, not last, or applied twice (RFC 9112, 6.1).
    CodingNotChunked = 400, "chunked is not the one final transfer coding";
    /// A transfer coding other than `chunked` (RFC 9112, 6.1).
    CodingUnknown = 501, "transfer coding not supported";
    /// Transfer-Encoding in HTTP/1.0 (RFC 9112, 6.1).
    CodingOldVersion = 400, "Transfer-Encoding in HTTP/1.0";
    /// Connection names a field that frames or routes the message.
    ConnectionAbuse = 400, "Connection names a framing field";
    /// An expectation other than `100-continue` (RFC 9110, 10.1.1).
    Expectation = 417, "expectation not supported";
    /// Content with a method that must not have any (TRACE, CONNECT; RFC 9110, 9.3.6 and 9.3.8).
    BodyForbidden = 400, "this method takes no content";
    /// The body is longer than `body_bytes_max`.
    BodyTooLong = 413, "content too large";
    /// A chunk size that is not 1 to 16 hexadecimal digits (RFC 9112, 7.1).
    ChunkSize = 400, "malformed chunk size";
    /// A chunk extension outside the grammar (RFC 9112, 7.1.1).
    ChunkExtension = 400, "malformed chunk extension";
    /// Chunk extensions longer than `chunk_ext_bytes_max`.
    ChunkExtensionsTooLong = 413, "chunk extensions too large";
    /// No CRLF where a chunk or its size line must end (RFC 9112, 7.1).
    ChunkEnd = 400, "chunk does not end in CRLF";
    /// The trailer section is longer than `trailer_bytes_max`.
    TrailerTooLong = 431, "trailer section too large";
    /// The peer closed in the middle of a head.
    IncompleteHead = 400, "connection closed within a request head";
    /// The peer closed in the middle of a body (RFC 9112, 8).
    IncompleteBody = 400, "connection closed within a request body";
    /// The head did not arrive in time. For the floor that owns the clock.
    HeadTimeout = 408, "request head took too long";
    /// The body did not arrive in time. For the floor that owns the clock.
    BodyTimeout = 408, "request body took too long";
    /// The application failed. We must act.
    Internal = 500, "internal error";
    /// No room for this request now. We must act.
    Busy = 503, "server is at its limit";
    /// Not acceptable to the head parser for a reason the explanation did not find.
    Malformed = 400, "malformed request head";
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: the status to answer with and the reason. The connection closes after it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reject {
    /// The status of the answer, 400 to 599.
    pub status: u16,
    /// The reason.
    pub why: Why,
}

impl From<Why> for Reject {
    #[inline]
    fn from(why: Why) -> Self {
        Self { status: why.status(), why }
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.status, self.why)
    }
}

impl std::error::Error for Reject {}

/// Why an answer of the application was not written. Nothing of it is in the sink; the application must act.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadHeader {
    /// A status outside 200..=999, or 2xx to CONNECT, or an upgrade the client did not ask for.
    Status,
    /// A field name that is not a token.
    Name,
    /// A control byte (CR, LF, NUL, ...) in a field value.
    Value,
    /// Content-Length, Transfer-Encoding or Connection: those are ours to write.
    Framing,
    /// An upgrade answer without an `Upgrade` field.
    UpgradeMissing,
}

impl fmt::Display for BadHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "status not allowed here",
            Self::Name => "field name is not a token",
            Self::Value => "control byte in a field value",
            Self::Framing => "framing fields are written by the connection",
            Self::UpgradeMissing => "upgrade answer without an Upgrade field",
        })
    }
}

impl std::error::Error for BadHeader {}
