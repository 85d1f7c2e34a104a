//! What the code under test may push. Each check panics with what was done, the seed and the last events:
//! only our own code can break these rules, never a peer.
//!
//! # Rules checked
//! 1. A descriptor is used only between the completion that named it and its close.
//! 2. At most one receive, one send and one connect wait on a socket; an operation ends when its last
//!    completion was taken.
//! 3. A close is pushed once, after every other operation of the descriptor ended.
//! 4. A send, a read and a write carry at least one byte.
//! 5. An accept names a listener that is open; after [`AcceptMode::Queued`] no other mode is used on it.
//! 6. An operation that gives something back has a token.
//! 7. What only some kernels can do ([`corelane_base::Abilities`]) is pushed only where this one can.
//!
//! Not here: what an operation does (`submit`).

use corelane_base::{AcceptMode, ListenerId, Op, Sock, Token};
use corelane_pools::Chain;

use crate::state::{Phase, Slot, State, What};

impl State {
    /// Panics where `op` breaks a rule.
    pub(crate) fn check(&self, op: &Op<Chain>) {
        match op {
            Op::Accept { listener, token, mode } => {
                self.check_token("Accept", *token);
                self.check_listener(*listener, *mode);
            }
            Op::Recv { sock, token, .. } => {
                self.check_token("Recv", *token);
                if self.check_sock("Recv", *sock).owed_recv {
                    self.violation(&format!("Recv on {sock:?} while one is under way"));
                }
            }
            Op::Send { sock, token, data } => {
                self.check_token("Send", *token);
                if self.check_sock("Send", *sock).owed_send {
                    self.violation(&format!("Send on {sock:?} while one is under way"));
                }
                if data.is_empty() {
                    self.violation(&format!("Send of no bytes on {sock:?}"));
                }
            }
            Op::Shutdown { sock, .. } => {
                self.check_sock("Shutdown", *sock);
            }
            Op::Reset { sock, .. } => {
                self.check_sock("Reset", *sock);
            }
            Op::Close { sock, .. } => self.check_close(*sock),
            Op::Cancel { target, .. } => {
                if *target == Token::NONE {
                    self.violation("Cancel of Token::NONE, which names no operation");
                }
            }
            Op::CancelSock { sock, .. } => {
                self.check_open("CancelSock", *sock);
            }
            Op::Socket { token, .. } => self.check_token("Socket", *token),
            Op::Configure { sock, token, .. } => {
                self.check_token("Configure", *token);
                self.check_sock("Configure", *sock);
            }
            Op::Bind { sock, token, .. } => {
                self.check_token("Bind", *token);
                self.check_sock("Bind", *sock);
            }
            Op::Connect { sock, token, .. } => {
                self.check_token("Connect", *token);
                if let What::Sock(state) = &self.check_sock("Connect", *sock).what
                    && matches!(state.phase, Phase::Connecting { .. })
                {
                    self.violation(&format!("Connect on {sock:?} while one is under way"));
                }
            }
            Op::Open { token, .. } => self.check_token("Open", *token),
            Op::Read { file, data, token, .. } => {
                self.check_token("Read", *token);
                self.check_file("Read", *file);
                if data.is_empty() {
                    self.violation(&format!("Read of no bytes from {file:?}"));
                }
            }
            Op::ReadInto { file, data, token, .. } => {
                self.check_token("ReadInto", *token);
                self.check_file("ReadInto", *file);
                if !data.is_single() || !data.is_writable() {
                    self.violation(&format!(
                        "ReadInto bytes that are none, several or not ours, from {file:?}"
                    ));
                }
            }
            Op::Write { file, data, from, token, .. } => {
                self.check_token("Write", *token);
                self.check_file("Write", *file);
                if *from as usize >= data.len() {
                    self.violation(&format!("Write from {from} of {} bytes to {file:?}", data.len()));
                }
            }
            Op::Hand { sock, .. } => {
                self.violation(&format!("Hand of {sock:?}, which this kernel cannot do"));
            }
            Op::PeerName { sock, token } => {
                self.check_token("PeerName", *token);
                if !self.config.peer_name {
                    self.violation(&format!("PeerName of {sock:?}, which this kernel cannot do"));
                }
                self.check_sock("PeerName", *sock);
            }
            Op::Sync { file, token, .. } => {
                self.check_token("Sync", *token);
                self.check_file("Sync", *file);
            }
        }
    }

    fn check_token(&self, what: &str, token: Token) {
        if token == Token::NONE {
            self.violation(&format!("{what} with Token::NONE: what it gives back would be lost"));
        }
    }

