//! Large bodies: one megabyte out of memory, and one out of a file.
//!
//! `cargo run --release --example downloads -- --listen 127.0.0.1:8082 [--file PATH]`, then
//! `curl -o /dev/null http://127.0.0.1:8082/blob` and `/file`.
//!
//! `/blob` is a constant: the kernel copies it into the socket from where it is, and nothing else touches it.
//! `/file` is read piece by piece while it is sent: four pieces of 64 KiB are in memory for a connection at most,
//! however large the file is. Without `--file` it is a temporary one of a megabyte.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use corelane::fs::File;
use corelane::{App, OwnedRequest, Response, Server, body_channel, spawn};

/// Bytes of `/blob`, and of the temporary file.
const BLOB_LEN: usize = 1 << 20;

/// Bytes read at a time: a slot of the pools exactly, and still in the cache when it is sent.
const PIECE_LEN: usize = 64 << 10;

/// Pieces under way to the socket while the next is read.
const CHANNEL_LEN: usize = 2 * PIECE_LEN;

static BLOB: [u8; BLOB_LEN] = [b'x'; BLOB_LEN];

/// Answers with the `length` bytes of the file at `path`.
async fn file(path: PathBuf, length: u64) -> Response {
    let piece_at = move |at: u64| usize::try_from(length - at).unwrap_or(PIECE_LEN).min(PIECE_LEN);
    let Ok(file) = File::open(&path).await else { return Response::status(404) };
    // The first piece before the answer: where the pools are full, the client is told so.
    let Ok(mut piece) = file.read_chunk(0, piece_at(0)).await else { return Response::status(503) };
    let (mut sender, stream) = body_channel(CHANNEL_LEN);
    let task = spawn(async move {
        let mut at = 0;
        // A file that has become shorter ends in an empty piece: the sender is dropped, the answer cut short.
        while at < length && !piece.is_empty() {
            at += piece.len() as u64;
            if sender.send(piece).await.is_err() {
                return;
            }
            match file.read_chunk(at, piece_at(at)).await {
                Ok(next) => piece = next,
                Err(_) => return,
            }
        }
        if at == length {
            sender.finish();
        }
    });
    match task {
        Ok(task) => {
            task.detach();
            Response::stream("application/octet-stream", Some(length), stream)
        }
        Err(_) => Response::status(503),
    }
}

fn app(path: PathBuf, length: u64) -> App<()> {
    App::new(()).get("/blob", |_| Response::bytes("application/octet-stream", &BLOB[..])).get_async(
        "/file",
        move |_: OwnedRequest<()>| {
            let path = path.clone();
            async move { file(path, length).await }
        },
    )
}

/// The file to serve: the one named, or a temporary one that lives as long as the second value.
fn prepare(named: Option<PathBuf>) -> io::Result<(PathBuf, Option<tempfile::NamedTempFile>)> {
    if let Some(path) = named {
        return Ok((path, None));
    }
    let mut file = tempfile::NamedTempFile::new()?;
    file.write_all(&BLOB)?;
    Ok((file.path().to_owned(), Some(file)))
}

fn run(listen: SocketAddr, named: Option<PathBuf>) -> Result<(), String> {
    let shown = named.clone();
    let failed = |error: io::Error| match &shown {
        Some(path) => format!("{}: {error}", path.display()),
        None => format!("the temporary file: {error}"),
    };
    let (path, _temporary) = prepare(named).map_err(failed)?;
    let length = std::fs::metadata(&path).map_err(failed)?.len();
    let running =
        Server::new(listen).start(move |_| app(path.clone(), length)).map_err(|error| error.to_string())?;
    eprintln!("listening on http://{}", running.addr());
    running.wait().map_err(|error| error.to_string())
}

fn main() -> ExitCode {
    let mut listen: SocketAddr = ([127, 0, 0, 1], 8082).into();
    let mut named = None;
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        let value = arguments.next();
        match (flag.as_str(), value) {
            ("--listen", Some(addr)) if addr.parse::<SocketAddr>().is_ok() => {
                listen = addr.parse().unwrap_or(listen);
            }
            ("--file", Some(path)) => named = Some(PathBuf::from(path)),
            _ => {
                eprintln!("usage: downloads [--listen ADDR:PORT] [--file PATH]");
                return ExitCode::from(2);
            }
        }
    }
    match run(listen, named) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("downloads: {error}");
            ExitCode::from(2)
        }
    }
}
