//! What an async handler gets: a request that is its own, and the body as it comes.
//!
//! Not here: the borrowed form and what the getters mean (`request`), flow control of bodies (`net`).

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use bytes::Bytes;
use corelane_net::body::{Body, BodyError};
use corelane_net::h1::{Method, Version};
use serde::de::DeserializeOwned;

use crate::answer::Reject;
use crate::app::Core;
use crate::forwarded::Client;
use crate::head::{Fields, Head, Packed};
use crate::json;
use crate::percent;
use crate::request::{BodySource, Params, Request};

/// A request that outlives the turn it came in.
///
/// Made with two allocations, the head and (where there is one) the body; the future of the handler is a
/// third. The getters are those of [`Request`], see [`OwnedRequest::view`].
///
/// ```
/// use corelane_http::{App, OwnedRequest, Reject};
///
/// async fn echo(mut request: OwnedRequest<()>) -> Result<String, Reject> {
///     request.text(1 << 16).await
/// }
///
/// let app = App::new(()).post_async("/echo", echo);
/// # let _ = app;
/// ```
pub struct OwnedRequest<S> {
    pub(crate) head: Packed,
    pub(crate) body: Option<Body>,
    pub(crate) route: Option<u32>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) core: Rc<Core<S>>,
}

impl<S> OwnedRequest<S> {
    /// The same request in the form that inline handlers and middleware see. Allocates nothing.
    pub fn view(&self) -> Request<'_, S> {
        view(&self.head, self.route, self.peer, &self.core)
    }

    /// See [`Request::method`].
    pub fn method(&self) -> Method<'_> {
        Head::Packed(&self.head).method()
    }

    /// See [`Request::path`].
    pub fn path(&self) -> &str {
        Head::Packed(&self.head).path()
    }

    /// See [`Request::query`].
    pub fn query(&self) -> Option<&str> {
        Head::Packed(&self.head).query()
    }

    /// See [`Request::version`].
    pub fn version(&self) -> Version {
        Head::Packed(&self.head).version()
    }

    /// See [`Request::host`].
    pub fn host(&self) -> Option<&str> {
        Head::Packed(&self.head).host()
    }

    /// See [`Request::header`].
    pub fn header(&self, name: &str) -> Option<&str> {
        self.view().header(name)
    }

    /// See [`Request::header_bytes`].
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        Head::Packed(&self.head).header(name)
    }

    /// See [`Request::headers`].
    pub fn headers(&self) -> Fields<'_> {
        Head::Packed(&self.head).fields()
    }

    /// See [`Request::param`].
    pub fn param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.view().param(name)
    }

    /// See [`Request::param_bytes`].
    pub fn param_bytes(&self, name: &str) -> Option<Cow<'_, [u8]>> {
        self.view().param_bytes(name)
    }

    /// See [`Request::param_raw`].
    pub fn param_raw(&self, name: &str) -> Option<&str> {
        self.view().param_raw(name)
    }

    /// See [`Request::query_param`].
    pub fn query_param(&self, key: &str) -> Option<Cow<'_, str>> {
        self.view().query_param(key)
    }

    /// See [`Request::query_pairs`].
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        percent::decoded_pairs(self.query().unwrap_or_default())
    }

    /// See [`Request::peer`].
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// See [`Request::client`].
    pub fn client(&self) -> Option<Client<'_>> {
        self.view().client()
    }

    /// See [`Request::client_addr`].
    pub fn client_addr(&self) -> Option<IpAddr> {
        self.view().client_addr()
    }

    /// See [`Request::pattern`].
    pub fn pattern(&self) -> Option<&str> {
        self.core.pattern(self.route)
    }

    /// What this shard's [`App`](crate::App) was made with. No borrow of it needs to be held across an
    /// `.await`: ask again.
    pub fn state(&self) -> &S {
        &self.core.state
    }

    /// The state as a handle, for tasks that outlive the request.
    pub fn shared_state(&self) -> Rc<S> {
        Rc::clone(&self.core.state)
    }

    /// The length the head announced: 0 without a body, `None` for a chunked one.
    pub fn body_length(&self) -> Option<u64> {
        self.body.as_ref().map_or(Some(0), Body::length)
    }

    /// The next piece of the body, `None` at its end. The connection stops receiving while too much lies
    /// unread.
    ///
    /// # Errors
    /// [`BodyError::Broken`] when the rest will never come.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        match &mut self.body {
            Some(body) => body.chunk().await,
            None => Ok(None),
        }
    }

    /// The body itself, to hand it on. Complete and empty where there is none or it was taken before.
    pub fn take_body(&mut self) -> Body {
        self.body.take().unwrap_or_else(|| Body::complete(b""))
    }

    /// The whole body, `max` bytes at most.
    ///
    /// # Errors
    /// 413 past `max`, 400 when it broke off. Both are an answer: use `?`.
    pub async fn collect(&mut self, max: u64) -> Result<Bytes, Reject> {
        match &mut self.body {
            Some(body) => Ok(body.collect(max).await?),
            None => Ok(Bytes::new()),
        }
    }

    /// The whole body as text, `max` bytes at most.
    ///
    /// # Errors
    /// As [`OwnedRequest::collect`], and 400 when it is not UTF-8.
    pub async fn text(&mut self, max: u64) -> Result<String, Reject> {
        let bytes = self.collect(max).await?;
        String::from_utf8(bytes.into()).map_err(|_| Reject::new(400, "the request body is not UTF-8"))
    }

    /// The whole body read as JSON, `max` bytes at most. Not nested deeper than
    /// [`JSON_DEPTH_MAX`](crate::json::JSON_DEPTH_MAX).
    ///
    /// # Errors
    /// 415 when `Content-Type` is neither `application/json` nor `application/*+json`; 413 past `max`; 400
    /// when it is not JSON or does not fit `T`, with the place and the reason.
    pub async fn json<T: DeserializeOwned>(&mut self, max: u64) -> Result<T, Reject> {
        if !self.header("content-type").is_some_and(is_json) {
            return Err(Reject::new(415, "the request body must be application/json"));
        }
        let bytes = self.collect(max).await?;
        json::parse(&bytes)
    }
}

/// A request in borrowed form over a packed head.
pub(crate) fn view<'a, S>(
    head: &'a Packed,
    route: Option<u32>,
    peer: Option<SocketAddr>,
    core: &'a Rc<Core<S>>,
) -> Request<'a, S> {
    Request {
        head: Head::Packed(head),
        params: Params::Packed(head),
        pattern: core.pattern(route),
        route,
        peer,
        core,
        body: RefCell::new(BodySource::Ready(None)),
    }
}

/// `application/json` or `application/anything+json` (RFC 6839, 3.1), with any parameters.
fn is_json(content_type: &str) -> bool {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    let Some((kind, subtype)) = media.split_once('/') else { return false };
    kind.eq_ignore_ascii_case("application")
        && (subtype.eq_ignore_ascii_case("json")
            || subtype.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json")))
}

impl<S> fmt::Debug for OwnedRequest<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.view().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_media_types_are_told_from_others() {
        for good in ["application/json", "Application/JSON; charset=utf-8", "application/problem+json ;a"] {
            assert!(is_json(good), "{good}");
        }
        for bad in
            ["", "json", "text/json", "application/jsonp", "application/", "text/plain;application/json"]
        {
            assert!(!is_json(bad), "{bad}");
        }
    }
}
