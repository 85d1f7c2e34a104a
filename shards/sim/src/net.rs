//! The steps of TCP: segments, accepts, receives, sends, connects.
//!
//! # Rules
//! 1. Bytes that arrived before a reset are still received by the code under test, as on Linux; a peer that
//!    stopped reading loses them (RFC 9293, 3.10.7.4 lets a receiver flush its queues).
//! 2. A reset is told once with `ECONNRESET`; after it receives give 0 and sends `EPIPE`.
//! 3. A socket closed with unread bytes sends a reset, else the end of the stream (RFC 1122, 4.2.2.13).
//! 4. A send takes what the link has room for and waits only where that is nothing.
//!
//! Not here: what may be pushed (`rules`), the handles of the test (`world`).

use std::net::SocketAddr;

use corelane_base::{AcceptMode, Completion, Payload, RecvMode, Token};
use corelane_pools::Chain;
use libc::{
    EAGAIN, ECONNABORTED, ECONNREFUSED, ECONNRESET, EINPROGRESS, EISCONN, ENFILE, ENOBUFS, ENOTCONN, EPIPE,
    ETIMEDOUT,
};

use crate::config::Fault;
use crate::link::{End, Link, PeerEnd, Segment};
use crate::peer::Peer;
use crate::state::{
    Action, Done, Event, Lane, Owed, Phase, Place, SendOp, SockState, State, What, Work, as_result, nanos,
};

impl SockState {
    pub(crate) fn new(phase: Phase) -> SockState {
        SockState {
            bound: None,
            phase,
            recv: None,
            send: None,
            shut_read: false,
            shut_write: false,
            recv_due: 0,
            send_due: 0,
        }
    }
}

impl State {
    // ----- segments

    /// Puts a segment on the wire.
    pub(crate) fn transmit(&mut self, link_id: u64, side: usize, segment: Segment) {
        let delay = self.delay();
        let (now, latency, bandwidth) = (self.now, nanos(self.config.latency), self.config.bandwidth);
        let Some(link) = self.links.get_mut(&link_id) else { return };
        if link.broken[side] {
            return;
        }
        let len = if let Segment::Data(bytes) = &segment { bytes.len() as u64 } else { 0 };
        let wire = bandwidth.map_or(0, |per_second| len * 1_000_000_000 / per_second);
        let flow = &mut link.flows[side];
        flow.line_free_at = flow.line_free_at.max(now).saturating_add(wire);
        let arrival = flow.line_free_at.saturating_add(latency).saturating_add(delay).max(flow.last_arrival);
        flow.last_arrival = arrival;
        flow.send(segment);
        self.at(arrival, Event::Arrive { link: link_id, side });
    }

    /// Cuts a link in the middle: what is on the wire is lost, both ends are told.
    fn cut_link(&mut self, link_id: u64) {
        self.note("cut", link_id, 0);
        for side in 0..2 {
            if let Some(link) = self.links.get_mut(&link_id) {
                link.flows[side].clear_wire();
            }
        }
        // The end that met the fault knows at once, so that its operation can end with it.
        self.break_end(link_id, 0);
        self.break_end(link_id, 1);
    }

    /// A segment of `side` reaches the other end.
    pub(crate) fn arrive(&mut self, link_id: u64, side: usize) {
        let Some(link) = self.links.get_mut(&link_id) else { return };
        let dest = 1 - side;
        let Some(segment) = link.flows[side].land() else {
            self.drop_link_if_over(link_id);
            return;
        };
        if link.broken[dest] {
            self.drop_link_if_over(link_id);
            return;
        }
        let gone = link.is_gone(dest);
        match segment {
            Segment::Data(bytes) => {
                self.note("arrive", link_id << 1 | side as u64, i64::from(as_result(bytes.len())));
                self.log.bytes(&bytes);
                if gone {
                    self.transmit(link_id, dest, Segment::Rst);
                } else if let Some(link) = self.links.get_mut(&link_id) {
                    link.flows[side].arrived.extend(bytes);
                }
            }
            Segment::Fin => {
                link.flows[side].fin_arrived = true;
                self.note("fin", link_id << 1 | side as u64, 0);
            }
            Segment::Rst => {
                self.note("rst", link_id << 1 | side as u64, 0);
                self.break_end(link_id, dest);
            }
        }
        self.tell(link_id, dest);
        self.drop_link_if_over(link_id);
    }

