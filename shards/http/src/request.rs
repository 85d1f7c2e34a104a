//! What an inline handler sees: a request, borrowed from the receive buffer for the length of the call.
//!
//! Reading it allocates nothing, save for values that need percent-decoding.
//!
//! # Rules
//! 1. The body is taken at most once, by [`Request::later`]; what nobody takes is swallowed by the connection.
//! 2. No borrow of the body's source outlives the function that takes it.
//!
//! Not here: the body and the form that outlives the call (`owned`).

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use corelane_net::body::Body;
use corelane_net::h1::{BodyKind, Method, Version};
use corelane_net::service::{Answer, Incoming};

use crate::answer::IntoResponse;
use crate::app::{After, Core};
use crate::forwarded::{Client, client_of};
use crate::head::{Fields, Head, Packed};
use crate::owned::OwnedRequest;
use crate::percent;

/// A request, as an inline handler and as middleware see it.
///
/// ```
/// use corelane_http::{App, Request};
///
/// struct Greeter { word: &'static str }
///
/// fn greet(request: &Request<'_, Greeter>) -> String {
///     let name = request.param("name").unwrap_or_default();
///     format!("{}, {name}", request.state().word)
/// }
///
/// let app = App::new(Greeter { word: "hello" }).get("/greet/{name}", greet);
/// # let _ = app;
/// ```
pub struct Request<'a, S> {
    pub(crate) head: Head<'a>,
    pub(crate) params: Params<'a>,
    pub(crate) pattern: Option<&'a str>,
    pub(crate) route: Option<u32>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) core: &'a Rc<Core<S>>,
    pub(crate) body: RefCell<BodySource<'a>>,
}

/// Where path parameters are read from.
pub(crate) enum Params<'a> {
    None,
    Matched(matchit::Params<'a, 'a>),
    Packed(&'a Packed),
}

/// Where the body comes from when a handler wants it.
pub(crate) enum BodySource<'a> {
    Connection(Incoming<'a, 'a, 'a>),
    Ready(Option<Body>),
}

impl BodySource<'_> {
    /// The body, once, where the request has one: without, nothing is allocated.
    fn take(&mut self) -> Option<Body> {
        match self {
            BodySource::Connection(incoming) => match incoming.head.body {
                BodyKind::None => None,
                BodyKind::Length(_) | BodyKind::Chunked => Some(incoming.take_body()),
            },
            BodySource::Ready(body) => body.take(),
        }
    }
}

