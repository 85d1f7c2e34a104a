//! What a handler asks of its request: fields, parameters, the query, whom it comes from.

use std::net::SocketAddr;

use corelane_http::{App, Request};
use divan::{Bencher, black_box};

use crate::shared::Warm;
use crate::{FEW_FIELDS, FIELDS, bench_get, with_head};

/// What is asked, by name.
const LOOKUPS: [&str; 9] = [
    "nothing",
    "first_field",
    "last_field",
    "absent_field",
    "count_of_fields",
    "parameter",
    "parameter_to_decode",
    "last_of_the_query",
    "host",
];

/// Looks one thing up in a request with a browser's eight fields; `nothing` is the way to the handler alone.
#[divan::bench(args = LOOKUPS)]
fn look_up(bencher: Bencher<'_, '_>, name: &str) {
    type Handler = fn(&Request<'_, u64>) -> &'static str;
    fn found(is: bool) -> &'static str {
        assert!(is, "what is looked up is in the request");
        "ok"
    }
    let handler: Handler = match name {
        "nothing" => |_| "ok",
        "first_field" => |request| found(request.header("host").is_some()),
        "last_field" => |request| found(request.header("x-request-id").is_some()),
        "absent_field" => |request| found(request.header("authorization").is_none()),
        "count_of_fields" => |request| found(request.headers().count() == 8),
        "parameter" => |request| found(request.param("id").as_deref() == Some("12345")),
        "parameter_to_decode" => |request| found(request.param("id").as_deref() == Some("käse")),
        "last_of_the_query" => |request| found(request.query_param("sort").as_deref() == Some("price")),
        "host" => |request| found(request.host() == Some("www.example.com")),
        name => panic!("no lookup is called {name}"),
    };
    let target = match name {
        "parameter_to_decode" => "/items/k%C3%A4se",
        _ => "/items/12345?page=2&limit=20&sort=price",
    };
    let app = App::new(7_u64).get("/items/{id}", handler);
    bench_get(bencher, &app, target, FIELDS, Some(200));
}

/// Who the client is, where the peer is a trusted proxy and says so.
#[divan::bench]
fn find_the_client_behind_a_proxy(bencher: Bencher<'_, '_>) {
    let app = App::new(7_u64).trusted_proxies(vec!["192.0.2.0/24".parse().unwrap()]).get("/", |request| {
        assert!(request.client_addr() == "203.0.113.9".parse().ok());
        "ok"
    });
    let peer: SocketAddr = "192.0.2.1:1000".parse().unwrap();
    with_head("/", &format!("{FEW_FIELDS}X-Forwarded-For: 203.0.113.9\r\n"), |head| {
        bencher.bench_warm(|| app.call_parsed(black_box(head), Some(peer), None));
    });
}
