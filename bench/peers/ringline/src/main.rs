//! The ringline peer: raw HTTP/1.1 on its io_uring backend, one worker for each CPU.
//!
//! As its documentation serves fastest: `with_data` parses in the kernel's receive buffer, `send_nowait`
//! copies an answer into the send pool without waiting, `send_parts` sends large bodies from where they are.
//! It does not tick and blocks when there is nothing to do. Its acceptor is a thread of its own that hands
//! connections to the workers; it runs on the first CPU.
//!
//! Not here: HTTP (`peer_raw`), the work (`peer_work`).

use std::future::Future;
use std::io;
use std::mem;
use std::process::{self, ExitCode};
use std::sync::OnceLock;
use std::time::Duration;

use clap::Parser;
use peer_raw::{After, Machine, Turn};
use peer_work::Options;
use ringline::{
    AsyncEventHandler, Backend, ConfigBuilder, ConnCtx, GuardBox, ParseResult, RegionId, RinglineBuilder,
    SendGuard, SendPart,
};

/// Submission entries; the ring has four times as many completions.
const ENTRIES: u32 = 1024;

/// Connections of one worker: the size of its table of descriptors, below the usual limit of open files.
const CONNECTIONS_MAX: u32 = 16_384;

/// Receive buffers of a worker, and their length: ringline's default. 16 MiB that only what arrives touches.
const INPUTS: u16 = 1024;
const INPUT_LEN: u32 = 16 * 1024;

/// Slots of a worker's send pool, and their length.
///
/// A slot is held until its send completes, and one turn may answer every connection that is ready. A slot
/// takes any run of small answers, and one of 64 KiB with its head; memory is touched only as far as it is
/// written.
const OUTPUTS: u16 = 4096;
const OUTPUT_LEN: u32 = 66 * 1024;

/// Sends under way at once that do not use the pool.
const SENDS_IN_PLACE: u16 = 2048;

/// Pause before a send is tried again that found the pool empty.
const RETRY: Duration = Duration::from_millis(1);

/// The CPU of each worker.
static CPUS: OnceLock<Vec<Option<usize>>> = OnceLock::new();

#[derive(Parser)]
#[command(name = "peer-ringline", about = "Serve the work of the peers with ringline.")]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match run(&Cli::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-ringline: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    if ringline::backend() != Backend::IoUring {
        return Err(format!(
            "it was built with ringline's {} backend: build it on Linux 6.0 or newer",
            ringline::backend()
        ));
    }
    let cpus = options.threads();
    // Backwards, so that this thread and with it the acceptor end on the first; workers pin themselves.
    for cpu in cpus.iter().rev() {
        peer_work::pin(*cpu).map_err(|error| error.to_string())?;
    }
    let workers = cpus.len();
    CPUS.get_or_init(|| cpus);
    let config = ConfigBuilder::new()
        .workers(workers)
        .pin_to_core(false)
        .backlog(peer_work::BACKLOG)
        .accept_queue_capacity(4096)
        .max_connections(CONNECTIONS_MAX)
        .sq_entries(ENTRIES)
        .recv_buffer(INPUTS, INPUT_LEN)
        .send_pool(OUTPUTS, OUTPUT_LEN)
        .send_slab_slots(SENDS_IN_PLACE)
        .recv_accumulator_max(2 * peer_work::ECHO_LEN_MAX)
        .timer_slots(CONNECTIONS_MAX)
        .tick_timeout_us(0)
        .no_fs()
        .resolver_threads(0)
        .spawner_threads(0)
        .blocking_threads(0)
        .build()
        .map_err(|error| error.to_string())?;
    let (_shutdown, handles) = RinglineBuilder::new(config)
        .bind(options.listen)
        .launch::<Peer>()
        .map_err(|error| format!("--listen {}: {error}", options.listen))?;
    eprintln!("peer-ringline: listening on {}", options.listen);
    for handle in handles {
        match handle.join() {
            Ok(ended) => ended.map_err(|error| error.to_string())?,
            Err(_) => return Err("a worker panicked".into()),
        }
    }
    Ok(())
}

