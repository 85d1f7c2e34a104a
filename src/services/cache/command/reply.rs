//! Reply: what commands answer, as it goes over the wire.
//!
//! One is filled by the commands of a whole pipeline. Large values are not copied into it: they stand beside the bytes,
//! with the place where they belong.
//!
//! Not here: the grammar (`proto-resp`), sockets.

use bytes::Bytes;
use corelane_proto_resp::{Version, Writer};

use crate::services::cache::kept::{Kept, Total};
use crate::services::cache::value::Str;

/// Values from here on are sent from where they are: below, a copy is cheaper than a further piece of a send.
pub const SHARE_MIN: usize = 16 << 10;

/// Where the length of an array goes that is not known yet.
#[derive(Clone, Copy, Debug)]
#[must_use = "without its length the array is no array"]
pub struct Later(usize, usize);

/// Replies in order.
#[derive(Debug, Default)]
pub struct Reply {
    version: Version,
    bytes: Vec<u8>,
    /// Each belongs before the byte with this number.
    large: Vec<(usize, Bytes)>,
    /// Where its bytes are counted.
    kept: Option<Kept>,
}

impl Reply {
    /// None yet, for a client that speaks `version`.
    pub fn new(version: Version) -> Reply {
        Reply { version, ..Reply::default() }
    }

    /// None yet, in the room of `bytes`, which are forgotten.
    pub(in crate::services::cache) fn in_room(version: Version, mut bytes: Vec<u8>) -> Reply {
        bytes.clear();
        Reply { version, bytes, ..Reply::default() }
    }

    /// What the client speaks.
    #[inline]
    pub fn version(&self) -> Version {
        self.version
    }

    /// From here on for a client that speaks `version`.
    #[inline]
    pub fn set_version(&mut self, version: Version) {
        self.version = version;
    }

    /// Everything but large values.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The large values, each with the number of the byte before which it belongs.
    #[inline]
    pub fn large(&self) -> &[(usize, Bytes)] {
        &self.large
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.bytes.len() + self.large.iter().map(|(_, bytes)| bytes.len()).sum::<usize>()
    }

    /// All of it: bytes, and large values as [`Reply::large`].
    pub fn into_parts(self) -> (Vec<u8>, Vec<(usize, Bytes)>) {
        (self.bytes, self.large)
    }

    /// Whether nothing was said yet.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets everything; the room stays, up to `keep` bytes.
    pub fn clear(&mut self, keep: usize) {
        self.bytes.clear();
        self.bytes.shrink_to(keep);
        self.large.clear();
        self.kept = None;
    }

    /// Counts its bytes in `total`, from now until it is gone.
    pub(in crate::services::cache) fn count_in(&mut self, total: &Total) {
        self.kept = None;
        self.kept = Some(total.of(self.bytes.len()));
    }

    /// Forgets what came after there were `len` bytes of [`Reply::bytes`].
    pub fn truncate(&mut self, len: usize) {
        self.bytes.truncate(len);
        while self.large.last().is_some_and(|(at, _)| *at > len) {
            self.large.pop();
        }
    }

