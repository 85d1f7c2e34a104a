//! The bytes of one file of a snapshot: a header, blocks of entries, a footer. Pure.
//!
//! All numbers are little-endian. Header: magic, version, generation, time of writing, its CRC. Block: `B`, bytes of
//! its entries, their count, the CRC of all that. Footer: `E`, entries and blocks of the file, the CRC of all bytes
//! before it, its own CRC; nothing follows it. Entry: length of the key, length of the value, when it goes (0 for never,
//! else milliseconds since 1970), key, value as `Value::encode` writes it. CRCs are CRC-32 (ISO 3309), which finds every
//! change within 32 bits and every torn end; they are no protection from somebody who means it.
//!
//! # Rules
//! 1. [`Reader`] takes any bytes: what is no snapshot is a [`Fault`] with its place, never a panic, and a length is
//!    believed only as far as the file is long.
//! 2. Nothing of a file counts before its footer was seen.
//!
//! Not here: files (`dir`), which files make up a snapshot (`manifest`).

use std::fmt;

use crate::services::cache::value::{Value, ValueRef};

/// The first bytes of a file. The line ends show a transfer that changed them.
pub const MAGIC: [u8; 8] = *b"CLCACHE\n";
/// The version that is written, and the newest that is read.
pub const VERSION: u32 = 1;
/// Bytes of the header.
pub const HEADER_LEN: usize = 32;
/// Bytes in front of the entries of a block.
pub const BLOCK_HEAD_LEN: usize = 13;
/// Bytes of the footer.
pub const FOOTER_LEN: usize = 25;
/// Bytes in front of an entry's key.
const ENTRY_HEAD_LEN: usize = 16;
/// Bytes at which a block is closed. One entry may be larger than this, and then has a block of its own.
///
/// A write of 64 KiB costs the ring as much as one of 4 KiB, nearly, and a reader needs as much memory.
pub const BLOCK_LEN: usize = 64 << 10;

const BLOCK: u8 = b'B';
const END: u8 = b'E';

/// What is wrong with the bytes of a file, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    /// Bytes from the beginning of the file.
    pub offset: u64,
    /// What was found there.
    pub what: What,
}

/// What is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum What {
    /// The file ends within this.
    Torn(&'static str),
    /// It does not begin as a snapshot does.
    Foreign([u8; 8]),
    /// Written by a later release.
    Newer(u32),
    /// A checksum does not fit: that of the bytes, and the one that was written.
    Checksum {
        /// Of what.
        of: &'static str,
        /// Of the bytes as they are.
        found: u32,
        /// As it was written.
        written: u32,
    },
    /// A byte that begins nothing.
    Tag(u8),
    /// A count or length that does not fit what is there.
    Count {
        /// Of what.
        of: &'static str,
        /// As it is.
        found: u64,
        /// As it was written.
        written: u64,
    },
    /// An entry that is none: its checksum fits, so whoever wrote it was wrong.
    Entry(&'static str),
    /// Bytes behind the footer.
    Trailing(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: ", self.offset)?;
        match &self.what {
            What::Torn(of) => write!(f, "the file ends within {of}"),
            What::Foreign(found) => {
                write!(f, "it begins with \"{}\", which no snapshot does", found.escape_ascii())
            }
            What::Newer(version) => {
                write!(f, "version {version} is newer than {VERSION}, the newest this release reads")
            }
            What::Checksum { of, found, written } => {
                write!(f, "the checksum of {of} is {found:08x}, but {written:08x} was written")
            }
            What::Tag(tag) => write!(f, "byte {tag:#04x} begins neither a block nor the footer"),
            What::Count { of, found, written } => write!(f, "{of}: {found} found, {written} written"),
            What::Entry(what) => write!(f, "an entry is damaged though its checksum fits: {what}"),
            What::Trailing(bytes) => write!(f, "{bytes} bytes follow the footer"),
        }
    }
}

impl std::error::Error for Fault {}

/// What a whole file is known by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sum {
    /// Entries in it.
    pub entries: u64,
    /// Bytes of it.
    pub bytes: u64,
    /// The CRC of all bytes before its footer.
    pub crc: u32,
}

