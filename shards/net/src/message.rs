//! What a service gives back: a [`Response`] and its body.
//!
//! A response made of static parts allocates nothing. Field names and values are checked when the head is
//! written; one that cannot stand in a head turns the answer into a 500 rather than a split response.
//!
//! Not here: conversions from user types (`http`), the head's bytes (`proto-h1`).

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::body::BodyStream;
use crate::stream::TcpStream;

/// One header field of a response.
pub type Field = (Cow<'static, str>, Cow<'static, [u8]>);

/// What takes the connection over after a `101 Switching Protocols`.
pub type Takeover = Box<dyn FnOnce(TcpStream)>;

/// The bytes after the head.
#[derive(Default)]
pub enum ResponseBody {
    /// None; `Content-Length: 0` where the status allows a body.
    #[default]
    Empty,
    /// Known at compile time: sent without a copy, or copied beside the head when that is cheaper.
    Static(&'static [u8]),
    /// Shared bytes: sent without a copy when large.
    Bytes(Bytes),
    /// Produced while it is sent. With a length it is framed by `Content-Length`, and ending early or late
    /// cuts the connection; without, it is chunked (HTTP/1.1) or ends with the connection (HTTP/1.0).
    Stream {
        /// Bytes to come, where known.
        length: Option<u64>,
        /// Where they come from.
        stream: BodyStream,
    },
    /// Only with status 101: afterwards the connection is this function's.
    Upgrade {
        /// The protocol to name in `Upgrade`.
        protocol: Cow<'static, str>,
        /// Called with the connection, whose unread input comes first.
        takeover: Takeover,
    },
}

impl ResponseBody {
    /// Bytes the body will have; `None` where not known beforehand.
    pub fn length(&self) -> Option<u64> {
        match self {
            ResponseBody::Empty => Some(0),
            ResponseBody::Static(b) => Some(b.len() as u64),
            ResponseBody::Bytes(b) => Some(b.len() as u64),
            ResponseBody::Stream { length, .. } => *length,
            ResponseBody::Upgrade { .. } => None,
        }
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResponseBody::Empty => f.write_str("Empty"),
            ResponseBody::Static(b) => write!(f, "Static({} bytes)", b.len()),
            ResponseBody::Bytes(b) => write!(f, "Bytes({} bytes)", b.len()),
            ResponseBody::Stream { length, .. } => write!(f, "Stream({length:?})"),
            ResponseBody::Upgrade { protocol, .. } => write!(f, "Upgrade({protocol})"),
        }
    }
}

/// An answer. Framing fields (`Content-Length`, `Transfer-Encoding`, `Connection`, `Date`) are written by
/// the connection and may not stand in `headers`.
#[derive(Debug, Default)]
pub struct Response {
    /// 200 to 599; 101 with [`ResponseBody::Upgrade`]. 0 is taken as 200.
    pub status: u16,
    /// `Content-Type`, when it is a constant: the cheap way to set it.
    pub content_type: Option<&'static str>,
    /// Other fields, in order.
    pub headers: Vec<Field>,
    /// What follows the head.
    pub body: ResponseBody,
    /// Close the connection after this answer.
    pub close: bool,
}

impl Response {
    /// An empty answer with this status.
    pub const fn status(status: u16) -> Response {
        Response { status, content_type: None, headers: Vec::new(), body: ResponseBody::Empty, close: false }
    }

    /// 200 `text/plain; charset=utf-8` of constant text. Allocates nothing.
    pub const fn text(text: &'static str) -> Response {
        Response {
            status: 200,
            content_type: Some("text/plain; charset=utf-8"),
            headers: Vec::new(),
            body: ResponseBody::Static(text.as_bytes()),
            close: false,
        }
    }

    /// 200 with these bytes and content type.
    pub fn bytes(content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
        Response {
            status: 200,
            content_type: Some(content_type),
            body: ResponseBody::Bytes(bytes.into()),
            ..Response::default()
        }
    }

    /// 200 with a streamed body; see [`body_channel`](crate::body::body_channel).
    pub fn stream(content_type: &'static str, length: Option<u64>, stream: BodyStream) -> Response {
        Response {
            status: 200,
            content_type: Some(content_type),
            body: ResponseBody::Stream { length, stream },
            ..Response::default()
        }
    }

    /// 101: the connection becomes `takeover`'s once the head is sent.
    pub fn upgrade(
        protocol: impl Into<Cow<'static, str>>,
        takeover: impl FnOnce(TcpStream) + 'static,
    ) -> Response {
        Response {
            status: 101,
            body: ResponseBody::Upgrade { protocol: protocol.into(), takeover: Box::new(takeover) },
            ..Response::default()
        }
    }

    /// With one more header field. Checked when the head is written.
    #[must_use]
    pub fn header(
        mut self,
        name: impl Into<Cow<'static, str>>,
        value: impl Into<Cow<'static, [u8]>>,
    ) -> Response {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// With another status.
    #[must_use]
    pub fn with_status(mut self, status: u16) -> Response {
        self.status = status;
        self
    }
}
