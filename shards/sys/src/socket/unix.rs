//! Listening on a Unix socket: a file that leads to us, and is gone when we are.
//!
//! Unix sockets have no `SO_REUSEPORT` group. Shards share one socket instead, each with a descriptor of its
//! own ([`UnixListener::share`]): whichever is free takes the next connection.
//!
//! # The file
//! 1. It is removed by [`SocketFile`], by whoever holds that: at the beginning of a drain, or on drop.
//! 2. One left behind by a process that died is removed, but only after a connect to it was refused, and only
//!    if it is a socket. Two processes that do so in the same instant may both get through; the later one has
//!    the path then.
//! 3. Only the file we made is removed: not one that took its place.
//!
//! Not here: abstract names, credentials of peers, datagrams.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use libc::c_int;

use super::check;
use crate::RawAddr;

/// How to listen on a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnixOptions {
    /// Connections that wait to be accepted; the kernel caps it at `net.core.somaxconn` without a word.
    pub backlog: u32,
    /// Permission bits of the file, as `0o660`: who may write may connect. None leaves what the umask allows.
    pub mode: Option<u32>,
}

impl Default for UnixOptions {
    fn default() -> UnixOptions {
        UnixOptions { backlog: 4096, mode: None }
    }
}

/// A listening Unix socket and its file.
#[derive(Debug)]
pub struct UnixListener {
    fd: OwnedFd,
    file: SocketFile,
}

/// The file of a listening socket; removed on drop.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode; none once removed.
    made: Option<(u64, u64)>,
}

/// Listens on `path`, which must be shorter than 108 bytes and have no NUL in it. Nobody can connect before the
/// permission bits are set.
///
/// # Errors
/// `AddrInUse` if somebody listens there, or may: the connect that was to find out failed otherwise than by a
/// refusal. `AlreadyExists` if the path is something else than a socket. `InvalidInput` for a path that does not
/// fit. What else bind(2), chmod(2) and listen(2) name.
pub fn listen_unix(path: &Path, options: &UnixOptions) -> io::Result<UnixListener> {
    let addr = RawAddr::unix(path)?;
    let fd = unix_socket()?;
    if let Err(error) = bind(fd.as_fd(), &addr) {
        if error.raw_os_error() != Some(libc::EADDRINUSE) {
            return Err(error);
        }
        remove_if_dead(path, &addr)?;
        bind(fd.as_fd(), &addr)?;
    }
    let made = fs::symlink_metadata(path)?;
    let file = SocketFile { path: path.to_owned(), made: Some((made.dev(), made.ino())) };
    if let Some(mode) = options.mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
    }
    let backlog = c_int::try_from(options.backlog).unwrap_or(c_int::MAX);
    // SAFETY: listen takes no pointer.
    check(unsafe { libc::listen(fd.as_raw_fd(), backlog) })?;
    Ok(UnixListener { fd, file })
}

/// Finds out whether [`listen_unix`] would get `path`, and changes nothing. The answer is about now.
///
/// # Errors
/// As [`listen_unix`] would answer for what is there already, and `NotFound` without a directory for it. Whether
/// we may write there is not looked at.
pub fn probe_unix(path: &Path) -> io::Result<()> {
    if let Some(dir) = path.parent() {
        fs::metadata(dir)?;
    }
    left_behind(path, &RawAddr::unix(path)?).map(drop)
}

impl UnixListener {
    /// Where it is.
    pub fn path(&self) -> &Path {
        self.file.path()
    }

    /// A descriptor of this one socket for each of `shards` shards (at least one), and the file. The queue of
    /// waiting connections is closed, and those in it reset, when the last descriptor is.
    ///
    /// # Errors
    /// `EMFILE`. The file is removed then.
    pub fn share(self, shards: usize) -> io::Result<(Vec<OwnedFd>, SocketFile)> {
        let UnixListener { fd, file } = self;
        let mut all = Vec::with_capacity(shards.max(1));
        for _ in 1..shards {
            all.push(fd.try_clone()?);
        }
        all.push(fd);
        Ok((all, file))
    }
}

