//! One shard on the simulator. Several shards and real sockets: `tests/cache_access.rs`.

use std::time::Duration;

use corelane_exec::current;

use super::*;
use crate::services::cache::store::{Config, Eviction};
use crate::testing::{TestRequest, TestResponse, TestServer};

fn server_of(config: Config) -> (TestServer, Cache) {
    let cache = Cache::new(config);
    (TestServer::new(|_| routes(App::new(()), &cache)), cache)
}

fn server() -> TestServer {
    server_of(Config::default()).0
}

/// Sends a request with these fields; a body where it is not empty.
fn send(server: &TestServer, line: &str, fields: &[(&str, &str)], body: &str) -> TestResponse {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = TestRequest::new(method, path);
    for (name, value) in fields {
        request = request.header(name, value);
    }
    server.send(&if body.is_empty() { request } else { request.body(body) })
}

fn status(server: &TestServer, line: &str, fields: &[(&str, &str)], body: &str) -> u16 {
    send(server, line, fields, body).status()
}

#[test]
fn a_value_is_put_got_replaced_and_deleted() {
    let server = server();
    assert_eq!(status(&server, "GET /cache/k", &[], ""), 404);
    assert_eq!(status(&server, "DELETE /cache/k", &[], ""), 404);
    let created = send(&server, "PUT /cache/k", &[], "value");
    assert_eq!(created.status(), 201);
    let got = send(&server, "GET /cache/k", &[], "");
    assert_eq!((got.status(), got.text()), (200, "value"));
    assert_eq!(got.header("content-type"), Some("application/octet-stream"));
    assert_eq!(got.header("cache-control"), Some("no-cache"));
    assert_eq!(got.header("cache-ttl"), None);
    assert_eq!(got.header("x-content-type-options"), Some("nosniff"));
    let tag = got.header("etag").unwrap().to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"') && tag.len() > 10, "{tag}");
    assert_eq!(created.header("etag"), Some(&*tag));

    let head = send(&server, "HEAD /cache/k", &[], "");
    assert_eq!((head.status(), head.body(), head.header("etag")), (200, &b""[..], Some(&*tag)));
    assert_eq!(head.header("content-length"), Some("5"));

    let replaced = send(&server, "PUT /cache/k", &[], "12");
    assert_eq!(replaced.status(), 204);
    assert_ne!(replaced.header("etag"), Some(&*tag));
    let got = send(&server, "GET /cache/k", &[], "");
    // It is kept as a number, and is the same text.
    assert_eq!((got.text(), got.header("etag")), ("12", replaced.header("etag")));

    assert_eq!(status(&server, "PUT /cache/k", &[], ""), 204, "an empty value is one");
    assert_eq!(send(&server, "GET /cache/k", &[], "").body(), b"");
    assert_eq!(status(&server, "DELETE /cache/k", &[], ""), 204);
    assert_eq!(status(&server, "GET /cache/k", &[], ""), 404);
    let other = send(&server, "POST /cache/k", &[], "v");
    assert_eq!((other.status(), other.header("allow")), (405, Some("GET, HEAD, PUT, DELETE, OPTIONS")));
}

#[test]
fn a_key_is_any_bytes_and_a_slash_in_it_is_encoded() {
    let (server, cache) = server_of(Config::default());
    assert_eq!(status(&server, "PUT /cache/a%2Fb%20c%ff%00?x=y", &[], "v"), 201);
    let got = server.run(async move { cache.get(b"a/b c\xff\x00").await });
    assert_eq!(got.unwrap().unwrap(), "v");
    assert_eq!(send(&server, "GET /cache/a%2fb%20c%FF%00", &[], "").text(), "v");
    for (line, wanted) in [
        ("GET /cache/a/b", 404),
        ("GET /cache/", 404),
        ("PUT /cache/%zz", 400),
        ("GET /cache/%", 400),
        ("DELETE /cache/a%2", 400),
    ] {
        assert_eq!(status(&server, line, &[], ""), wanted, "{line}");
    }
}

