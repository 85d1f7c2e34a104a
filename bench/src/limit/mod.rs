//! The limit: what an HTTP/1.1 answer costs when nothing but the work is done.
//!
//! Two single-threaded servers, [`uring`] and [`epoll`], share this file: the canned response, the
//! request scan and the listener. Both answer every complete request head with the same
//! [`RESPONSE_LEN`] bytes, in order, pipelined or not. They are yardsticks, not servers: no routing,
//! no bodies, no timeouts, no limits on connections beyond the descriptor table. A later change to
//! these files may only lower their cost.
//!
//! Not here: how they are measured (`ab`).

#![deny(unsafe_code)]

#[allow(unsafe_code)]
mod bufring;
pub(crate) mod epoll;
#[allow(unsafe_code)]
pub(crate) mod uring;

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::CpuSet;

/// Bytes of one answer, head and body.
pub(crate) const RESPONSE_LEN: usize = 128;

/// One answer. The date is fixed: writing the current one is a copy of 29 bytes a second.
const RESPONSE: &[u8; RESPONSE_LEN] = b"HTTP/1.1 200 OK\r\n\
    Server: lim\r\n\
    Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n\
    Content-Type: text/plain\r\n\
    Content-Length: 13\r\n\
    \r\n\
    Hello, World!";

/// Answers that fit in one send.
///
/// A receive buffer of 4 KiB holds at most 227 minimal requests; 256 are 32 KiB of constant bytes.
const RESPONSES_COUNT: usize = 256;

/// [`RESPONSE`] repeated: any run of whole or partly sent answers is a slice of it.
static RESPONSES: [[u8; RESPONSE_LEN]; RESPONSES_COUNT] = [*RESPONSE; RESPONSES_COUNT];

/// Unsent bytes after which a peer that does not read is cut off. It costs us no memory (the bytes
/// are constant), the bound only keeps the counter honest.
const OWED_LEN_MAX: usize = 1 << 30;

/// Longest incomplete request head kept for one connection; a longer one is cut off.
const HEAD_LEN_MAX: usize = 4096;

/// Header lines in one request head; more are refused.
const HEADERS_MAX: usize = 16;

/// Pending connections in the listen queue (the kernel clamps it to `net.core.somaxconn`).
const BACKLOG: i32 = 4096;

/// Where a limit server listens and which CPU it runs on.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// CPU to pin the only thread to; without it the scheduler chooses.
    #[arg(long)]
    cpu: Option<usize>,
}

/// The peer sent something that is not a request head of at most [`HEADERS_MAX`] lines and
/// [`HEAD_LEN_MAX`] bytes. Close the connection.
#[derive(Debug, Eq, PartialEq)]
struct BadRequest;

/// What [`scan`] found at the start of some bytes.
#[derive(Debug, Default, Eq, PartialEq)]
struct Scanned {
    /// Complete request heads.
    requests: usize,
    /// Bytes they took; the rest is an incomplete head.
    len: usize,
}

/// Counts the complete request heads at the start of `bytes`.
fn scan(bytes: &[u8]) -> Result<Scanned, BadRequest> {
    let mut found = Scanned::default();
    while found.len < bytes.len() {
        let mut headers = [const { MaybeUninit::uninit() }; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut []);
        match request.parse_with_uninit_headers(&bytes[found.len..], &mut headers) {
            Ok(httparse::Status::Complete(len)) => {
                found.requests += 1;
                found.len += len;
            }
            Ok(httparse::Status::Partial) => break,
            Err(_) => return Err(BadRequest),
        }
    }
    Ok(found)
}

/// Scans what arrived on a connection and keeps an incomplete head in `partial`.
///
/// Returns the number of complete requests. Allocates only when a head was cut by the receive.
#[inline]
fn receive(partial: &mut Vec<u8>, bytes: &[u8]) -> Result<usize, BadRequest> {
    let found = if partial.is_empty() {
        let found = scan(bytes)?;
        if found.len == bytes.len() {
            return Ok(found.requests);
        }
        partial.extend_from_slice(&bytes[found.len..]);
        found
    } else {
        partial.extend_from_slice(bytes);
        let found = scan(partial)?;
        partial.drain(..found.len);
        found
    };
    if partial.len() > HEAD_LEN_MAX { Err(BadRequest) } else { Ok(found.requests) }
}

/// The next bytes to send to a peer that is owed `owed` bytes, at most one [`RESPONSES`] full.
///
/// All answers have one length, so the count of owed bytes alone says where inside an answer the
/// last send stopped.
#[inline]
fn owed_bytes(owed: usize) -> &'static [u8] {
    let bytes = RESPONSES.as_flattened();
    let start = (RESPONSE_LEN - owed % RESPONSE_LEN) % RESPONSE_LEN;
    &bytes[start..bytes.len().min(start + owed)]
}

/// Opens the listener. `TCP_NODELAY` is set on it because accepted sockets inherit it.
fn listen(address: SocketAddr, flags: SocketFlags) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags | SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    Ok(socket)
}

/// Pins the calling thread to `cpu`.
fn pin(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("--cpu {cpu}: no such CPU")));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|error| io::Error::new(error.kind(), format!("--cpu {cpu}: {error}")))
}

/// Soft limit of open descriptors: the size of a direct descriptor table may not exceed it.
fn descriptors_max() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[test]
    fn scan_counts_whole_heads_and_leaves_the_cut_one() {
        let mut bytes = GET.repeat(3);
        bytes.extend_from_slice(&GET[..10]);
        assert_eq!(scan(&bytes), Ok(Scanned { requests: 3, len: 3 * GET.len() }));
        assert_eq!(scan(b""), Ok(Scanned::default()));
    }

    #[test]
    fn a_head_cut_at_any_byte_counts_once_and_leaves_nothing_behind() {
        for cut in 0..=GET.len() {
            let mut partial = Vec::new();
            let first = receive(&mut partial, &GET[..cut]).unwrap();
            let second = receive(&mut partial, &GET[cut..]).unwrap();
            assert_eq!(first + second, 1, "cut at {cut}");
            assert!(partial.is_empty(), "cut at {cut}");
        }
    }

    #[test]
    fn sixteen_header_lines_pass_and_seventeen_are_refused() {
        let head = |n: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(n)).into_bytes();
        assert_eq!(scan(&head(HEADERS_MAX)).unwrap().requests, 1);
        assert_eq!(scan(&head(HEADERS_MAX + 1)), Err(BadRequest));
    }

    #[test]
    fn an_incomplete_head_is_kept_up_to_its_bound_and_refused_beyond() {
        let mut head = b"GET / HTTP/1.1\r\nA: ".to_vec();
        head.resize(HEAD_LEN_MAX, b'x');
        let mut partial = Vec::new();
        assert_eq!(receive(&mut partial, &head), Ok(0));
        assert_eq!(receive(&mut partial, b"x"), Err(BadRequest));
    }

    #[test]
    fn owed_bytes_continue_where_the_last_send_stopped() {
        let stream = RESPONSE.repeat(3);
        let total = stream.len();
        for sent in 0..total {
            assert_eq!(owed_bytes(total - sent), &stream[sent..], "after {sent} bytes");
        }
        assert_eq!(owed_bytes(OWED_LEN_MAX).len(), RESPONSES_COUNT * RESPONSE_LEN);
        assert_eq!(owed_bytes(OWED_LEN_MAX - 1).len(), RESPONSES_COUNT * RESPONSE_LEN - 1);
        assert_eq!(owed_bytes(0), b"");
    }

    #[test]
    fn the_answer_declares_the_body_it_carries() {
        let text = std::str::from_utf8(RESPONSE).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())));
    }
}
