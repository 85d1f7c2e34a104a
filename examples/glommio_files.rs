//! Shards inside glommio: files by direct I/O, and a job that wants all of the CPU and keeps out of the way.
//!
//! `cargo run --release --features glommio --example glommio_files -- DIRECTORY`, then
//! `curl http://127.0.0.1:8083/files/NAME`, `/job`, and `/plaintext` for load. `docs/GLOMMIO.md` has more.
//!
//! A file is read by glommio's `DmaFile`, past the page cache, two pieces of 64 KiB at a time while earlier
//! ones are sent. Meanwhile each shard goes through DIRECTORY as a scrubber would, and adds up checksums for
//! ever. It does so in a task queue with a tenth of the shard's shares, and looks every few microseconds
//! whether others want the CPU.
//!
//! # Rules
//! 1. What is served is a regular file right below DIRECTORY whose name begins with no dot. A link is none.
//! 2. A file is open as long as its answer takes, then closed: there is no cache that could serve what a name
//!    no longer means (`docs/GLOMMIO.md` has what that costs).
//! 3. An answer that cannot be complete is cut: the length was promised, and nothing is made up.
//! 4. No task of glommio's is started for a request: the shard's own do the waiting.
//!
//! Not here: ranges, types by name, a cache.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use clap::Parser;
use corelane::glommio::io::{DmaFile, ReadResult};
use corelane::glommio::{self, GlommioError, Latency, Shares, TaskQueueHandle};
use corelane::{
    App, BodySender, HookError, Json, Method, OwnedRequest, Reject, Response, Server, ShardHost, Sharded,
    body_channel, spawn, yield_to_shard,
};
use serde::Serialize;

/// Bytes of a read. A multiple of every block size that direct I/O may ask for.
const PIECE_LEN: usize = 64 << 10;

/// Reads under way for one answer. One keeps the device busy while the other's bytes are sent.
const READS: usize = 2;

/// Bytes on their way to the socket: what the client has not taken yet, beside what is being read.
const CHANNEL_LEN: usize = 2 * PIECE_LEN;

/// Shares of the job's task queue. A shard has 1000.
const JOB_SHARES: usize = 100;

/// Bytes the job adds up before it looks whether others want the CPU: about 10 us at a byte each ns.
const SLICE_LEN: usize = 8 << 10;

/// What the job adds up where it finds no file.
static MEMORY: [u8; 1 << 20] = [b'm'; 1 << 20];

/// Serves the files of a directory by direct I/O from shards inside glommio, beside a job at 100 % CPU.
#[derive(Debug, Parser)]
#[command(
    name = "glommio_files",
    after_help = "\
Routes: /files/NAME, /plaintext, /job (what the job did so far, as JSON).
The file system must know O_DIRECT, as ext4, xfs and btrfs do. On tmpfs, files are read from memory.

Exit: 0 drained by SIGTERM or SIGINT, 2 could not run."
)]
struct Arguments {
    /// Where to listen
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8083")]
    listen: SocketAddr,

    /// Shards, each pinned to a core of its own [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    shards: Option<u16>,

    /// Serve files only; /job is 404
    #[arg(long)]
    no_job: bool,

    /// Holds the files to serve. Those in directories below it are not
    directory: PathBuf,
}

/// The file of this name; None where rule 1 has none.
fn path_of(directory: &Path, name: &str) -> Option<PathBuf> {
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
    is_name.then(|| directory.join(name))
}

/// Opens a regular file, and says how long it is.
///
/// # Errors
/// `NotFound` also where it is not a regular one; `InvalidInput` where its file system has no direct I/O.
async fn open(path: PathBuf) -> io::Result<(DmaFile, u64)> {
    // Names are looked up by calls that block. They go to the executor's other thread.
    let look = move || -> io::Result<(std::fs::File, u64)> {
        // Before it is opened: a pipe would wait for its writer.
        if !std::fs::symlink_metadata(&path)?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let found = std::fs::File::open(&path)?;
        let length = found.metadata()?.len();
        Ok((found, length))
    };
    let (found, length) = glommio::executor().spawn_blocking(look).await?;
    // glommio goes by the path again when the file is open, and panics if it is gone by then. This one stays.
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let file = DmaFile::open(path).await.map_err(io_error)?;
    Ok((file, length))
}

fn io_error(error: GlommioError<()>) -> io::Error {
    match error {
        GlommioError::IoError(source) | GlommioError::EnhancedIoError { source, .. } => source,
        error => io::Error::other(error.to_string()),
    }
}

/// A file in pieces of [`PIECE_LEN`], of which [`READS`] are read at a time.
struct Pieces {
    file: Rc<DmaFile>,
    length: u64,
    /// What was asked for so far.
    at: u64,
    reads: VecDeque<Read>,
}

enum Read {
    Waits(Pin<Box<dyn Future<Output = io::Result<ReadResult>>>>),
    Done(io::Result<ReadResult>),
}

