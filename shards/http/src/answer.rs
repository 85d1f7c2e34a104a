//! From what a handler returns to a [`Response`].
//!
//! Constant text and bare statuses allocate nothing; a `String`, a `Vec<u8>` and JSON keep the allocation
//! they were made with.
//!
//! Not here: how a response is written (`net`), streamed bodies (`corelane_net::body`).

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use corelane_exec::CallError;
use corelane_net::body::BodyError;
use corelane_net::message::{Response, ResponseBody};
use serde::Serialize;

/// Text of any kind made by us.
pub(crate) const TEXT: &str = "text/plain; charset=utf-8";
const BINARY: &str = "application/octet-stream";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";

/// What a handler may return.
///
/// | type | answer |
/// |---|---|
/// | `&'static str`, `String`, `Cow<'static, str>` | 200, `text/plain; charset=utf-8` |
/// | `&'static [u8]`, `Vec<u8>`, `Bytes` | 200, `application/octet-stream` |
/// | `()` | 204 |
/// | [`Status`] | that status, no body |
/// | `(u16, T)`, `(Status, T)` | `T`'s answer with that status |
/// | [`Json<T>`], [`Html<T>`], [`Redirect`], [`Reject`] | what they say |
/// | `Result<T, E>` | of either |
/// | `Option<T>` | `T`'s answer, or 404 |
/// | [`Response`] | itself |
pub trait IntoResponse {
    /// The answer.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    #[inline]
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for &'static str {
    #[inline]
    fn into_response(self) -> Response {
        Response::text(self)
    }
}

impl IntoResponse for String {
    fn into_response(self) -> Response {
        Response::bytes(TEXT, self)
    }
}

impl IntoResponse for Cow<'static, str> {
    fn into_response(self) -> Response {
        match self {
            Cow::Borrowed(text) => text.into_response(),
            Cow::Owned(text) => text.into_response(),
        }
    }
}

impl IntoResponse for &'static [u8] {
    #[inline]
    fn into_response(self) -> Response {
        fixed(BINARY, self)
    }
}

impl IntoResponse for Vec<u8> {
    fn into_response(self) -> Response {
        Response::bytes(BINARY, self)
    }
}

impl IntoResponse for Bytes {
    fn into_response(self) -> Response {
        Response::bytes(BINARY, self)
    }
}

impl IntoResponse for () {
    #[inline]
    fn into_response(self) -> Response {
        Response::status(204)
    }
}

impl<T: IntoResponse> IntoResponse for (u16, T) {
    #[inline]
    fn into_response(self) -> Response {
        self.1.into_response().with_status(self.0)
    }
}

impl<T: IntoResponse> IntoResponse for (Status, T) {
    #[inline]
    fn into_response(self) -> Response {
        (self.0.0, self.1).into_response()
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    #[inline]
    fn into_response(self) -> Response {
        match self {
            Ok(value) => value.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

impl<T: IntoResponse> IntoResponse for Option<T> {
    #[inline]
    fn into_response(self) -> Response {
        match self {
            Some(value) => value.into_response(),
            None => not_found(),
        }
    }
}

/// 200 with constant bytes. Allocates nothing.
#[inline]
fn fixed(content_type: &'static str, bytes: &'static [u8]) -> Response {
    Response {
        status: 200,
        content_type: Some(content_type),
        body: ResponseBody::Static(bytes),
        ..Response::default()
    }
}

/// The 404 of this crate.
pub(crate) fn not_found() -> Response {
    Response::text("not found\n").with_status(404)
}

/// A body of JSON, written by `sonic-rs`. A value that cannot be written is answered 500 and logged.
///
/// ```
/// use corelane_http::{IntoResponse, Json};
///
/// let response = Json([1, 2, 3]).into_response();
/// assert_eq!(response.content_type, Some("application/json"));
/// assert_eq!(response.body.length(), Some(7));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        match sonic_rs::to_vec(&self.0) {
            Ok(bytes) => Response::bytes(JSON, bytes),
            Err(error) => {
                tracing::error!(%error, "an answer could not be written as JSON");
                Response::text("the answer could not be written as JSON\n").with_status(500)
            }
        }
    }
}

/// The answer of `T` as `text/html; charset=utf-8`. Nothing is escaped.
#[derive(Clone, Copy, Debug)]
pub struct Html<T>(pub T);

impl<T: IntoResponse> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        Response { content_type: Some(HTML), ..self.0.into_response() }
    }
}

/// A status code, answered without a body.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Status(pub u16);