impl<'a, S> Request<'a, S> {
    /// The method.
    #[inline]
    pub fn method(&self) -> Method<'a> {
        self.head.method()
    }

    /// The path as sent: starts with `/`, not decoded, nothing resolved. `*` for `OPTIONS *`.
    #[inline]
    pub fn path(&self) -> &'a str {
        self.head.path()
    }

    /// What follows the first `?`, not decoded. `Some("")` when nothing follows it.
    #[inline]
    pub fn query(&self) -> Option<&'a str> {
        self.head.query()
    }

    /// HTTP/1.0 or HTTP/1.1.
    #[inline]
    pub fn version(&self) -> Version {
        self.head.version()
    }

    /// The authority the client wanted, as sent: from the target where it is absolute, else from `Host`.
    #[inline]
    pub fn host(&self) -> Option<&'a str> {
        self.head.host()
    }

    /// The first field of this name, in any case, where its value is UTF-8.
    #[inline]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.header_bytes(name).and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The first field of this name, whatever bytes its value has (RFC 9110, 5.5: obs-text is opaque).
    #[inline]
    pub fn header_bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.head.header(name)
    }

    /// All fields in order. A name may come more than once.
    #[inline]
    pub fn headers(&self) -> Fields<'a> {
        self.head.fields()
    }

    /// A parameter of the route's pattern, percent-decoded: borrowed where nothing was escaped.
    ///
    /// `None` where the pattern has no such parameter, or its value is not UTF-8 once decoded. A decoded
    /// value may hold `/` and `..`: check before using it as a file name.
    ///
    /// For `{*rest}` an escaped slash and a real one look the same after decoding; split
    /// [`Request::param_raw`] first where that matters.
    pub fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        self.param_raw(name).and_then(percent::decode)
    }

    /// As [`Request::param`], whatever bytes it is once decoded.
    pub fn param_bytes(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        self.param_raw(name).and_then(percent::decode_bytes)
    }

    /// A parameter of the route's pattern, as sent.
    pub fn param_raw(&self, name: &str) -> Option<&'a str> {
        match &self.params {
            Params::None => None,
            Params::Matched(params) => params.get(name),
            Params::Packed(head) => head.params().find(|(n, _)| *n == name).map(|(_, value)| value),
        }
    }

    /// The first value of `key` in the query, decoded as forms are: `%XX`, and `+` for a space.
    ///
    /// `Some("")` for a key without `=`. `None` where the key is missing, or its value is not UTF-8.
    pub fn query_param(&self, key: &str) -> Option<Cow<'a, str>> {
        percent::query_value(self.query()?, key)
    }

    /// Names and values of the query in order, decoded as forms are. What cannot be decoded is left out.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> + use<'a, S> {
        percent::decoded_pairs(self.query().unwrap_or_default())
    }

    /// The other end of the connection, where the listener was asked to know: the client, or its proxy.
    #[inline]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// Who sent it: the peer, or whom the proxies of
    /// [`App::trusted_proxies`](crate::App::trusted_proxies) say they had before them. `None` where the peer
    /// is not known.
    ///
    /// Found anew by each call: one pass over the fields where the peer is trusted, nothing where it is not.
    pub fn client(&self) -> Option<Client<'a>> {
        Some(client_of(self.peer?, self.headers(), &self.core.trust))
    }

    /// The address of [`Request::client`].
    pub fn client_addr(&self) -> Option<IpAddr> {
        self.client().map(|client| client.addr)
    }

    /// The pattern of the route that matched. `None` for a 404, a 405, and `OPTIONS` answered by itself.
    #[inline]
    pub fn pattern(&self) -> Option<&'a str> {
        self.pattern
    }

    /// What this shard's [`App`](crate::App) was made with.
    #[inline]
    pub fn state(&self) -> &'a S {
        &self.core.state
    }

    /// An answer at once: for handlers of [`App::route_either`](crate::App::route_either).
    #[inline]
    pub fn now(&self, response: impl IntoResponse) -> Answer {
        Answer::Now(response.into_response())
    }
}

impl<S: 'static> Request<'_, S> {
    /// An answer that takes longer: for handlers of [`App::route_either`](crate::App::route_either).
    ///
    /// Copies the head and takes the body. Allocates three times: the head, the future, and the body where
    /// the request has one. The body is given out once; a second call sees an empty one.
    pub fn later<F, Fut>(&self, handler: F) -> Answer
    where
        F: FnOnce(OwnedRequest<S>) -> Fut,
        Fut: Future + 'static,
        Fut::Output: IntoResponse,
    {
        let params = match &self.params {
            Params::Matched(params) => Some(params),
            Params::None | Params::Packed(_) => None,
        };
        let owned = OwnedRequest {
            head: Packed::new(self.head, params),
            body: self.body.borrow_mut().take(),
            route: self.route,
            peer: self.peer,
            core: Rc::clone(self.core),
        };
        if self.core.middleware.is_empty() {
            let future = named(handler(owned));
            return Answer::Later(Box::pin(async move { future.await.into_response() }));
        }
        let after = After {
            head: owned.head.clone(),
            route: self.route,
            peer: self.peer,
            core: Rc::clone(self.core),
        };
        let future = named(handler(owned));
        Answer::Later(Box::pin(async move {
            let mut response = future.await.into_response();
            after.run(&mut response);
            response
        }))
    }
}

impl<S> fmt::Debug for Request<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({} fields)", self.method().as_str(), self.path(), self.headers().count())
    }
}

/// A handler's future that says who it is whenever it is polled, for whoever asks what the shard is at.
async fn named<Fut: Future>(future: Fut) -> Fut::Output {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        corelane_exec::note(std::any::type_name::<Fut>);
        future.as_mut().poll(cx)
    })
    .await
}
