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
    /// Where the replies will be: room from earlier ones.
    room: Room,
}

/// Room for replies, kept from one batch to the next.
#[derive(Debug, Default)]
struct Room {
    reply: Vec<u8>,
    ends: Vec<usize>,
}

/// Bytes and entries that a batch keeps room for when it is used again.
const BYTES_KEPT: usize = 16 << 10;
const ENTRIES_KEPT: usize = 1 << 10;

/// Empties `list`; its room stays, unless that is much.
pub(super) fn empty<T>(list: &mut Vec<T>, keep: usize) {
    list.clear();
    if list.capacity() > keep {
        *list = Vec::new();
    }
}

impl Batch {
    /// Empty.
    pub(super) fn new(version: Version, ticket: Ticket) -> Batch {
        Batch { version, ticket, ..Batch::default() }
    }

    /// A batch that was run, empty, for further commands.
    pub(super) fn again(done: Done, version: Version) -> Batch {
        let Done { reply, mut ends, spent: Batch { mut wire, mut items, .. }, .. } = done;
        let (mut reply, _) = reply.into_parts();
        empty(&mut reply, BYTES_KEPT);
        empty(&mut ends, ENTRIES_KEPT);
        empty(&mut wire, BYTES_KEPT);
        empty(&mut items, ENTRIES_KEPT);
        Batch { wire, items, version, room: Room { reply, ends }, ..Batch::default() }
    }

    /// Nothing done of it yet.
    pub(super) fn begin(&mut self) -> Done {
        let Room { reply, ends } = std::mem::take(&mut self.room);
        Done { reply: Reply::in_room(self.version, reply), ends, rest: None, spent: Batch::default() }
    }

    /// Its commands from number `n` on.
    pub(super) fn rest(&self, n: usize) -> Batch {
        let start = if n == 0 { 0 } else { self.items[n - 1].1 };
        Batch {
            wire: self.wire[start..].to_vec(),
            items: self.items[n..].iter().map(|(spec, end)| (*spec, end - start)).collect(),
            version: self.version,
            ticket: self.ticket,
            is_begun: self.is_begun || n > 0,
            room: Room::default(),
        }
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
    pub(super) rest: Option<Box<Batch>>,
    /// The batch, for its room.
    pub(super) spent: Batch,
}

impl Done {
    /// Nothing yet, for a client that speaks `version`.
    pub(super) fn new(version: Version) -> Done {
        Done { reply: Reply::new(version), ..Done::default() }
    }

    /// Puts what came of the commands behind these after it.
    pub(super) fn append(&mut self, more: &Done) {
        let start = self.reply.bytes().len();
        self.reply.append(&more.reply);
        self.ends.extend(more.ends.iter().map(|end| start + end));
    }

    /// Where the reply of command `n` is.
    pub(super) fn range(&self, n: usize) -> Range<usize> {
        let start = if n == 0 { 0 } else { self.ends[n - 1] };
        start..self.ends[n]
    }
}