impl AsFd for UnixListener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl SocketFile {
    /// Where it is, or was.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the file, once, if it is still the one that was made: nobody finds us any more, and who is
    /// connected or waits is not touched.
    pub fn remove(&mut self) {
        if let Some(made) = self.made.take()
            && fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == made)
        {
            // It is in the way of nobody but the next start, which will find that it is dead.
            drop(fs::remove_file(&self.path));
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Rule 2.
fn remove_if_dead(path: &Path, addr: &RawAddr) -> io::Result<()> {
    let Some(found) = left_behind(path, addr)? else { return Ok(()) };
    let now = fs::symlink_metadata(path)?;
    if (now.dev(), now.ino()) != (found.dev(), found.ino()) {
        return Err(in_use()); // somebody else was here in between
    }
    fs::remove_file(path)
}

fn in_use() -> io::Error {
    io::Error::from_raw_os_error(libc::EADDRINUSE)
}

/// The socket file at `path` that nobody listens at; nothing if there is no file.
fn left_behind(path: &Path, addr: &RawAddr) -> io::Result<Option<fs::Metadata>> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !found.file_type().is_socket() {
        let what = format!("{} exists and is not a socket: it is left alone", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
    }
    let fd = unix_socket()?;
    // SAFETY: rule 1: the address and its length. The socket does not block: a full queue is an answer, too.
    let answer = check(unsafe { libc::connect(fd.as_raw_fd(), addr.as_ptr(), addr.len()) });
    match answer.err().and_then(|error| error.raw_os_error()) {
        Some(libc::ECONNREFUSED) => Ok(Some(found)),
        Some(libc::ENOENT) => Ok(None),
        _ => Err(in_use()),
    }
}

fn unix_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: socket takes no pointer.
    let fd = check(unsafe { libc::socket(libc::AF_UNIX, kind, 0) })?;
    // SAFETY: rule 2.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(fd: BorrowedFd<'_>, addr: &RawAddr) -> io::Result<()> {
    // SAFETY: rule 1: the address and its length.
    check(unsafe { libc::bind(fd.as_raw_fd(), addr.as_ptr(), addr.len()) }).map(drop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    use super::*;

    fn options(mode: u32) -> UnixOptions {
        UnixOptions { mode: Some(mode), ..UnixOptions::default() }
    }

    fn accept(fd: &OwnedFd) -> Option<UnixStream> {
        // SAFETY: no address is asked for.
        let taken = unsafe {
            libc::accept4(fd.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut(), libc::SOCK_CLOEXEC)
        };
        // SAFETY: rule 2.
        check(taken).ok().map(|fd| UnixStream::from(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    #[test]
    fn a_client_connects_by_path_and_the_file_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.sock");
        let listener = listen_unix(&path, &options(0o640)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        let mut client = UnixStream::connect(&path).unwrap();
        let (fds, file) = listener.share(1).unwrap();
        let mut server = accept(&fds[0]).unwrap();
        client.write_all(b"ping").unwrap();
        let mut four = [0; 4];
        server.read_exact(&mut four).unwrap();
        assert_eq!(&four, b"ping");
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_probe_answers_like_a_listen_and_leaves_everything_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.sock");
        let kind = |path: &Path| probe_unix(path).err().map(|error| error.kind());
        assert_eq!(kind(&path), None);
        assert!(!path.exists());
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(kind(&path), Some(io::ErrorKind::AddrInUse));
        drop(listener);
        assert_eq!(kind(&path), None, "left behind");
        assert!(path.exists());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "a file").unwrap();
        assert_eq!(kind(&path), Some(io::ErrorKind::AlreadyExists));
        assert_eq!(kind(&dir.path().join("no/node.sock")), Some(io::ErrorKind::NotFound));
    }

    #[test]
    fn every_share_takes_from_the_same_queue() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.sock");
        let (fds, mut file) = listen_unix(&path, &UnixOptions::default()).unwrap().share(3).unwrap();
        assert_eq!(fds.len(), 3);
        let _clients: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        for fd in &fds {
            assert!(accept(fd).is_some());
        }
        assert!(accept(&fds[0]).is_none());
        file.remove();
        assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn the_socket_of_a_dead_process_is_replaced_and_that_of_a_living_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.sock");
        // As a process that was killed leaves it: closed, and still there.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let living = listen_unix(&path, &UnixOptions::default()).unwrap();
        let error = listen_unix(&path, &UnixOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(UnixStream::connect(living.path()).is_ok());
    }

    #[test]
    fn a_living_one_whose_queue_is_full_is_not_taken_for_dead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.sock");
        let _living = listen_unix(&path, &UnixOptions { backlog: 0, mode: None }).unwrap();
        let addr = RawAddr::unix(&path).unwrap();
        let mut waiting = Vec::new();
        loop {
            let fd = unix_socket().unwrap();
            // SAFETY: rule 1: the address and its length.
            let answer = check(unsafe { libc::connect(fd.as_raw_fd(), addr.as_ptr(), addr.len()) });
            waiting.push(fd);
            if let Err(error) = answer {
                assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "full");
                break;
            }
        }
        let error = listen_unix(&path, &UnixOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists());
    }

    #[test]
    fn what_is_no_socket_of_ours_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("data");
        fs::write(&file, "precious").unwrap();
        let error = listen_unix(&file, &UnixOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(error.to_string().contains("not a socket"));
        assert_eq!(fs::read(&file).unwrap(), b"precious");
        // A link to a dead socket is no socket either.
        let (dead, link) = (dir.path().join("dead"), dir.path().join("link"));
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        std::os::unix::fs::symlink(&dead, &link).unwrap();
        let error = listen_unix(&link, &UnixOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(dead.exists());
        // Another kind of socket refuses streams by another errno, whoever owns it.
        let other = dir.path().join("datagrams");
        let _owner = UnixDatagram::bind(&other).unwrap();
        let error = listen_unix(&other, &UnixOptions::default()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_file_that_took_the_place_of_ours_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node.sock");
        let old = listen_unix(&path, &UnixOptions::default()).unwrap();
        fs::rename(&path, dir.path().join("moved")).unwrap();
        let new = listen_unix(&path, &UnixOptions::default()).unwrap();
        drop(old);
        assert!(UnixStream::connect(new.path()).is_ok());
    }

    #[test]
    fn a_start_that_failed_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing").join("node.sock");
        assert_eq!(
            listen_unix(&missing, &UnixOptions::default()).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
