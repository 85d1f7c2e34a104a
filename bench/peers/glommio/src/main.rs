//! The glommio peer: raw HTTP/1.1 on its own `net::TcpStream`, one executor for each CPU.
//!
//! Its stream tries recv(2) and send(2) first and asks io_uring only for readiness, so that one receive
//! buffer serves all connections of a thread: an idle one has none. It is not told to spin before it parks (the
//! default), and with one connection it uses nearly all of its CPU all the same.
//!
//! Not here: HTTP (`peer_raw`), the work (`peer_work`).

use std::cell::RefCell;
use std::future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::ready;

use clap::Parser;
use futures_lite::io::{AsyncRead, AsyncWriteExt};
use glommio::net::{TcpListener, TcpStream};
use glommio::{GlommioError, LocalExecutorBuilder, Placement};
use peer_raw::{After, Machine};
use peer_work::Options;

/// Depth of each of an executor's three rings.
///
/// Its default, 128, makes it submit several times a turn with more connections than that. 1024 are 96 KiB of
/// locked memory a ring (64 bytes a submission, two completions of 16).
const RING_DEPTH: usize = 1024;

/// Memory that is registered for storage: the least it takes. The default of 10 MiB is more than may be
/// locked.
const IO_MEMORY: usize = 64 * 1024;

/// Listeners of one executor. Glommio's have 1024 places in the listen queue and cannot be given more; the
/// kernel spreads connections over all (`SO_REUSEPORT`), so that together they have [`peer_work::BACKLOG`].
const LISTENERS: usize = 4;

/// The receive buffer of a thread.
const INPUT_LEN: usize = 64 * 1024;

#[derive(Parser)]
#[command(name = "peer-glommio", about = "Serve the work of the peers with glommio's own sockets.")]
struct Cli {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match run(&Cli::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peer-glommio: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> io::Result<()> {
    let threads = options.threads();
    let starting = Arc::new(AtomicUsize::new(threads.len()));
    let mut executors = Vec::new();
    for cpu in threads {
        // What glommio says of a CPU that is not there does not name it.
        peer_work::pin(cpu)?;
        let (address, starting) = (options.listen, Arc::clone(&starting));
        let executor = LocalExecutorBuilder::new(cpu.map_or(Placement::Unbound, Placement::Fixed))
            .name("peer-glommio")
            .ring_depth(RING_DEPTH)
            .io_memory(IO_MEMORY)
            .spawn(move || async move {
                if let Err(error) = listen(address, &starting).await {
                    eprintln!("peer-glommio: --listen {address}: {error}");
                    process::exit(2);
                }
            });
        executors.push(executor.map_err(io_error)?);
    }
    for executor in executors {
        executor.join().map_err(io_error)?;
    }
    Ok(())
}

fn io_error(error: GlommioError<()>) -> io::Error {
    io::Error::other(error.to_string())
}

/// Serves on this executor. The last one to listen says so.
async fn listen(address: SocketAddr, starting: &AtomicUsize) -> Result<(), GlommioError<()>> {
    let mut listeners = Vec::new();
    for _ in 0..LISTENERS {
        listeners.push(TcpListener::bind(address)?);
    }
    if starting.fetch_sub(1, Ordering::Relaxed) == 1 {
        eprintln!("peer-glommio: listening on {address}");
    }
    for listener in listeners {
        glommio::spawn_local(accept(listener)).detach();
    }
    future::pending().await
}

async fn accept(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok(stream) => {
                let connection = async move {
                    // A connection ends in an error whenever its client leaves: nothing to say about it.
                    drop(serve(stream).await);
                };
                glommio::spawn_local(connection).detach();
            }
            Err(error) => eprintln!("peer-glommio: accept: {error}"),
        }
    }
}

/// What a connection keeps between two receives.
#[derive(Default)]
struct Connection {
    machine: Machine,
    /// Received, not consumed: a cut head, or what follows a blob.
    input: Vec<u8>,
    out: Vec<u8>,
}

/// Serves one connection until its client is done.
async fn serve(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true).map_err(io_error)?;
    let mut connection = Connection::default();
    loop {
        let mut after = receive(&mut stream, &mut connection).await?;
        loop {
            let ready = connection.machine.missing() == 0 && !connection.out.is_empty();
            if ready {
                stream.write_all(&connection.out).await?;
                peer_raw::clear(&mut connection.out);
            }
            if matches!(after, After::Blob | After::BlobClose) {
                stream.write_all(peer_work::blob()).await?;
            }
            if matches!(after, After::Close | After::BlobClose) {
                return Ok(());
            }
            if !ready || connection.input.is_empty() {
                break;
            }
            after = connection.take(&[]);
        }
    }
}

/// Receives once, into the buffer of this thread, and answers. The end of the stream is an error.
async fn receive(stream: &mut TcpStream, connection: &mut Connection) -> io::Result<After> {
    thread_local! {
        static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; INPUT_LEN]);
    }
    future::poll_fn(|cx| {
        INPUT.with_borrow_mut(|input| {
            let len = ready!(Pin::new(&mut *stream).poll_read(cx, input))?;
            if len == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into()).into();
            }
            Ok(connection.take(&input[..len])).into()
        })
    })
    .await
}

impl Connection {
    /// Answers `bytes`, behind what was left over before.
    fn take(&mut self, bytes: &[u8]) -> After {
        if self.input.is_empty() {
            let turn = peer_raw::answer(&mut self.machine, bytes, &mut self.out);
            self.input.extend_from_slice(&bytes[turn.consumed..]);
            return turn.after;
        }
        self.input.extend_from_slice(bytes);
        let turn = peer_raw::answer(&mut self.machine, &self.input, &mut self.out);
        self.input.drain(..turn.consumed);
        turn.after
    }
}
