//! Middleware: what happens before and after every handler.
//!
//! # Rules
//! 1. `before` runs in the order of [`App::middleware`](crate::App::middleware); the first that answers ends
//!    the round, and neither later ones nor the handler see the request.
//! 2. `after` runs in reverse order, for exactly those whose `before` ran, the one that answered included.
//! 3. Both see every request that reached the application: 404, 405, 501 and `OPTIONS` too. They do not see
//!    what the connection refuses by itself, nor an async answer that was given up (peer gone, handler too
//!    slow, panic).
//! 4. Neither waits: what needs to wait is a handler.
//!
//! Calling them allocates nothing; adding a response field may grow the response's list once.

use std::borrow::Cow;

use corelane_net::h1::Method;
use corelane_net::message::Response;

use crate::request::Request;

/// Something to do before and after each handler.
///
/// ```
/// use corelane_http::{App, Middleware, Request, Response};
///
/// struct Token(&'static str);
///
/// impl<S> Middleware<S> for Token {
///     fn before(&self, request: &Request<'_, S>) -> Option<Response> {
///         let known = request.header("authorization") == Some(self.0);
///         (!known).then(|| Response::status(401).header("www-authenticate", &b"Bearer"[..]))
///     }
/// }
///
/// let app = App::new(()).middleware(Token("Bearer secret")).get("/", |_| "in");
/// # let _ = app;
/// ```
pub trait Middleware<S>: 'static {
    /// Looks at a request before its handler does. `Some` is the answer.
    fn before(&self, request: &Request<'_, S>) -> Option<Response> {
        let _ = request;
        None
    }

    /// Looks at the answer, and may change it. `request` is the one `before` saw; its body is not there.
    fn after(&self, request: &Request<'_, S>, response: &mut Response) {
        let _ = (request, response);
    }
}

/// Sets one constant field on every answer that does not have it yet. Not for `Server`: that is the
/// connection's (`Http1Config::server`), which writes it without an allocation.
///
/// ```
/// use corelane_http::{App, SetHeader};
/// let app = App::new(()).middleware(SetHeader::new("x-frame-options", "DENY")).get("/", |_| "hello");
/// # let _ = app;
/// ```
#[derive(Clone, Debug)]
pub struct SetHeader {
    name: Cow<'static, str>,
    value: Cow<'static, [u8]>,
}

impl SetHeader {
    /// `name: value`. Checked when a head is written.
    pub fn new(name: &'static str, value: &'static str) -> SetHeader {
        SetHeader { name: Cow::Borrowed(name), value: Cow::Borrowed(value.as_bytes()) }
    }
}

impl<S> Middleware<S> for SetHeader {
    fn after(&self, _: &Request<'_, S>, response: &mut Response) {
        if !has_field(response, &self.name) {
            response.headers.push((self.name.clone(), self.value.clone()));
        }
    }
}

fn has_field(response: &Response, name: &str) -> bool {
    response.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
        || (response.content_type.is_some() && name.eq_ignore_ascii_case("content-type"))
}

/// One `tracing` event at debug level for each answer: method, path, pattern, status, and, where they are
/// known, the peer and the address of the client ([`Request::client`]).
#[derive(Clone, Copy, Debug, Default)]
pub struct Log;

impl<S> Middleware<S> for Log {
    fn after(&self, request: &Request<'_, S>, response: &mut Response) {
        tracing::debug!(
            method = request.method().as_str(),
            path = request.path(),
            pattern = request.pattern(),
            status = response.status,
            peer = request.peer().map(tracing::field::display),
            client = request.client_addr().map(tracing::field::display),
            "answered"
        );
    }
}

