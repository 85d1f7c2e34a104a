//! How often a request allocates, counted: the budget stated in `app`.

#![allow(clippy::unwrap_used)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use corelane_http::{Answer, App, IntoResponse, Log, Method, OwnedRequest, Request, Response, Status};
use corelane_net::body::Body;
use corelane_net::h1::{Connection, Limits, Step, header_slots};

/// The system's allocator, counting.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call goes to `System` with the same arguments; counting touches a thread-local `Cell` without
// a destructor, which neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, and `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.set(COUNT.get() + 1);
        // SAFETY: the caller keeps the contract of `realloc`, and `pointer` came from `System`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of the second call (the first may grow what is used again), and the status.
fn count<S: 'static>(app: &App<S>, wire: &str, body: Option<&str>) -> (usize, u16) {
    count_from(None, app, wire, body)
}

/// The same of a request whose peer is known.
fn count_from<S: 'static>(
    peer: Option<SocketAddr>,
    app: &App<S>,
    wire: &str,
    body: Option<&str>,
) -> (usize, u16) {
    let mut last = (0, 0);
    for _ in 0..2 {
        let mut slots = header_slots();
        let mut input = wire.as_bytes();
        let Step::Head(head) = Connection::new().poll(&Limits::default(), &mut input, &mut slots) else {
            panic!("{wire}")
        };
        let body = body.map(|text| Body::complete(text.as_bytes()));
        let before = COUNT.get();
        let response = match app.call_parsed(&head, peer, body) {
            Answer::Now(response) => response,
            Answer::Later(mut future) => {
                match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(response) => response,
                    Poll::Pending => panic!("{wire}"),
                }
            }
        };
        last = (COUNT.get() - before, response.status);
    }
    last
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: wrk\r\nAccept: */*\r\nX-A: 1\r\n\r\n")
}

fn app() -> App<u64> {
    App::new(7)
        .get("/plaintext", |_| "hello")
        .get("/bytes", |_| b"hello".as_slice())
        .get("/status", |_| Status::NO_CONTENT)
        .get("/read", |request: &Request<'_, u64>| {
            let plain = request.header("accept") == Some("*/*")
                && request.query_param("a").as_deref() == Some("1")
                && request.host() == Some("localhost")
                && request.headers().count() == 4
                && *request.state() == 7;
            plain.then_some("all there")
        })
        .get("/one/{a}", |request| request.param("a").is_some().then_some("a"))
        .get("/three/{a}/{b}/{c}", |request| (request.param("c").as_deref() == Some("z")).then_some("c"))
        .get("/four/{a}/{b}/{c}/{d}", |request| request.param("d").is_some().then_some("d"))
        .get("/rest/{*path}", |request| request.param("path").is_some().then_some("path"))
        .route_either(Method::Get, "/either", |request| request.now("now"))
        .get_async("/async/{a}", async |request: OwnedRequest<u64>| {
            (request.param("a").as_deref() == Some("x") && request.header("x-a") == Some("1")).then_some("a")
        })
        .post_async("/body", async |mut request: OwnedRequest<u64>| {
            request.chunk().await.is_ok_and(|chunk| chunk.is_some()).then_some("body")
        })
}

#[test]
fn inline_handlers_allocate_nothing() {
    let app = app();
    for path in ["/plaintext", "/bytes", "/read?a=1", "/one/x", "/three/x/y/z", "/rest/x/y/z", "/either"] {
        assert_eq!(count(&app, &get(path), None), (0, 200), "{path}");
    }
    assert_eq!(count(&app, &get("/status"), None), (0, 204));
    assert_eq!(count(&app, &get("/nowhere"), None), (0, 404));
    assert_eq!(count(&app, "FROB / HTTP/1.1\r\nHost: t\r\n\r\n", None), (0, 501));
}

#[test]
fn the_fourth_parameter_costs_one_allocation() {
    assert_eq!(count(&app(), &get("/four/1/2/3/4"), None), (1, 200));
}

#[test]
fn an_escape_costs_one_allocation() {
    assert_eq!(count(&app(), &get("/one/%41"), None), (1, 200));
}

#[test]
fn async_handlers_allocate_the_head_and_the_future() {
    assert_eq!(count(&app(), &get("/async/x"), None), (2, 200));
    // more fields make the copy larger, not more of them
    let many = get("/async/x").replace("\r\n\r\n", &format!("{}\r\n\r\n", "\r\nX-B: 2".repeat(50)));
    assert_eq!(count(&app(), &many, None), (2, 200));
}

#[test]
fn reading_a_body_that_is_there_allocates_within_the_budget_of_net() {
    // head, future, and what `BytesMut::split` costs to share the bytes that came
    let wire = "POST /body HTTP/1.1\r\nHost: t\r\nContent-Length: 4\r\n\r\n";
    let (allocations, status) = count(&app(), wire, Some("abcd"));
    assert_eq!((allocations, status), (3, 200));
}

#[test]
fn finding_the_client_behind_its_proxies_allocates_nothing() {
    let proxies = vec!["10.0.0.0/8".parse().unwrap()];
    let app = App::new(()).trusted_proxies(proxies).get("/", |request| {
        let client = request.client()?;
        (client.addr.to_canonical().is_ipv6() && client.host == Some("a.example")).then_some("found")
    });
    let wire = "GET / HTTP/1.1\r\nHost: t\r\nX-Forwarded-For: 2001:db8::7, 10.0.0.2\r\n\
                Forwarded: for=\"[2001:db8::\\7]:80\";host=a.example\r\nForwarded: for=10.0.0.2\r\n\r\n";
    assert_eq!(count_from(Some("10.0.0.1:443".parse().unwrap()), &app, wire, None), (0, 200));
    assert_eq!(count(&app, wire, None), (0, 404));
}

struct Nothing;

impl<S> corelane_http::Middleware<S> for Nothing {
    fn after(&self, request: &Request<'_, S>, response: &mut Response) {
        if request.pattern().is_none() && response.status != 404 {
            *response = Status::NOT_FOUND.into_response();
        }
    }
}

#[test]
fn middleware_allocates_nothing_around_either_kind() {
    let app = app().middleware(Nothing).middleware(Log).middleware(Nothing);
    assert_eq!(count(&app, &get("/plaintext"), None), (0, 200));
    assert_eq!(count(&app, &get("/three/x/y/z"), None), (0, 200));
    assert_eq!(count(&app, &get("/nowhere"), None), (0, 404));
    assert_eq!(count(&app, &get("/async/x"), None), (2, 200));
}

#[test]
fn allow_costs_its_list_and_its_text() {
    assert_eq!(count(&app(), "PUT /plaintext HTTP/1.1\r\nHost: t\r\n\r\n", None), (2, 405));
}