impl Pieces {
    fn new(file: DmaFile, length: u64) -> Pieces {
        Pieces { file: Rc::new(file), length, at: 0, reads: VecDeque::new() }
    }

    /// The next piece; None behind the last.
    ///
    /// # Errors
    /// What the device says; `UnexpectedEof` where the file has become shorter.
    async fn next(&mut self) -> Option<io::Result<ReadResult>> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<ReadResult>>> {
        while self.reads.len() < READS && self.at < self.length {
            let len = usize::try_from(self.length - self.at).unwrap_or(PIECE_LEN).min(PIECE_LEN);
            self.reads.push_back(Read::Waits(Box::pin(read(Rc::clone(&self.file), self.at, len))));
            self.at += len as u64;
        }
        for read in &mut self.reads {
            if let Read::Waits(future) = read
                && let Poll::Ready(done) = future.as_mut().poll(cx)
            {
                *read = Read::Done(done);
            }
        }
        match self.reads.pop_front() {
            None => Poll::Ready(None),
            Some(Read::Done(done)) => Poll::Ready(Some(done)),
            Some(waits) => {
                self.reads.push_front(waits);
                Poll::Pending
            }
        }
    }

    /// Closes the file now. One that is dropped is closed as well, some turns later.
    async fn close(self) {
        let Pieces { file, reads, .. } = self;
        drop(reads);
        // Refused only where the number is no open file, which it is.
        drop(file.close_rc().await);
    }
}

/// Exactly these bytes.
async fn read(file: Rc<DmaFile>, at: u64, len: usize) -> io::Result<ReadResult> {
    // Whole blocks; at the end of the file fewer bytes come.
    let asked = usize::try_from(file.align_up(len as u64)).unwrap_or(PIECE_LEN);
    let bytes = file.read_at_aligned(at, asked).await.map_err(io_error)?;
    ReadResult::slice(&bytes, 0, len).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}

/// Sends a file to whoever has the other end.
async fn send(mut pieces: Pieces, mut sender: BodySender, name: String) {
    let is_whole = loop {
        match pieces.next().await {
            None => break true,
            Some(Ok(bytes)) => {
                // Copied once: glommio's memory stays on its thread and goes back to its ring.
                if sender.send(bytes.to_vec()).await.is_err() {
                    break false; // the client is gone
                }
            }
            Some(Err(error)) => {
                eprintln!("{name}: {error}; the answer is cut short");
                break false;
            }
        }
    };
    if is_whole {
        sender.finish();
    }
    pieces.close().await;
}

/// What a client is told of a file that cannot be opened.
fn refusal(name: &str, error: &io::Error) -> Reject {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::InvalidFilename => Reject::new(404, "no such file\n"),
        io::ErrorKind::PermissionDenied => Reject::new(403, "this file may not be read\n"),
        kind => {
            let reason = match kind {
                io::ErrorKind::InvalidInput => {
                    "its file system has no direct I/O (O_DIRECT): serve one that has"
                }
                _ => "it cannot be opened",
            };
            eprintln!("{name}: {reason}: {error}");
            Reject::new(500, format!("{reason}\n"))
        }
    }
}

async fn file(directory: Rc<Path>, request: OwnedRequest<Sharded<Job>>) -> Result<Response, Reject> {
    let name = request.param("name").unwrap_or_default().into_owned();
    let path = path_of(&directory, &name).ok_or(Reject::new(404, "no such file\n"))?;
    let (file, length) = open(path).await.map_err(|error| refusal(&name, &error))?;
    let pieces = Pieces::new(file, length);
    let (sender, stream) = body_channel(CHANNEL_LEN);
    if request.method() == Method::Head {
        pieces.close().await;
    } else {
        spawn(send(pieces, sender, name)).map_err(|full| Reject::new(503, format!("{full}\n")))?.detach();
    }
    let answer = Response::stream("application/octet-stream", Some(length), stream);
    Ok(answer.header("accept-ranges", &b"none"[..]))
}

/// The job of one shard.
#[derive(Default)]
struct Job {
    rounds: Cell<u64>,
    bytes: Cell<u64>,
    /// Of the last whole round.
    checksum: Cell<u64>,
    /// Time its queue had the CPU, up to the last report: glommio counts anew from there.
    busy: Cell<Duration>,
    running: RefCell<Option<Running>>,
}

struct Running {
    since: Instant,
    queue: TaskQueueHandle,
    task: glommio::Task<()>,
}

/// What `/job` says of a shard. The times are since it began.
#[derive(Debug, Serialize)]
struct Report {
    rounds: u64,
    bytes: u64,
    checksum: String,
    seconds: f64,
    cpu_seconds: f64,
    share: f64,
}

/// FNV-1a, 64 bits (draft-eastlake-fnv, 2): its state before the first byte, and its prime.
const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

