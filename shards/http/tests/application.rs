//! Applications driven without sockets: what each request is answered.

#![allow(clippy::unwrap_used)]

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use corelane_http::harness::TestServer;
use corelane_http::{
    App, Cors, Fields, HookError, IntoResponse, Json, Log, Method, Middleware, OwnedRequest, Redirect,
    Reject, Request, Response, SetHeader, Status, Version, websocket_accept,
};

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
    format!(
        "{:?} {:?} {:?} {:?} {:?} {:?} {:?} {fields:?} {asked:?}",
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

#[derive(serde::Deserialize, serde::Serialize)]
struct Point {
    x: i32,
    y: Option<i32>,
}

#[test]
fn json_is_read_or_refused_with_the_reason() {
    async fn double(mut request: OwnedRequest<()>) -> Result<Json<Point>, Reject> {
        let point: Point = request.json(64).await?;
        Ok(Json(Point { x: point.x * 2, y: point.y }))
    }
    let server = TestServer::new(App::new(()).post_async("/", double));
    let answer = server.post("/").json(&Point { x: 4, y: None }).send();
    assert_eq!((answer.status, answer.json::<Point>().x), (200, 8));
    assert_eq!(answer.header("content-type"), Some("application/json"));

    let send = |kind: Option<&'static str>, body: &str| {
        let request = server.post("/").body(body);
        let answer = match kind {
            Some(kind) => request.header("content-type", kind).send(),
            None => request.send(),
        };
        (answer.status, answer.text().to_string())
    };
    assert_eq!(send(None, "{}").0, 415);
    assert_eq!(send(Some("text/plain"), "{}").0, 415);
    assert_eq!(send(Some("application/vnd.a+json; v=1"), r#"{"x":1}"#).0, 200);
    let (status, text) = send(Some("application/json"), r#"{"y":1}"#);
    assert_eq!(status, 400);
    assert!(text.contains("missing field `x`") && text.contains("line 1"), "{text}");
    for bad in ["", "{", r#"{"x":1}}"#, r#"{"x":"1"}"#, "[1", "nul", "{\"x\":1,\"\u{1}\":2}"] {
        assert_eq!(send(Some("application/json"), bad).0, 400, "{bad}");
    }
    let (status, text) = send(Some("application/json"), &format!(r#"{{"x":1{}}}"#, " ".repeat(64)));
    assert_eq!((status, text.as_str()), (413, "the request body is larger than 64 bytes"));
    // exactly the maximum is taken
    let exact = format!(r#"{{"x":1{}}}"#, " ".repeat(64 - 7));
    assert_eq!((exact.len(), send(Some("application/json"), &exact).0), (64, 200));
}

#[test]
fn deeply_nested_json_is_refused_and_not_recursed_into() {
    #[derive(serde::Deserialize)]
    struct Tree(#[allow(dead_code)] Vec<Tree>);
    async fn grow(mut request: OwnedRequest<()>) -> Result<(), Reject> {
        request.json::<Tree>(1 << 20).await.map(drop)
    }
    async fn skip(mut request: OwnedRequest<()>) -> Result<(), Reject> {
        request.json::<serde::de::IgnoredAny>(1 << 20).await.map(drop)
    }
    let server = TestServer::new(App::new(()).post_async("/grow", grow).post_async("/skip", skip));
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let send = |path, body: &str| {
        server.post(path).header("content-type", "application/json").body(body).send().status
    };
    assert_eq!(send("/grow", &nested(100)), 204);
    assert_eq!(send("/grow", &nested(200_000)), 400);
    assert_eq!(send("/grow", &"[".repeat(400_000)), 400);
    assert_eq!(send("/skip", &nested(100)), 204);
    assert_eq!(send("/skip", &nested(200_000)), 400);
    assert_eq!(send("/skip", &"[".repeat(400_000)), 400);
}

#[test]
fn bodies_are_collected_up_to_a_maximum_and_checked_for_utf8() {
    let server = TestServer::new(App::new(()).post_async("/text", echo).post_async(
        "/whole",
        async |mut request: OwnedRequest<()>| {
            let announced = request.body_length();
            let mut seen = 0;
            while let Some(chunk) = request.chunk().await.map_err(Reject::from)? {
                seen += chunk.len();
            }
            assert_eq!(request.take_body().length(), announced);
            assert_eq!(request.take_body().length(), Some(0));
            Ok::<_, Reject>(format!("{announced:?} {seen}"))
        },
    ));
    assert_eq!(server.post("/text").body(&[b'a'; 16]).send().status, 200);
    assert_eq!(server.post("/text").body(&[b'a'; 17]).send().status, 413);
    assert_eq!(server.post("/text").body(&[0xff]).send().status, 400);
    assert_eq!(server.post("/text").send().text(), "");
    assert_eq!(server.post("/whole").body("abcd").send().text(), "Some(4) 4");
    assert_eq!(server.post("/whole").send().text(), "Some(0) 0");
}

type Trace = RefCell<Vec<String>>;

struct Step(&'static str, bool);

impl Middleware<Trace> for Step {
    fn before(&self, request: &Request<'_, Trace>) -> Option<Response> {
        request.state().borrow_mut().push(format!("{}+", self.0));
        (self.1 && request.header("stop").is_some()).then(|| (403, "stopped").into_response())
    }

    fn after(&self, request: &Request<'_, Trace>, response: &mut Response) {
        let text = format!("{}-{}{}", self.0, response.status, request.pattern().unwrap_or("?"));
        request.state().borrow_mut().push(text);
        response.status += 1;
    }
}

#[test]
fn middleware_runs_inwards_then_outwards_for_either_kind_of_handler() {
    let server = TestServer::new(
        App::new(Trace::default())
            .middleware(Step("a", false))
            .middleware(Step("b", true))
            .middleware(Step("c", false))
            .get("/now/{x}", |request: &Request<'_, Trace>| {
                request.state().borrow_mut().push("handler".into());
            })
            .get_async("/later/{x}", async |request: OwnedRequest<Trace>| {
                request.state().borrow_mut().push(request.param("x").unwrap().into_owned());
            }),
    );
    let run = |path, stop: bool| {
        let request = server.get(path);
        let answer = if stop { request.header("stop", "1").send() } else { request.send() };
        (answer.status, server.state().take().join(" "))
    };
    let all = |handler, pattern| format!("a+ b+ c+ {handler} c-204{pattern} b-205{pattern} a-206{pattern}");
    assert_eq!(run("/now/1", false), (207, all("handler", "/now/{x}")));
    assert_eq!(run("/later/1", false), (207, all("1", "/later/{x}")));
    // the one that answered and those outside it
    assert_eq!(run("/now/1", true), (405, "a+ b+ b-403/now/{x} a-404/now/{x}".into()));
    assert_eq!(run("/none", false), (407, "a+ b+ c+ c-404? b-405? a-406?".into()));
}

#[test]
fn constant_fields_are_set_once() {
    let server = TestServer::new(
        App::new(())
            .middleware(Log)
            .middleware(SetHeader::server("corelane"))
            .middleware(SetHeader::new("content-type", "text/x"))
            .get("/", |_| "a")
            .get_async("/own", async |_| Response::status(200).header("Server", &b"mine"[..])),
    );
    let answer = server.get("/").send();
    assert_eq!(answer.header("server"), Some("corelane"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    let answer = server.get("/own").send();
    assert_eq!(answer.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("server")).count(), 1);
    assert_eq!(answer.header("content-type"), Some("text/x"));
}

#[test]
fn cross_origin_requests_follow_the_list_of_origins() {
    let cors =
        Cors::origins(["https://a", "https://b"]).methods("PUT").headers("x-a").max_age("60").credentials();
    let server = TestServer::new(App::new(()).middleware(cors).put("/", |_| "a"));
    let preflight = |origin| {
        server
            .request("OPTIONS", "/")
            .header("origin", origin)
            .header("access-control-request-method", "PUT")
            .send()
    };
    let answer = preflight("https://b");
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://b"));
    assert_eq!(answer.header("access-control-allow-methods"), Some("PUT"));
    assert_eq!(answer.header("access-control-allow-headers"), Some("x-a"));
    assert_eq!(answer.header("access-control-max-age"), Some("60"));
    assert_eq!(answer.header("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.header("vary"), Some("origin"));
    let answer = preflight("https://evil");
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), None);
    assert_eq!(answer.header("access-control-allow-methods"), None);
    assert_eq!(answer.header("vary"), Some("origin"));

    let put = |origin| server.request("PUT", "/").header("origin", origin).send();
    assert_eq!(put("https://a").header("access-control-allow-origin"), Some("https://a"));
    assert_eq!(put("https://a/").header("access-control-allow-origin"), None);
    // an OPTIONS that is no preflight goes on to the route
    let plain = server.request("OPTIONS", "/").header("origin", "https://a").send();
    assert_eq!(plain.header("allow"), Some("PUT, OPTIONS"));

    let open = TestServer::new(App::new(()).middleware(Cors::any()).get("/", |_| "a"));
    let answer = open.get("/").header("origin", "https://x").send();
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("vary"), None);
    assert_eq!(open.get("/").send().header("access-control-allow-origin"), None);
}

#[test]
fn a_websocket_handshake_is_accepted_or_answered_by_its_fault() {
    let open = |request: &Request<'_, ()>| -> Result<String, Response> {
        Ok(websocket_accept(request)?.value().to_string())
    };
    let server = TestServer::new(App::new(()).any("/ws", open));
    let good = "GET /ws HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    // the example of RFC 6455, 1.3
    let answer = server.raw(good.as_bytes());
    assert_eq!((answer.status, answer.text()), (200, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    let case = good.replace("websocket\r\n", "h2c , WebSocket\r\n").replace(", Upgrade", ", UPGRADE");
    assert_eq!(server.raw(case.as_bytes()).status, 200);
    for (from, to, status) in [
        ("GET", "POST", 405),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("Upgrade: websocket\r\n", "", 400),
        ("Upgrade: websocket", "Upgrade: websockets", 400),
        (", Upgrade", "", 400),
        ("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "YWJj", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZQ=a", 400),
        ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWFi", 400),
        (
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13",
            400,
        ),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 400),
        ("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Version: 8", 400),
    ] {
        let answer = server.raw(good.replacen(from, to, 1).as_bytes());
        assert_eq!(answer.status, status, "{from} -> {to}: {}", answer.text());
        let version = (status == 426).then_some("13");
        assert_eq!(answer.header("sec-websocket-version"), version, "{from} -> {to}");
        assert_eq!(answer.header("allow"), (status == 405).then_some("GET"));
    }
}

#[test]
fn hooks_run_in_order_and_once() {
    let app = App::new(Trace::default())
        .on_start(async |state: Rc<Trace>| {
            state.borrow_mut().push("first".into());
            Ok::<_, HookError>(())
        })
        .on_start(async |state: Rc<Trace>| {
            state.borrow_mut().push("second".into());
            Ok::<_, HookError>(())
        })
        .on_drain(async |state: Rc<Trace>| state.borrow_mut().push("drained".into()));
    let state = Rc::clone(app.state());
    let server = TestServer::new(app);
    assert_eq!(state.take(), ["first", "second"]);
    server.drain();
    server.drain();
    assert_eq!(state.take(), ["drained"]);
}

#[test]
#[should_panic(expected = "no database")]
fn a_failed_start_hook_stops_the_start() {
    TestServer::new(App::new(()).on_start(async |_| Err::<(), HookError>("no database".into())));
}

#[test]
#[should_panic(expected = "only a shard could give")]
fn the_harness_says_when_a_handler_waits_for_ever() {
    let server = TestServer::new(App::new(()).get_async("/", async |_| std::future::pending::<()>().await));
    server.get("/").send();
}
