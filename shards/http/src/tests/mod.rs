//! Applications driven without sockets: what each request is answered.

#![allow(clippy::unwrap_used)]

mod bodies;
mod hooks;
mod middleware;
mod upgrade;

use std::cell::Cell;
use std::rc::Rc;

use crate::harness::TestServer;
use crate::{App, Fields, Json, Method, OwnedRequest, Redirect, Reject, Request, Status, Version};

async fn echo(mut request: OwnedRequest<()>) -> Result<String, Reject> {
    request.text(16).await
}

#[test]
fn closures_functions_and_async_functions_are_handlers() {
    fn named(request: &Request<'_, ()>) -> String {
        request.path().to_string()
    }
    let server = TestServer::new(
        App::new(())
            .get("/", |_| "hello")
            .get("/named", named)
            .get("/param/{id}", |request| request.param("id").map(|id| format!("<{id}>")))
            .put("/status", |_| Status::ACCEPTED)
            .delete("/nothing", |_| ())
            .patch("/bytes", |_| b"abc".as_slice())
            .head("/head", |_| (299, "never sent"))
            .options("/options", |_| "mine")
            .get("/old", |_| Redirect::permanent("/"))
            .post_async("/echo", echo)
            .get_async("/closure/{id}", |request: OwnedRequest<()>| async move {
                request.param("id").map(|id| id.into_owned())
            })
            .put_async("/async-closure", async |request: OwnedRequest<()>| Json(request.path().len())),
    );
    for (method, path, status, body) in [
        ("GET", "/", 200, "hello"),
        ("GET", "/named", 200, "/named"),
        ("GET", "/param/7", 200, "<7>"),
        ("PUT", "/status", 202, ""),
        ("DELETE", "/nothing", 204, ""),
        ("PATCH", "/bytes", 200, "abc"),
        ("HEAD", "/head", 299, ""),
        ("OPTIONS", "/options", 200, "mine"),
        ("GET", "/old", 308, ""),
        ("GET", "/closure/x%20y", 200, "x y"),
        ("PUT", "/async-closure", 200, "14"),
    ] {
        let answer = server.request(method, path).send();
        assert_eq!((answer.status, answer.text()), (status, body), "{method} {path}");
    }
    assert_eq!(server.post("/echo").body("abc").send().text(), "abc");
}

#[test]
fn what_no_route_answers_is_answered_by_rule() {
    let app = || App::new(()).get("/a", |_| "a").put("/a", |_| "a").post("/b/{x}", |_| "b");
    let server = TestServer::new(app());
    for (method, path, status, allow) in [
        ("GET", "/none", 404, None),
        ("FROB", "/none", 501, None),
        ("FROB", "/a", 501, None),
        ("get", "/a", 501, None),
        ("TRACE", "/a", 501, None),
        ("CONNECT", "host:80", 501, None),
        ("POST", "/a", 405, Some("GET, HEAD, PUT, OPTIONS")),
        ("GET", "/b/1", 405, Some("POST, OPTIONS")),
        ("HEAD", "/b/1", 405, Some("POST, OPTIONS")),
        ("OPTIONS", "/a", 204, Some("GET, HEAD, PUT, OPTIONS")),
        ("OPTIONS", "/b/1", 204, Some("POST, OPTIONS")),
        ("OPTIONS", "/none", 404, None),
        ("OPTIONS", "*", 204, Some("GET, HEAD, POST, PUT, OPTIONS")),
        ("HEAD", "/a", 200, None),
        ("GET", "http://elsewhere/a", 200, None),
    ] {
        let answer = server.request(method, path).send();
        assert_eq!((answer.status, answer.header("allow")), (status, allow), "{method} {path}");
    }
    let server = TestServer::new(app().fallback(|request| (418, request.path().to_string())));
    let answer = server.get("/none").send();
    assert_eq!((answer.status, answer.text()), (418, "/none"));
    assert_eq!(server.post("/a").send().status, 405);
    let server = TestServer::new(app().fallback_async(async |_| "later"));
    assert_eq!(server.get("/none").send().text(), "later");
}

#[test]
fn any_answers_every_routable_method() {
    let server =
        TestServer::new(App::new(()).any("/{*all}", |request| request.method().as_str().to_string()));
    for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
        assert_eq!(server.request(method, "/x/y").send().text(), method);
    }
    assert_eq!(server.request("HEAD", "/x").send().status, 200);
}

#[test]
fn a_handler_may_decide_between_now_and_later() {
    let app = App::new(()).route_either(Method::Get, "/{key}", |request| match request.param_raw("key") {
        Some("hit") => request.now("at once"),
        _ => request.later(async |owned: OwnedRequest<()>| owned.param("key").map(|key| key.into_owned())),
    });
    let server = TestServer::new(app);
    assert_eq!(server.get("/hit").send().text(), "at once");
    assert_eq!(server.get("/miss").send().text(), "miss");
}

#[test]
#[should_panic(expected = "route `GET /u/{name}` conflicts with route `GET /u/{id}`")]
fn a_conflicting_route_panics_with_both_names() {
    let _ = App::new(()).get("/u/{id}", |_| ()).get("/u/{name}", |_| ());
}

#[test]
fn a_route_from_a_file_is_an_error_value() {
    let mut app = App::new(()).get("/a", |_| "first");
    let now = |request: &Request<'_, ()>| request.now("second");
    assert!(app.try_route(Method::Get, "/a", now).is_err());
    assert!(app.try_route(Method::Get, "a", now).is_err());
    let error = app.try_route(Method::Trace, "/a", now).unwrap_err();
    assert!(error.to_string().contains("TRACE /a"), "{error}");
    app.try_route(Method::Get, "/b", now).unwrap();
    let server = TestServer::new(app);
    assert_eq!(server.get("/a").send().text(), "first");
    assert_eq!(server.get("/b").send().text(), "second");
}

