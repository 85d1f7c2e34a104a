//! Simple: the small GET that load generators, health checks and plain clients send, read in one pass.
//!
//! httparse and the checks behind it go over a head four times; this goes once, and halves what a small request
//! costs. It is a short cut, not a second judge:
//!
//! # Rules
//! 1. It only accepts. Whatever is not obviously fine is left to the common way, which accepts or explains.
//! 2. What it accepts, the common way accepts with the same meaning (`check` compares the two).
//! 3. Equal bytes have equal meanings: a head that comes again in the same input is not read again.
//!
//! Not here: bodies, escapes, forms other than origin, versions other than 1.1, fields with a meaning other than
//! Host, more than [`FIELDS_MAX`] fields.

use crate::fields::{FieldLines, is_plain, is_tchar, is_value_byte};
use crate::head::Headers;
use crate::target::{Target, authority_class, target_class};
use crate::{BodyKind, Limits, Method, Request, Version};

/// Fields of a simple head.
///
/// Its fields are found anew at each access; up to here that costs less than httparse saves.
const FIELDS_MAX: usize = 4;

/// Names of these lengths may frame the message or ask for something: not simple, except Host.
const LENGTHS: u32 = 1 << 4 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 14 | 1 << 17;

/// A simple head: its bytes, and where in them what matters stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Simple<'i> {
    bytes: &'i [u8],
    target: Target<'i>,
    host: &'i [u8],
    host_at: usize,
    lines_at: usize,
}

impl<'i> Simple<'i> {
    /// Bytes of the head, its empty line included.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What follows the same head at the start of `input`, as pipelines of one question have it; else `None`.
    #[inline]
    pub(crate) fn repeated_in(&self, input: &'i [u8]) -> Option<&'i [u8]> {
        input.strip_prefix(self.bytes)
    }

    /// What it asks.
    #[inline]
    pub(crate) fn request<'h>(&self) -> Request<'h, 'i> {
        self.ask(self.bytes, self.target, self.host)
    }

    /// What the same head asks in `window`, which starts with it. `None` only where that is shorter.
    #[inline]
    pub(crate) fn request_in<'h>(&self, window: &'i [u8]) -> Option<Request<'h, 'i>> {
        let bytes = window.get(..self.bytes.len())?;
        let host = bytes.get(self.host_at..self.host_at + self.host.len())?;
        let target = self.target.again(bytes.get(METHOD_LEN..)?)?;
        Some(self.ask(bytes, target, host))
    }

    #[inline]
    fn ask<'h>(&self, bytes: &'i [u8], target: Target<'i>, host: &'i [u8]) -> Request<'h, 'i> {
        let lines = FieldLines { raw: &bytes[self.lines_at..bytes.len() - b"\r\n".len()] };
        Request {
            method: Method::Get,
            target,
            version: Version::Http11,
            headers: Headers::lazy(lines),
            body: BodyKind::None,
            host: Some(host),
            expect_continue: false,
            keep_alive: true,
            upgrade: None,
        }
    }
}

/// Where the target of a GET stands.
const METHOD_LEN: usize = "GET ".len();

/// The head that `window` starts with, if it is simple and whole.
#[inline]
pub(crate) fn accept_simple<'i>(window: &'i [u8], limits: &Limits) -> Option<Simple<'i>> {
    let rest = window.strip_prefix(b"GET ")?;
    if rest.first() != Some(&b'/') {
        return None;
    }
    let mut path_len = rest.iter().position(|&b| target_class(b) != 0)?;
    let mut target_len = path_len;
    while rest[target_len] == b'?' {
        target_len += 1 + rest[target_len + 1..].iter().position(|&b| target_class(b) != 0)?;
    }
    path_len = path_len.min(target_len);
    let (target, rest) = rest.split_at(target_len);
    let rest = rest.strip_prefix(b" HTTP/1.1\r\n")?;
    if "GET  HTTP/1.1".len() + target_len > limits.line_bytes_max as usize {
        return None;
    }
    let lines_at = window.len() - rest.len();
    let (mut host, mut host_at) = (None, 0);
    let mut fields = rest;
    let mut count = 0;
    while fields.first() != Some(&b'\r') {
        count += 1;
        if count > FIELDS_MAX.min(limits.slots()) {
            return None;
        }
        if let [b'H' | b'h', b'o' | b'O', b's' | b'S', b't' | b'T', b':', b' ', value @ ..] = fields {
            let len = simple_authority(value)?;
            if host.is_some() {
                return None;
            }
            host = Some(&value[..len]);
            host_at = window.len() - value.len();
            fields = &value[len..];
        } else {
            fields = skip_field(fields)?;
        }
        fields = fields.strip_prefix(b"\r\n")?;
    }
    let after = fields.strip_prefix(b"\r\n")?;
    let target = Target::simple(target, path_len)?;
    let bytes = &window[..window.len() - after.len()];
    Some(Simple { bytes, target, host: host?, host_at, lines_at })
}

/// The length of a `reg-name [":" port]` that ends in CR, without escapes.
#[inline]
fn simple_authority(value: &[u8]) -> Option<usize> {
    let name_len = value.iter().position(|&b| authority_class(b) != 0)?;
    if name_len == 0 {
        return None;
    }
    match value[name_len] {
        b'\r' => Some(name_len),
        b':' => {
            let port = &value[name_len + 1..];
            let digits = port.iter().position(|b| !b.is_ascii_digit())?;
            // Five digits may exceed 65535 only from 6 on.
            let fits = digits < 5 || (digits == 5 && port[0] < b'6');
            if fits && port[digits] == b'\r' { Some(name_len + 1 + digits) } else { None }
        }
        _ => None,
    }
}

/// What follows a field line without a meaning for the connection, from its CR on.
#[inline]
fn skip_field(line: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = line.strip_prefix(b"Connection: keep-alive") {
        return if rest.first() == Some(&b'\r') { Some(rest) } else { None };
    }
    let name_len = line.iter().position(|&b| !is_tchar(b))?;
    if name_len == 0 || line[name_len] != b':' {
        return None;
    }
    // "Accept", "Cookie" and "User-Agent" have such lengths too; the first letter tells them apart.
    if name_len < 32 && LENGTHS >> name_len & 1 != 0 {
        let special = match name_len {
            4 => b'h',
            6 => b'e',
            7 => b'u',
            10 | 14 => b'c',
            _ => b't',
        };
        if line[0] | 0x20 == special {
            return None;
        }
    }
    let mut value = &line[name_len + 1..];
    while let Some((block, rest)) = value.split_first_chunk::<8>() {
        if !is_plain(block) {
            break;
        }
        value = rest;
    }
    let end = value.iter().position(|&b| !is_value_byte(b))?;
    if value[end] == b'\r' { Some(&value[end..]) } else { None }
}
