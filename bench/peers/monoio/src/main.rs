//! The monoio peer: raw HTTP/1.1 on its io_uring driver, one runtime and one listener for each CPU.
//!
//! Set up as its documentation shows for speed: buffers owned by the operation, a large ring, no timer, no
//! `sync` feature (which would add an eventfd to every wait). The ring flags are passed by its
//! `uring_builder`: one submitter, completions run when the thread waits for them. It blocks when there is
//! nothing to do.
//!
//! Not here: HTTP (`peer_raw`), the work (`peer_work`).

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use clap::Parser;
use io_uring::IoUring;
use monoio::buf::{IoBufMut, SliceMut};
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, RuntimeBuilder};
use peer_raw::{After, Machine, Turn};
use peer_work::Options;

/// Submission entries; the ring has twice as many completions. Operations beyond that are submitted in
/// between.
///
/// 4096 * 64 + 8192 * 16 bytes are 384 KiB of locked memory a thread.
const ENTRIES: u32 = 4096;

/// Receive buffer of a connection: that of monoio's own examples, two request heads of the longest length.
const INPUT_LEN: usize = 8 * 1024;

#[derive(Parser)]
#[command(name = "peer-monoio", about = "Serve the work of the peers with monoio.")]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    let options = Cli::parse().options;
    let threads = options.threads();
    let starting = Arc::new(AtomicUsize::new(threads.len()));
    let mut handles = Vec::new();
    for cpu in threads {
        let (address, starting) = (options.listen, Arc::clone(&starting));
        handles.push(thread::spawn(move || match run(address, cpu, &starting) {
            Ok(never) => match never {},
            Err(error) => {
                eprintln!("peer-monoio: {error}");
                process::exit(2)
            }
        }));
    }
    for handle in handles {
        if handle.join().is_err() {
            return ExitCode::from(2); // its panic has said why
        }
    }
    ExitCode::SUCCESS
}

/// Serves on this thread. The last thread to listen says so.
fn run(address: SocketAddr, cpu: Option<usize>, starting: &AtomicUsize) -> io::Result<Infallible> {
    peer_work::pin(cpu)?;
    let mut ring = IoUring::builder();
    ring.setup_single_issuer().setup_coop_taskrun().setup_defer_taskrun();
    let mut runtime =
        RuntimeBuilder::<IoUringDriver>::new().with_entries(ENTRIES).uring_builder(ring).build().map_err(
            |error| io::Error::new(error.kind(), format!("no ring of {ENTRIES} entries: {error}")),
        )?;
    runtime.block_on(async {
        let listener = peer_work::listen(address)
            .map_err(|error| io::Error::new(error.kind(), format!("--listen {address}: {error}")))?;
        // The ring waits for connections; on a descriptor that does not block it would report EAGAIN instead.
        listener.set_nonblocking(false)?;
        let listener = TcpListener::from_std(listener)?;
        if starting.fetch_sub(1, Ordering::Relaxed) == 1 {
            eprintln!("peer-monoio: listening on {address}");
        }
        loop {
            match listener.accept().await {
                Ok((stream, _)) => drop(monoio::spawn(async move {
                    // A connection ends in an error whenever its client leaves: nothing to say about it.
                    drop(serve(stream).await);
                })),
                Err(error) => eprintln!("peer-monoio: accept: {error}"),
            }
        }
    })
}

/// Serves one connection until its client is done.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    let mut machine = Machine::new();
    let mut input = Vec::with_capacity(INPUT_LEN);
    let mut out = Vec::new();
    loop {
        if machine.missing() > 0 && input.is_empty() {
            // A body goes straight behind the head of its answer.
            let (received, len) = receive(&mut stream, out, machine.missing()).await;
            out = received;
            let after = machine.filled(len?);
            if machine.missing() == 0 {
                out = send(&mut stream, out, after).await?;
                if after == After::Close {
                    return Ok(());
                }
            }
            continue;
        }
        let room = input.capacity() - input.len();
        let (received, len) = receive(&mut stream, input, room).await;
        input = received;
        len?;
        loop {
            let Turn { consumed, after } = peer_raw::answer(&mut machine, &input, &mut out);
            if consumed == input.len() {
                input.clear();
            } else {
                input.drain(..consumed);
            }
            let ready = machine.missing() == 0 && !out.is_empty();
            if ready {
                out = send(&mut stream, out, after).await?;
            }
            if matches!(after, After::Close | After::BlobClose) {
                return Ok(());
            }
            if !ready || input.is_empty() {
                break;
            }
        }
    }
}

/// Receives up to `room` bytes behind what `buffer` holds; it has the capacity. No bytes are an error: the
/// end.
async fn receive(stream: &mut TcpStream, buffer: Vec<u8>, room: usize) -> (Vec<u8>, io::Result<usize>) {
    let start = buffer.len();
    let (received, slice) = stream.read(buffer.slice_mut(start..start + room)).await;
    let received = match received {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        other => other,
    };
    (SliceMut::into_inner(slice), received)
}

/// Sends all of `out`, and the blob behind it if it is its turn; returns the buffer, empty.
async fn send(stream: &mut TcpStream, out: Vec<u8>, after: After) -> io::Result<Vec<u8>> {
    let (sent, mut out) = stream.write_all(out).await;
    sent?;
    peer_raw::clear(&mut out);
    if matches!(after, After::Blob | After::BlobClose) {
        let (sent, _) = stream.write_all(peer_work::blob()).await;
        sent?;
    }
    Ok(out)
}