macro_rules! statuses {
    ($($name:ident = $code:literal $reason:literal;)*) => {
        impl Status {
            $(#[doc = concat!(stringify!($code), " ", $reason, ".")] pub const $name: Status = Status($code);)*
        }
    };
}

// RFC 9110, 15, and RFC 6585 for 428, 429.
statuses! {
    OK = 200 "OK";
    CREATED = 201 "Created";
    ACCEPTED = 202 "Accepted";
    NO_CONTENT = 204 "No Content";
    MOVED_PERMANENTLY = 301 "Moved Permanently";
    FOUND = 302 "Found";
    SEE_OTHER = 303 "See Other";
    NOT_MODIFIED = 304 "Not Modified";
    TEMPORARY_REDIRECT = 307 "Temporary Redirect";
    PERMANENT_REDIRECT = 308 "Permanent Redirect";
    BAD_REQUEST = 400 "Bad Request";
    UNAUTHORIZED = 401 "Unauthorized";
    FORBIDDEN = 403 "Forbidden";
    NOT_FOUND = 404 "Not Found";
    METHOD_NOT_ALLOWED = 405 "Method Not Allowed";
    NOT_ACCEPTABLE = 406 "Not Acceptable";
    CONFLICT = 409 "Conflict";
    GONE = 410 "Gone";
    PRECONDITION_FAILED = 412 "Precondition Failed";
    CONTENT_TOO_LARGE = 413 "Content Too Large";
    UNSUPPORTED_MEDIA_TYPE = 415 "Unsupported Media Type";
    UNPROCESSABLE_CONTENT = 422 "Unprocessable Content";
    UPGRADE_REQUIRED = 426 "Upgrade Required";
    PRECONDITION_REQUIRED = 428 "Precondition Required";
    TOO_MANY_REQUESTS = 429 "Too Many Requests";
    INTERNAL_SERVER_ERROR = 500 "Internal Server Error";
    NOT_IMPLEMENTED = 501 "Not Implemented";
    BAD_GATEWAY = 502 "Bad Gateway";
    SERVICE_UNAVAILABLE = 503 "Service Unavailable";
    GATEWAY_TIMEOUT = 504 "Gateway Timeout";
}

impl IntoResponse for Status {
    #[inline]
    fn into_response(self) -> Response {
        Response::status(self.0)
    }
}

/// Sends the client elsewhere (RFC 9110, 15.4). The location is sent as given: encode what comes from users.
///
/// ```
/// use corelane_http::{App, Redirect};
/// let app = App::new(()).get("/old", |_| Redirect::permanent("/new"));
/// # let _ = app;
/// ```
#[derive(Clone, Debug)]
pub struct Redirect {
    status: Status,
    location: Cow<'static, str>,
}

impl Redirect {
    /// 303: fetch `location` with GET. After a POST.
    pub fn see_other(location: impl Into<Cow<'static, str>>) -> Redirect {
        Redirect { status: Status::SEE_OTHER, location: location.into() }
    }

    /// 307: the same request again at `location`, this time.
    pub fn temporary(location: impl Into<Cow<'static, str>>) -> Redirect {
        Redirect { status: Status::TEMPORARY_REDIRECT, location: location.into() }
    }

    /// 308: the same request again at `location`, from now on.
    pub fn permanent(location: impl Into<Cow<'static, str>>) -> Redirect {
        Redirect { status: Status::PERMANENT_REDIRECT, location: location.into() }
    }
}

impl IntoResponse for Redirect {
    fn into_response(self) -> Response {
        let location = match self.location {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        self.status.into_response().header("location", location)
    }
}

/// A refusal with a reason the client may read: an error for `?` in handlers, and an answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reject {
    status: u16,
    reason: Cow<'static, str>,
}

impl Reject {
    /// A refusal. `reason` becomes the body, as text.
    pub fn new(status: u16, reason: impl Into<Cow<'static, str>>) -> Reject {
        Reject { status, reason: reason.into() }
    }

    /// The status.
    pub fn status(&self) -> u16 {
        self.status
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Reject {}

impl From<BodyError> for Reject {
    fn from(error: BodyError) -> Reject {
        let status = match error {
            BodyError::Broken => 400,
            BodyError::TooLarge { .. } => 413,
        };
        Reject::new(status, error.to_string())
    }
}

/// 503 where the other shard was not asked or did not answer in time, 500 where it panicked.
impl From<CallError> for Reject {
    fn from(error: CallError) -> Reject {
        let status = match error {
            CallError::Full(_) | CallError::Late => 503,
            CallError::Panicked => 500,
        };
        Reject::new(status, error.to_string())
    }
}

impl IntoResponse for CallError {
    fn into_response(self) -> Response {
        Reject::from(self).into_response()
    }
}

impl IntoResponse for Reject {
    fn into_response(self) -> Response {
        (self.status, self.reason).into_response()
    }
}

#[cfg(test)]
mod tests;