    /// Appends all of `other`.
    pub fn append(&mut self, other: &Reply) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes);
        self.large.extend(other.large.iter().map(|(at, bytes)| (start + at, bytes.clone())));
    }

    /// Appends those bytes of `other` that are in `range`, with the large values among them. A large value at the very
    /// start of the range belongs to what comes before it.
    pub fn append_range(&mut self, other: &Reply, range: std::ops::Range<usize>) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&other.bytes[range.clone()]);
        let among = other.large.iter().filter(|(at, _)| *at > range.start && *at <= range.end);
        self.large.extend(among.map(|(at, bytes)| (start + at - range.start, bytes.clone())));
    }

    /// Everything in one piece, with a copy.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        let mut done = 0;
        for (at, bytes) in &self.large {
            all.extend_from_slice(&self.bytes[done..*at]);
            all.extend_from_slice(bytes);
            done = *at;
        }
        all.extend_from_slice(&self.bytes[done..]);
        all
    }

    /// For whatever the shortcuts below do not have.
    #[inline]
    pub fn write(&mut self) -> Writer<'_, Vec<u8>> {
        Writer::new(&mut self.bytes, self.version)
    }

    /// `+OK`.
    #[inline]
    pub fn ok(&mut self) {
        self.write().ok();
    }

    /// An error: its code, a blank, what happened.
    #[cold]
    pub fn error(&mut self, text: impl std::fmt::Display) {
        let text = text.to_string();
        self.write().error(text.as_bytes());
    }

    /// As [`Reply::error`], with the client's own bytes in it: as far as C would print them.
    #[cold]
    pub fn error_about(&mut self, before: &str, bytes: &[u8], behind: &str) {
        let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
        let text = [before.as_bytes(), &bytes[..end], behind.as_bytes()].concat();
        self.write().error(&text);
    }

    /// An integer.
    #[inline]
    pub fn integer(&mut self, value: i64) {
        self.write().integer(value);
    }

    /// A count.
    #[inline]
    pub fn count(&mut self, value: usize) {
        self.write().integer(i64::try_from(value).unwrap_or(i64::MAX));
    }

    /// A string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.write().bulk(bytes);
    }

    /// Nothing, where a string could be.
    #[inline]
    pub fn null(&mut self) {
        self.write().null();
    }

    /// Nothing, where an array could be.
    #[inline]
    pub fn null_array(&mut self) {
        self.write().null_array();
    }

    /// The header of an array.
    #[inline]
    pub fn array(&mut self, count: usize) {
        self.write().array(count);
    }

    /// A string value as it lies in the store.
    #[inline]
    pub fn value(&mut self, value: Str<'_>) {
        match value {
            Str::Int(n) => self.write().bulk_integer(n),
            Str::Bytes(bytes) => self.write().bulk(bytes),
            Str::Shared(bytes) => self.shared(bytes),
        }
    }

    /// A string that may be sent from where it is.
    pub fn shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_MIN {
            return self.write().bulk(bytes);
        }
        self.write().bulk_header(bytes.len());
        self.large.push((self.bytes.len(), bytes.clone()));
        self.write().bulk_end();
    }

    /// Begins an array whose length is known later.
    pub fn array_later(&mut self) -> Later {
        Later(self.bytes.len(), self.large.len())
    }

    /// The length of an array begun before. Moves what was written since.
    pub fn end_array(&mut self, begun: Later, count: usize) {
        self.end(begun, |writer| writer.array(count));
    }

    /// The length of a set begun before; an array in RESP2.
    pub fn end_set(&mut self, begun: Later, count: usize) {
        self.end(begun, |writer| writer.set(count));
    }

    fn end(&mut self, begun: Later, write: impl FnOnce(&mut Writer<'_, Vec<u8>>)) {
        let mut header = Vec::with_capacity(16);
        write(&mut Writer::new(&mut header, self.version));
        let more = header.len();
        self.bytes.splice(begun.0..begun.0, header);
        for (at, _) in &mut self.large[begun.1..] {
            *at += more;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_values_stand_where_they_were_put() {
        let large = Bytes::from(vec![b'x'; SHARE_MIN]);
        let mut reply = Reply::default();
        let begun = reply.array_later();
        reply.integer(1);
        reply.shared(&large);
        reply.bulk(b"end");
        reply.end_array(begun, 3);
        let mut wanted = format!("*3\r\n:1\r\n${SHARE_MIN}\r\n").into_bytes();
        wanted.extend_from_slice(&large);
        wanted.extend_from_slice(b"\r\n$3\r\nend\r\n");
        assert_eq!(reply.to_vec(), wanted);
        assert_eq!(reply.len(), wanted.len());
        let mut other = Reply::default();
        other.ok();
        other.append(&reply);
        assert_eq!(other.to_vec(), [b"+OK\r\n".as_slice(), &wanted].concat());
    }
}