struct Peer;

impl AsyncEventHandler for Peer {
    fn on_accept(&self, connection: ConnCtx) -> impl Future<Output = ()> + 'static {
        serve(connection)
    }

    fn create_for_worker(worker: usize) -> Peer {
        let cpu = CPUS.get().and_then(|cpus| cpus.get(worker).copied()).flatten();
        if let Err(error) = peer_work::pin(cpu) {
            eprintln!("peer-ringline: {error}");
            process::exit(2);
        }
        Peer
    }
}

/// Serves one connection. Ringline closes it when this ends, behind what is being sent.
async fn serve(connection: ConnCtx) {
    // A connection ends in an error whenever its client leaves: nothing to say about it.
    drop(answer_all(connection).await);
}

/// Answers on one connection until its client is done.
async fn answer_all(connection: ConnCtx) -> io::Result<()> {
    let mut machine = Machine::new();
    let mut out = Vec::new();
    loop {
        let mut after = After::Keep;
        let consumed = connection
            .with_data(|data| {
                let turn: Turn = peer_raw::answer(&mut machine, data, &mut out);
                after = turn.after;
                if turn.consumed == 0 { ParseResult::NeedMore } else { ParseResult::Consumed(turn.consumed) }
            })
            .await;
        if consumed == 0 {
            return Ok(()); // the end of the stream
        }
        if machine.missing() > 0 || out.is_empty() && after == After::Keep {
            continue;
        }
        match after {
            After::Blob | After::BlobClose => send_blob(connection, &out).await?,
            After::Keep | After::Close if out.len() <= OUTPUT_LEN as usize => {
                send_pooled(connection, &out).await?;
            }
            After::Keep | After::Close => send_owned(connection, mem::take(&mut out)).await?,
        }
        peer_raw::clear(&mut out);
        if matches!(after, After::Close | After::BlobClose) {
            return Ok(());
        }
    }
}

/// Copies `out` into the send pool and does not wait for it to be sent.
async fn send_pooled(connection: ConnCtx, out: &[u8]) -> io::Result<()> {
    loop {
        match connection.send_nowait(out) {
            Err(error) if error.kind() == io::ErrorKind::Other => ringline::sleep(RETRY).await,
            sent => return sent,
        }
    }
}

/// Sends from `out` itself and waits. For what no slot takes: zero-copy adds a notification, a slot one copy.
async fn send_owned(connection: ConnCtx, out: Vec<u8>) -> io::Result<()> {
    send_parts(connection, vec![SendPart::Guard(GuardBox::new(Owned(out)))]).await
}

/// Sends `out` and the blob behind it, the blob from where it is, and waits.
async fn send_blob(connection: ConnCtx, out: &[u8]) -> io::Result<()> {
    send_parts(connection, vec![SendPart::Copy(out), SendPart::Guard(GuardBox::new(Blob))]).await
}

async fn send_parts(connection: ConnCtx, parts: Vec<SendPart<'_>>) -> io::Result<()> {
    let (_, sent) = connection.send_parts().submit_batch_await(parts)?;
    sent.await.map(drop)
}

/// Bytes that are sent from a buffer of their own.
struct Owned(Vec<u8>);

impl SendGuard for Owned {
    fn as_ptr_len(&self) -> (*const u8, u32) {
        (self.0.as_ptr(), u32::try_from(self.0.len()).unwrap_or(u32::MAX))
    }

    fn region(&self) -> RegionId {
        RegionId::UNREGISTERED
    }
}

/// The blob.
struct Blob;

impl SendGuard for Blob {
    fn as_ptr_len(&self) -> (*const u8, u32) {
        let blob = peer_work::blob();
        (blob.as_ptr(), u32::try_from(blob.len()).unwrap_or(u32::MAX))
    }

    fn region(&self) -> RegionId {
        RegionId::UNREGISTERED
    }
}
