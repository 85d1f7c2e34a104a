//! RESP as spoken by a client of Redis: GET and SET over a space of keys.
//!
//! Request `number` is a GET or a SET of the key `key:` and twelve digits, as redis-benchmark has them. Which
//! of both, and which key, depends on the seed and the number alone. Keys are drawn evenly or by a zipf
//! distribution. Its ranks are scattered over the key space by a permutation that is the same for every seed:
//! the hottest keys are no neighbours, and runs with different seeds, or several agents, agree on which they
//! are.
//!
//! # What is a good answer
//! - To GET: a string or null. A string of another length than ours is good as well: the server may hold what
//!   others wrote. Hits and misses are not told apart.
//! - To SET: `+OK`.
//! - An error of the protocol is [`ErrorKind::ErrorReply`], any other value [`ErrorKind::WrongAnswer`]; the
//!   connection stays. What is no value is [`ErrorKind::Garbage`].
//!
//! Not here: the values (`reader`), AUTH, SELECT and HELLO: the server must take commands at once.

pub mod reader;

#[doc(hidden)]
pub mod check;

use bytes::Bytes;

use crate::draw::{Draws, Scatter, Zipf, unit};
use crate::model::RespSpec;
use crate::protocol::{Answer, Protocol};
use crate::record::ErrorKind;
use reader::{BULK_LEN_MAX, Garbage, Reader, Value};

/// Most keys: what twelve digits can name.
pub const KEYS_MAX: u64 = 1_000_000_000_000;
/// Digits of a key.
const DIGITS: usize = 12;

/// The salts of the draws of a request.
const SALT_COMMAND: u64 = 0x7265_7370_0001;
const SALT_KEY: u64 = 0x7265_7370_0002;
const SALT_VALUE: u64 = 0x7265_7370_0003;

const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:";
const SET: &[u8] = b"*3\r\n$3\r\nSET\r\n$16\r\nkey:";

/// A GET with room for its digits.
const GET_LEN: usize = GET.len() + DIGITS + 2;
const GET_WHOLE: [u8; GET_LEN] = {
    let mut whole = [b'0'; GET_LEN];
    let mut at = 0;
    while at < GET.len() {
        whole[at] = GET[at];
        at += 1;
    }
    whole[GET_LEN - 2] = b'\r';
    whole[GET_LEN - 1] = b'\n';
    whole
};

/// The command that an answer is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Command {
    /// `GET key`.
    Get,
    /// `SET key value`.
    Set,
}

/// The requests of a run, and the judge of their answers. A clone shares the bytes of the value.
#[derive(Clone, Debug)]
pub struct Resp {
    get_share: f64,
    keys: Zipf,
    scatter: Scatter,
    commands: Draws,
    ranks: Draws,
    /// What stands behind the digits of a SET: the end of the key, and the value with its length.
    tail: Bytes,
}

impl Resp {
    /// Prepares requests. Where there are SETs, makes the bytes of the value: printable, the same for one
    /// seed.
    ///
    /// # Errors
    /// What cannot work, and what would: `get_share` from 0 to 1, `keys` from 1 to [`KEYS_MAX`], `zipf` from
    /// 0 to 4, `value_len` up to 512 MiB ([`BULK_LEN_MAX`]).
    pub fn new(spec: RespSpec, seed: u64) -> Result<Resp, String> {
        let RespSpec { get_share, keys, zipf, value_len } = spec;
        if !(0.0..=1.0).contains(&get_share) {
            return Err(format!("get_share = {get_share} cannot work: set it to 0 (all SET) to 1 (all GET)"));
        }
        if !(1..=KEYS_MAX).contains(&keys) {
            return Err(format!("keys = {keys} cannot work: set it to 1 to {KEYS_MAX}"));
        }
        if value_len > BULK_LEN_MAX {
            return Err(format!(
                "value_len = {value_len} cannot work: set it to 0 to {BULK_LEN_MAX} (512 MiB)"
            ));
        }
        let tail = if get_share < 1.0 { tail(value_len, seed) } else { Bytes::new() };
        Ok(Resp {
            get_share,
            keys: Zipf::new(keys, zipf)?,
            scatter: Scatter::new(keys),
            commands: Draws::new(seed, SALT_COMMAND),
            ranks: Draws::new(seed, SALT_KEY),
            tail,
        })
    }

