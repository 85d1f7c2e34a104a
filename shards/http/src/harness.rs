//! An application without sockets: a request goes in as text, through the real parser and the
//! application's own way of a request, and the answer comes back as data.
//!
//! # Rules
//! 1. The request is parsed by the protocol machine, so a head it would refuse is refused here, with the same
//!    status.
//! 2. Futures run on a local loop that polls while they wake themselves. One that waits for a shard (timer,
//!    socket, another task) would wait for ever: that panics.
//!
//! Not here: framing of answers, deadlines, streamed and upgraded answers (drive a simulated shard for those).

use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use corelane_net::body::Body;
use corelane_net::h1::{Connection, Limits, Step, header_slots};
use corelane_net::message::{Response, ResponseBody};
use corelane_net::service::Answer;

use crate::app::App;

/// Drives an [`App`] request by request.
///
/// ```
/// use corelane_http::App;
/// use corelane_http::harness::TestServer;
///
/// let server = TestServer::new(App::new(()).get("/hello/{name}", |request| {
///     request.param("name").map(|name| format!("hello {name}"))
/// }));
/// let answer = server.get("/hello/you").send();
/// assert_eq!(answer.status, 200);
/// assert_eq!(answer.text(), "hello you");
/// assert_eq!(server.post("/hello/you").send().header("allow"), Some("GET, HEAD, OPTIONS"));
/// ```
#[derive(Debug)]
pub struct TestServer<S> {
    app: App<S>,
}

impl<S: 'static> TestServer<S> {
    /// Takes an application and runs its start hooks.
    ///
    /// # Panics
    /// When a start hook fails.
    pub fn new(app: App<S>) -> TestServer<S> {
        for hook in app.start_hooks() {
            if let Err(error) = run(hook) {
                panic!("a start hook failed: {error}");
            }
        }
        TestServer { app }
    }

    /// The application's state.
    pub fn state(&self) -> &S {
        self.app.state()
    }

    /// A GET, to be completed and sent.
    pub fn get<'t>(&self, target: &'t str) -> TestRequest<'_, 't, S> {
        self.request("GET", target)
    }

    /// A POST, to be completed and sent.
    pub fn post<'t>(&self, target: &'t str) -> TestRequest<'_, 't, S> {
        self.request("POST", target)
    }

    /// A request of any method, to be completed and sent. HTTP/1.1, with `Host: test`.
    pub fn request<'t>(&self, method: &'t str, target: &'t str) -> TestRequest<'_, 't, S> {
        TestRequest {
            app: &self.app,
            line: (method, target),
            version: "HTTP/1.1",
            host: Some("test"),
            fields: Vec::new(),
            body: None,
            peer: None,
        }
    }

    /// Sends a whole request as it would stand on the wire; everything behind the head is its body.
    pub fn raw(&self, request: &[u8]) -> TestResponse {
        call(&self.app, request, None)
    }

    /// Runs the drain hooks, once.
    pub fn drain(&self) {
        self.app.drain_hooks().into_iter().for_each(run);
    }
}

/// A request under construction.
#[must_use = "nothing happens until it is sent"]
pub struct TestRequest<'a, 't, S> {
    app: &'a App<S>,
    line: (&'t str, &'t str),
    version: &'static str,
    host: Option<&'t str>,
    fields: Vec<(&'t str, Cow<'t, str>)>,
    body: Option<Cow<'t, [u8]>>,
    peer: Option<SocketAddr>,
}

impl<'t, S: 'static> TestRequest<'_, 't, S> {
    /// With one more field. `Host` replaces the default.
    pub fn header(mut self, name: &'t str, value: impl Into<Cow<'t, str>>) -> Self {
        if name.eq_ignore_ascii_case("host") {
            self.host = None;
        }
        self.fields.push((name, value.into()));
        self
    }

    /// With this body, and `Content-Length`.
    pub fn body(mut self, body: &'t (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.body = Some(Cow::Borrowed(body.as_ref()));
        self
    }