/// Makes the bytes of a file, one block after the other.
#[derive(Debug)]
pub struct Writer {
    all: crc32fast::Hasher,
    bytes: u64,
    entries: u64,
    blocks: u64,
    /// The block under way, its head (empty as yet) in front.
    block: Vec<u8>,
    in_block: u32,
}

impl Writer {
    /// Begins a file; the first bytes are in [`Writer::take`] at once.
    pub fn new(generation: u64, unix_ms: u64) -> (Writer, Vec<u8>) {
        let mut head = Vec::with_capacity(HEADER_LEN);
        head.extend_from_slice(&MAGIC);
        head.extend_from_slice(&VERSION.to_le_bytes());
        head.extend_from_slice(&generation.to_le_bytes());
        head.extend_from_slice(&unix_ms.to_le_bytes());
        let crc = crc32fast::hash(&head);
        head.extend_from_slice(&crc.to_le_bytes());
        debug_assert_eq!(head.len(), HEADER_LEN);
        let mut writer = Writer {
            all: crc32fast::Hasher::new(),
            bytes: 0,
            entries: 0,
            blocks: 0,
            block: Vec::new(),
            in_block: 0,
        };
        writer.count(&head);
        (writer, head)
    }

    fn count(&mut self, bytes: &[u8]) {
        self.all.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Adds an entry, in time proportional to its size. False, and nothing added, where key or value has 4 GiB.
    pub fn entry(&mut self, key: &[u8], value: ValueRef<'_>, expires_at: Option<u64>) -> bool {
        let Ok(key_len) = u32::try_from(key.len()) else { return false };
        if self.block.is_empty() {
            self.block.resize(BLOCK_HEAD_LEN, 0);
        }
        let start = self.block.len();
        self.block.extend_from_slice(&key_len.to_le_bytes());
        self.block.extend_from_slice(&[0; 4]);
        self.block.extend_from_slice(&expires_at.map_or(0, |at| at.max(1)).to_le_bytes());
        self.block.extend_from_slice(key);
        let value_at = self.block.len();
        value.encode(&mut self.block);
        let value_len = u32::try_from(self.block.len() - value_at);
        // The length of a block is a number of 32 bits, too.
        let fits = u32::try_from(self.block.len()).is_ok();
        let (Ok(value_len), true) = (value_len, fits) else {
            self.block.truncate(start);
            return false;
        };
        self.block[start + 4..start + 8].copy_from_slice(&value_len.to_le_bytes());
        self.in_block += 1;
        true
    }

    /// Bytes of entries that wait for their block to be closed.
    pub fn waiting(&self) -> usize {
        self.block.len()
    }

    /// Closes the block under way and gives its bytes; none where nothing waits.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        if self.in_block == 0 {
            return None;
        }
        let mut block = std::mem::take(&mut self.block);
        let len = u32::try_from(block.len() - BLOCK_HEAD_LEN).unwrap_or(u32::MAX);
        block[0] = BLOCK;
        block[1..5].copy_from_slice(&len.to_le_bytes());
        block[5..9].copy_from_slice(&self.in_block.to_le_bytes());
        let crc = block_crc(&block);
        block[9..13].copy_from_slice(&crc.to_le_bytes());
        self.entries += u64::from(std::mem::take(&mut self.in_block));
        self.blocks += 1;
        self.count(&block);
        Some(block)
    }

    /// The footer, and what the file is known by. Call [`Writer::take`] before.
    pub fn finish(self) -> (Vec<u8>, Sum) {
        assert_eq!(self.in_block, 0, "a block was not taken");
        let crc = self.all.finalize();
        let mut foot = Vec::with_capacity(FOOTER_LEN);
        foot.push(END);
        foot.extend_from_slice(&self.entries.to_le_bytes());
        foot.extend_from_slice(&self.blocks.to_le_bytes());
        foot.extend_from_slice(&crc.to_le_bytes());
        let own = crc32fast::hash(&foot);
        foot.extend_from_slice(&own.to_le_bytes());
        debug_assert_eq!(foot.len(), FOOTER_LEN);
        let sum = Sum { entries: self.entries, bytes: self.bytes + foot.len() as u64, crc };
        (foot, sum)
    }
}

