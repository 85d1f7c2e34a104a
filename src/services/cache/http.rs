//! HTTP: the strings of the cache as resources, `/cache/{key}`, by GET, HEAD, PUT and DELETE.
//!
//! The key is the rest of the path, percent-decoded: any bytes, a slash as `%2F`. How long a key stays is said in seconds
//! by the query `ttl` or the field `Cache-TTL`; answers have the rest of it in `Cache-TTL`. (No RFC has a field for it;
//! etcd's first HTTP interface named the parameter.) Answers may be stored but not used unasked (`Cache-Control:
//! no-cache`): a key may be set anew before its time is over, and `ETag` makes asking cheap.
//!
//! # Rules
//! 1. Preconditions hold in the order of RFC 9110, 13.2.2, at the moment of the write on the shard of the key. `If-Match`
//!    compares strongly, `If-None-Match` weakly (13.1). There are no dates here, so those with dates are ignored, and so is
//!    `Range` (14.2).
//! 2. They count only where the answer would be a 2xx without (13.2.1): a GET or DELETE of what is not there is 404.
//! 3. Only strings are seen: a key of another kind is 409, whatever the method. Nothing here changes a list into a string.
//! 4. Who may ask is not decided here.
//!
//! Not here: Redis clients (`session`), other handlers (`access`).

use bytes::Bytes;
use corelane_exec::current;
use corelane_http::{
    Answer, App, IntoResponse, Method, OwnedRequest, Reject, Request, Response, ResponseBody,
};
use std::time::Duration;

use super::access::{BYTES_MAX, Tag, Tagger, Ttl, after, bytes_of, ttl_of};
use super::store::{Expiry, Key, Store, StoreError};
use super::value::{Str, ValueRef};
use super::{Cache, CacheError};

const PATH: &str = "/cache/{key}";

const BINARY: &str = "application/octet-stream";

/// Adds the routes, for the strings of `cache`. There is no password: put middleware before them, or a proxy, or let them
/// listen where only those come who may read and write everything.
///
/// ```
/// use corelane::testing::{TestRequest, TestServer};
/// use corelane::{App, Cache, CacheConfig};
///
/// let cache = Cache::new(CacheConfig::default());
/// let server = TestServer::new(|_| corelane::services::cache::http::routes(App::new(()), &cache));
/// let put = TestRequest::new("PUT", "/cache/a%2Fb?ttl=60").body("value");
/// assert_eq!(server.send(&put).status(), 201);
/// assert_eq!(server.get("/cache/a%2Fb").header("cache-ttl"), Some("60"));
/// assert_eq!(server.send(&put.header("if-none-match", "*")).status(), 412);
/// ```
///
/// # Panics
/// If the application has one of these routes already.
#[must_use]
pub fn routes<S: 'static>(app: App<S>, cache: &Cache) -> App<S> {
    let (of_get, of_put, of_delete) = (cache.clone(), cache.clone(), cache.clone());
    app.route_either(Method::Get, PATH, move |request| get(&of_get, request))
        .put_async(PATH, move |request| put(of_put.clone(), request))
        .delete_async(PATH, move |request| delete(of_delete.clone(), request))
}

// ---- preconditions

/// What a field of preconditions lists.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Tags {
    /// `*`
    Any,
    /// Each with whether it is weak.
    These(Vec<(bool, Box<[u8]>)>),
}

impl Tags {
    /// Of all fields called `name`; none without one (RFC 9110, 13.1.1 and 13.1.2).
    fn of<S>(request: &Request<'_, S>, name: &str) -> Result<Option<Tags>, Reject> {
        let malformed =
            || Reject::new(400, format!("{name} is no list of entity tags, like \"a\", W/\"b\", and not *"));
        let (mut tags, mut any, mut found) = (Vec::new(), false, false);
        for (_, value) in request.headers().filter(|(of, _)| of.eq_ignore_ascii_case(name)) {
            found = true;
            if value.trim_ascii() == b"*" {
                any = true;
            } else {
                list(value, &mut tags).ok_or_else(malformed)?;
            }
        }
        match (found, any) {
            (false, _) => Ok(None),
            (true, true) if tags.is_empty() => Ok(Some(Tags::Any)),
            (true, false) => Ok(Some(Tags::These(tags))),
            (true, true) => Err(malformed()),
        }
    }

    /// Whether `current`, of what is there, is among them.
    fn have(&self, current: Option<Tag>, weakly: bool) -> bool {
        match (self, current) {
            (_, None) => false,
            (Tags::Any, Some(_)) => true,
            (Tags::These(tags), Some(current)) => {
                let text = current.text();
                tags.iter().any(|(is_weak, tag)| (weakly || !is_weak) && **tag == *text.as_bytes())
            }
        }
    }
}