    /// `side` learns of a reset.
    fn break_end(&mut self, link_id: u64, side: usize) {
        let Some(link) = self.links.get_mut(&link_id) else { return };
        if link.broken[side] {
            return;
        }
        link.broken[side] = true;
        link.error[side] = Some(ECONNRESET);
        link.flows[side].clear_wire();
        if let Some(peer) = link.peer_mut(side) {
            peer.reset = true;
            link.flows[1 - side].arrived.clear();
        }
        self.tell(link_id, side);
    }

    /// `side` cuts its connection: nothing more of it arrives but a reset.
    pub(crate) fn abort_end(&mut self, link_id: u64, side: usize) {
        self.note("abort", link_id, 0);
        if let Some(link) = self.links.get_mut(&link_id) {
            link.flows[side].clear_wire();
        }
        self.transmit(link_id, side, Segment::Rst);
        if let Some(link) = self.links.get_mut(&link_id) {
            // As `break_end`, but the reset stays on the wire.
            link.broken[side] = true;
            link.error[side] = Some(ECONNRESET);
        }
        self.tell(link_id, side);
    }

    /// Something changed for the end at `side`.
    fn tell(&mut self, link_id: u64, side: usize) {
        match self.links.get(&link_id).map(|link| &link.ends[side]) {
            Some(&End::Sock(slot)) => {
                self.want(Work::Recv(slot));
                self.want(Work::Send(slot));
            }
            Some(End::Peer(_)) => self.drain_to_peer(link_id, side),
            Some(End::Queued | End::Gone) | None => {}
        }
    }

    /// A peer reads what came, unless it stopped.
    pub(crate) fn drain_to_peer(&mut self, link_id: u64, side: usize) {
        let inbox_max = self.config.inbox_bytes_max;
        let Some(link) = self.links.get_mut(&link_id) else { return };
        let (flows, ends) = (&mut link.flows, &mut link.ends);
        let (flow, End::Peer(peer)) = (&mut flows[1 - side], &mut ends[side]) else { return };
        if peer.reading_stopped || peer.closed {
            return;
        }
        let count = flow.arrived.len().min(inbox_max.saturating_sub(peer.inbox.len()));
        peer.inbox.extend(flow.arrived.drain(..count));
        peer.eof |= flow.arrived.is_empty() && flow.fin_arrived;
        if count > 0 {
            self.has_room(link_id, 1 - side);
        }
    }

    /// The flow out of `side` was read from: a send that waits may go on.
    fn has_room(&mut self, link_id: u64, side: usize) {
        if let Some(&End::Sock(slot)) = self.links.get(&link_id).map(|link| &link.ends[side]) {
            self.want(Work::Send(slot));
        }
    }

    /// The holder of an end lets go of it (rule 3). A peer's handle stays until it is dropped.
    pub(crate) fn close_end(&mut self, link_id: u64, side: usize) {
        let Some(link) = self.links.get_mut(&link_id) else { return };
        let unread = !link.flows[1 - side].arrived.is_empty();
        let fin_sent = link.flows[side].fin_sent;
        link.flows[1 - side].arrived.clear();
        match &mut link.ends[side] {
            End::Peer(peer) => peer.closed = true,
            end => *end = End::Gone,
        }
        if unread {
            self.transmit(link_id, side, Segment::Rst);
        } else if !fin_sent {
            self.transmit(link_id, side, Segment::Fin);
        }
        self.drop_link_if_over(link_id);
    }

    pub(crate) fn drop_link_if_over(&mut self, link_id: u64) {
        if self.links.get(&link_id).is_some_and(Link::is_over) {
            self.links.remove(&link_id);
        }
    }

    pub(crate) fn add_link(&mut self, ends: [End; 2], addr: [SocketAddr; 2]) -> u64 {
        let id = self.next_sequence();
        self.links.insert(id, Link::new(ends, addr));
        id
    }

    // ----- accept

