//! Giving a socket to another ring, asking who its peer is, and the blocks that addresses are written to.
//!
//! A socket goes as a message from ring to ring (`IORING_MSG_SEND_FD`): the table of the other gets an entry, and
//! its queue a completion. The handle of the other ring stays in the table of flights until the answer, so its
//! number is still the same ring's, or none's, when the kernel reads it.
//!
//! Not here: how the peer is asked for (`peer.rs`), the descriptor that is written to (`wake.rs`).

use std::sync::Arc;

use corelane_base::{Kernel, Payload, Sock, Token, Unpark};
use corelane_pools::Chain;
use corelane_sys::RawAddr;
use io_uring::opcode;
use io_uring::types::{DestinationSlot, Fd, Fixed};

use crate::features::Features;
use crate::flights::{Flight, Whose};
use crate::peer::{Answer, Ask, room_of};
use crate::ring::Ring;

/// Address blocks kept for the next accept; one listener uses one at a time.
const PEERS_KEPT: usize = 16;

impl Ring {
    /// The table of flights must have room.
    pub(crate) fn hand(&mut self, sock: Sock, to: Arc<dyn Unpark>, arrival: Token, token: Token) {
        let ring = to.ring().filter(|_| self.abilities().hand);
        let Some(ring) = ring else { return self.answer(token, -libc::EOPNOTSUPP) };
        let (_, name) = self.flights.insert(token, Flight::Hand(to));
        let slot = DestinationSlot::auto_target();
        let hand = opcode::MsgRingSendFd::new(Fd(ring), Fixed(sock.0), slot, Whose::arrival(arrival));
        self.queue_counted(&hand.build().user_data(name));
    }

    /// The table of flights must have room.
    pub(crate) fn peer_name(&mut self, sock: Sock, token: Token) {
        if !self.granted.contains(Features::PEER_NAME) {
            return self.answer(token, -libc::EOPNOTSUPP);
        }
        let ask = Ask { sock, room: self.peer_room, addr: self.peer_block() };
        let (index, _) = self.flights.insert(token, Flight::PeerName(ask));
        self.arm_or_wait(index);
    }

    /// The last answer to a question, as a result and what comes with it.
    pub(crate) fn named(&mut self, ask: Ask, result: i32) -> (i32, Payload<Chain>) {
        let answer = ask.answer(result);
        self.keep_peer_block(ask.addr);
        match answer {
            Answer::Addr(addr) => {
                self.peer_room = room_of(addr);
                (0, Payload::Peer(addr))
            }
            Answer::Errno(errno) => (errno, Payload::None),
            Answer::Again(_) => unreachable!("asked again before"),
        }
    }

    /// An address block, with anything in it.
    pub(crate) fn peer_block(&mut self) -> Box<RawAddr> {
        self.peers.pop().unwrap_or_else(|| Box::new(RawAddr::empty()))
    }

    pub(crate) fn keep_peer_block(&mut self, block: Box<RawAddr>) {
        if self.peers.len() < PEERS_KEPT {
            self.peers.push(block);
        }
    }
}