/// Adds the entity tags of a field's value (RFC 9110, 8.8.3; empty elements are none, 5.6.1.2).
fn list(value: &[u8], tags: &mut Vec<(bool, Box<[u8]>)>) -> Option<()> {
    let mut rest = value.trim_ascii();
    while !rest.is_empty() {
        if let Some(behind) = rest.strip_prefix(b",") {
            rest = behind.trim_ascii_start();
            continue;
        }
        let (is_weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let inner = quoted.strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', inner)?;
        let (tag, behind) = (&inner[..end], &inner[end + 1..]);
        if tag.iter().any(|byte| *byte <= b' ' || *byte == 0x7f) {
            return None;
        }
        tags.push((is_weak, tag.into()));
        rest = behind.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return None;
        }
    }
    Some(())
}

/// The preconditions of a request.
#[derive(Clone, Debug)]
struct Wanted {
    matches: Option<Tags>,
    none_matches: Option<Tags>,
}

/// A precondition that does not hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Unmet {
    Match,
    NoneMatch,
}

impl Wanted {
    fn of<S>(request: &Request<'_, S>) -> Result<Wanted, Reject> {
        Ok(Wanted {
            matches: Tags::of(request, "if-match")?,
            none_matches: Tags::of(request, "if-none-match")?,
        })
    }

    /// Whether it takes a tag to tell.
    fn needs_tag(&self) -> bool {
        self.matches.is_some() || self.none_matches.is_some()
    }

    /// In the order of RFC 9110, 13.2.2.
    fn check(&self, current: Option<Tag>) -> Result<(), Unmet> {
        if self.matches.as_ref().is_some_and(|tags| !tags.have(current, false)) {
            return Err(Unmet::Match);
        }
        if self.none_matches.as_ref().is_some_and(|tags| tags.have(current, true)) {
            return Err(Unmet::NoneMatch);
        }
        Ok(())
    }
}

// ---- what requests say, and answers

fn key_of<S>(request: &Request<'_, S>) -> Result<Box<[u8]>, Reject> {
    let key = request.param_bytes("key");
    Ok(key.ok_or_else(|| Reject::new(400, "the key has a % without two hex digits"))?.into())
}

/// How long a value is to stay, by the query or the field.
fn ttl<S>(request: &Request<'_, S>) -> Result<Option<Duration>, Reject> {
    let query = request.query_param("ttl");
    // As sent: one that cannot be decoded is one that was meant.
    let parts = request.query().unwrap_or_default().split('&');
    let asks = parts.filter(|part| part.split('=').next() == Some("ttl")).count();
    let mut fields = request.headers().filter(|(name, _)| name.eq_ignore_ascii_case("cache-ttl"));
    let text: Option<&[u8]> = match (&query, asks, fields.next().map(|(_, value)| value), fields.next()) {
        (None, 0, field, None) => field,
        (Some(text), 1, None, None) => Some(text.as_bytes()),
        _ => {
            return Err(Reject::new(
                400,
                "write how long the key stays once: ?ttl=SECONDS or Cache-TTL: SECONDS",
            ));
        }
    };
    let Some(text) = text else { return Ok(None) };
    let digits = Some(text).filter(|text| !text.is_empty() && text.iter().all(u8::is_ascii_digit));
    let seconds =
        digits.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse::<u64>().ok());
    match seconds {
        Some(seconds @ 1..) => Ok(Some(Duration::from_secs(seconds))),
        _ => Err(Reject::new(400, "how long the key stays is a whole number of seconds, 1 or more")),
    }
}

fn quoted(tag: Tag) -> Vec<u8> {
    format!("\"{}\"", tag.text()).into_bytes()
}

fn not_found() -> Response {
    Response::text("there is no such key\n").with_status(404)
}

fn unmet() -> Response {
    Response::text("the key is not as If-Match or If-None-Match want it\n").with_status(412)
}

fn refused(error: StoreError) -> Response {
    match error {
        StoreError::WrongType => {
            Response::text("the value of the key is no string: a Redis client can read it\n").with_status(409)
        }
        StoreError::OutOfMemory => Response::text("the memory of the cache is full\n").with_status(507),
    }
}

fn too_large(max: u64) -> Response {
    Reject::new(413, format!("the cache takes no more than {max} bytes for a key\n")).into_response()
}

// ---- methods

type Found = Result<Option<(Bytes, Ttl)>, StoreError>;

fn look(store: &mut Store, key: Key<'_>) -> Found {
    let Some(value) = store.get_str(key)?.map(bytes_of) else { return Ok(None) };
    Ok(Some((value, ttl_of(store, key).unwrap_or(Ttl::Never))))
}

/// A key of this shard is answered at once.
fn get<S: 'static>(cache: &Cache, request: &Request<'_, S>) -> Answer {
    let (key, wanted) = match (key_of(request), Wanted::of(request)) {
        (Ok(key), Ok(wanted)) => (key, wanted),
        (Err(reject), _) | (_, Err(reject)) => return request.now(reject),
    };
    let shard = current();
    let here = cache.here(&shard);
    if key.len() <= BYTES_MAX
        && here.owner(here.key(&key)) == here.here()
        && let Ok(found) = here.try_on(&shard, &key, look)
    {
        return request.now(shown(found, &wanted, &cache.tagger));
    }
    let cache = cache.clone();
    request.later(move |_: OwnedRequest<S>| async move {
        match cache.on(&key, look).await {
            Ok(found) => shown(found, &wanted, &cache.tagger),
            Err(error) => error.into_response(),
        }
    })
}