    /// A connection reaches a listener: it waits there, or is refused.
    pub(crate) fn reach_listener(&mut self, link_id: u64, listener: u16) {
        let backlog = self.config.backlog as usize;
        let Some(link) = self.links.get_mut(&link_id) else { return };
        let at = &mut self.listeners[listener as usize];
        if !at.open || at.waiting.len() >= backlog {
            link.ends[1] = End::Gone;
            link.broken = [true; 2];
            if let Some(peer) = link.peer_mut(0) {
                peer.refused = true;
            }
            self.note("refused", link_id, i64::from(listener));
            return;
        }
        if let Some(peer) = link.peer_mut(0) {
            peer.connected = true;
        }
        at.waiting.push_back(link_id);
        self.note("syn", link_id, i64::from(listener));
        self.want(Work::Accept(listener));
    }

    fn post_accept(&mut self, listener: u16, result: i32, more: bool, peer: Option<SocketAddr>) {
        let ops = &mut self.listeners[listener as usize].ops;
        let Some(token) = ops.front().map(|op| op.token) else { return };
        if !more {
            ops.pop_front();
            self.remove_place(token, Place::Accept(listener));
        }
        let payload = peer.map_or(Payload::None, Payload::Peer);
        let completion = Completion { token, result, more, payload };
        let opens = u32::try_from(result).ok();
        self.post(Lane::Accept(listener), Done { completion, bytes: None, ends: Owed::Nothing, opens });
    }

    /// Takes what waits at a listener for as long as somebody asks.
    pub(crate) fn run_accept(&mut self, listener: u16) {
        loop {
            let at = &mut self.listeners[listener as usize];
            let Some(mode) = at.ops.front().map(|op| op.mode) else { return };
            let Some(link_id) = at.waiting.pop_front() else {
                if mode != AcceptMode::Queued {
                    return;
                }
                self.post_accept(listener, -EAGAIN, false, None);
                continue;
            };
            if self.roll(Fault::AcceptAborted) {
                self.lose_queued(link_id, true);
                self.post_accept(listener, -ECONNABORTED, false, None);
                continue;
            }
            if self.roll(Fault::AcceptTableFull) || !self.has_free_slot() {
                self.lose_queued(link_id, false);
                self.post_accept(listener, -ENFILE, false, None);
                continue;
            }
            let phase = Phase::Connected { link: link_id, side: 1 };
            let Some(slot) = self.open_slot(What::Sock(SockState::new(phase))) else { return };
            let mut peer_addr = None;
            if let Some(link) = self.links.get_mut(&link_id) {
                link.ends[1] = End::Sock(slot);
                peer_addr = Some(link.addr[0]);
            }
            self.note("accept", link_id, i64::from(slot));
            let more = mode != AcceptMode::OneWithPeer && !self.roll(Fault::MultishotEnd);
            let peer_addr = peer_addr.filter(|_| mode == AcceptMode::OneWithPeer);
            self.post_accept(listener, as_result(slot as usize), more, peer_addr);
        }
    }

    /// A connection that waited is lost: cut, or closed.
    pub(crate) fn lose_queued(&mut self, link_id: u64, cut: bool) {
        self.note("lost", link_id, i64::from(cut));
        if cut {
            self.transmit(link_id, 1, Segment::Rst);
            if let Some(link) = self.links.get_mut(&link_id) {
                link.ends[1] = End::Gone;
            }
        } else {
            self.close_end(link_id, 1);
        }
    }

    // ----- receive

    fn post_recv(
        &mut self,
        slot: u32,
        result: i32,
        more: bool,
        payload: Payload<Chain>,
        bytes: Option<Vec<u8>>,
    ) {
        let Some(sock) = self.sock(slot) else { return };
        let Some(token) = sock.recv.as_ref().map(|op| op.token) else { return };
        if !more {
            sock.recv = None;
            self.remove_place(token, Place::Recv(slot));
        }
        let completion = Completion { token, result, more, payload };
        self.post(Lane::Recv(slot), Done { completion, bytes, ends: Owed::Recv(slot), opens: None });
    }

    pub(crate) fn end_recv(&mut self, slot: u32, result: i32) {
        self.post_recv(slot, result, false, Payload::None, None);
    }

