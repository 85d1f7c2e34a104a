//! Heads: one view over a request head, whether it still lies in the receive buffer or was packed.
//!
//! A [`Packed`] head outlives the turn: everything a handler may ask for, copied behind one pointer. It is
//! one allocation, shared by its clones.
//!
//! # Rules
//! 1. Both forms give equal answers to every question.
//! 2. The pieces of a packed head lie one after another: method, path, query, host, then parameters, then
//!    fields. Parameters and fields are records of two lengths (`u32`, native order) and the bytes.
//!
//! Not here: what handlers see (`request`, `owned`).

use std::cell::Cell;
use std::rc::Rc;

use corelane_net::h1::{self as h1, HeadersIter, Method, Version};
use matchit::Params;

/// A head, borrowed from wherever it lies.
#[derive(Clone, Copy)]
pub(crate) enum Head<'a> {
    Wire(&'a h1::Request<'a, 'a>),
    Packed(&'a Packed),
}

impl<'a> Head<'a> {
    #[inline]
    pub(crate) fn method(self) -> Method<'a> {
        match self {
            Head::Wire(head) => head.method,
            Head::Packed(head) => head.method(),
        }
    }

    #[inline]
    pub(crate) fn path(self) -> &'a str {
        match self {
            Head::Wire(head) => head.target.path(),
            Head::Packed(head) => head.text(head.method_end, head.path_end),
        }
    }

    #[inline]
    pub(crate) fn query(self) -> Option<&'a str> {
        match self {
            Head::Wire(head) => head.target.query(),
            Head::Packed(head) => head.has_query.then(|| head.text(head.path_end, head.query_end)),
        }
    }

    #[inline]
    pub(crate) fn host(self) -> Option<&'a str> {
        match self {
            // checked when the head was read: RFC 3986, 3.2.2 leaves only ASCII
            Head::Wire(head) => head.host.and_then(|host| std::str::from_utf8(host).ok()),
            Head::Packed(head) => head.has_host.then(|| head.text(head.query_end, head.host_end)),
        }
    }

    #[inline]
    pub(crate) fn version(self) -> Version {
        match self {
            Head::Wire(head) => head.version,
            Head::Packed(head) => head.version,
        }
    }

    #[inline]
    pub(crate) fn header(self, name: &str) -> Option<&'a [u8]> {
        match self {
            Head::Wire(head) => head.headers.get(name),
            Head::Packed(head) => {
                head.fields().find(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
            }
        }
    }

    #[inline]
    pub(crate) fn fields(self) -> Fields<'a> {
        Fields(match self {
            Head::Wire(head) => Source::Wire(head.headers.iter()),
            Head::Packed(head) => Source::Packed(head.fields()),
        })
    }
}

/// The header fields of a request, in the order they came.
#[derive(Clone)]
pub struct Fields<'a>(Source<'a>);

#[derive(Clone)]
enum Source<'a> {
    Wire(HeadersIter<'a, 'a>),
    Packed(Records<'a>),
}

impl std::fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.0 {
            Source::Wire(fields) => fields.next(),
            Source::Packed(records) => records.next().map(|(name, value)| (as_text(name), value)),
        }
    }
}

/// A head that was copied out of the receive buffer.
#[derive(Clone, Debug)]
pub(crate) struct Packed {
    bytes: Rc<[u8]>,
    version: Version,
    /// Which method; the text of an unknown one comes first in `bytes`.
    verb: Option<Method<'static>>,
    has_query: bool,
    has_host: bool,
    method_end: u32,
    path_end: u32,
    query_end: u32,
    host_end: u32,
    params_end: u32,
}

thread_local! {
    /// Where heads are put together. Grows to the largest head seen (`Limits::head_bytes_max` and a few
    /// bytes a field) and is used again.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl Packed {
    /// Copies `head` and `params`: one allocation, of what they hold and 8 bytes a field.
    pub(crate) fn new(head: Head<'_>, params: Option<&Params<'_, '_>>) -> Packed {
        let mut out = SCRATCH.take();
        out.clear();
        let verb = match head.method() {
            Method::Other(name) => {
                out.extend_from_slice(name.as_bytes());
                None
            }
            known => known_method(known),
        };
        let method_end = mark(&out);
        out.extend_from_slice(head.path().as_bytes());
        let path_end = mark(&out);
        let (query, host) = (head.query(), head.host());
        out.extend_from_slice(query.unwrap_or_default().as_bytes());
        let query_end = mark(&out);
        out.extend_from_slice(host.unwrap_or_default().as_bytes());
        let host_end = mark(&out);
        for (name, value) in params.into_iter().flat_map(Params::iter) {
            push_record(&mut out, name.as_bytes(), value.as_bytes());
        }
        let params_end = mark(&out);
        for (name, value) in head.fields() {
            push_record(&mut out, name.as_bytes(), value);
        }
        let _ = mark(&out);
        let bytes = Rc::from(out.as_slice());
        SCRATCH.set(out);
        Packed {
            bytes,
            version: head.version(),
            verb,
            has_query: query.is_some(),
            has_host: host.is_some(),
            method_end,
            path_end,
            query_end,
            host_end,
            params_end,
        }
    }

    fn method(&self) -> Method<'_> {
        match self.verb {
            Some(known) => known,
            None => Method::Other(self.text(0, self.method_end)),
        }
    }

    fn slice(&self, from: u32, to: u32) -> &[u8] {
        &self.bytes[from as usize..to as usize]
    }

    fn text(&self, from: u32, to: u32) -> &str {
        as_text(self.slice(from, to))
    }

    pub(crate) fn params(&self) -> impl Iterator<Item = (&str, &str)> {
        Records(self.slice(self.host_end, self.params_end)).map(|(n, v)| (as_text(n), as_text(v)))
    }

    fn fields(&self) -> Records<'_> {
        Records(&self.bytes[self.params_end as usize..])
    }
}

/// The same method, without the borrow of the buffer.
fn known_method(method: Method<'_>) -> Option<Method<'static>> {
    Some(match method {
        Method::Get => Method::Get,
        Method::Head => Method::Head,
        Method::Post => Method::Post,
        Method::Put => Method::Put,
        Method::Delete => Method::Delete,
        Method::Connect => Method::Connect,
        Method::Options => Method::Options,
        Method::Trace => Method::Trace,
        Method::Patch => Method::Patch,
        Method::Other(_) => return None,
    })
}

/// Where the next piece begins. A head is far smaller than 4 GiB (`Limits::head_bytes_max` is a `u32`).
fn mark(out: &[u8]) -> u32 {
    u32::try_from(out.len()).expect("a head is smaller than 4 GiB")
}

fn push_record(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(&mark(name).to_ne_bytes());
    out.extend_from_slice(&mark(value).to_ne_bytes());
    out.extend_from_slice(name);
    out.extend_from_slice(value);
}

/// Only called on what was copied from a `str` (rule 2).
fn as_text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("copied from text")
}

#[derive(Clone)]
struct Records<'a>(&'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (name_len, rest) = self.0.split_first_chunk::<4>()?;
        let (value_len, rest) = rest.split_first_chunk::<4>()?;
        let (name, rest) = rest.split_at(u32::from_ne_bytes(*name_len) as usize);
        let (value, rest) = rest.split_at(u32::from_ne_bytes(*value_len) as usize);
        self.0 = rest;
        Some((name, value))
    }
}
