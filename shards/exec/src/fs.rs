//! Files on the ring: open, read, write, fsync without a thread of ours.
//!
//! The kernel serves what is in the page cache at once and hands the rest to its own workers; either way
//! the shard goes on. Buffers are owned by the operation until it ends.
//!
//! # Rules
//! 1. A file is closed when its last handle is dropped and its last operation has ended.
//!
//! Not here: directories, metadata (use [`blocking`](crate::blocking())), direct I/O.

use std::any::Any;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use corelane_base::{Op, Sock, Token};
use corelane_pools::{Chain, Chunk};

use crate::shard::{Shard, current};

/// Bytes of one read operation; longer reads are done in pieces. A write is one operation, gone on with
/// where the kernel took less.
pub const FILE_IO_MAX: usize = 1 << 20;

const O_RDONLY: i32 = 0;
const O_WRONLY: i32 = 0o1;
const O_RDWR: i32 = 0o2;
const O_CREAT: i32 = 0o100;
const O_TRUNC: i32 = 0o1000;
const O_APPEND: i32 = 0o2000;

struct Inner {
    shard: Rc<Shard>,
    sock: Sock,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shard.push(Op::Close { sock: self.sock, token: Token::NONE });
    }
}

/// An open file. Clones share it.
#[derive(Clone)]
pub struct File(Rc<Inner>);

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({:?})", self.0.sock)
    }
}

/// How to open a file; as `std::fs::OpenOptions`.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenOptions {
    read: bool,
    write: bool,
    append: bool,
    create: bool,
    truncate: bool,
}

impl OpenOptions {
    /// Nothing asked for yet.
    pub const fn new() -> OpenOptions {
        OpenOptions { read: false, write: false, append: false, create: false, truncate: false }
    }

    /// For reading.
    #[must_use]
    pub const fn read(mut self, on: bool) -> OpenOptions {
        self.read = on;
        self
    }

    /// For writing.
    #[must_use]
    pub const fn write(mut self, on: bool) -> OpenOptions {
        self.write = on;
        self
    }

    /// Writes go to the end, whatever the offset.
    #[must_use]
    pub const fn append(mut self, on: bool) -> OpenOptions {
        self.append = on;
        self
    }

    /// Made when it is not there, with mode 0644 less the umask.
    #[must_use]
    pub const fn create(mut self, on: bool) -> OpenOptions {
        self.create = on;
        self
    }

    /// Emptied first.
    #[must_use]
    pub const fn truncate(mut self, on: bool) -> OpenOptions {
        self.truncate = on;
        self
    }

    /// Opens `path` on the current shard.
    ///
    /// # Errors
    /// As open(2); `InvalidInput` for a path with a NUL byte.
    ///
    /// # Panics
    /// Outside a shard.
    pub async fn open(self, path: impl AsRef<Path>) -> io::Result<File> {
        let shard = current();
        let path = CString::new(path.as_ref().as_os_str().as_bytes())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path may not hold a NUL byte"))?;
        let mut flags = match (self.read, self.write || self.append) {
            (true, true) => O_RDWR,
            (false, true) => O_WRONLY,
            (_, false) => O_RDONLY,
        };
        for (on, flag) in [(self.append, O_APPEND), (self.create, O_CREAT), (self.truncate, O_TRUNC)] {
            if on {
                flags |= flag;
            }
        }
        let number = shard.io(|token| Op::Open { path, flags, mode: 0o644, token }).await.check()?;
        Ok(File(Rc::new(Inner { shard, sock: Sock(number) })))
    }
}