    /// Goes on with the receive of a socket. `fresh` where it was just pushed.
    pub(crate) fn run_recv(&mut self, slot: u32, fresh: bool) {
        let mut fresh = fresh;
        loop {
            let Some(sock) = self.sock(slot) else { return };
            let Some(mode) = sock.recv.as_ref().map(|op| op.mode) else { return };
            let Phase::Connected { link: link_id, side } = sock.phase else {
                return self.end_recv(slot, -ENOTCONN);
            };
            let shut = sock.shut_read;
            let Some(link) = self.links.get_mut(&link_id) else { return };
            let flow = &link.flows[1 - side];
            let waiting = flow.arrived.len();
            let over = shut || flow.fin_arrived || link.broken[side];
            // A buffer is picked before anything is read: when it is issued, and when it is woken.
            let picks = fresh || waiting > 0 || over;
            fresh = false;
            if picks && (self.free_buffers.is_empty() || waiting > 0 && self.roll(Fault::NoBuffers)) {
                self.stats.no_buffers += 1;
                return self.end_recv(slot, -ENOBUFS);
            }
            if waiting > 0 {
                if self.roll(Fault::Reset) {
                    if let Some(link) = self.links.get_mut(&link_id) {
                        link.flows[1 - side].arrived.clear();
                    }
                    self.cut_link(link_id);
                    continue;
                }
                self.deliver(slot, link_id, side, mode);
                continue;
            }
            let error = self.links.get_mut(&link_id).and_then(|link| link.error[side].take());
            return match (error, over, mode) {
                (Some(errno), ..) => self.end_recv(slot, -errno),
                (None, true, _) => self.end_recv(slot, 0),
                (None, false, RecvMode::Ready) => self.end_recv(slot, -EAGAIN),
                (None, false, RecvMode::Multi | RecvMode::Once) => {}
            };
        }
    }

    /// Fills one buffer.
    fn deliver(&mut self, slot: u32, link_id: u64, side: usize, mode: RecvMode) {
        let buffer_bytes = self.config.recv_buffer_bytes as usize;
        let waiting = self.links.get(&link_id).map_or(0, |link| link.flows[1 - side].arrived.len());
        let count = self.cut(Fault::ShortRecv, waiting.min(buffer_bytes));
        let Some(link) = self.links.get_mut(&link_id) else { return };
        let bytes: Vec<u8> = link.flows[1 - side].arrived.drain(..count).collect();
        let Some(buffer) = self.free_buffers.pop_front() else { return };
        self.note("recv", u64::from(slot), i64::from(as_result(count)));
        self.has_room(link_id, 1 - side);
        let more = mode == RecvMode::Multi && !self.roll(Fault::MultishotEnd);
        self.post_recv(slot, as_result(count), more, Payload::Received(buffer), Some(bytes));
    }

    // ----- send

    pub(crate) fn end_send(&mut self, slot: u32, result: i32) {
        let Some(SendOp { token, data }) = self.sock(slot).and_then(|sock| sock.send.take()) else { return };
        self.remove_place(token, Place::Send(slot));
        self.note("send", u64::from(slot), i64::from(result));
        let completion = Completion { token, result, more: false, payload: Payload::Sent(data) };
        self.post(Lane::Send(slot), Done { completion, bytes: None, ends: Owed::Send(slot), opens: None });
    }

    /// Goes on with the send of a socket (rule 4).
    pub(crate) fn run_send(&mut self, slot: u32) {
        let link_bytes = self.config.link_bytes as usize;
        let Some(sock) = self.sock(slot) else { return };
        let Some(len) = sock.send.as_ref().map(|op| op.data.len()) else { return };
        let Phase::Connected { link: link_id, side } = sock.phase else { return self.end_send(slot, -EPIPE) };
        let shut = sock.shut_write;
        let Some(link) = self.links.get_mut(&link_id) else { return };
        if let Some(errno) = link.error[side].take() {
            return self.end_send(slot, -errno);
        }
        if shut || link.broken[side] {
            return self.end_send(slot, -EPIPE);
        }
        let space = link.flows[side].space(link_bytes);
        for (fault, errno) in
            [(Fault::SendPipe, EPIPE), (Fault::SendReset, ECONNRESET), (Fault::Reset, ECONNRESET)]
        {
            if self.roll(fault) {
                self.cut_link(link_id);
                // The send is what tells; a receive under way ends with 0.
                if let Some(link) = self.links.get_mut(&link_id) {
                    link.error[side] = None;
                }
                return self.end_send(slot, -errno);
            }
        }
        if space == 0 {
            return;
        }
        let count = self.cut(Fault::PartialSend, space.min(len));
        let mut bytes = Vec::with_capacity(count);
        if let Some(op) = self.sock(slot).and_then(|sock| sock.send.as_ref()) {
            for slice in op.data.slices() {
                bytes.extend_from_slice(&slice[..slice.len().min(count - bytes.len())]);
            }
        }
        self.transmit(link_id, side, Segment::Data(bytes));
        self.end_send(slot, as_result(count));
    }

