//! The steps of file operations: open, read, write, sync.
//!
//! # Rules
//! 1. A file operation is carried out once its time on the disk is over, so two of one file that are under
//!    way together happen in any order.
//! 2. A write that only partly fits writes what fits; the next one fails with `ENOSPC`.
//! 3. A directory can be opened and synced, nothing else.
//!
//! Not here: what survives a crash (`disk`).

use std::ffi::CString;

use corelane_base::{Completion, Op, Payload, Sock, Token};
use corelane_pools::Chain;
use libc::{
    EBADF, EEXIST, EIO, EISDIR, ENFILE, ENOENT, ENOSPC, ENOTDIR, O_ACCMODE, O_APPEND, O_CREAT, O_DIRECTORY,
    O_EXCL, O_RDONLY, O_TRUNC, O_WRONLY,
};

use crate::config::Fault;
use crate::state::{Done, FileState, Lane, Owed, Place, State, What, as_result};

/// A result, or an errno.
type Outcome = Result<usize, i32>;

fn as_number(outcome: Outcome) -> i32 {
    outcome.map_or_else(|errno| -errno, as_result)
}

impl State {
    pub(crate) fn file_op(&mut self, op: Op<Chain>) {
        match op {
            Op::Open { path, flags, token, .. } => self.open(&path, flags, token),
            Op::Read { file, offset, mut data, token } => {
                let outcome = self.read(file, offset, &mut data);
                self.end_file(file, token, outcome, Payload::Bytes(data));
            }
            Op::ReadInto { file, offset, mut data, token } => {
                let outcome = self.read(file, offset, data.first_mut());
                self.end_file(file, token, outcome, Payload::Sent(data));
            }
            Op::Write { file, offset, data, from, token } => {
                let outcome = self.write(file, offset, &data[from as usize..]);
                self.end_file(file, token, outcome, Payload::Bytes(data));
            }
            Op::Sync { file, token, .. } => {
                let outcome = self.sync(file);
                self.end_file(file, token, outcome, Payload::None);
            }
            _ => unreachable!("only file operations are put off"),
        }
    }

    fn end_file(&mut self, file: Sock, token: Token, outcome: Outcome, payload: Payload<Chain>) {
        let result = as_number(outcome);
        self.note("file", u64::from(file.0), i64::from(result));
        self.remove_place(token, Place::Disk);
        let completion = Completion { token, result, more: false, payload };
        self.post(Lane::Free, Done { completion, bytes: None, ends: Owed::Other(file.0), opens: None });
    }

    fn open(&mut self, path: &CString, flags: i32, token: Token) {
        let outcome = self.open_path(path.as_bytes(), flags);
        let result = outcome.map_or_else(|errno| -errno, |slot| as_result(slot as usize));
        self.note("open", token.to_bits(), i64::from(result));
        self.log.bytes(path.as_bytes());
        self.remove_place(token, Place::Disk);
        let completion = Completion { token, result, more: false, payload: Payload::None };
        self.post(Lane::Free, Done { completion, bytes: None, ends: Owed::Nothing, opens: outcome.ok() });
    }

    fn open_path(&mut self, path: &[u8], flags: i32) -> Result<u32, i32> {
        if path.is_empty() {
            return Err(ENOENT);
        }
        if self.roll(Fault::DiskError) {
            return Err(EIO);
        }
        if !self.has_free_slot() {
            return Err(ENFILE);
        }
        let access = flags & O_ACCMODE;
        let found = self.files.find(path);
        let node = match found {
            Some(_) if flags & O_DIRECTORY != 0 => return Err(ENOTDIR),
            None if flags & O_DIRECTORY != 0 => None,
            Some(_) if flags & O_CREAT != 0 && flags & O_EXCL != 0 => return Err(EEXIST),
            Some(node) => Some(node),
            None if flags & O_CREAT == 0 => return Err(ENOENT),
            None if self.roll(Fault::DiskFull) => return Err(ENOSPC),
            None => Some(self.files.create(path)),
        };
        if let Some(node) = node.filter(|_| flags & O_TRUNC != 0 && access != O_RDONLY) {
            self.files.truncate(node);
        }
        let file = FileState {
            node,
            readable: access != O_WRONLY,
            writable: access != O_RDONLY && node.is_some(),
            append: flags & O_APPEND != 0,
        };
        self.open_slot(What::File(file)).ok_or(ENFILE)
    }

    fn file(&self, file: Sock) -> Result<&FileState, i32> {
        match self.slots.get(file.0 as usize).and_then(Option::as_ref).map(|slot| &slot.what) {
            Some(What::File(file)) => Ok(file),
            _ => Err(EBADF),
        }
    }

    fn read(&mut self, file: Sock, offset: u64, data: &mut [u8]) -> Outcome {
        let state = self.file(file)?;
        let readable = state.readable;
        let node = state.node.ok_or(EISDIR)?;
        if !readable {
            return Err(EBADF);
        }
        if self.roll(Fault::DiskError) {
            return Err(EIO);
        }
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.files.data(node).len());
        let count = data.len().min(self.files.data(node).len() - start);
        let count = self.cut(Fault::ShortFile, count);
        data[..count].copy_from_slice(&self.files.data(node)[start..start + count]);
        self.log.bytes(&data[..count]);
        Ok(count)
    }

    fn write(&mut self, file: Sock, offset: u64, data: &[u8]) -> Outcome {
        let state = self.file(file)?;
        let (writable, append) = (state.writable, state.append);
        let node = state.node.ok_or(EBADF)?;
        if !writable {
            return Err(EBADF);
        }
        if self.roll(Fault::DiskError) {
            return Err(EIO);
        }
        // pwrite(2), BUGS: with O_APPEND Linux appends, whatever the offset.
        let end = self.files.data(node).len();
        let start = if append { end } else { usize::try_from(offset).unwrap_or(usize::MAX) };
        let room = self.files.room(node, start, data.len());
        if room == 0 || self.roll(Fault::DiskFull) {
            return Err(ENOSPC);
        }
        let count = self.cut(Fault::ShortFile, room);
        self.files.write(node, start, &data[..count]);
        self.log.bytes(&data[..count]);
        Ok(count)
    }

    fn sync(&mut self, file: Sock) -> Outcome {
        let node = self.file(file)?.node;
        let failed = self.roll(Fault::DiskError);
        match node {
            Some(node) if failed => self.files.sync_failed(node),
            Some(node) => self.files.sync(node),
            None => {}
        }
        if failed { Err(EIO) } else { Ok(0) }
    }
}