#[test]
fn a_value_goes_after_its_time_which_answers_have() {
    let server = server();
    assert_eq!(status(&server, "PUT /cache/query?ttl=90", &[], "v"), 201);
    assert_eq!(status(&server, "PUT /cache/field", &[("Cache-TTL", "2")], "v"), 201);
    assert_eq!(send(&server, "GET /cache/query", &[], "").header("cache-ttl"), Some("90"));
    assert_eq!(send(&server, "GET /cache/field", &[], "").header("cache-ttl"), Some("2"));
    server.advance(Duration::from_millis(1_500));
    assert_eq!(send(&server, "GET /cache/field", &[], "").header("cache-ttl"), Some("1"), "rounded up");
    server.advance(Duration::from_millis(1_500));
    assert_eq!(status(&server, "GET /cache/field", &[], ""), 404);
    assert_eq!(status(&server, "PUT /cache/query", &[], "v"), 204);
    assert_eq!(send(&server, "GET /cache/query", &[], "").header("cache-ttl"), None, "set anew without");
    let huge = format!("PUT /cache/huge?ttl={}", u64::MAX);
    assert_eq!(status(&server, &huge, &[], "v"), 201);
    assert_eq!(status(&server, "GET /cache/huge", &[], ""), 200);
    for (line, fields) in [
        ("PUT /cache/k?ttl=0", &[][..]),
        ("PUT /cache/k?ttl=-1", &[]),
        ("PUT /cache/k?ttl=%2B1", &[]),
        ("PUT /cache/k?ttl=1.5", &[]),
        ("PUT /cache/k?ttl=", &[]),
        ("PUT /cache/k?ttl=99999999999999999999", &[]),
        ("PUT /cache/k?ttl=1&ttl=2", &[]),
        ("PUT /cache/k?ttl=%ff", &[]),
        ("PUT /cache/k?ttl=1", &[("cache-ttl", "1")]),
        ("PUT /cache/k", &[("cache-ttl", "1"), ("cache-ttl", "1")]),
        ("PUT /cache/k", &[("cache-ttl", "soon")]),
    ] {
        assert_eq!(status(&server, line, fields, "v"), 400, "{line} {fields:?}");
    }
    assert_eq!(status(&server, "GET /cache/k", &[], ""), 404, "nothing was set");
}

#[test]
fn preconditions_are_those_of_rfc_9110_in_their_order() {
    let server = server();
    send(&server, "PUT /cache/k", &[], "value");
    let tag = send(&server, "GET /cache/k", &[], "").header("etag").unwrap().to_owned();
    let (weak, other) = (format!("W/{tag}"), "\"other\"".to_owned());
    let list = format!("\"a\", {weak} , ,\"b,c\"");
    let strong_list = format!("{other},{tag}");
    let (tag, weak, other, list, strong_list) = (&*tag, &*weak, &*other, &*list, &*strong_list);
    for (line, fields, wanted) in [
        // 13.1.2: it is compared weakly.
        ("GET /cache/k", &[("if-none-match", tag)][..], 304),
        ("GET /cache/k", &[("if-none-match", weak)], 304),
        ("GET /cache/k", &[("if-none-match", list)], 304),
        ("GET /cache/k", &[("if-none-match", "*")], 304),
        ("HEAD /cache/k", &[("if-none-match", tag)], 304),
        ("GET /cache/k", &[("if-none-match", other)], 200),
        ("GET /cache/k", &[("if-none-match", other), ("if-none-match", tag)], 304),
        // 13.1.1: it is compared strongly.
        ("GET /cache/k", &[("if-match", tag)], 200),
        ("GET /cache/k", &[("if-match", weak)], 412),
        ("GET /cache/k", &[("if-match", other)], 412),
        ("GET /cache/k", &[("if-match", strong_list)], 200),
        ("GET /cache/k", &[("if-match", "*")], 200),
        // 13.2.2: If-Match comes first.
        ("GET /cache/k", &[("if-match", other), ("if-none-match", tag)], 412),
        ("GET /cache/k", &[("if-match", tag), ("if-none-match", tag)], 304),
        // There are no dates, so those with dates say nothing; nor is a part ever given.
        ("GET /cache/k", &[("if-modified-since", "Sat, 29 Oct 2050 19:43:31 GMT")], 200),
        ("GET /cache/k", &[("if-unmodified-since", "Sat, 29 Oct 1994 19:43:31 GMT")], 200),
        ("GET /cache/k", &[("range", "bytes=0-1"), ("if-range", tag)], 200),
        // 13.2.1: where it would not be a 2xx without them, they say nothing.
        ("GET /cache/none", &[("if-match", "*")], 404),
        ("GET /cache/none", &[("if-none-match", "*")], 404),
        ("DELETE /cache/none", &[("if-match", "*")], 404),
        // Writes.
        ("PUT /cache/k", &[("if-none-match", "*")], 412),
        ("PUT /cache/k", &[("if-none-match", tag)], 412),
        ("PUT /cache/k", &[("if-match", other)], 412),
        ("PUT /cache/k", &[("if-match", weak)], 412),
        ("PUT /cache/none", &[("if-match", "*")], 412),
        ("PUT /cache/none", &[("if-match", tag)], 412),
        ("DELETE /cache/k", &[("if-match", other)], 412),
        ("DELETE /cache/k", &[("if-none-match", "*")], 412),
        // What is no list of tags.
        ("GET /cache/k", &[("if-none-match", "value")], 400),
        ("GET /cache/k", &[("if-none-match", "\"open")], 400),
        ("GET /cache/k", &[("if-none-match", "*, \"a\"")], 400),
        ("GET /cache/k", &[("if-none-match", "*"), ("if-none-match", "\"a\"")], 400),
        ("PUT /cache/k", &[("if-match", "\"a\" \"b\"")], 400),
        ("PUT /cache/k", &[("if-match", "w/\"a\"")], 400),
        ("DELETE /cache/k", &[("if-match", "\"a b\"")], 400),
    ] {
        let body = if line.starts_with("PUT") { "new" } else { "" };
        assert_eq!(status(&server, line, fields, body), wanted, "{line} {fields:?}");
        assert_eq!(send(&server, "GET /cache/k", &[], "").text(), "value", "{line} {fields:?}");
    }
    let unchanged = send(&server, "GET /cache/k", &[("if-none-match", tag)], "");
    assert_eq!((unchanged.header("etag"), unchanged.body()), (Some(tag), &b""[..]));
    assert_eq!(status(&server, "PUT /cache/k", &[("if-match", tag), ("if-none-match", other)], "new"), 204);
    assert_eq!(
        status(&server, "PUT /cache/k", &[("if-match", tag)], "newer"),
        412,
        "it is not the same any more"
    );
    assert_eq!(status(&server, "PUT /cache/fresh", &[("if-none-match", "*")], "v"), 201);
    assert_eq!(status(&server, "DELETE /cache/fresh", &[("if-match", "*")], ""), 204);
}