    /// With this body as JSON, and `Content-Type: application/json`.
    ///
    /// # Panics
    /// When the value cannot be written.
    pub fn json<T: serde::Serialize>(mut self, value: &T) -> Self {
        self.body = Some(Cow::Owned(sonic_rs::to_vec(value).expect("a value that JSON can hold")));
        self.header("content-type", "application/json")
    }

    /// As HTTP/1.0.
    pub fn http10(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// As if it came from there.
    pub fn peer(mut self, peer: SocketAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Sends it and waits for the answer.
    ///
    /// # Panics
    /// When the handler does, or waits for what only a shard could give.
    pub fn send(self) -> TestResponse {
        let mut wire = format!("{} {} {}\r\n", self.line.0, self.line.1, self.version);
        let mut field = |name: &str, value: &str| {
            wire.extend([name, ": ", value, "\r\n"]);
        };
        if let Some(host) = self.host {
            field("host", host);
        }
        for (name, value) in &self.fields {
            field(name, value);
        }
        if let Some(body) = &self.body {
            field("content-length", &body.len().to_string());
        }
        wire.push_str("\r\n");
        let mut wire = wire.into_bytes();
        wire.extend_from_slice(self.body.as_deref().unwrap_or_default());
        call(self.app, &wire, self.peer)
    }
}

/// An answer.
#[derive(Debug)]
pub struct TestResponse {
    /// The status.
    pub status: u16,
    /// The fields the application set, `content-type` first. Not those the connection adds.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body; empty for HEAD, and for streamed and upgraded answers.
    pub body: Vec<u8>,
    /// The answer is streamed or upgrades: its body is not run here.
    pub is_streamed: bool,
}

impl TestResponse {
    /// The first field of this name, in any case, where its value is UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }

    /// The body as text.
    ///
    /// # Panics
    /// When it is not UTF-8.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body of text")
    }

    /// The body read as JSON.
    ///
    /// # Panics
    /// When it is not JSON or does not fit `T`.
    pub fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        sonic_rs::from_slice(&self.body).expect("a body of JSON that fits")
    }

    fn of(response: Response, is_head: bool) -> TestResponse {
        let content_type = response.content_type.map(|t| ("content-type".to_owned(), t.as_bytes().to_vec()));
        let fields =
            response.headers.into_iter().map(|(name, value)| (name.into_owned(), value.into_owned()));
        let (body, is_streamed) = match response.body {
            ResponseBody::Empty => (Vec::new(), false),
            ResponseBody::Static(bytes) => (bytes.to_vec(), false),
            ResponseBody::Bytes(bytes) => (bytes.to_vec(), false),
            ResponseBody::Stream { .. } | ResponseBody::Upgrade { .. } => (Vec::new(), true),
        };
        TestResponse {
            status: if response.status == 0 { 200 } else { response.status },
            headers: content_type.into_iter().chain(fields).collect(),
            body: if is_head { Vec::new() } else { body },
            is_streamed,
        }
    }
}

fn call<S: 'static>(app: &App<S>, wire: &[u8], peer: Option<SocketAddr>) -> TestResponse {
    let mut slots = header_slots();
    let mut rest = wire;
    match Connection::new().poll(&Limits::default(), &mut rest, &mut slots) {
        Step::Head(head) => {
            let is_head = head.method == corelane_net::h1::Method::Head;
            let body = (!rest.is_empty()).then(|| Body::complete(rest));
            let response = match app.call_parsed(&head, peer, body) {
                Answer::Now(response) => response,
                Answer::Later(future) => run(future),
            };
            TestResponse::of(response, is_head)
        }
        Step::Reject(reject) => TestResponse::of(Response::status(reject.status), false),
        step => panic!("not one whole request head: {step:?}"),
    }
}

struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a future that nobody but itself moves on (rule 2).
fn run<F: Future>(future: F) -> F::Output {
    let woken = Arc::new(Woken(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&woken));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let moves_on = woken.0.swap(false, Ordering::Relaxed);
        assert!(moves_on, "the future waits for something that only a shard could give");
    }
}