fn shown(found: Found, wanted: &Wanted, tagger: &Tagger) -> Response {
    let (value, ttl) = match found {
        Ok(Some(found)) => found,
        Ok(None) => return not_found(),
        Err(error) => return refused(error),
    };
    let tag = tagger.tag(&value);
    let response = match wanted.check(Some(tag)) {
        Err(Unmet::Match) => return unmet(),
        Err(Unmet::NoneMatch) => Response::status(304),
        Ok(()) => Response {
            status: 200,
            content_type: Some(BINARY),
            body: ResponseBody::Bytes(value),
            ..Response::default()
        }
        // Whoever may write a value could make a page of it.
        .header("x-content-type-options", &b"nosniff"[..]),
    };
    let response = response.header("etag", quoted(tag)).header("cache-control", &b"no-cache"[..]);
    match ttl {
        Ttl::Never => response,
        Ttl::Left(left) => {
            let seconds = left.as_millis().div_ceil(1_000);
            response.header("cache-ttl", seconds.to_string().into_bytes())
        }
    }
}

/// What came of a write on the shard of the key.
enum Put {
    Created(Tag),
    Replaced(Tag),
    Unmet,
    TooLarge(u64),
}

async fn put<S: 'static>(cache: Cache, mut request: OwnedRequest<S>) -> Result<Response, Reject> {
    let view = request.view();
    let (key, wanted, ttl) = (key_of(&view)?, Wanted::of(&view)?, ttl(&view)?);
    // RFC 9110, 14.4: a part of a value would take the place of all of it.
    if request.header_bytes("content-range").is_some() {
        return Err(Reject::new(400, "PUT sets the whole value: Content-Range has no meaning here"));
    }
    let coding = request.header_bytes("content-encoding");
    if coding.is_some_and(|coding| !coding.eq_ignore_ascii_case(b"identity")) {
        return Err(Reject::new(415, "values are kept as they come, without Content-Encoding"));
    }
    let value = request.collect(BYTES_MAX as u64).await?;
    let tagger = cache.tagger.clone();
    let set = move |store: &mut Store, key: Key<'_>| {
        let (len, max) = ((key.bytes.len() + value.len()) as u64, store.config().memory_max);
        if max != 0 && len > max {
            return Ok(Put::TooLarge(max));
        }
        store.make_room()?;
        let current = match store.peek(key) {
            None => None,
            Some(ValueRef::Str(found)) => Some(tag_if(&wanted, &tagger, found)),
            Some(_) => return Err(StoreError::WrongType),
        };
        if wanted.check(current).is_err() {
            return Ok(Put::Unmet);
        }
        let expiry = ttl.map_or(Expiry::Never, |ttl| Expiry::At(after(store.now(), ttl)));
        // A copy: what was collected may have room for twice as much.
        store.set_str(key, &value, expiry)?;
        let tag = tagger.tag(&value);
        Ok(if current.is_some() { Put::Replaced(tag) } else { Put::Created(tag) })
    };
    Ok(match cache.on(&key, set).await {
        Ok(Ok(Put::Created(tag))) => Response::status(201).header("etag", quoted(tag)),
        Ok(Ok(Put::Replaced(tag))) => Response::status(204).header("etag", quoted(tag)),
        Ok(Ok(Put::Unmet)) => unmet(),
        Ok(Ok(Put::TooLarge(max))) => too_large(max),
        Ok(Err(error)) => refused(error),
        Err(CacheError::TooLarge { max, .. }) => too_large(max),
        Err(error) => error.into_response(),
    })
}

async fn delete<S: 'static>(cache: Cache, request: OwnedRequest<S>) -> Result<Response, Reject> {
    let view = request.view();
    let (key, wanted) = (key_of(&view)?, Wanted::of(&view)?);
    let tagger = cache.tagger.clone();
    let remove = move |store: &mut Store, key: Key<'_>| {
        let current = match store.peek(key) {
            None => return Ok(not_found as fn() -> Response),
            Some(ValueRef::Str(found)) => tag_if(&wanted, &tagger, found),
            Some(_) => return Err(StoreError::WrongType),
        };
        if wanted.check(Some(current)).is_err() {
            return Ok(unmet as fn() -> Response);
        }
        store.remove(key);
        Ok(|| Response::status(204))
    };
    Ok(match cache.on(&key, remove).await {
        Ok(Ok(answer)) => answer(),
        Ok(Err(error)) => refused(error),
        Err(error) => error.into_response(),
    })
}

/// The tag of a value where somebody asks for it: it costs a look at all of the value.
fn tag_if(wanted: &Wanted, tagger: &Tagger, value: Str<'_>) -> Tag {
    if wanted.needs_tag() { tagger.tag_of(value) } else { Tag::default() }
}

#[cfg(test)]
mod tests;