impl File {
    /// Opens for reading.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub async fn open(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).open(path).await
    }

    /// Makes or empties a file, for reading and writing.
    ///
    /// # Errors
    /// As [`OpenOptions::open`].
    pub async fn create(path: impl AsRef<Path>) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).await
    }

    fn keep(&self) -> Option<Rc<dyn Any>> {
        Some(Rc::clone(&self.0) as Rc<dyn Any>)
    }

    /// Reads up to `len` bytes at `offset`: fewer only at the end of the file. Allocates `len` bytes. A read
    /// that meets the end costs one operation more, to be sure of it.
    ///
    /// # Errors
    /// As pread(2).
    pub async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while all.len() < len {
            let want = (len - all.len()).min(FILE_IO_MAX);
            let data = vec![0; want];
            let at = offset + all.len() as u64;
            let file = self.0.sock;
            let done = self
                .0
                .shard
                .io_keeping(|token| Op::Read { file, offset: at, data, token }, self.keep())
                .await;
            let got = done.check()? as usize;
            let mut data = done.bytes;
            data.truncate(got);
            if all.is_empty() {
                all = data;
            } else {
                all.extend_from_slice(&data);
            }
            // Less than asked for is not yet the end (read(2)): only nothing is.
            if got == 0 {
                break;
            }
        }
        Ok(all)
    }

    /// Reads up to `len` bytes at `offset` into memory of the shard's pools, by one operation: what to send on as it
    /// is. Fewer at the end of the file and, rarely, before it; none at the end or for a `len` of 0. At most
    /// [`FILE_IO_MAX`] at a time. The piece holds a whole slot of the pools (1 KiB, 64 KiB or 1 MiB) until it is sent,
    /// out of what answers are made of too: 64 KiB a time is what most connections can be given.
    ///
    /// # Errors
    /// As pread(2); `OutOfMemory` when the pools are full ([`Limits`](corelane_base::Limits) bounds them).
    pub async fn read_chunk(&self, offset: u64, len: usize) -> io::Result<Chunk> {
        let len = len.min(FILE_IO_MAX);
        if len == 0 {
            return Ok(Chunk::Static(b""));
        }
        let full = |_| io::Error::new(io::ErrorKind::OutOfMemory, "the pools of this shard are full");
        let mut room = self.0.shard.pools().get(len).map_err(full)?;
        room.set_len_filled(len);
        let (file, data) = (self.0.sock, Chain::from(room));
        let read = |token| Op::ReadInto { file, offset, data, token };
        let done = self.0.shard.io_keeping(read, self.keep()).await;
        let got = done.check()? as usize;
        match done.chain.and_then(|mut chain| chain.pop()) {
            Some(Chunk::Buf(mut read)) => {
                read.truncate(got);
                Ok(Chunk::Buf(read))
            }
            _ => unreachable!("a read gives its buffer back"),
        }
    }

    /// Writes all of `data` at `offset`.
    ///
    /// # Errors
    /// As pwrite(2); `WriteZero` when the file takes no more. Part of `data` may have been written.
    pub async fn write_at(&self, offset: u64, mut data: Vec<u8>) -> io::Result<()> {
        let mut from = 0usize;
        while from < data.len() {
            let file = self.0.sock;
            let at = offset + from as u64;
            let start = u32::try_from(from)
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "write at most 4 GiB at a time"))?;
            let done = self
                .0
                .shard
                .io_keeping(|token| Op::Write { file, offset: at, data, from: start, token }, self.keep())
                .await;
            let wrote = done.check()? as usize;
            if wrote == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            data = done.bytes;
            from += wrote;
        }
        Ok(())
    }

    /// Data and metadata are on the device when this returns (fsync(2)).
    ///
    /// # Errors
    /// As fsync(2). After an error, what was written before may be lost: do not retry and go on.
    pub async fn sync_all(&self) -> io::Result<()> {
        self.sync(false).await
    }

    /// As [`File::sync_all`], leaving out metadata that is not needed to read the data (fdatasync(2)).
    ///
    /// # Errors
    /// As [`File::sync_all`].
    pub async fn sync_data(&self) -> io::Result<()> {
        self.sync(true).await
    }

    async fn sync(&self, data_only: bool) -> io::Result<()> {
        let file = self.0.sock;
        let done = self.0.shard.io_keeping(|token| Op::Sync { file, data_only, token }, self.keep()).await;
        done.check().map(|_| ())
    }
}
