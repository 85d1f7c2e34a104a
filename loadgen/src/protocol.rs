//! What a worker asks of a protocol: the bytes of a request, and what to make of the bytes that come back.
//!
//! A protocol is sans-IO: it has no socket and no clock. One value serves all connections of a worker; what belongs
//! to one connection is in [`Protocol::Conn`]. Answers come in the order of the requests.
//!
//! # Calling order
//! [`Protocol::write`] for each request, in the order they are sent. For received bytes: [`Protocol::read`] with the
//! oldest request that has no answer, again and again until it says that it wants more. Once it failed, or the
//! answer said `close`, the connection is closed and its `Conn` made anew.
//!
//! Not here: connections (`worker`), which protocols there are (`http1`, `echo`, `resp`).

use bytes::Bytes;

use crate::record::ErrorKind;

/// A whole answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Answer {
    /// What is wrong with it; one of the kinds that were answered.
    pub error: Option<ErrorKind>,
    /// No further request may be sent here, and no further answer comes.
    pub close: bool,
}

/// A protocol as spoken by a client.
pub trait Protocol {
    /// What a parser keeps of a connection between two receives.
    type Conn: Default;
    /// What must be known of a request to read its answer.
    type Ask: Copy;

    /// The bytes of every request, where all are the same: they are then sent without being written.
    fn constant(&self) -> Option<(Bytes, Self::Ask)>;

    /// Appends the bytes of request `number` to `out`. The same number gives the same bytes, whichever worker asks.
    fn write(&mut self, number: u64, out: &mut Vec<u8>) -> Self::Ask;

    /// Which of several weighted requests it is; 0 where there is one.
    fn kind(&self, ask: Self::Ask) -> usize;

    /// Takes bytes off the front of `bytes` up to the end of the answer to `ask`. `None`: the answer goes on, and
    /// all bytes were taken.
    ///
    /// # Errors
    /// [`ErrorKind::Garbage`] or another kind after which nothing on the connection can be understood.
    fn read(
        &self,
        conn: &mut Self::Conn,
        bytes: &mut &[u8],
        ask: Self::Ask,
    ) -> Result<Option<Answer>, ErrorKind>;

    /// The peer ended its side. `Some` if that completes the answer to `ask`.
    fn end(&self, conn: &mut Self::Conn, ask: Self::Ask) -> Option<Answer>;

    /// Whether part of an answer was read.
    fn is_within(&self, conn: &Self::Conn) -> bool;
}
