//! Limits: every maximum of the machine, with its default and what happens beyond it.
//!
//! Not here: deadlines and connection counts (the floors above own the clock and the table).

/// Slots in [`crate::HeaderSlots`]: the hard ceiling of [`Limits::headers_max`].
///
/// 32 bytes a slot: 4 KiB of uninitialised stack or arena per polling loop, not per connection.
pub const HEADERS_MAX: usize = 128;

/// What one connection may make us hold or do. All counts are inclusive: standing on a limit is accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of a request line without its CRLF. Beyond: 414. RFC 9112, 3 asks for at least 8000.
    pub line_bytes_max: u32,
    /// Bytes of a whole head, blank line included. Beyond: 431.
    pub head_bytes_max: u32,
    /// Field lines of a head; more than [`HEADERS_MAX`] counts as [`HEADERS_MAX`]. Beyond: 431.
    pub headers_max: u16,
    /// Bytes of a body after chunk decoding. Beyond: 413.
    pub body_bytes_max: u64,
    /// Bytes of chunk extensions over one whole message. Beyond: 413. RFC 9112, 7.1.1 asks for such a limit.
    pub chunk_ext_bytes_max: u32,
    /// Bytes of a trailer section, final CRLF included. Beyond: 431.
    pub trailer_bytes_max: u32,
    /// Empty lines skipped before one request line. Beyond: 400. RFC 9112, 2.2 asks for at least one.
    pub empty_lines_max: u8,
    /// Bytes of an unread body swallowed to keep the connection. Beyond: it closes after the answer.
    pub drain_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            line_bytes_max: 16 << 10,
            head_bytes_max: 32 << 10,
            headers_max: 100,
            body_bytes_max: 1 << 20,
            chunk_ext_bytes_max: 4 << 10,
            trailer_bytes_max: 8 << 10,
            empty_lines_max: 2,
            drain_bytes_max: 64 << 10,
        }
    }
}

impl Limits {
    /// [`Limits::headers_max`] as a slot count, never above [`HEADERS_MAX`].
    #[inline]
    pub(crate) fn slots(&self) -> usize {
        usize::from(self.headers_max).min(HEADERS_MAX)
    }
}
