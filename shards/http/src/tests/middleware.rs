//! Middleware: order, and what the provided ones do.

#![allow(clippy::unwrap_used)]

use std::cell::RefCell;

use crate::harness::TestServer;
use crate::{App, Cors, IntoResponse, Log, Middleware, OwnedRequest, Request, Response, SetHeader};

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
            .middleware(SetHeader::new("x-from", "corelane"))
            .middleware(SetHeader::new("content-type", "text/x"))
            .get("/", |_| "a")
            .get_async("/own", async |_| Response::status(200).header("X-From", &b"mine"[..])),
    );
    let answer = server.get("/").send();
    assert_eq!(answer.header("x-from"), Some("corelane"));
    assert_eq!(answer.header("content-type"), Some("text/plain; charset=utf-8"));
    let answer = server.get("/own").send();
    assert_eq!(answer.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case("x-from")).count(), 1);
    assert_eq!(answer.header("content-type"), Some("text/x"));
}

/// Writes down the fields of each event.
struct Events(std::sync::mpsc::SyncSender<String>);

impl tracing::Subscriber for Events {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            text.push_str(&format!("{field}={value:?} "));
        });
        self.0.try_send(text).unwrap();
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

#[test]
#[allow(clippy::disallowed_methods)] // the subscriber must be shared between threads; nothing waits
fn the_log_names_the_peer_and_the_client_behind_it() {
    let (sender, events) = std::sync::mpsc::sync_channel(8);
    let app = App::new(()).trusted_proxies(vec!["10.0.0.0/8".parse().unwrap()]).middleware(Log);
    let server = TestServer::new(app.get("/", |_| "a").get_async("/later", async |_| "b"));
    tracing::subscriber::with_default(Events(sender), || {
        let get = |path| server.get(path).header("x-forwarded-for", "192.0.2.7");
        get("/").peer("10.0.0.1:9".parse().unwrap()).send();
        get("/later").peer("10.0.0.1:9".parse().unwrap()).send();
        get("/").peer("192.0.2.1:9".parse().unwrap()).send();
        get("/").send();
    });
    let events: Vec<String> = events.try_iter().collect();
    assert_eq!(events.len(), 4, "{events:?}");
    for event in &events[..2] {
        assert!(event.contains("peer=10.0.0.1:9 client=192.0.2.7 "), "{event}");
    }
    assert!(events[2].contains("peer=192.0.2.1:9 client=192.0.2.1 "), "{}", events[2]);
    assert!(!events[3].contains("peer=") && !events[3].contains("client="), "{}", events[3]);
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