/// Of a block's head, but for the checksum itself, and its entries.
fn block_crc(block: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&block[..9]);
    crc.update(&block[BLOCK_HEAD_LEN..]);
    crc.finalize()
}

/// What of a file comes next.
#[derive(Debug, Eq, PartialEq)]
pub enum Next {
    /// So many bytes from the present place on, to be given to [`Reader::handle`].
    Read(usize),
    /// The file is whole.
    End(Sum),
}

#[derive(Debug)]
enum Place {
    Header,
    Tag,
    Block { head: [u8; BLOCK_HEAD_LEN] },
    Ended(Sum),
}

/// One entry as it lies in a block.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Entry<'a> {
    /// Its key.
    pub key: &'a [u8],
    /// The value, encoded.
    pub value: &'a [u8],
    /// When it goes, in milliseconds since 1970.
    pub expires_at: Option<u64>,
}

impl Entry<'_> {
    /// The value. `None` where the bytes are none.
    pub fn decode(&self) -> Option<Value> {
        Value::decode(self.value)
    }
}

/// Reads a file of a known length: ask [`Reader::next`], read so much, give it to [`Reader::handle`].
#[derive(Debug)]
pub struct Reader {
    len: u64,
    at: u64,
    all: crc32fast::Hasher,
    entries: u64,
    blocks: u64,
    place: Place,
    generation: u64,
}