/// Cross-origin requests from a fixed set of origins (the Fetch standard, "CORS protocol").
///
/// A preflight (`OPTIONS` with `Origin` and `Access-Control-Request-Method`) is answered 204 without a
/// handler. Other answers get `Access-Control-Allow-Origin` where the origin may read them; whether it may
/// not is for the browser to enforce, so the handler runs either way.
///
/// ```
/// use corelane_http::{App, Cors};
/// let cors = Cors::origins(["https://a.example"]).methods("GET, PUT").headers("content-type").max_age("600");
/// let app = App::new(()).middleware(cors).get("/", |_| "hello");
/// # let _ = app;
/// ```
#[derive(Clone, Debug)]
pub struct Cors {
    /// Empty: any.
    origins: Vec<&'static str>,
    methods: &'static str,
    headers: Option<&'static str>,
    max_age: Option<&'static str>,
    credentials: bool,
}

impl Cors {
    /// Any origin may read any answer. Without credentials.
    pub fn any() -> Cors {
        Cors {
            origins: Vec::new(),
            methods: "GET, HEAD, POST",
            headers: None,
            max_age: None,
            credentials: false,
        }
    }

    /// Only these origins, compared byte by byte: `scheme://host[:port]`, without a slash at the end.
    ///
    /// # Panics
    /// Without any origin.
    pub fn origins(origins: impl IntoIterator<Item = &'static str>) -> Cors {
        let origins: Vec<_> = origins.into_iter().collect();
        assert!(!origins.is_empty(), "Cors::origins without an origin; to allow all, Cors::any");
        Cors { origins, ..Cors::any() }
    }

    /// Methods a preflight allows. `GET, HEAD, POST` unless set; those need none.
    #[must_use]
    pub fn methods(mut self, list: &'static str) -> Cors {
        self.methods = list;
        self
    }

    /// Request fields a preflight allows.
    #[must_use]
    pub fn headers(mut self, list: &'static str) -> Cors {
        self.headers = Some(list);
        self
    }

    /// Seconds a browser may remember a preflight.
    #[must_use]
    pub fn max_age(mut self, seconds: &'static str) -> Cors {
        self.max_age = Some(seconds);
        self
    }

    /// Lets browsers send cookies and read the answer.
    ///
    /// # Panics
    /// With [`Cors::any`]: every site could then act as the user (and browsers refuse `*` here).
    #[must_use]
    pub fn credentials(mut self) -> Cors {
        assert!(!self.origins.is_empty(), "credentials need a list of origins");
        self.credentials = true;
        self
    }

    /// What to answer to this origin.
    fn allowed(&self, origin: &str) -> Option<&'static str> {
        if self.origins.is_empty() {
            return Some("*");
        }
        self.origins.iter().find(|known| **known == origin).copied()
    }
}

impl<S> Middleware<S> for Cors {
    fn before(&self, request: &Request<'_, S>) -> Option<Response> {
        if request.method() != Method::Options {
            return None;
        }
        request.header_bytes("access-control-request-method")?;
        let allowed = self.allowed(request.header("origin")?);
        let mut response = Response::status(204);
        if allowed.is_some() {
            let mut set = |name: &'static str, value: &'static str| {
                response.headers.push((Cow::Borrowed(name), Cow::Borrowed(value.as_bytes())));
            };
            set("access-control-allow-methods", self.methods);
            if let Some(list) = self.headers {
                set("access-control-allow-headers", list);
            }
            if let Some(seconds) = self.max_age {
                set("access-control-max-age", seconds);
            }
        }
        Some(response)
    }

    fn after(&self, request: &Request<'_, S>, response: &mut Response) {
        let mut set = |name: &'static str, value: &'static str| {
            response.headers.push((Cow::Borrowed(name), Cow::Borrowed(value.as_bytes())));
        };
        if !self.origins.is_empty() {
            // A cache must not give one origin's answer to another (RFC 9110, 12.5.5).
            set("vary", "origin");
        }
        let Some(allowed) = request.header("origin").and_then(|origin| self.allowed(origin)) else { return };
        set("access-control-allow-origin", allowed);
        if self.credentials {
            set("access-control-allow-credentials", "true");
        }
    }
}