impl Job {
    /// Starts it as a task of glommio, in a queue of its own.
    ///
    /// # Errors
    /// When glommio has no such queue, which it was just given.
    #[expect(clippy::disallowed_methods, reason = "wall time for a report; once")]
    fn start(self: Rc<Job>, directory: PathBuf) -> Result<(), HookError> {
        let shares = Shares::Static(JOB_SHARES);
        let queue = glommio::executor().create_task_queue(shares, Latency::NotImportant, "job");
        let job = Rc::clone(&self);
        let rounds = async move {
            loop {
                job.round(&directory).await;
            }
        };
        let task = glommio::spawn_local_into(rounds, queue).map_err(|error| error.to_string())?;
        self.running.replace(Some(Running { since: Instant::now(), queue, task }));
        Ok(())
    }

    /// Ends it where it next gives way.
    async fn stop(&self) {
        let running = self.running.take();
        if let Some(running) = running {
            running.task.cancel().await;
        }
    }

    /// Adds up every file once, or some memory where none can be read.
    async fn round(&self, directory: &Path) {
        let mut sum = FNV_START;
        let before = self.bytes.get();
        for path in files_of(directory.to_owned()).await {
            // One that is gone or cannot be read is no reason to stop.
            let Ok((file, length)) = open(path).await else { continue };
            let mut pieces = Pieces::new(file, length);
            while let Some(Ok(bytes)) = pieces.next().await {
                sum = self.add(sum, &bytes).await;
            }
            pieces.close().await;
        }
        if self.bytes.get() == before {
            sum = self.add(sum, &MEMORY).await;
        }
        self.checksum.set(sum);
        self.rounds.set(self.rounds.get() + 1);
    }

    async fn add(&self, mut sum: u64, bytes: &[u8]) -> u64 {
        for slice in bytes.chunks(SLICE_LEN) {
            for byte in slice {
                sum = (sum ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
            }
            self.bytes.set(self.bytes.get() + slice.len() as u64);
            yield_to_shard().await;
        }
        sum
    }

    fn report(&self) -> Option<Report> {
        let running = self.running.borrow();
        let running = running.as_ref()?;
        let new = glommio::executor()
            .task_queue_stats(running.queue)
            .map_or(Duration::ZERO, |stats| stats.runtime());
        self.busy.set(self.busy.get() + new);
        let (seconds, cpu_seconds) = (running.since.elapsed().as_secs_f64(), self.busy.get().as_secs_f64());
        Some(Report {
            rounds: self.rounds.get(),
            bytes: self.bytes.get(),
            checksum: format!("{:016x}", self.checksum.get()),
            seconds,
            cpu_seconds,
            share: cpu_seconds / seconds,
        })
    }
}

/// The paths of what can be served, in order.
async fn files_of(directory: PathBuf) -> Vec<PathBuf> {
    let look = move || {
        let Ok(entries) = std::fs::read_dir(&directory) else { return Vec::new() };
        let path = |entry: std::fs::DirEntry| path_of(&directory, entry.file_name().to_str()?);
        let mut paths: Vec<PathBuf> = entries.filter_map(|entry| path(entry.ok()?)).collect();
        paths.sort();
        paths
    };
    glommio::executor().spawn_blocking(look).await
}

/// What the job of every shard did so far, in their order.
async fn job(request: OwnedRequest<Sharded<Job>>) -> Result<Json<Vec<Report>>, Reject> {
    let mut shards = Vec::new();
    for report in request.state().each(Job::report).await {
        let report = report.map_err(|error| Reject::new(503, format!("{error}\n")))?;
        shards.push(report.ok_or(Reject::new(404, "no job runs\n"))?);
    }
    Ok(Json(shards))
}

fn app(jobs: Sharded<Job>, directory: &Path, has_job: bool) -> App<Sharded<Job>> {
    let (served, scrubbed): (Rc<Path>, PathBuf) = (directory.into(), directory.to_owned());
    let app = App::new(jobs)
        .get("/plaintext", |_| "Hello, World!")
        .get_async("/files/{name}", move |request| file(Rc::clone(&served), request))
        .get_async("/job", job);
    if !has_job {
        return app;
    }
    app.on_start(move |jobs| async move { jobs.here().start(scrubbed) })
        .on_drain(|jobs| async move { jobs.here().stop().await })
}

fn run(arguments: Arguments) -> Result<(), String> {
    let Arguments { listen, shards, no_job, directory } = arguments;
    // Absolute, and there: whoever mistyped it should not learn it from 404s.
    let directory = directory.canonicalize().map_err(|error| format!("{}: {error}", directory.display()))?;
    if !directory.is_dir() {
        return Err(format!("{}: not a directory; name the one that holds the files", directory.display()));
    }
    let mut server = Server::new(listen).host(ShardHost::Glommio);
    if let Some(shards) = shards {
        server = server.shards(shards);
    }
    let jobs = Sharded::new(|_| Job::default());
    let running =
        server.start(move |_| app(jobs.clone(), &directory, !no_job)).map_err(|error| error.to_string())?;
    eprintln!("listening on http://{}", running.addr());
    running.wait().map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("glommio_files: {error}");
            ExitCode::from(2)
        }
    }
}
