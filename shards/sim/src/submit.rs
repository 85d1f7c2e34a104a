//! From the submission queue into the world: what each operation does when it is handed over.
//!
//! # Rules
//! 1. Everything was checked when it was pushed (`rules`); what is wrong here is an errno.
//! 2. A cancelled operation ends with `ECANCELED` by a completion of its own, before or after that of the
//!    cancel. What already ended, or is on its way to `pop`, is not found.
//!
//! Not here: the steps that follow (`net`, `files`).

use std::net::SocketAddr;

use corelane_base::{AcceptMode, Completion, Op, Payload, RecvMode, ShutdownHow, Sock, Token};
use corelane_pools::Chain;
use libc::{EALREADY, ECANCELED, EINVAL, ENFILE, ENOENT, ENOTCONN};

use crate::link::Segment;
use crate::state::{
    AcceptOp, Done, Event, Lane, Owed, Phase, Place, RecvOp, SendOp, SockState, State, What, Work, as_result,
    nanos,
};

impl State {
    /// Hands over the first `count` operations of the submission queue.
    pub(crate) fn submit(&mut self, count: usize) {
        for _ in 0..count {
            let Some(op) = self.submissions.pop_front() else { return };
            self.stats.submitted += 1;
            self.issue(op);
        }
    }

    /// Does all work there is.
    pub(crate) fn do_work(&mut self) {
        while let Some(work) = self.next_work() {
            match work {
                Work::Recv(slot) => self.run_recv(slot, false),
                Work::Send(slot) => self.run_send(slot),
                Work::Accept(listener) => self.run_accept(listener),
            }
        }
    }

    fn issue(&mut self, op: Op<Chain>) {
        match op {
            Op::Accept { listener, token, mode } => {
                self.add_place(token, Place::Accept(listener.0));
                let at = &mut self.listeners[listener.0 as usize];
                at.queued_only |= mode == AcceptMode::Queued;
                at.ops.push_back(AcceptOp { token, mode });
                self.run_accept(listener.0);
            }
            Op::Recv { sock, token, mode } => self.issue_recv(sock.0, token, mode),
            Op::Send { sock, token, data } => {
                self.add_place(token, Place::Send(sock.0));
                if let Some(state) = self.sock(sock.0) {
                    state.send = Some(SendOp { token, data });
                }
                self.run_send(sock.0);
            }
            Op::Shutdown { sock, token, how } => {
                let result = self.shutdown(sock.0, how);
                self.end(token, result, Owed::Other(sock.0));
            }
            Op::Reset { sock, token } => {
                let result = self.reset(sock.0);
                self.end(token, result, Owed::Other(sock.0));
            }
            Op::Close { sock, token } => {
                self.close(sock);
                self.end(token, 0, Owed::Nothing);
            }
            Op::Cancel { target, token } => {
                let place = self.places.get(&target.to_bits()).and_then(|places| places.first()).copied();
                let result = place.map_or(-ENOENT, |place| self.cancel(place, target));
                self.end(token, result, Owed::Nothing);
            }
            Op::CancelSock { sock, token } => {
                let count = self.cancel_all(sock.0);
                self.end(token, count, Owed::Other(sock.0));
            }
            Op::Socket { v6, token } => {
                let slot = self.open_slot(What::Sock(SockState::new(Phase::Fresh)));
                self.note("socket", slot.map_or(u64::MAX, u64::from), i64::from(v6));
                let result = slot.map_or(-ENFILE, |slot| as_result(slot as usize));
                let completion = Completion { token, result, more: false, payload: Payload::None };
                let done = Done { completion, bytes: None, ends: Owed::Nothing, opens: slot };
                self.post(Lane::Free, done);
            }
            Op::Configure { sock, token, .. } => {
                // Nothing here depends on an option: segments always leave at once.
                self.end(token, 0, Owed::Other(sock.0));
            }
            Op::Bind { sock, token, addr } => {
                let result = match self.sock(sock.0) {
                    Some(state) if matches!(state.phase, Phase::Fresh) => {
                        state.bound = Some(addr.ip());
                        0
                    }
                    _ => -EINVAL,
                };
                self.end(token, result, Owed::Other(sock.0));
            }
            Op::Connect { sock, token, addr } => self.start_connect(sock.0, token, addr),
            Op::Hand { .. } => unreachable!("no such ability"),
            Op::PeerName { sock, token } => {
                let (result, payload) = match self.peer_name(sock.0) {
                    Some(addr) => (0, Payload::Peer(addr)),
                    None => (-ENOTCONN, Payload::None),
                };
                self.note("peer name", u64::from(sock.0), i64::from(result));
                let completion = Completion { token, result, more: false, payload };
                let done = Done { completion, bytes: None, ends: Owed::Other(sock.0), opens: None };
                self.post(Lane::Free, done);
            }
            Op::Open { token, .. }
            | Op::Read { token, .. }
            | Op::ReadInto { token, .. }
            | Op::Write { token, .. }
            | Op::Sync { token, .. } => {
                self.add_place(token, Place::Disk);
                let after = nanos(self.config.disk_latency).saturating_add(self.delay());
                let at = self.now.saturating_add(after);
                self.at(at, Event::File(op));
            }
        }
    }

