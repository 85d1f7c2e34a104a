//! The application of one shard: its state, its routes, and the way of a request through them.
//!
//! # Rules
//! 1. An [`App`] is made on the shard it serves and never leaves it: its state need not be `Send`.
//! 2. A route that cannot stand is a fault of the program: the adding methods panic with both routes in the
//!    text. [`App::try_route`] gives the error instead, for routes that come from a file.
//! 3. TRACE, CONNECT and unknown methods are answered 501; 405 lists in `Allow` what the path answers
//!    (RFC 9110, 15.5.6); `OPTIONS` of a path without such a route is answered 204 with that list, `OPTIONS *`
//!    with the methods of all routes (RFC 9110, 9.3.7). HEAD is answered by GET's handler; the connection
//!    keeps the body back.
//!
//! Allocations: an inline handler none, beyond what it makes itself, for up to three path parameters (one
//! more for four and above). An async handler one for the head, one for the future, and one for the body
//! where the request has one. A 404 none, a 405 and an automatic `OPTIONS` two. `tests/allocations.rs` counts.
//!
//! Cost: about 20 ns from a parsed head to the response of a literal route, 45 ns with a parameter, 100 ns to
//! the future of an async handler (`benches/micro/dispatch.rs`).

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;

use corelane_net::body::Body;
use corelane_net::h1::{self, Method, TargetForm};
use corelane_net::message::Response;
use corelane_net::service::{Answer, Incoming, Service};
use ipnet::IpNet;

use crate::answer::{IntoResponse, not_found};
use crate::forwarded::Trust;
use crate::head::{Head, Packed};
use crate::middleware::Middleware;
use crate::owned::{OwnedRequest, view};
use crate::request::{BodySource, Params, Request};
use crate::route::{ALL, Found, RouteError, Routes, Verb, VerbSet};

type Handler<S> = Box<dyn Fn(&Request<'_, S>) -> Answer>;

/// Why a start hook failed.
pub type HookError = Box<dyn std::error::Error>;

/// A start hook: serve only once it gave `Ok`.
pub type StartHook = Pin<Box<dyn Future<Output = Result<(), HookError>>>>;

/// A drain hook: run after the last request, before the shard ends.
pub type DrainHook = Pin<Box<dyn Future<Output = ()>>>;

/// What requests share with their application.
pub(crate) struct Core<S> {
    pub(crate) state: Rc<S>,
    pub(crate) middleware: Vec<Box<dyn Middleware<S>>>,
    pub(crate) trust: Trust,
    /// Of each handler; `None` for the fallback.
    patterns: Vec<Box<str>>,
}

impl<S> Core<S> {
    pub(crate) fn pattern(&self, route: Option<u32>) -> Option<&str> {
        self.patterns.get(route? as usize).map(|pattern| &**pattern)
    }
}

/// What the `after` of middleware needs once an async handler is done.
pub(crate) struct After<S> {
    pub(crate) head: Packed,
    pub(crate) route: Option<u32>,
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) core: Rc<Core<S>>,
}

impl<S: 'static> After<S> {
    pub(crate) fn run(&self, response: &mut Response) {
        run_after(&self.core.middleware, &view(&self.head, self.route, self.peer, &self.core), response);
    }
}

fn run_after<S: 'static>(
    middleware: &[Box<dyn Middleware<S>>],
    request: &Request<'_, S>,
    response: &mut Response,
) {
    for each in middleware.iter().rev() {
        each.after(request, response);
    }
}

/// Routes, middleware and state of one shard. A [`Service`] for its listeners.
///
/// ```
/// use corelane_http::{App, OwnedRequest, Request, Reject};
/// use std::cell::Cell;
///
/// struct Shop { visits: Cell<u64> }
///
/// async fn order(mut request: OwnedRequest<Shop>) -> Result<String, Reject> {
///     let text = request.text(4096).await?;
///     Ok(format!("ordered {text}"))
/// }
///
/// let app = App::new(Shop { visits: Cell::new(0) })
///     .get("/", |_| "welcome")
///     .get("/visits", |request: &Request<'_, Shop>| {
///         let visits = &request.state().visits;
///         visits.set(visits.get() + 1);
///         visits.get().to_string()
///     })
///     .get("/items/{id}", |request| request.param("id").map(|id| format!("item {id}")))
///     .post_async("/orders", order)
///     .fallback(|_| (404, "no such shelf"));
/// # let _ = app;
/// ```
pub struct App<S = ()> {
    core: Rc<Core<S>>,
    routes: Routes,
    handlers: Vec<Handler<S>>,
    fallback: Option<Handler<S>>,
    start: RefCell<Vec<StartHook>>,
    drain: RefCell<Vec<DrainHook>>,
}