    fn check_listener(&self, listener: ListenerId, mode: AcceptMode) {
        let Some(at) = self.listeners.get(listener.0 as usize) else {
            self.violation(&format!("Accept on {listener:?}, which was never added"));
        };
        if !at.open {
            self.violation(&format!("Accept on {listener:?}, which is closed"));
        }
        if at.queued_only && mode != AcceptMode::Queued {
            self.violation(&format!("Accept {mode:?} on {listener:?} after AcceptMode::Queued"));
        }
    }

    fn check_open(&self, what: &str, sock: Sock) -> &Slot {
        let Some(slot) = self.slots.get(sock.0 as usize).and_then(Option::as_ref) else {
            self.violation(&format!("{what} on {sock:?}, which is not open"));
        };
        if !slot.known {
            self.violation(&format!(
                "{what} on {sock:?}, which was closed, and whose number is not yet lent again"
            ));
        }
        if slot.closing {
            self.violation(&format!("{what} on {sock:?}, whose close was pushed"));
        }
        slot
    }

    fn check_sock(&self, what: &str, sock: Sock) -> &Slot {
        let slot = self.check_open(what, sock);
        if matches!(slot.what, What::File(_)) {
            self.violation(&format!("{what} on {sock:?}, which is a file"));
        }
        slot
    }

    fn check_file(&self, what: &str, file: Sock) {
        if matches!(self.check_open(what, file).what, What::Sock(_)) {
            self.violation(&format!("{what} on {file:?}, which is a socket"));
        }
    }

    fn check_close(&self, sock: Sock) {
        let slot = self.check_open("Close", sock);
        let waits =
            [("Recv", slot.owed_recv), ("Send", slot.owed_send), ("another operation", slot.owed_other > 0)];
        if let Some((what, _)) = waits.iter().find(|(_, waits)| *waits) {
            self.violation(&format!("Close of {sock:?} while {what} is under way"));
        }
    }

    /// Books an operation that was checked and taken: who waits for what.
    pub(crate) fn book(&mut self, op: &Op<Chain>) {
        self.under_way += 1;
        let (sock, token) = match op {
            Op::Accept { token, .. }
            | Op::Cancel { token, .. }
            | Op::Socket { token, .. }
            | Op::Open { token, .. } => (None, *token),
            Op::Recv { sock, token, .. }
            | Op::Send { sock, token, .. }
            | Op::Shutdown { sock, token, .. }
            | Op::Reset { sock, token }
            | Op::Close { sock, token }
            | Op::CancelSock { sock, token }
            | Op::Configure { sock, token, .. }
            | Op::Bind { sock, token, .. }
            | Op::Connect { sock, token, .. }
            | Op::Hand { sock, token, .. }
            | Op::PeerName { sock, token }
            | Op::Read { file: sock, token, .. }
            | Op::ReadInto { file: sock, token, .. }
            | Op::Write { file: sock, token, .. }
            | Op::Sync { file: sock, token, .. } => (Some(*sock), *token),
        };
        let waits = token != Token::NONE;
        self.owed += u32::from(waits);
        self.note(name(op), token.to_bits(), sock.map_or(-1, |sock| i64::from(sock.0)));
        let slot = sock.and_then(|sock| self.slots.get_mut(sock.0 as usize)).and_then(Option::as_mut);
        let Some(slot) = slot else { return };
        match op {
            Op::Recv { .. } => slot.owed_recv = true,
            Op::Send { .. } => slot.owed_send = true,
            Op::Close { .. } => slot.closing = true,
            _ => slot.owed_other += u32::from(waits),
        }
    }
}

fn name(op: &Op<Chain>) -> &'static str {
    match op {
        Op::Accept { .. } => "push Accept",
        Op::Recv { .. } => "push Recv",
        Op::Send { .. } => "push Send",
        Op::Shutdown { .. } => "push Shutdown",
        Op::Reset { .. } => "push Reset",
        Op::Close { .. } => "push Close",
        Op::Cancel { .. } => "push Cancel",
        Op::CancelSock { .. } => "push CancelSock",
        Op::Socket { .. } => "push Socket",
        Op::Configure { .. } => "push Configure",
        Op::Bind { .. } => "push Bind",
        Op::Connect { .. } => "push Connect",
        Op::Open { .. } => "push Open",
        Op::Read { .. } => "push Read",
        Op::ReadInto { .. } => "push ReadInto",
        Op::Write { .. } => "push Write",
        Op::Hand { .. } => "push Hand",
        Op::PeerName { .. } => "push PeerName",
        Op::Sync { .. } => "push Sync",
    }
}
