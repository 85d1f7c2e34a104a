//! Batch: commands on their way to the shard that owns their keys, and what comes back.
//!
//! They travel as they came from the client, so that nothing is encoded anew; who sent them found out already what
//! each is.
//!
//! Not here: the lanes (`exec`), who is asked (`session`).

use std::ops::Range;

use corelane_proto_resp::{Command, Version};

use super::command::{Reply, Spec};
use super::locks::Ticket;

/// Commands for one shard, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The commands, in RESP.
    pub(super) wire: Vec<u8>,
    /// What each is, and where it ends in `wire`.
    pub(super) items: Vec<(&'static Spec, usize)>,
    /// What the client speaks.
    pub(super) version: Version,
    /// In whose name, if in that of a transaction.
    pub(super) ticket: Ticket,
    /// The commands before these have run: they must not wait for the replies of those to be taken.
    pub(super) is_begun: bool,
}

impl Batch {
    /// Empty.
    pub(super) fn new(version: Version, ticket: Ticket) -> Batch {
        Batch { version, ticket, ..Batch::default() }
    }

    /// Adds a command as it came; its place.
    pub(super) fn push_raw(&mut self, spec: &'static Spec, raw: &[u8]) -> usize {
        self.wire.extend_from_slice(raw);
        self.items.push((spec, self.wire.len()));
        self.items.len() - 1
    }

    /// Adds a command of these arguments; its place.
    pub(super) fn push<'a>(
        &mut self,
        spec: &'static Spec,
        arguments: impl ExactSizeIterator<Item = &'a [u8]>,
    ) -> usize {
        encode(&mut self.wire, arguments);
        self.items.push((spec, self.wire.len()));
        self.items.len() - 1
    }
}

/// Appends a command in RESP.
pub(super) fn encode<'a>(wire: &mut Vec<u8>, arguments: impl ExactSizeIterator<Item = &'a [u8]>) {
    let mut writer = corelane_proto_resp::Writer::new(wire, Version::Resp2);
    writer.array(arguments.len());
    for argument in arguments {
        writer.bulk(argument);
    }
}

/// Appends `command` in RESP: as it came, unless it came as a line of words.
pub(super) fn copy(wire: &mut Vec<u8>, command: &Command<'_>, raw: &[u8]) {
    if command.is_inline() {
        encode(wire, command.iter());
    } else {
        wire.extend_from_slice(raw);
    }
}

/// What came of a batch.
#[derive(Debug, Default)]
pub(super) struct Done {
    /// All replies.
    pub(super) reply: Reply,
    /// Where each ends in the bytes of `reply`.
    pub(super) ends: Vec<usize>,
    /// The commands from one on that has to wait for a lock.
    pub(super) rest: Option<Batch>,
}

impl Done {
    /// Where the reply of command `n` is.
    pub(super) fn range(&self, n: usize) -> Range<usize> {
        let start = if n == 0 { 0 } else { self.ends[n - 1] };
        start..self.ends[n]
    }
}
