//! The directory of a snapshot: what is asked of it, and the real one.
//!
//! # Rules
//! 1. Names are those of `manifest`, without a path.
//! 2. Data goes by the ring of the shard; what has no operation there (rename, remove, list, fsync of the directory) goes
//!    by a blocking thread.
//!
//! Not here: in which order things are done (`node`).

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use corelane_exec::fs::File;

/// Between two slices of a walk: with slices of half a millisecond, a walk takes a third of a core.
pub const PAUSE: Duration = Duration::from_millis(1);

/// What snapshots ask of a directory. Tests have one that ends in the middle.
pub trait Dir {
    /// An open file.
    type File: DirFile;

    /// Makes or empties a file.
    fn create(&self, name: &str) -> impl Future<Output = io::Result<Self::File>>;

    /// Opens a file for reading; `None` where there is none.
    fn open(&self, name: &str) -> impl Future<Output = io::Result<Option<Self::File>>>;

    /// Gives a file another name, in one step, over whatever has it.
    fn rename(&self, from: &str, to: &str) -> impl Future<Output = io::Result<()>>;

    /// Removes a file.
    fn remove(&self, name: &str) -> impl Future<Output = io::Result<()>>;

    /// The names in it.
    fn list(&self) -> impl Future<Output = io::Result<Vec<String>>>;

    /// Renames and removals so far are on the device when this is done.
    fn sync(&self) -> impl Future<Output = io::Result<()>>;

    /// Lets others have their turn.
    fn pause(&self) -> impl Future<Output = ()>;
}

/// What snapshots ask of a file.
pub trait DirFile {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, offset: u64, bytes: Vec<u8>) -> impl Future<Output = io::Result<()>>;

    /// Up to `len` bytes at `offset`, fewer only at the end of the file.
    fn read_at(&self, offset: u64, len: usize) -> impl Future<Output = io::Result<Vec<u8>>>;

    /// What was written is on the device when this is done.
    fn sync(&self) -> impl Future<Output = io::Result<()>>;
}

/// A directory of the host.
#[derive(Clone, Debug)]
pub struct Disk {
    path: Arc<PathBuf>,
}

impl Disk {
    /// The directory at `path`, which must be there.
    pub fn new(path: impl Into<PathBuf>) -> Disk {
        Disk { path: Arc::new(path.into()) }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&PathBuf) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let path = Arc::clone(&self.path);
        corelane_exec::blocking(move || job(&path)).await.map_err(io::Error::other)?
    }
}

impl Dir for Disk {
    type File = File;

    async fn create(&self, name: &str) -> io::Result<File> {
        File::create(self.path.join(name)).await
    }

    async fn open(&self, name: &str) -> io::Result<Option<File>> {
        match File::open(self.path.join(name)).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (from.to_owned(), to.to_owned());
        self.blocking(move |path| std::fs::rename(path.join(from), path.join(to))).await
    }

    async fn remove(&self, name: &str) -> io::Result<()> {
        let name = name.to_owned();
        self.blocking(move |path| std::fs::remove_file(path.join(name))).await
    }

    async fn list(&self) -> io::Result<Vec<String>> {
        self.blocking(|path| {
            let names = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.file_name()));
            // A name that is no text is none of ours.
            names.filter_map(|name| name.map(|name| name.into_string().ok()).transpose()).collect()
        })
        .await
    }

    async fn sync(&self) -> io::Result<()> {
        self.blocking(|path| std::fs::File::open(path)?.sync_all()).await
    }

    async fn pause(&self) {
        corelane_exec::sleep(PAUSE).await;
    }
}

impl DirFile for File {
    async fn write_at(&self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        File::write_at(self, offset, bytes).await
    }

    async fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        File::read_at(self, offset, len).await
    }

    async fn sync(&self) -> io::Result<()> {
        self.sync_all().await
    }
}