    // ----- connect

    pub(crate) fn start_connect(&mut self, slot: u32, token: Token, addr: SocketAddr) {
        let attempt = self.next_sequence();
        let Some(sock) = self.sock(slot) else { return };
        let refused_at_once = match sock.phase {
            Phase::Fresh | Phase::Failed => None,
            Phase::Connecting { .. } => Some(EINPROGRESS),
            Phase::Connected { .. } => Some(EISCONN),
        };
        if let Some(errno) = refused_at_once {
            return self.end(token, -errno, Owed::Other(slot));
        }
        sock.phase = Phase::Connecting { token, attempt };
        self.add_place(token, Place::Connect(slot));
        let round_trip = nanos(self.config.latency).saturating_mul(2).saturating_add(self.delay());
        let silent = self.black_holes.contains(&addr) || self.roll(Fault::ConnectTimeout);
        let (after, refusal) = if silent {
            (nanos(self.config.connect_timeout), Some(ETIMEDOUT))
        } else if self.roll(Fault::ConnectRefused) {
            (round_trip, Some(ECONNREFUSED))
        } else {
            (round_trip, None)
        };
        let at = self.now.saturating_add(after);
        self.at(at, Event::Connected { slot, attempt, addr, refusal });
    }

    pub(crate) fn end_connect(&mut self, slot: u32, token: Token, phase: Phase, result: i32) {
        if let Some(sock) = self.sock(slot) {
            sock.phase = phase;
        }
        self.remove_place(token, Place::Connect(slot));
        self.note("connect", u64::from(slot), i64::from(result));
        self.end(token, result, Owed::Other(slot));
    }

    /// A connect is answered: by a served address, by a listener of this kernel, or with a refusal. Gives
    /// back what the test wants done with the new peer.
    pub(crate) fn finish_connect(
        &mut self,
        slot: u32,
        attempt: u64,
        addr: SocketAddr,
        refusal: Option<i32>,
    ) -> Option<Action> {
        let Phase::Connecting { token, attempt: current } = self.sock(slot)?.phase else { return None };
        if current != attempt {
            return None; // cancelled, and the descriptor handed out again
        }
        if let Some(errno) = refusal {
            self.end_connect(slot, token, Phase::Failed, -errno);
            return None;
        }
        let backlog = self.config.backlog as usize;
        let mut from = self.next_peer_addr();
        if let Some(bound) = self.sock(slot)?.bound {
            from.set_ip(bound);
        }
        let listener = self.listeners.iter().position(|l| l.addr == addr && l.open);
        let full = match (self.served.get(&addr), listener) {
            (Some(served), _) => served.waiting.len() >= backlog,
            (None, Some(listener)) => self.listeners[listener].waiting.len() >= backlog,
            (None, None) => true,
        };
        if full {
            self.end_connect(slot, token, Phase::Failed, -ECONNREFUSED);
            return None;
        }
        let mut action: Option<Action> = None;
        let link_id = if let Some(on_connect) = self.served.get(&addr).map(|served| served.on_connect.clone())
        {
            let peer = PeerEnd { connected: true, ..PeerEnd::default() };
            let link_id = self.add_link([End::Sock(slot), End::Peer(peer)], [from, addr]);
            if let Some(call) = on_connect {
                action =
                    Some(Box::new(move |world| (*call.borrow_mut())(Peer::of(world.shared(), link_id, 1))));
            } else if let Some(served) = self.served.get_mut(&addr) {
                served.waiting.push_back(link_id);
            }
            link_id
        } else {
            let link_id = self.add_link([End::Sock(slot), End::Queued], [from, addr]);
            if let Some(Ok(listener)) = listener.map(u16::try_from) {
                self.reach_listener(link_id, listener);
            }
            link_id
        };
        self.end_connect(slot, token, Phase::Connected { link: link_id, side: 0 }, 0);
        action
    }
}
