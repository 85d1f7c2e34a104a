//! Values as bytes: what DUMP gives and RESTORE takes, and what a snapshot holds.
//!
//! A value is one byte that says which kind it is, and the kind's own bytes. [`seal`] puts a version and a checksum
//! behind it, as [`open`] wants them. The form is ours: no other server reads it, and theirs is refused here.
//!
//! # Rules
//! 1. [`Value::decode`] takes any bytes: what is no value is `None`, never a panic, and takes no more memory than in
//!    proportion to its length.
//! 2. A form once written is read for ever, or has another version.
//!
//! Not here: the bytes of collections (`hash`, `list`, `set`, `sorted_set`), files.

use bytes::Bytes;

use super::{Hash, List, Set, SortedSet, Str, Value, ValueRef};

/// Version of the form, and a mark that it is ours: Redis' versions are below 256.
const VERSION: [u8; 2] = [1, 0xC0];
/// Version and checksum.
const SEAL_LEN: usize = 2 + 8;

const INT: u8 = 0;
const BYTES: u8 = 1;
const HASH: u8 = 2;
const LIST: u8 = 3;
const SET: u8 = 4;
const SORTED_SET: u8 = 5;

impl ValueRef<'_> {
    /// Appends the value, in time proportional to its size.
    pub fn encode(self, out: &mut Vec<u8>) {
        match self {
            ValueRef::Str(Str::Int(n)) => {
                out.push(INT);
                out.extend_from_slice(&n.to_le_bytes());
            }
            ValueRef::Str(Str::Bytes(bytes)) => {
                out.push(BYTES);
                out.extend_from_slice(bytes);
            }
            ValueRef::Str(Str::Shared(bytes)) => {
                out.push(BYTES);
                out.extend_from_slice(bytes);
            }
            ValueRef::Hash(one) => {
                out.push(HASH);
                one.encode(out);
            }
            ValueRef::List(one) => {
                out.push(LIST);
                one.encode(out);
            }
            ValueRef::Set(one) => {
                out.push(SET);
                one.encode(out);
            }
            ValueRef::SortedSet(one) => {
                out.push(SORTED_SET);
                one.encode(out);
            }
        }
    }
}

impl Value {
    /// As it is read.
    pub fn as_ref(&self) -> ValueRef<'_> {
        match self {
            Value::Int(n) => ValueRef::Str(Str::Int(*n)),
            Value::Bytes(bytes) => ValueRef::Str(Str::Shared(bytes)),
            Value::Hash(one) => ValueRef::Hash(one),
            Value::List(one) => ValueRef::List(one),
            Value::Set(one) => ValueRef::Set(one),
            Value::SortedSet(one) => ValueRef::SortedSet(one),
        }
    }

    /// Appends the value, in time proportional to its size.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.as_ref().encode(out);
    }

    /// The value that was encoded so; `None` if none was.
    pub fn decode(bytes: &[u8]) -> Option<Value> {
        let (kind, bytes) = bytes.split_first()?;
        Some(match *kind {
            INT => Value::Int(i64::from_le_bytes(bytes.try_into().ok()?)),
            BYTES => Value::Bytes(Bytes::copy_from_slice(bytes)),
            HASH => Value::Hash(Box::new(Hash::decode(bytes)?)),
            LIST => Value::List(Box::new(List::decode(bytes)?)),
            SET => Value::Set(Box::new(Set::decode(bytes)?)),
            SORTED_SET => Value::SortedSet(Box::new(SortedSet::decode(bytes)?)),
            _ => return None,
        })
    }
}

/// Appends version and checksum to what is in `out`.
pub fn seal(out: &mut Vec<u8>) {
    out.extend_from_slice(&VERSION);
    let sum = checksum(out);
    out.extend_from_slice(&sum.to_le_bytes());
}

/// What was sealed; `None` for another version or a wrong checksum.
pub fn open(sealed: &[u8]) -> Option<&[u8]> {
    let (inner, seal) = sealed.split_at_checked(sealed.len().checked_sub(SEAL_LEN)?)?;
    let (version, sum) = seal.split_at(VERSION.len());
    let is_ours = version == VERSION && sum == checksum(&sealed[..inner.len() + VERSION.len()]).to_le_bytes();
    is_ours.then_some(inner)
}

/// CRC-64/XZ: ECMA-182, reflected, all bits inverted before and after (the `xz` file format, 1.1.0, section 6). A byte
/// at a time by a table: some 400 MB/s.
pub fn checksum(bytes: &[u8]) -> u64 {
    static TABLE: [u64; 256] = table();
    let step = |sum: u64, byte: &u8| sum >> 8 ^ TABLE[usize::from(sum.to_le_bytes()[0] ^ byte)];
    !bytes.iter().fold(!0, step)
}

const fn table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut n = 0;
    while n < 256 {
        let (mut sum, mut bit) = (n as u64, 0);
        while bit < 8 {
            sum = sum >> 1 ^ if sum & 1 == 1 { 0xc96c_5795_d787_0f42 } else { 0 };
            bit += 1;
        }
        table[n] = sum;
        n += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_64_xz() {
        assert_eq!(checksum(b"123456789"), 0x995d_c9bb_df19_39fa);
    }

    #[test]
    fn strings_come_back_as_they_were() {
        for value in
            [Value::Int(i64::MIN), Value::Bytes(Bytes::new()), Value::Bytes(Bytes::from_static(b"a\0b"))]
        {
            let mut out = Vec::new();
            value.encode(&mut out);
            seal(&mut out);
            let back = open(&out).and_then(Value::decode);
            assert_eq!(format!("{back:?}"), format!("{:?}", Some(value)));
        }
    }

    #[test]
    fn a_changed_bit_or_a_foreign_payload_is_refused() {
        let mut out = Vec::new();
        Value::Int(7).encode(&mut out);
        seal(&mut out);
        for bit in 0..8 * out.len() {
            out[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&out), None, "bit {bit}");
            out[bit / 8] ^= 1 << (bit % 8);
        }
        // What DUMP of Redis 7.0 gives for the string `10`.
        assert_eq!(open(b"\x00\xc0\x0a\x0a\x00\xf8\x72\x3f\xc5\xfb\xfb\x5f\x28"), None);
        assert_eq!(open(b""), None);
        assert!(Value::decode(b"\x09abc").is_none());
        assert!(Value::decode(b"").is_none());
    }
}