    fn issue_recv(&mut self, slot: u32, token: Token, mode: RecvMode) {
        self.add_place(token, Place::Recv(slot));
        if let Some(sock) = self.sock(slot) {
            sock.recv = Some(RecvOp { token, mode });
        }
        self.run_recv(slot, true);
    }

    fn shutdown(&mut self, slot: u32, how: ShutdownHow) -> i32 {
        let Some(sock) = self.sock(slot) else { return -ENOTCONN };
        let Phase::Connected { link: link_id, side } = sock.phase else { return -ENOTCONN };
        let Some(link) = self.links.get(&link_id).filter(|link| !link.broken[side]) else { return -ENOTCONN };
        let fin_sent = link.flows[side].fin_sent;
        if let Some(sock) = self.sock(slot) {
            sock.shut_write = true;
            sock.shut_read |= how == ShutdownHow::Both;
        }
        if !fin_sent {
            self.transmit(link_id, side, Segment::Fin);
        }
        self.want(Work::Recv(slot));
        self.want(Work::Send(slot));
        0
    }

    /// Who is at the other end: nobody any more once the connection is over in both directions, or reset.
    fn peer_name(&mut self, slot: u32) -> Option<SocketAddr> {
        let Phase::Connected { link, side } = self.sock(slot)?.phase else { return None };
        let link = self.links.get(&link)?;
        let over = link.broken[side] || link.flows.iter().all(|flow| flow.fin_arrived);
        (!over).then_some(link.addr[1 - side])
    }

    fn reset(&mut self, slot: u32) -> i32 {
        let Some(sock) = self.sock(slot) else { return -ENOTCONN };
        let Phase::Connected { link, side } = sock.phase else { return -ENOTCONN };
        self.abort_end(link, side);
        0
    }

    fn close(&mut self, sock: Sock) {
        let Some(slot) = self.slots.get_mut(sock.0 as usize).and_then(Option::take) else { return };
        self.free_slots.push(sock.0);
        if let What::Sock(SockState { phase: Phase::Connected { link, side }, .. }) = slot.what {
            self.close_end(link, side);
        }
    }

    /// Ends one operation; what the cancel itself is told.
    fn cancel(&mut self, place: Place, token: Token) -> i32 {
        match place {
            Place::Recv(slot) => self.end_recv(slot, -ECANCELED),
            Place::Send(slot) => self.end_send(slot, -ECANCELED),
            Place::Connect(slot) => self.end_connect(slot, token, Phase::Failed, -ECANCELED),
            Place::Accept(listener) => self.end_accept(listener, token),
            Place::Disk => return -EALREADY,
        }
        0
    }

    fn end_accept(&mut self, listener: u16, token: Token) {
        let at = &mut self.listeners[listener as usize];
        let Some(index) = at.ops.iter().position(|op| op.token == token) else { return };
        at.ops.remove(index);
        self.remove_place(token, Place::Accept(listener));
        let completion = Completion { token, result: -ECANCELED, more: false, payload: Payload::None };
        let done = Done { completion, bytes: None, ends: Owed::Nothing, opens: None };
        self.post(Lane::Accept(listener), done);
    }

    /// Ends what is under way on a socket; how many operations that were.
    fn cancel_all(&mut self, slot: u32) -> i32 {
        let Some(sock) = self.sock(slot) else { return 0 };
        let (recv, send, phase) = (sock.recv.is_some(), sock.send.is_some(), sock.phase);
        if recv {
            self.end_recv(slot, -ECANCELED);
        }
        if send {
            self.end_send(slot, -ECANCELED);
        }
        let mut count = i32::from(recv) + i32::from(send);
        if let Phase::Connecting { token, .. } = phase {
            self.end_connect(slot, token, Phase::Failed, -ECANCELED);
            count += 1;
        }
        count
    }
}
