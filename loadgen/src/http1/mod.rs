//! HTTP/1.1 as a client speaks it (RFC 9110, RFC 9112): requests as bytes, answers from bytes.
//!
//! [`Http1`] is a [`Protocol`]: sans-IO, one value for all connections of a worker. Reading order:
//! `requests`, `template` and `pick` write; `answer` reads, with `head`, `chunk` and `lines`; `known` is its
//! short cut.
//!
//! # Rules
//! 1. A request is decided by its number and the seed, whichever worker writes it.
//! 2. Where an answer ends is never guessed: what two readers could understand differently is
//!    [`ErrorKind::Garbage`].
//! 3. Nothing a server sends makes memory grow beyond a bound, and each bound stands with its reason where it
//!    is used: 64 KiB of a head, 256 fields, 4 KiB of a chunk line, 16 KiB of trailers, 16 interim answers.
//! 4. How bytes were cut, and what came before, changes no answer: `check` is run on any input.
//!
//! # Why a reader of its own
//! The server's machine cannot judge the server. `httparse` takes a bare LF, which rule 2 refuses, wants an
//! array of all fields although three are looked at, and starts again with each piece. Nearly every answer is
//! a head that came before and a body that is skipped, so what counts is to find that out fast, not to parse:
//! 13 ns and 170 instructions for a `Hello, World!` whose head is known, 150 ns for one whose head is new.
//!
//! Not here: connections and time (`worker`), what statuses cost a run (`report`), the server's reader
//! (`corelane-proto-h1`, which this crate must not use).

mod answer;
#[doc(hidden)]
pub mod check;
mod chunk;
mod head;
mod known;
mod lines;
mod pick;
mod requests;
mod template;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use corelane_base::Rng;

pub use answer::Conn;

use crate::model::RequestSpec;
use crate::protocol::{Answer, Protocol};
use crate::record::ErrorKind;
use known::Memory;
use pick::Pick;
use requests::Request;

/// Requests to draw from: what [`Ask`] can name.
const KINDS_MAX: usize = 1 << 16;

/// What must be known of a request to read its answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ask {
    kind: u16,
    /// Where its heads are remembered.
    slot: u8,
    /// HEAD: its answer has no body.
    head: bool,
    /// It said `Connection: close`: its answer is the last (RFC 9112, 9.6).
    close: bool,
}

/// HTTP/1.1, with the requests of a run.
#[derive(Debug)]
pub struct Http1 {
    requests: Vec<Request>,
    pick: Pick,
    /// From the seed: where the random numbers of request 0 start.
    key: u64,
    /// The statuses that are good; none stands for all below 400.
    wanted: Vec<u16>,
    memory: Memory,
    /// The one request, if it is always the same.
    constant: Option<Bytes>,
    /// For bodies, while their length is not known.
    body: Vec<u8>,
}

impl Http1 {
    /// Checks the requests and makes them ready.
    ///
    /// `host` is the value of `Host`: with the port unless it is 80, IPv6 addresses in brackets. A status
    /// outside of `expect_status`, unless that is empty, is an error. With `close_each` every request says
    /// `Connection: close`: each connection carries one.
    ///
    /// # Errors
    /// A text for the user: which request, what is wrong with it, what to write.
    pub fn new(
        requests: &[RequestSpec],
        host: &str,
        seed: u64,
        expect_status: &[u16],
        close_each: bool,
    ) -> Result<Http1, String> {
        if host.is_empty() || !host.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("host {host:?} is none; write a name or an address, as in `localhost:8080`"));
        }
        if requests.len() > KINDS_MAX {
            return Err(format!("{} requests to draw from; at most {KINDS_MAX}", requests.len()));
        }
        if let Some(status) = expect_status.iter().find(|status| !(200..=599).contains(*status)) {
            return Err(format!("status {status} is never that of an answer; write one from 200 to 599"));
        }
        let weights: Vec<u32> = match requests {
            [] => return Err("no request to send; give one at least".into()),
            [_] => vec![1],
            many => many.iter().map(|request| request.weight).collect(),
        };
        let pick =
            Pick::new(&weights).ok_or("all requests have weight 0; give one of them a weight above")?;
        let requests: Vec<Request> = (0..=u16::MAX)
            .zip(requests)
            .map(|(kind, spec)| Request::new(kind, spec, host, close_each))
            .collect::<Result<_, _>>()?;
        let constant = match &requests[..] {
            [one] => one.as_text().map(Bytes::copy_from_slice),
            _ => None,
        };
        Ok(Http1 {
            pick,
            key: Rng::new(seed).next_u64(),
            wanted: expect_status.to_vec(),
            memory: Memory::new(requests.len()),
            constant,
            body: Vec::new(),
            requests,
        })
    }

    /// The random numbers of request `number`. [`Rng::new`] takes one step of splitmix64 from where it is
    /// told, so these are the steps of one such generator (G. L. Steele et al., "Fast splittable pseudorandom
    /// number generators", 2014).
    fn rng(&self, number: u64) -> Rng {
        Rng::new(self.key.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

impl Protocol for Http1 {
    type Conn = Conn;
    type Ask = Ask;

    fn constant(&self) -> Option<(Bytes, Ask)> {
        self.constant.clone().map(|bytes| (bytes, self.requests[0].ask))
    }

    fn write(&mut self, number: u64, out: &mut Vec<u8>) -> Ask {
        let mut rng = self.rng(number);
        let kind = if self.requests.len() == 1 { 0 } else { self.pick.draw(&mut rng) };
        let request = &self.requests[kind];
        request.write(number, &mut rng, &mut self.body, out);
        request.ask
    }

    #[inline]
    fn kind(&self, ask: Ask) -> usize {
        usize::from(ask.kind)
    }

    #[inline]
    fn read(&self, conn: &mut Conn, bytes: &mut &[u8], ask: Ask) -> Result<Option<Answer>, ErrorKind> {
        conn.read(bytes, ask, &self.wanted, &self.memory)
    }

    fn end(&self, conn: &mut Conn, _: Ask) -> Option<Answer> {
        conn.end()
    }

    fn is_within(&self, conn: &Conn) -> bool {
        conn.is_within()
    }
}