fn number(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

fn long(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

impl Reader {
    /// Of a file with `len` bytes.
    pub fn new(len: u64) -> Reader {
        Reader {
            len,
            at: 0,
            all: crc32fast::Hasher::new(),
            entries: 0,
            blocks: 0,
            place: Place::Header,
            generation: 0,
        }
    }

    /// Which snapshot the file is of; known behind the header.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Where the bytes of the next [`Reader::handle`] begin.
    pub fn at(&self) -> u64 {
        self.at
    }

    fn left(&self) -> u64 {
        self.len - self.at
    }

    fn fault<T>(&self, offset: u64, what: What) -> Result<T, Fault> {
        Err(Fault { offset, what })
    }

    /// What to read now.
    ///
    /// # Errors
    /// Where the file is too short for it.
    pub fn next(&self) -> Result<Next, Fault> {
        let (want, of) = match &self.place {
            Place::Header => (HEADER_LEN, "the header"),
            // The shorter of the two; a footer asks for the rest.
            Place::Tag => (BLOCK_HEAD_LEN, "the head of a block, or the footer"),
            Place::Block { head } => (number(head, 1) as usize, "a block"),
            Place::Ended(sum) => return Ok(Next::End(*sum)),
        };
        // A footer, too, is longer than the head of a block.
        if (want as u64) > self.left() {
            return self.fault(self.len, What::Torn(of));
        }
        if matches!(self.place, Place::Tag) && self.left() == FOOTER_LEN as u64 {
            return Ok(Next::Read(FOOTER_LEN));
        }
        Ok(Next::Read(want))
    }

    /// Takes what [`Reader::next`] asked for. `each` sees the entries of a block, in order, once its checksum fits.
    ///
    /// # Errors
    /// What is wrong with the bytes, those of `each` among them; the reader is of no further use.
    pub fn handle(
        &mut self,
        bytes: &[u8],
        each: impl FnMut(Entry<'_>) -> Result<(), What>,
    ) -> Result<(), Fault> {
        match &self.place {
            Place::Header => self.header(bytes),
            Place::Tag => self.tag(bytes),
            Place::Block { head } => {
                let head = *head;
                self.block(head, bytes, each)
            }
            Place::Ended(_) => Ok(()),
        }
    }

    fn header(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut magic = [0; 8];
        magic.copy_from_slice(&bytes[..8]);
        if magic != MAGIC {
            return self.fault(0, What::Foreign(magic));
        }
        let (found, written) = (crc32fast::hash(&bytes[..HEADER_LEN - 4]), number(bytes, HEADER_LEN - 4));
        let version = number(bytes, 8);
        // A later version may have its checksum elsewhere.
        if version > VERSION {
            return self.fault(8, What::Newer(version));
        }
        if found != written {
            return self.fault(0, What::Checksum { of: "the header", found, written });
        }
        self.generation = long(bytes, 12);
        self.passed(bytes, Place::Tag);
        Ok(())
    }

    fn passed(&mut self, bytes: &[u8], next: Place) {
        self.all.update(bytes);
        self.at += bytes.len() as u64;
        self.place = next;
    }

    fn tag(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        match bytes[0] {
            BLOCK => {
                let mut head = [0; BLOCK_HEAD_LEN];
                head.copy_from_slice(&bytes[..BLOCK_HEAD_LEN]);
                // More than the head may have been read, where a footer could have been: the rest is read again.
                let head_bytes = head;
                self.passed(&head_bytes, Place::Block { head });
                Ok(())
            }
            END if bytes.len() == FOOTER_LEN => self.footer(bytes),
            END if self.left() < FOOTER_LEN as u64 => self.fault(self.len, What::Torn("the footer")),
            END => self.fault(self.at + FOOTER_LEN as u64, What::Trailing(self.left() - FOOTER_LEN as u64)),
            other => self.fault(self.at, What::Tag(other)),
        }
    }

    fn footer(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let (found, written) = (crc32fast::hash(&bytes[..FOOTER_LEN - 4]), number(bytes, FOOTER_LEN - 4));
        if found != written {
            return self.fault(self.at, What::Checksum { of: "the footer", found, written });
        }
        for (of, found, written) in
            [("entries", self.entries, long(bytes, 1)), ("blocks", self.blocks, long(bytes, 9))]
        {
            if found != written {
                return self.fault(self.at, What::Count { of, found, written });
            }
        }
        let (found, written) = (self.all.clone().finalize(), number(bytes, 17));
        if found != written {
            return self.fault(self.at, What::Checksum { of: "the file", found, written });
        }
        self.at += bytes.len() as u64;
        self.place = Place::Ended(Sum { entries: self.entries, bytes: self.at, crc: found });
        Ok(())
    }

    fn block(
        &mut self,
        head: [u8; BLOCK_HEAD_LEN],
        bytes: &[u8],
        mut each: impl FnMut(Entry<'_>) -> Result<(), What>,
    ) -> Result<(), Fault> {
        let start = self.at - BLOCK_HEAD_LEN as u64;
        let mut crc = crc32fast::Hasher::new();
        crc.update(&head[..9]);
        crc.update(bytes);
        let (found, written) = (crc.finalize(), number(&head, 9));
        if found != written {
            return self.fault(start, What::Checksum { of: "a block", found, written });
        }
        let (mut rest, mut count) = (bytes, 0);
        while !rest.is_empty() {
            let offset = self.at + (bytes.len() - rest.len()) as u64;
            let Some(entry) = take_entry(&mut rest) else {
                return self.fault(offset, What::Entry("it is longer than its block"));
            };
            each(entry).or_else(|what| self.fault(offset, what))?;
            count += 1;
        }
        let written = number(&head, 5).into();
        if count != written {
            return self.fault(start, What::Count { of: "entries of a block", found: count, written });
        }
        self.entries += count;
        self.blocks += 1;
        self.passed(bytes, Place::Tag);
        Ok(())
    }
}

fn take_entry<'a>(rest: &mut &'a [u8]) -> Option<Entry<'a>> {
    let (head, behind) = rest.split_at_checked(ENTRY_HEAD_LEN)?;
    let (key, behind) = behind.split_at_checked(number(head, 0) as usize)?;
    let (value, behind) = behind.split_at_checked(number(head, 4) as usize)?;
    *rest = behind;
    let expires_at = Some(long(head, 8)).filter(|&at| at > 0);
    Some(Entry { key, value, expires_at })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::cache::value::Str;

    fn file(count: u32) -> Vec<u8> {
        let (mut writer, mut file) = Writer::new(7, 1_000);
        for n in 0..count {
            let value =
                ValueRef::Str(if n % 2 == 0 { Str::Int(n.into()) } else { Str::Bytes(b"some bytes") });
            assert!(writer.entry(format!("key{n}").as_bytes(), value, (n % 3 == 0).then_some(5_000)));
            if n % 4 == 3 {
                file.extend(writer.take().unwrap());
            }
        }
        file.extend(writer.take().unwrap_or_default());
        let (foot, sum) = writer.finish();
        file.extend(foot);
        assert_eq!((sum.entries, sum.bytes), (count.into(), file.len() as u64));
        file
    }

    fn read(file: &[u8]) -> Result<Vec<(String, Option<u64>)>, Fault> {
        let mut reader = Reader::new(file.len() as u64);
        let mut seen = Vec::new();
        loop {
            match reader.next()? {
                Next::End(sum) => {
                    assert_eq!(sum.entries, seen.len() as u64);
                    return Ok(seen);
                }
                Next::Read(len) => {
                    let at = usize::try_from(reader.at()).unwrap();
                    reader.handle(&file[at..at + len], |entry| {
                        entry.decode().ok_or(What::Entry("its value"))?;
                        seen.push((String::from_utf8_lossy(entry.key).into_owned(), entry.expires_at));
                        Ok(())
                    })?;
                }
            }
        }
    }

    #[test]
    fn what_was_written_is_read_with_its_expiry() {
        for count in [0, 1, 4, 11] {
            let seen = read(&file(count)).unwrap();
            let wanted: Vec<_> =
                (0..count).map(|n| (format!("key{n}"), (n % 3 == 0).then_some(5_000))).collect();
            assert_eq!(seen, wanted);
        }
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let whole = file(11);
        for len in 0..whole.len() {
            let fault = read(&whole[..len]).expect_err("it is torn");
            assert!(fault.offset <= len as u64, "{len}: {fault}");
        }
    }

    #[test]
    fn a_file_with_any_bit_changed_is_refused() {
        let whole = file(11);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut changed = whole.clone();
                changed[at] ^= 1 << bit;
                read(&changed).expect_err("a changed file");
            }
        }
    }

    #[test]
    fn a_file_with_bytes_put_in_or_taken_out_anywhere_is_refused() {
        let whole = file(7);
        for at in 0..whole.len() {
            let mut more = whole.clone();
            more.insert(at, whole[at]);
            read(&more).expect_err("a byte twice");
            let mut less = whole.clone();
            less.remove(at);
            read(&less).expect_err("a byte gone");
        }
    }

    #[test]
    fn refusals_say_what_was_found_and_where() {
        let whole = file(3);
        let said = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
        let mut newer = whole.clone();
        newer[8] = 9;
        assert_eq!(said(&newer), "at byte 8: version 9 is newer than 1, the newest this release reads");
        let mut foreign = whole.clone();
        foreign[..5].copy_from_slice(b"REDIS");
        assert_eq!(said(&foreign), "at byte 0: it begins with \"REDISHE\\n\", which no snapshot does");
        assert_eq!(said(&whole[..10]), "at byte 10: the file ends within the header");
        let more = [&whole[..], b"xy"].concat();
        assert!(said(&more).ends_with("2 bytes follow the footer"), "{}", said(&more));
        let cut = &whole[..whole.len() - FOOTER_LEN];
        assert!(
            said(cut).ends_with("the file ends within the head of a block, or the footer"),
            "{}",
            said(cut)
        );
    }

    #[test]
    fn a_length_beyond_the_end_of_the_file_is_not_believed() {
        let mut whole = file(3);
        whole[HEADER_LEN + 1..HEADER_LEN + 5].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut reader = Reader::new(whole.len() as u64);
        reader.handle(&whole[..HEADER_LEN], |_| Ok(())).unwrap();
        let Next::Read(len) = reader.next().unwrap() else { panic!("there is more") };
        reader.handle(&whole[HEADER_LEN..HEADER_LEN + len], |_| Ok(())).unwrap();
        assert_eq!(reader.next().unwrap_err().what, What::Torn("a block"));
    }
}
