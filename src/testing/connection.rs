//! A client's connection to the service under test, byte by byte or answer by answer.
//!
//! Not here: what bytes make an answer (`message`), how time goes on (`rig`).

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;

use corelane_sim::Peer;

use super::message::{NoAnswer, Parsed, TestRequest, TestResponse, parse};
use super::rig::{Shared, lock};

/// A connection to a [`TestServer`](super::TestServer). Dropping it closes it.
///
/// Writing and reading happen at the present time: no timer fires. [`TestConnection::response`] lets time pass
/// until there is an answer.
///
/// ```
/// use corelane::App;
/// use corelane::testing::TestServer;
/// use std::time::Duration;
///
/// let server = TestServer::new(|_| App::new(()).get("/", |_| "hello"));
/// let connection = server.connect();
/// connection.write("GET / HTTP/1.1\r\nHost: t\r\n");
/// assert!(connection.read().is_empty()); // half a head is no request
/// connection.write("\r\n");
/// assert_eq!(connection.response().text(), "hello");
/// server.advance(Duration::from_secs(61)); // longer than `Limits::idle_time`
/// assert!(connection.is_over());
/// ```
pub struct TestConnection {
    rig: Shared,
    peer: Peer,
    /// Received and not handed out.
    inbox: RefCell<Vec<u8>>,
    /// Whether each request sent and not answered was a HEAD.
    heads: RefCell<VecDeque<bool>>,
}

impl fmt::Debug for TestConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestConnection").field("peer", &self.peer).finish_non_exhaustive()
    }
}

impl TestConnection {
    pub(super) fn new(rig: Shared, peer: Peer) -> TestConnection {
        TestConnection { rig, peer, inbox: RefCell::default(), heads: RefCell::default() }
    }

    /// Writes bytes. Says how many were taken: fewer where the service stopped reading, or closed.
    pub fn write(&self, bytes: impl AsRef<[u8]>) -> usize {
        let mut rig = lock(&self.rig);
        let mut rest = bytes.as_ref();
        loop {
            let taken = self.peer.write(rest);
            rest = &rest[taken..];
            rig.rest();
            if rest.is_empty() || taken == 0 {
                return bytes.as_ref().len() - rest.len();
            }
        }
    }

    /// Writes a request. The answer is [`TestConnection::response`]'s.
    pub fn send(&self, request: &TestRequest) {
        self.heads.borrow_mut().push_back(request.is_head());
        self.write(request.to_bytes());
    }

    /// Takes all that has come.
    pub fn read(&self) -> Vec<u8> {
        lock(&self.rig).rest();
        self.receive();
        std::mem::take(&mut self.inbox.borrow_mut())
    }

    /// Takes all that has come, as text. Bytes that are not UTF-8 are replaced.
    pub fn read_text(&self) -> String {
        String::from_utf8_lossy(&self.read()).into_owned()
    }

    /// The next answer. Lets time pass until it is whole. Interim answers (1xx, but 101) are skipped. That to
    /// a HEAD has no body only where [`TestConnection::send`] wrote it.
    ///
    /// # Panics
    /// Where none comes: see [`TestConnection::try_response`].
    #[track_caller]
    pub fn response(&self) -> TestResponse {
        match self.try_response() {
            Ok(response) => response,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next answer, as [`TestConnection::response`].
    ///
    /// # Errors
    /// When the connection is refused, reset or closed before it is whole, or when it does not come although
    /// nothing more can happen, or a day of the fake clock has passed.
    ///
    /// # Panics
    /// When what came is no answer of HTTP/1.
    #[track_caller]
    pub fn try_response(&self) -> Result<TestResponse, NoAnswer> {
        let is_head = self.heads.borrow_mut().pop_front().unwrap_or(false);
        self.wait(is_head);
        let mut inbox = self.inbox.borrow_mut();
        match parse(&inbox, is_head, self.ended()) {
            Parsed::Whole(response, used) => {
                inbox.drain(..used);
                Ok(response)
            }
            Parsed::Partial => Err(NoAnswer::new(self.why(), std::mem::take(&mut inbox))),
            Parsed::Malformed(why) => panic!("{why}: {:?}", String::from_utf8_lossy(&inbox)),
        }
    }

    /// All that comes by the time of the first whole answer.
    pub(super) fn whole(&self, is_head: bool) -> Vec<u8> {
        self.wait(is_head);
        self.read()
    }

    /// Lets time pass until an answer, or something that is none, is there, or the connection is over.
    fn wait(&self, is_head: bool) {
        lock(&self.rig).until(|_| {
            self.receive();
            self.peer.is_over() || !matches!(parse(&self.inbox.borrow(), is_head, false), Parsed::Partial)
        });
    }

    fn receive(&self) {
        self.inbox.borrow_mut().extend_from_slice(&self.peer.take());
    }

    /// The service ended its side, having sent all it had to say.
    fn ended(&self) -> bool {
        self.peer.is_eof() && !self.peer.was_reset()
    }

    fn why(&self) -> &'static str {
        if self.peer.is_refused() {
            "the connection was refused"
        } else if self.peer.was_reset() {
            "the connection was reset before a whole answer came"
        } else if self.peer.is_eof() {
            "the connection was closed before a whole answer came"
        } else {
            "no whole answer came, and nothing more happens"
        }
    }

    /// Stops reading: once the link is full (64 KiB), the service cannot send.
    pub fn stop_reading(&self) {
        self.peer.stop_reading();
    }

    /// Reads again.
    pub fn start_reading(&self) {
        self.peer.start_reading();
        lock(&self.rig).rest();
    }

    /// Ends our side: the service reads the end of the stream.
    pub fn shutdown_write(&self) {
        self.peer.shutdown_write();
        lock(&self.rig).rest();
    }

    /// Closes both sides. What came before can still be read.
    pub fn close(&self) {
        self.peer.close();
        lock(&self.rig).rest();
    }

    /// Cuts the connection: the service sees a reset.
    pub fn reset(&self) {
        self.peer.reset();
        lock(&self.rig).rest();
    }

    /// Nothing more will come: ended, reset or refused.
    pub fn is_over(&self) -> bool {
        self.peer.is_over()
    }

    /// The service, or a fault, cut the connection.
    pub fn was_reset(&self) -> bool {
        self.peer.was_reset()
    }

    /// Nobody listened, or the queue was full.
    pub fn is_refused(&self) -> bool {
        self.peer.is_refused()
    }

    /// Where it comes from.
    pub fn addr(&self) -> Option<SocketAddr> {
        self.peer.addr()
    }
}