/// All that a request says of itself.
fn portrait<S>(r: &Request<'_, S>, names: &[&str]) -> String {
    let fields: Vec<_> = r.headers().map(|(n, v)| (n.to_string(), v.to_vec())).collect();
    let asked: Vec<_> = names
        .iter()
        .map(|n| (r.param(n), r.param_raw(n), r.query_param(n), r.header(n), r.header_bytes(n)))
        .collect();
    let pairs: Vec<_> = r.query_pairs().collect();
    format!(
        "{pairs:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {fields:?} {asked:?}",
        r.method(),
        r.path(),
        r.query(),
        r.version(),
        r.host(),
        r.peer(),
        r.pattern(),
    )
}

#[test]
fn the_owned_request_says_what_the_borrowed_one_said() {
    const NAMES: [&str; 7] = ["a", "b", "rest", "x-obs", "X-Twice", "missing", "host"];
    let compared = Rc::new(Cell::new(0));
    let count = Rc::clone(&compared);
    let handler = move |request: &Request<'_, ()>| {
        let before = portrait(request, &NAMES);
        let count = Rc::clone(&count);
        request.later(move |owned| async move {
            assert_eq!(portrait(&owned.view(), &NAMES), before);
            count.set(count.get() + 1);
            assert_eq!(owned.headers().count(), owned.view().headers().count());
        })
    };
    let mut app = App::new(());
    for path in ["/", "/{a}/{b}", "/x/{a}/{b}/{*rest}", "/y/{a}/{b}/{c}/{d}/{rest}"] {
        for method in [Method::Get, Method::Post, Method::Options, Method::Head] {
            app.try_route(method, path, handler.clone()).unwrap();
        }
    }
    let server = TestServer::new(app);
    let requests: [&[u8]; 8] = [
        b"GET / HTTP/1.1\r\nHost: t\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET /? HTTP/1.1\r\nHost: t:80\r\nX-Obs: \xff\xfe\r\nx-twice: 1\r\nX-TWICE: 2\r\n\r\n",
        b"GET /%41/b%2Fc?a=%20+&b HTTP/1.1\r\nHost: t\r\nX-Obs: \xc3\xa4\r\n\r\n",
        b"GET /%ff/%e2%82?a=%ff HTTP/1.1\r\nHost: t\r\n\r\n",
        b"POST http://other:81/x/1/2/3/%2e./4 HTTP/1.1\r\nHost: t\r\nEmpty:\r\n\r\n",
        b"HEAD /y/1/2/3/4/5 HTTP/1.1\r\nHost: t\r\n\r\n",
        b"OPTIONS http://other HTTP/1.1\r\nHost: t\r\n\r\n",
    ];
    for request in requests {
        let answer = server.raw(request);
        assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(request));
    }
    assert_eq!(compared.get(), requests.len());
    // the fallback also sees methods routes can name only
    let unknown = TestServer::new(App::new(()).fallback_async(async |owned: OwnedRequest<()>| {
        assert_eq!((owned.method(), owned.pattern()), (Method::Delete, None));
    }));
    assert_eq!(unknown.request("DELETE", "/z").send().status, 204);
}

#[test]
fn parameters_are_decoded_after_they_were_split() {
    let server = TestServer::new(App::new(()).get("/f/{dir}/{*rest}", |request| {
        let decoded = (request.param("dir"), request.param("rest"));
        format!("{decoded:?} {:?} {:?}", request.param_raw("rest"), request.query_param("q"))
    }));
    for (target, want) in [
        ("/f/a/b/c", r#"(Some("a"), Some("b/c")) Some("b/c") None"#),
        ("/f/a%2Fb/c", r#"(Some("a/b"), Some("c")) Some("c") None"#),
        ("/f/a+b/%2e%2e/c?q=1+2", r#"(Some("a+b"), Some("../c")) Some("%2e%2e/c") Some("1 2")"#),
        ("/f/%ff/x?q=%ff", r#"(None, Some("x")) Some("x") None"#),
        ("/f/a/x?Q=1&q", r#"(Some("a"), Some("x")) Some("x") Some("")"#),
    ] {
        assert_eq!(server.get(target).send().text(), want, "{target}");
    }
    // escapes that are none never come this far
    assert_eq!(server.get("/f/%zz/x").send().status, 400);
}

#[test]
fn the_getters_of_one_request() {
    let server = TestServer::new(App::new(7_u32).get_async("/p", async |request: OwnedRequest<u32>| {
        assert_eq!(request.version(), Version::Http11);
        assert_eq!(request.host(), Some("test"));
        assert_eq!(request.header("X-A"), Some("1"));
        assert_eq!(request.header_bytes("x-a"), Some(&b"1"[..]));
        assert_eq!(request.query(), Some("k=v"));
        assert_eq!(request.query_param("k").as_deref(), Some("v"));
        assert_eq!(request.peer(), Some("[::1]:9".parse().unwrap()));
        assert_eq!((request.pattern(), *request.state()), (Some("/p"), 7));
        let fields: Fields<'_> = request.headers();
        fields.count().to_string()
    }));
    let answer = server.get("/p?k=v").header("x-a", "1").peer("[::1]:9".parse().unwrap()).send();
    assert_eq!(answer.text(), "2");
    assert_eq!(*server.state(), 7);
}

#[test]
#[should_panic(expected = "only a shard could give")]
fn the_harness_says_when_a_handler_waits_for_ever() {
    let server = TestServer::new(App::new(()).get_async("/", async |_| std::future::pending::<()>().await));
    server.get("/").send();
}