macro_rules! inline_routes {
    ($($name:ident $method:ident $text:literal)*) => {$(
        #[doc = concat!("Adds an inline handler for ", $text, ". See [`App::route`].")]
        ///
        /// # Panics
        /// As [`App::route`].
        #[must_use]
        #[track_caller]
        pub fn $name<F, R>(self, path: &str, handler: F) -> App<S>
        where
            F: Fn(&Request<'_, S>) -> R + 'static,
            R: IntoResponse,
        {
            self.route(Method::$method, path, handler)
        }
    )*};
}

macro_rules! async_routes {
    ($($name:ident $method:ident $text:literal)*) => {$(
        #[doc = concat!("Adds an async handler for ", $text, ". See [`App::route_async`].")]
        ///
        /// # Panics
        /// As [`App::route`].
        #[must_use]
        #[track_caller]
        pub fn $name<F, Fut>(self, path: &str, handler: F) -> App<S>
        where
            F: Fn(OwnedRequest<S>) -> Fut + 'static,
            Fut: Future + 'static,
            Fut::Output: IntoResponse,
        {
            self.route_async(Method::$method, path, handler)
        }
    )*};
}

impl<S: 'static> App<S> {
    /// An application without routes, around the state of this shard.
    pub fn new(state: S) -> App<S> {
        App::with_shared(Rc::new(state))
    }

    /// The same, around state that others on this shard hold too.
    pub fn with_shared(state: Rc<S>) -> App<S> {
        App {
            core: Rc::new(Core {
                state,
                middleware: Vec::new(),
                trust: Trust::default(),
                patterns: Vec::new(),
            }),
            routes: Routes::default(),
            handlers: Vec::new(),
            fallback: None,
            start: RefCell::default(),
            drain: RefCell::default(),
        }
    }

    /// The state.
    pub fn state(&self) -> &Rc<S> {
        &self.core.state
    }

    inline_routes! {
        get Get "GET, and HEAD where no HEAD route matches"
        post Post "POST"
        put Put "PUT"
        delete Delete "DELETE"
        patch Patch "PATCH"
        head Head "HEAD"
        options Options "OPTIONS"
    }

    async_routes! {
        get_async Get "GET, and HEAD where no HEAD route matches"
        post_async Post "POST"
        put_async Put "PUT"
        delete_async Delete "DELETE"
        patch_async Patch "PATCH"
    }

    /// Adds an inline handler: it runs inside the turn, with the request borrowed, and must not block.
    ///
    /// `path` is literal (`/about`), or has parameters for one segment (`/users/{id}`, `/img-{n}.png`), or
    /// for the rest (`/files/{*path}`, at least one byte). It is matched as sent: not decoded, `//` and dot
    /// segments not resolved, a slash at the end counts. A literal path beats a pattern.
    ///
    /// # Panics
    /// When the route cannot stand: it conflicts with another, is malformed, or names a method that has no
    /// routes. The text names the route and the one in its way.
    #[must_use]
    #[track_caller]
    pub fn route<F, R>(self, method: Method<'_>, path: &str, handler: F) -> App<S>
    where
        F: Fn(&Request<'_, S>) -> R + 'static,
        R: IntoResponse,
    {
        self.route_either(method, path, inline(handler))
    }

    /// Adds an async handler: it gets the request as its own and answers when its future is done. `path` as
    /// in [`App::route`].
    ///
    /// # Panics
    /// As [`App::route`].
    #[must_use]
    #[track_caller]
    pub fn route_async<F, Fut>(self, method: Method<'_>, path: &str, handler: F) -> App<S>
    where
        F: Fn(OwnedRequest<S>) -> Fut + 'static,
        Fut: Future + 'static,
        Fut::Output: IntoResponse,
    {
        self.route_either(method, path, move |request: &Request<'_, S>| request.later(&handler))
    }

    /// Adds a handler that decides by request whether it answers at once ([`Request::now`]) or later
    /// ([`Request::later`]): a cache answers a hit without a future.
    ///
    /// ```
    /// use corelane_http::{App, Method, OwnedRequest};
    ///
    /// async fn fetch(_: OwnedRequest<Option<String>>) -> String {
    ///     "fetched".to_string()
    /// }
    ///
    /// let app = App::new(Some("kept".to_string())).route_either(Method::Get, "/", |request| {
    ///     match request.state() {
    ///         Some(hit) => request.now(hit.clone()),
    ///         None => request.later(fetch),
    ///     }
    /// });
    /// # let _ = app;
    /// ```
    ///
    /// # Panics
    /// As [`App::route`].
    #[must_use]
    #[track_caller]
    pub fn route_either<F>(mut self, method: Method<'_>, path: &str, handler: F) -> App<S>
    where
        F: Fn(&Request<'_, S>) -> Answer + 'static,
    {
        if let Err(error) = self.try_route(method, path, handler) {
            panic!("{error}");
        }
        self
    }

    /// Adds an inline handler for every method that can have routes.
    ///
    /// # Panics
    /// As [`App::route`].
    #[must_use]
    #[track_caller]
    pub fn any<F, R>(mut self, path: &str, handler: F) -> App<S>
    where
        F: Fn(&Request<'_, S>) -> R + 'static,
        R: IntoResponse,
    {
        if let Err(error) = self.add(&ALL, path, Box::new(inline(handler))) {
            panic!("{error}");
        }
        self
    }

    /// Adds a handler, or says why it cannot stand: for routes that a file names.
    ///
    /// # Errors
    /// [`RouteError`], with the text that [`App::route`] panics with; the application is as before.
    pub fn try_route<F>(&mut self, method: Method<'_>, path: &str, handler: F) -> Result<(), RouteError>
    where
        F: Fn(&Request<'_, S>) -> Answer + 'static,
    {
        let Some(verb) = Verb::of(method) else {
            return Err(RouteError::Method { route: format!("{} {path}", method.as_str()) });
        };
        self.add(&[verb], path, Box::new(handler))
    }

    fn add(&mut self, verbs: &[Verb], path: &str, handler: Handler<S>) -> Result<(), RouteError> {
        let index = u32::try_from(self.handlers.len()).expect("fewer than 2^32 routes");
        for verb in verbs {
            self.routes.insert(*verb, path, index)?;
        }
        self.handlers.push(handler);
        self.core_mut().patterns.push(path.into());
        Ok(())
    }

    /// Answers requests whose path no route matches, instead of 404. Not those whose method does not fit.
    #[must_use]
    pub fn fallback<F, R>(mut self, handler: F) -> App<S>
    where
        F: Fn(&Request<'_, S>) -> R + 'static,
        R: IntoResponse,
    {
        self.fallback = Some(Box::new(inline(handler)));
        self
    }

    /// As [`App::fallback`], with an async handler.
    #[must_use]
    pub fn fallback_async<F, Fut>(mut self, handler: F) -> App<S>
    where
        F: Fn(OwnedRequest<S>) -> Fut + 'static,
        Fut: Future + 'static,
        Fut::Output: IntoResponse,
    {
        self.fallback = Some(Box::new(move |request| request.later(&handler)));
        self
    }

    /// Adds middleware around all handlers. The first added is the outermost.
    #[must_use]
    pub fn middleware(mut self, middleware: impl Middleware<S>) -> App<S> {
        self.core_mut().middleware.push(Box::new(middleware));
        self
    }

    /// Believes what peers in these networks say of their clients, in `Forwarded` and `X-Forwarded-*`: see
    /// [`Request::client`]. None, unless set; a second call replaces the first.
    ///
    /// Name the addresses of proxies and nothing else. Whoever sends from such an address chooses whom it is
    /// taken for, and so do the clients of a proxy that passes these fields on without adding to them: the
    /// rules are in [`forwarded`](crate::forwarded).
    ///
    /// ```
    /// use corelane_http::App;
    /// let proxies = vec!["10.0.0.0/24".parse().unwrap(), "2001:db8:1::/64".parse().unwrap()];
    /// let app = App::new(()).trusted_proxies(proxies).get("/", |request| {
    ///     request.client_addr().map(|addr| addr.to_string())
    /// });
    /// # let _ = app;
    /// ```
    #[must_use]
    pub fn trusted_proxies(mut self, networks: Vec<IpNet>) -> App<S> {
        self.core_mut().trust = Trust::new(networks);
        self
    }

    /// Whether it trusts any proxy, so that the addresses of peers matter.
    pub fn trusts_proxies(&self) -> bool {
        !self.core.trust.networks().is_empty()
    }

    fn core_mut(&mut self) -> &mut Core<S> {
        Rc::get_mut(&mut self.core).expect("an App is not changed while it serves")
    }

    /// Adds what must succeed on this shard before it accepts: warming a cache, opening a connection.
    #[must_use]
    pub fn on_start<F, Fut>(self, hook: F) -> App<S>
    where
        F: FnOnce(Rc<S>) -> Fut + 'static,
        Fut: Future<Output = Result<(), HookError>> + 'static,
    {
        let state = Rc::clone(&self.core.state);
        self.start.borrow_mut().push(Box::pin(async move { hook(state).await }));
        self
    }

    /// Adds what is done on this shard once it answered its last request.
    #[must_use]
    pub fn on_drain<F, Fut>(self, hook: F) -> App<S>
    where
        F: FnOnce(Rc<S>) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let state = Rc::clone(&self.core.state);
        self.drain.borrow_mut().push(Box::pin(async move { hook(state).await }));
        self
    }

    /// Hands out the start hooks, in the order they were added. Empty the second time.
    pub fn start_hooks(&self) -> Vec<StartHook> {
        self.start.take()
    }

    /// Hands out the drain hooks, in the order they were added. Empty the second time.
    pub fn drain_hooks(&self) -> Vec<DrainHook> {
        self.drain.take()
    }

    /// Answers a request that no connection brought: a test, or a call from within. [`Service::call`] with
    /// the body already there.
    pub fn call_parsed(
        &self,
        head: &h1::Request<'_, '_>,
        peer: Option<SocketAddr>,
        body: Option<Body>,
    ) -> Answer {
        self.dispatch(head, peer, BodySource::Ready(body))
    }

    #[inline]
    fn dispatch<'a>(
        &'a self,
        head: &'a h1::Request<'a, 'a>,
        peer: Option<SocketAddr>,
        body: BodySource<'a>,
    ) -> Answer {
        let (way, params) = match Verb::of(head.method) {
            None => (Way::NotImplemented, Params::None),
            Some(verb) => match self.routes.literal(verb, head.target.path_bytes()) {
                Some(route) => (Way::Route(route), Params::None),
                None => self.other_way(verb, head.target.path(), head.target.form),
            },
        };
        let route = if let Way::Route(route) = way { Some(route) } else { None };
        let request = Request {
            head: Head::Wire(head),
            params,
            pattern: self.core.pattern(route),
            route,
            peer,
            core: &self.core,
            body: RefCell::new(body),
        };
        if self.core.middleware.is_empty() {
            return self.answer(way, &request);
        }
        self.answer_within(way, &request)
    }

    /// The way of a path that is not a literal route of `verb`.
    fn other_way<'a>(&'a self, verb: Verb, path: &'a str, form: TargetForm) -> (Way, Params<'a>) {
        if form == TargetForm::Asterisk {
            return (Way::Options(self.routes.allowed_anywhere()), Params::None);
        }
        match self.routes.pattern(verb, path) {
            Found::Route(route, params) => (Way::Route(route), Params::Matched(params)),
            Found::OtherMethods(allowed) if verb == Verb::Options => (Way::Options(allowed), Params::None),
            Found::OtherMethods(allowed) => (Way::OtherMethods(allowed), Params::None),
            Found::Nothing => (Way::Fallback, Params::None),
        }
    }

    fn answer_within(&self, way: Way, request: &Request<'_, S>) -> Answer {
        let middleware = &self.core.middleware;
        for (index, each) in middleware.iter().enumerate() {
            if let Some(mut response) = each.before(request) {
                run_after(&middleware[..=index], request, &mut response);
                return Answer::Now(response);
            }
        }
        match self.answer(way, request) {
            Answer::Now(mut response) => {
                run_after(middleware, request, &mut response);
                Answer::Now(response)
            }
            // `Request::later` took care of `after`
            later => later,
        }
    }

    #[inline]
    fn answer(&self, way: Way, request: &Request<'_, S>) -> Answer {
        match way {
            Way::Route(route) => (self.handlers[route as usize])(request),
            Way::Fallback => match &self.fallback {
                Some(handler) => handler(request),
                None => Answer::Now(not_found()),
            },
            Way::OtherMethods(allowed) => {
                Answer::Now(allow(Response::text("method not allowed\n").with_status(405), allowed))
            }
            Way::Options(allowed) => Answer::Now(allow(Response::status(204), allowed)),
            Way::NotImplemented => Answer::Now(Response::text("method not implemented\n").with_status(501)),
        }
    }
}

/// Where a request goes.
#[derive(Clone, Copy)]
enum Way {
    Route(u32),
    OtherMethods(VerbSet),
    Options(VerbSet),
    Fallback,
    NotImplemented,
}

fn allow(response: Response, allowed: VerbSet) -> Response {
    response.header("allow", allowed.list().into_bytes())
}

fn inline<S, F, R>(handler: F) -> impl Fn(&Request<'_, S>) -> Answer + 'static
where
    S: 'static,
    F: Fn(&Request<'_, S>) -> R + 'static,
    R: IntoResponse,
{
    move |request| {
        // A store, for whoever asks what the shard is at.
        corelane_exec::note(std::any::type_name::<F>);
        Answer::Now(handler(request).into_response())
    }
}

impl<S: 'static> Service for App<S> {
    fn call(&self, request: Incoming<'_, '_, '_>) -> Answer {
        self.dispatch(request.head, request.peer, BodySource::Connection(request))
    }
}

impl<S> fmt::Debug for App<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App")
            .field("routes", &self.core.patterns)
            .field("middleware", &self.core.middleware.len())
            .field("fallback", &self.fallback.is_some())
            .finish_non_exhaustive()
    }
}