#[test]
fn a_key_of_another_kind_is_neither_shown_nor_replaced() {
    let (server, cache) = server_of(Config::default());
    server.run({
        let cache = cache.clone();
        async move { cache.run(&["RPUSH", "k", "element"]).await.unwrap() }
    });
    for line in ["GET /cache/k", "HEAD /cache/k", "PUT /cache/k", "DELETE /cache/k"] {
        let body = if line.starts_with("PUT") { "new" } else { "" };
        assert_eq!(status(&server, line, &[("if-match", "*")], body), 409, "{line}");
    }
    let len = server.run(async move { cache.run(&["LLEN", "k"]).await });
    assert_eq!(len, Ok(super::super::access::Value::Int(1)));
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (server, _cache) = server_of(Config { memory_max: 8 << 10, eviction: Eviction::NoEviction });
    assert_eq!(status(&server, "PUT /cache/k", &[], "old"), 201);
    assert_eq!(status(&server, "PUT /cache/k", &[], &"x".repeat(9 << 10)), 413, "more than all may be");
    let mut last = 0;
    for n in 0..100 {
        last = status(&server, &format!("PUT /cache/key-{n}"), &[], &"x".repeat(512));
        if last != 201 {
            break;
        }
    }
    assert_eq!(last, 507);
    assert_eq!(status(&server, "PUT /cache/k", &[], "new"), 507);
    assert_eq!(send(&server, "GET /cache/k", &[], "").text(), "old");
    assert_eq!(status(&server, "DELETE /cache/k", &[], ""), 204);
    // The body of a request has a maximum of its own.
    let server = self::server();
    let max = crate::Limits::default().body_bytes_max;
    let body = "x".repeat(usize::try_from(max).unwrap());
    assert_eq!(status(&server, "PUT /cache/k", &[], &body), 201);
    assert_eq!(status(&server, "PUT /cache/k", &[], &(body + "x")), 413);
}

#[test]
fn parts_and_codings_of_a_value_are_refused() {
    let server = server();
    assert_eq!(status(&server, "PUT /cache/k", &[("content-range", "bytes 0-0/2")], "v"), 400);
    assert_eq!(status(&server, "PUT /cache/k", &[("content-encoding", "gzip")], "v"), 415);
    assert_eq!(status(&server, "PUT /cache/k", &[("content-encoding", "Identity")], "v"), 201);
}

#[test]
fn a_key_that_a_transaction_holds_is_waited_for_and_then_to_be_tried_again() {
    let (server, cache) = server_of(Config::default());
    send(&server, "PUT /cache/k", &[], "value");
    let hold = |ticket: u64| {
        let cache = cache.clone();
        server.run(async move {
            let here = cache.here(&current());
            here.locks.borrow_mut().ask(ticket, vec![b"k".as_slice().into()]);
        });
    };
    hold(7);
    let client = server.connect();
    client.write("GET /cache/k HTTP/1.1\r\nhost: test\r\n\r\n");
    server.advance(Duration::from_millis(100));
    assert_eq!(client.read(), b"");
    server.run({
        let cache = cache.clone();
        async move { cache.here(&current()).release(7) }
    });
    server.settle();
    assert!(client.read().starts_with(b"HTTP/1.1 200 "));
    hold(8);
    let late = send(&server, "PUT /cache/k", &[], "new");
    assert_eq!((late.status(), late.header("retry-after")), (503, Some("1")));
}
