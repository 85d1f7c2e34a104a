//! Routes: from a parsed head to the response that a handler gives.
//!
//! Not here: how a head is parsed and a response written (`h1`), whole requests (`shard`).

use std::hint::black_box;

use corelane_http::{Answer, App, Json, OwnedRequest, Response, ResponseBody};
use corelane_net::h1::{Connection, Limits, Step, header_slots};
use serde::Serialize;

use super::{Case, SELDOM};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "http/route-literal",
        about: "a path without parameters, to a constant response",
        ops: SELDOM,
        run: |ops| route(b"GET /plaintext HTTP/1.1\r\nHost: t\r\n\r\n", 200, ops),
    },
    Case {
        name: "http/route-parameter",
        about: "a path with one parameter, which the handler reads",
        ops: SELDOM,
        run: |ops| route(b"GET /users/12345 HTTP/1.1\r\nHost: t\r\n\r\n", 200, ops),
    },
    Case {
        name: "http/route-miss",
        about: "a path that is no route: 404",
        ops: SELDOM,
        run: |ops| route(b"GET /nowhere/at/all HTTP/1.1\r\nHost: t\r\n\r\n", 404, ops),
    },
    Case {
        name: "http/route-json",
        about: "a value written as JSON of 27 bytes",
        ops: SELDOM,
        run: |ops| route(b"GET /json HTTP/1.1\r\nHost: t\r\n\r\n", 200, ops),
    },
    Case {
        name: "http/route-async",
        about: "an async handler: the head copied, the future boxed and dropped",
        ops: SELDOM,
        run: |ops| route(b"GET /later HTTP/1.1\r\nHost: t\r\n\r\n", LATER, ops),
    },
];

/// The status that stands for an answer which comes later.
const LATER: u16 = 0;

/// Made once: a constant response costs nothing to build.
const PLAINTEXT: Response = Response {
    status: 200,
    content_type: Some("text/plain"),
    headers: Vec::new(),
    body: ResponseBody::Static(b"Hello, World!"),
    close: false,
};

#[derive(Serialize)]
struct Message {
    message: &'static str,
}

/// An application with as many routes as a small service has.
pub(super) fn app() -> App<()> {
    App::new(())
        .get("/", |_| "root")
        .get("/health", |_| "ok\n")
        .get("/plaintext", |_| PLAINTEXT)
        .get("/json", |_| Json(Message { message: black_box("Hello, World!") }))
        .get("/api/info", |_| "info")
        .get("/api/performance", |_| "performance")
        .get("/users/{id}", |request| {
            request.param("id").map(|id| (200, if id.is_empty() { "" } else { "user" }))
        })
        .get("/users/{id}/posts/{post}", |request| request.param("post").map(|_| "post"))
        .get_async("/later", async |_: OwnedRequest<()>| "later")
}

fn route(wire: &'static [u8], status: u16, ops: u64) {
    let app = app();
    let mut slots = header_slots();
    let Step::Head(head) = Connection::new().poll(&Limits::default(), &mut { wire }, &mut slots) else {
        panic!("not a whole head")
    };
    for _ in 0..ops {
        let found = match app.call_parsed(black_box(&head), None, None) {
            Answer::Now(response) => black_box(response).status,
            Answer::Later(future) => {
                drop(black_box(future));
                LATER
            }
        };
        assert_eq!(found, status);
    }
}
