//! One TCP connection: two ends and a flow in each direction, as plain data.
//!
//! # Rules
//! 1. Segments of one flow arrive in the order they were sent, and each at the time it was given.
//! 2. A flow holds at most `bytes_max` bytes, on the wire and unread together.
//! 3. An end that was reset (`broken`) neither sends nor receives any more.
//!
//! Not here: when something arrives and who is told (`net`).

use std::collections::VecDeque;
use std::net::SocketAddr;

/// What travels.
#[derive(Debug)]
pub(crate) enum Segment {
    Data(Vec<u8>),
    Fin,
    Rst,
}

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    pub(crate) flying: VecDeque<Segment>,
    flying_bytes: usize,
    /// Came and was not read.
    pub(crate) arrived: VecDeque<u8>,
    pub(crate) fin_sent: bool,
    pub(crate) fin_arrived: bool,
    /// When the sender's line has sent everything so far.
    pub(crate) line_free_at: u64,
    /// When the last segment arrives.
    pub(crate) last_arrival: u64,
}

impl Flow {
    /// Bytes it takes now.
    pub(crate) fn space(&self, bytes_max: usize) -> usize {
        bytes_max.saturating_sub(self.flying_bytes + self.arrived.len())
    }

    pub(crate) fn send(&mut self, segment: Segment) {
        match &segment {
            Segment::Data(bytes) => self.flying_bytes += bytes.len(),
            Segment::Fin => self.fin_sent = true,
            Segment::Rst => {}
        }
        self.flying.push_back(segment);
    }

    /// The next segment leaves the wire. None where a reset emptied it.
    pub(crate) fn land(&mut self) -> Option<Segment> {
        let segment = self.flying.pop_front();
        if let Some(Segment::Data(bytes)) = &segment {
            self.flying_bytes -= bytes.len();
        }
        segment
    }

    /// Drops what is on the wire.
    pub(crate) fn clear_wire(&mut self) {
        self.flying.clear();
        self.flying_bytes = 0;
    }
}

/// A test's side of a link.
#[derive(Debug, Default)]
pub(crate) struct PeerEnd {
    pub(crate) inbox: VecDeque<u8>,
    pub(crate) connected: bool,
    pub(crate) refused: bool,
    pub(crate) eof: bool,
    pub(crate) reset: bool,
    pub(crate) reading_stopped: bool,
    pub(crate) closed: bool,
}

/// Who holds an end.
#[derive(Debug)]
pub(crate) enum End {
    /// The code under test, at this slot.
    Sock(u32),
    /// Nobody yet: it waits in the queue of a listener.
    Queued,
    /// The test.
    Peer(PeerEnd),
    /// Nobody any more. What arrives is answered with a reset.
    Gone,
}

/// `flows[i]` is what side `i` sends; `addr[i]` is where side `i` is.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) flows: [Flow; 2],
    pub(crate) ends: [End; 2],
    pub(crate) addr: [SocketAddr; 2],
    pub(crate) broken: [bool; 2],
    /// An errno that side `i` has not been told yet.
    pub(crate) error: [Option<i32>; 2],
}

impl Link {
    pub(crate) fn new(ends: [End; 2], addr: [SocketAddr; 2]) -> Link {
        Link { flows: [Flow::default(), Flow::default()], ends, addr, broken: [false; 2], error: [None; 2] }
    }

    pub(crate) fn is_gone(&self, side: usize) -> bool {
        match &self.ends[side] {
            End::Gone => true,
            End::Peer(peer) => peer.closed,
            End::Sock(_) | End::Queued => false,
        }
    }

    /// Nobody can see it any more.
    pub(crate) fn is_over(&self) -> bool {
        let gone = self.ends.iter().all(|end| matches!(end, End::Gone));
        gone && self.flows.iter().all(|flow| flow.flying.is_empty())
    }

    pub(crate) fn peer(&self, side: usize) -> Option<&PeerEnd> {
        match &self.ends[side] {
            End::Peer(peer) => Some(peer),
            _ => None,
        }
    }

    pub(crate) fn peer_mut(&mut self, side: usize) -> Option<&mut PeerEnd> {
        match &mut self.ends[side] {
            End::Peer(peer) => Some(peer),
            _ => None,
        }
    }
}