    #[inline]
    fn command(&self, number: u64) -> Command {
        if unit(self.commands.at(number)) < self.get_share { Command::Get } else { Command::Set }
    }

    /// The number in the key of a request.
    #[inline]
    fn key(&self, number: u64) -> u64 {
        let rank = self.keys.rank(self.ranks.at(number));
        // Evenly drawn keys have no hot ones.
        if self.keys.is_uniform() { rank } else { self.scatter.place(rank) }
    }
}

impl Protocol for Resp {
    type Conn = Reader;
    type Ask = Command;

    /// There is one where there is one key and one command.
    fn constant(&self) -> Option<(Bytes, Command)> {
        let is_one = self.keys.ranks() == 1 && (self.get_share == 0.0 || self.get_share == 1.0);
        is_one.then(|| {
            let mut bytes = Vec::with_capacity(GET_LEN + self.tail.len());
            let ask = self.write_one(0, &mut bytes);
            (bytes.into(), ask)
        })
    }

    #[inline]
    fn write(&mut self, number: u64, out: &mut Vec<u8>) -> Command {
        self.write_one(number, out)
    }

    #[inline]
    fn kind(&self, ask: Command) -> usize {
        match ask {
            Command::Get => 0,
            Command::Set => 1,
        }
    }

    #[inline]
    fn read(&self, conn: &mut Reader, bytes: &mut &[u8], ask: Command) -> Result<Option<Answer>, ErrorKind> {
        let value = match conn.read(bytes) {
            Ok(Some(value)) => value,
            Ok(None) => return Ok(None),
            Err(Garbage) => return Err(ErrorKind::Garbage),
        };
        let error = match (ask, value) {
            (Command::Get, Value::Bulk(_) | Value::Null) | (Command::Set, Value::Ok) => None,
            (_, Value::Error) => Some(ErrorKind::ErrorReply),
            _ => Some(ErrorKind::WrongAnswer),
        };
        Ok(Some(Answer { error, close: false }))
    }

    /// No answer ends with the connection.
    fn end(&self, _: &mut Reader, _: Command) -> Option<Answer> {
        None
    }

    fn is_within(&self, conn: &Reader) -> bool {
        conn.is_within()
    }
}

impl Resp {
    #[inline]
    fn write_one(&self, number: u64, out: &mut Vec<u8>) -> Command {
        let command = self.command(number);
        let digits = digits(self.key(number));
        match command {
            Command::Get => {
                let mut whole = GET_WHOLE;
                whole[GET.len()..GET.len() + DIGITS].copy_from_slice(&digits);
                out.extend_from_slice(&whole);
            }
            Command::Set => {
                out.reserve(SET.len() + DIGITS + self.tail.len());
                out.extend_from_slice(SET);
                out.extend_from_slice(&digits);
                out.extend_from_slice(&self.tail);
            }
        }
        command
    }
}

/// Twelve digits, zeroes first.
#[inline]
#[allow(clippy::cast_possible_truncation)] // remainders below 100
fn digits(number: u64) -> [u8; DIGITS] {
    let mut text = [0; DIGITS];
    let mut left = number;
    for pair in text.rchunks_exact_mut(2) {
        let two = (left % 100) as u8;
        left /= 100;
        pair[0] = b'0' + two / 10;
        pair[1] = b'0' + two % 10;
    }
    text
}

/// What stands behind the key of a SET.
fn tail(value_len: u32, seed: u64) -> Bytes {
    const LETTERS: &[u8; 64] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_";
    let mut tail = format!("\r\n${value_len}\r\n").into_bytes();
    let start = tail.len();
    let end = start + value_len as usize;
    tail.reserve_exact(value_len as usize + 2);
    let words = Draws::new(seed, SALT_VALUE);
    let mut number = 0;
    while tail.len() < end {
        let word = words.at(number);
        number += 1;
        // Ten letters of six bits each.
        tail.extend((0..10).map(|at| LETTERS[(word >> (6 * at) & 63) as usize]));
    }
    tail.truncate(end);
    tail.extend_from_slice(b"\r\n");
    tail.into()
}

#[cfg(test)]
mod tests;
