//! What is accepted and what is refused, group by group, each way it may be cut.
#![allow(clippy::unwrap_used)]

mod common;

use common::{latin1, refused_while_open, trace, trace_with};
use corelane_proto_h1::check::{Event, Policy};
use corelane_proto_h1::{BodyKind, Limits, Version, Why};

const GET: &str = "GET / HTTP/1.1\r\nHost: t\r\n\r\n";
/// A request that must never be routed: what a smuggler hides behind a framing fault.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n";

/// Every input is refused with its reason, at once, and nothing behind it is a request.
fn assert_refused(cases: &[(&str, Why)]) {
    for (text, why) in cases {
        for tail in ["", GET, SMUGGLED] {
            let input = [&latin1(text)[..], tail.as_bytes()].concat();
            let trace = trace_with(&input, &Limits::default(), Policy { eof: true, ..Policy::default() });
            assert_eq!(trace.rejected(), Some(*why), "{text:?} + {tail:?}");
            assert!(trace.heads().iter().all(|h| h.path != "/smuggled"), "{text:?} + {tail:?}");
        }
        // The fault is found while the peer holds the connection open.
        assert_eq!(refused_while_open(&latin1(text)), Some(*why), "{text:?} held open");
    }
}

/// The one request of `text`, whose body is read to the end, followed by another request.
fn accepted(text: &str) -> (corelane_proto_h1::check::Head, Vec<u8>) {
    let input = [&latin1(text)[..], GET.as_bytes()].concat();
    let trace = trace_with(&input, &Limits::default(), Policy { eof: true, ..Policy::default() });
    assert_eq!(trace.rejected(), None, "{text:?}");
    let heads = trace.heads();
    let closes = !heads[0].keep_alive;
    assert_eq!(heads.len(), if closes { 1 } else { 2 }, "{text:?}");
    (heads[0].clone(), trace.body())
}

fn get_with(field: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: t\r\n{field}\r\n\r\n")
}

fn post_with(field: &str, body: &str) -> String {
    format!("POST /echo HTTP/1.1\r\nHost: t\r\n{field}\r\n\r\n{body}")
}

fn chunked(body: &str) -> String {
    post_with("Transfer-Encoding: chunked", body)
}

#[test]
fn plain_requests_of_every_kind_are_accepted() {
    for method in
        ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "PROPFIND", "get", "M-SEARCH"]
    {
        let (head, body) = accepted(&format!("{method} / HTTP/1.1\r\nHost: t\r\n\r\n"));
        assert_eq!((head.method.as_str(), head.path.as_str(), head.body), (method, "/", BodyKind::None));
        assert!(head.keep_alive && body.is_empty());
    }
    let (head, _) = accepted("!#$%&'*+-.^_`|~09azAZ / HTTP/1.1\r\nHost: t\r\n\r\n");
    assert_eq!(head.method, "!#$%&'*+-.^_`|~09azAZ");
    let (head, _) = accepted("GET / HTTP/1.1\r\nhOsT:\t t \t\r\nX-Empty:\r\nX-Blank: \t \r\n\r\n");
    assert_eq!(head.host.as_deref(), Some("t"));
    assert_eq!(head.headers[1..], [("X-Empty".into(), vec![]), ("X-Blank".into(), vec![])]);
}

#[test]
fn bodies_by_length_and_by_chunks_arrive_whole() {
    for (text, body) in [
        (post_with("Content-Length: 5", "hello"), "hello"),
        (post_with("Content-Length:\t 5 \t", "hello"), "hello"),
        (post_with("Content-Length: 005", "hello"), "hello"),
        (post_with("content-length: 35", SMUGGLED), SMUGGLED),
        (post_with("Content-Length: 0", ""), ""),
        (post_with("Content-Length: 0000000000000000000000000", ""), ""),
        (post_with("X: y", ""), ""),
        (post_with("Transfer-Encoding: ChUnKeD", "5\r\nhello\r\n0\r\n\r\n"), "hello"),
        (post_with("Transfer-Encoding: \tchunked ", "5\r\nhello\r\n0\r\n\r\n"), "hello"),
        (chunked("A\r\n0123456789\r\n0\r\n\r\n"), "0123456789"),
        (chunked("a\r\n0123456789\r\n0\r\n\r\n"), "0123456789"),
        (chunked("0005\r\nhello\r\n000\r\n\r\n"), "hello"),
        (chunked("2\r\nhe\r\n3;x=\"y\\\"\"\r\nllo\r\n0;last\r\nX-T: a\r\n\r\n"), "hello"),
        (chunked("2\r\n\r\n\r\n0\r\n\r\n"), "\r\n"),
        (chunked("0\r\n\r\n"), ""),
    ] {
        assert_eq!(accepted(&text).1, body.as_bytes(), "{text:?}");
    }
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "FOO"] {
        let (head, body) =
            accepted(&format!("{method} / HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\nhi"));
        assert_eq!((head.body, &body[..]), (BodyKind::Length(2), &b"hi"[..]));
    }
    // A trace without content may say so.
    accepted("TRACE / HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n");
}

#[test]
fn lines_end_in_crlf_and_nothing_else() {
    assert_refused(&[
        ("GET / HTTP/1.1\nHost: t\n\n", Why::BareLf),
        ("GET / HTTP/1.1\r\nHost: t\n\r\n", Why::BareLf),
        ("GET / HTTP/1.1\r\nHost: t\r\n\n", Why::BareLf),
        ("GET / HTTP/1.1\nHost: t\r\n\r\n", Why::BareLf),
        ("GET / HTTP/1.1\r\nX:\nHost: t\r\n\r\n", Why::BareLf),
        ("\nGET / HTTP/1.1\r\nHost: t\r\n\r\n", Why::BareLf),
        ("GET / HTTP/1.1\r\nHost: t\rX: y\r\r", Why::BareCr),
        ("GET / HTTP/1.1\rHost: t\r\r", Why::BareCr),
        ("GET / HTTP/1.1\r\r\nHost: t\r\n\r\n", Why::BareCr),
        ("GET / HTTP/1.1\r\nHost: t\r\r\n\r\n", Why::BareCr),
        ("GET / HTTP/1.1\r\nHost: t\r\n\rX", Why::BareCr),
        ("GET / HTTP/1.1\r\nHost: t\r\nX: a\rb\r\n\r\n", Why::BareCr),
        ("\rGET / HTTP/1.1\r\nHost: t\r\n\r\n", Why::BareCr),
        ("GET /\rX HTTP/1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: t\r\n\r\n", Why::EmptyLines),
        ("GET / HTTP/1.1\r\n X: a\r\nHost: t\r\n\r\n", Why::ObsFold),
        ("GET / HTTP/1.1\r\n\tContent-Length: 1\r\nHost: t\r\n\r\nX", Why::ObsFold),
        ("GET / HTTP/1.1\r\n \r\nHost: t\r\n\r\n", Why::ObsFold),
        ("GET / HTTP/1.1\r\nHost: t\r\n\0\r\n\r\n", Why::FieldName),
        ("\0\u{1}\u{2}\u{ff}garbage\r\n\r\n", Why::MethodSyntax),
        ("\u{16}\u{3}\u{1}\u{2}\0\u{1}\0\u{1}\u{fc}\u{3}\u{3}", Why::MethodSyntax), // a TLS ClientHello
    ]);
    assert_eq!(trace(&format!("\r\n\r\n{GET}")).heads().len(), 1);
    // Between pipelined requests as well, and each request has its own allowance.
    assert_eq!(trace(&format!("{GET}\r\n\r\n{GET}\r\n\r\n{GET}\r\n")).heads().len(), 3);
}

#[test]
fn methods_are_tokens_and_stand_first() {
    assert_refused(&[
        ("G(T / HTTP/1.1\r\nHost: t\r\n\r\n", Why::MethodSyntax),
        (" / HTTP/1.1\r\nHost: t\r\n\r\n", Why::MethodSyntax),
        (" GET / HTTP/1.1\r\nHost: t\r\n\r\n", Why::MethodSyntax),
        ("\tGET / HTTP/1.1\r\nHost: t\r\n\r\n", Why::MethodSyntax),
        ("GET\t/ HTTP/1.1\r\nHost: t\r\n\r\n", Why::MethodSyntax),
        ("G\0T / HTTP/1.1\r\nHost: t\r\n\r\n", Why::MethodSyntax),
        ("GE\u{e9}T / HTTP/1.1\r\nHost: t\r\n\r\n", Why::MethodSyntax),
        ("\"GET\" / HTTP/1.1\r\nHost: t\r\n\r\n", Why::MethodSyntax),
        ("GET: / HTTP/1.1\r\nHost: t\r\n\r\n", Why::MethodSyntax),
        ("TRACE / HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\n\r\nhello", Why::BodyForbidden),
        ("TRACE / HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Why::BodyForbidden),
        ("CONNECT t:80 HTTP/1.1\r\nHost: t:80\r\nContent-Length: 5\r\n\r\nhello", Why::BodyForbidden),
    ]);
    // Nothing is read behind a CONNECT: it may be meant for the tunnel.
    let t = trace(&format!("CONNECT t:80 HTTP/1.1\r\nHost: t:80\r\n\r\n{SMUGGLED}"));
    assert_eq!(t.heads().len(), 1);
    assert!(!t.heads()[0].keep_alive);
    assert!(t.sent.starts_with(b"HTTP/1.1 501 "));
}

#[test]
fn request_lines_have_three_parts_with_one_space_between() {
    assert_refused(&[
        ("GET  / HTTP/1.1\r\nHost: t\r\n\r\n", Why::LineSyntax),
        ("GET /  HTTP/1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/1.1 \r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/1.1\t\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET /\tHTTP/1.1\r\nHost: t\r\n\r\n", Why::LineSyntax),
        ("GET /\nHTTP/1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET /\u{b}HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetByte),
        ("GET /a b HTTP/1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET /\r\n\r\n", Why::VersionSyntax),
        ("GET / \r\n\r\n", Why::VersionSyntax),
        ("GET \r\n\r\n", Why::LineSyntax),
        ("GET\r\n\r\n", Why::LineSyntax),
        ("GET HTTP/1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("Host: t\r\n\r\n", Why::MethodSyntax),
    ]);
}

#[test]
fn targets_have_the_form_their_method_allows_and_only_uri_bytes() {
    assert_refused(&[
        ("GET /\u{ff} HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetByte),
        ("GET /\u{c3}\u{a9} HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetByte),
        ("GET /\0 HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetByte),
        ("GET /\u{1} HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetByte),
        ("GET /\u{7f} HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetByte),
        ("GET /#frag HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetFragment),
        ("GET /?q#frag HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetFragment),
        ("GET http://t/#f HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetFragment),
        ("GET /%zz HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetEscape),
        ("GET /% HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetEscape),
        ("GET /%4 HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetEscape),
        ("GET /?a=%4g HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetEscape),
        ("GET /%%41 HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetEscape),
        ("GET /%u0041 HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetEscape),
        ("GET * HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetForm),
        ("GET *x HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetForm),
        ("OPTIONS ** HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetForm),
        ("GET x HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetForm),
        ("GET ?q HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetForm),
        ("GET t:80 HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetForm),
        ("GET :///x HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetScheme),
        ("GET ftp://t/ HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetScheme),
        ("GET file:///etc/passwd HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetScheme),
        ("GET http:/t/ HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetForm),
        ("GET http:///x HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("GET http:// HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("GET http://u@t/ HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("GET http://u:p@t/ HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("GET http://t:99999/ HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("GET http://t:x/ HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("GET http://[::1/ HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("GET http://t/%zz HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetEscape),
        ("CONNECT /x HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetForm),
        ("CONNECT * HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("CONNECT http://t:80/ HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetForm),
        ("CONNECT t HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("CONNECT t: HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("CONNECT :80 HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("CONNECT t:65536 HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
        ("CONNECT u@t:80 HTTP/1.1\r\nHost: t\r\n\r\n", Why::TargetAuthority),
    ]);
    for b in "\"<>\\^`{|}".chars() {
        assert_refused(&[
            (&format!("GET /{b} HTTP/1.1\r\nHost: t\r\n\r\n"), Why::TargetByte),
            (&format!("GET /?{b} HTTP/1.1\r\nHost: t\r\n\r\n"), Why::TargetByte),
            (&format!("GET http://t/{b} HTTP/1.1\r\nHost: t\r\n\r\n"), Why::TargetByte),
        ]);
    }
    for (target, path, query, host) in [
        ("/", "/", None, "t"),
        ("//evil/x", "//evil/x", None, "t"),
        ("/../..//.", "/../..//.", None, "t"),
        ("/a;b=c:@!$&'()*+,-._~[]/", "/a;b=c:@!$&'()*+,-._~[]/", None, "t"),
        ("/%00%fF%2f?%41", "/%00%fF%2f", Some("%41"), "t"),
        ("/??a/b?c", "/", Some("?a/b?c"), "t"),
        ("/http://x/", "/http://x/", None, "t"),
        ("http://e:80/p?q", "/p", Some("q"), "e:80"),
        ("HTTPS://E", "/", None, "E"),
        ("http://[::1]:8080?x", "/", Some("x"), "[::1]:8080"),
        ("http://e:/", "/", None, "e:"),
    ] {
        let (head, _) = accepted(&format!("GET {target} HTTP/1.1\r\nHost: t\r\n\r\n"));
        assert_eq!((head.path.as_str(), head.query.as_deref()), (path, query), "{target}");
        assert_eq!(head.host.as_deref(), Some(host), "{target}");
    }
    assert_eq!(accepted("OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n").0.path, "*");
    assert_eq!(
        accepted("CONNECT [::1]:443 HTTP/1.1\r\nHost: t\r\n\r\n").0.host.as_deref(),
        Some("[::1]:443")
    );
}

#[test]
fn versions_are_one_digit_each_and_the_major_one_is_1() {
    assert_refused(&[
        ("GET / HTTP/2.0\r\nHost: t\r\n\r\n", Why::VersionMajor),
        ("GET / HTTP/0.9\r\nHost: t\r\n\r\n", Why::VersionMajor),
        ("GET / HTTP/3.1\r\nHost: t\r\n\r\n", Why::VersionMajor),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Why::VersionMajor),
        ("GET / HTTP/1.10\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/1.\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/01.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/1.01\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/11.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/4294967297.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/ 1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/1 .1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/1,1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/-1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/a.b\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / http/1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / Http/1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTPS/1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTP/1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / SIP/2.0\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / 1.1\r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/2.0 \r\nHost: t\r\n\r\n", Why::VersionSyntax),
        ("GET / HTTP/1.2\r\n\r\n", Why::HostMissing),
        ("GET / HTTP/1.2\r\nHost: t\nX: a\r\n\r\n", Why::BareLf),
        ("GET / HTTP/1.2\r\nHost: t\r\n x\r\n\r\n", Why::ObsFold),
    ]);
    for minor in 2..=9 {
        let (head, body) =
            accepted(&format!("POST /x HTTP/1.{minor}\r\nHost: t\r\nX:\t a \r\nContent-Length: 2\r\n\r\nhi"));
        assert_eq!((head.version, head.keep_alive, &body[..]), (Version::Http11, true, &b"hi"[..]));
        assert_eq!(head.headers[1], ("X".to_owned(), b"a".to_vec()));
    }
}

#[test]
fn http_1_0_needs_no_host_and_closes_unless_asked() {
    let (head, _) = accepted("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((head.version, head.keep_alive, head.host), (Version::Http10, false, None));
    let (head, _) = accepted("GET / HTTP/1.0\r\nHost: t\r\nConnection: Keep-Alive\r\n\r\n");
    assert!(head.keep_alive);
    let t = trace("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET / HTTP/1.0\r\n\r\n");
    let sent = String::from_utf8(t.sent).unwrap();
    assert_eq!(sent.matches("Connection: keep-alive\r\n").count(), 1);
    assert_eq!(sent.matches("Connection: close\r\n").count(), 1);
    assert_refused(&[
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", Why::HostDuplicate),
        ("GET / HTTP/1.0\r\nHost: u@t\r\n\r\n", Why::HostSyntax),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Why::CodingOldVersion),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n",
            Why::CodingOldVersion,
        ),
    ]);
    let (head, body) = accepted("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!((head.expect_continue, &body[..]), (false, &b"hello"[..]));
    accepted("POST / HTTP/1.0\r\nExpect: something\r\n\r\n");
}

#[test]
fn http_1_1_has_exactly_one_good_host() {
    assert_refused(&[
        ("GET / HTTP/1.1\r\n\r\n", Why::HostMissing),
        ("GET http://t/ HTTP/1.1\r\n\r\n", Why::HostMissing),
        ("GET / HTTP/1.1\r\nHost_: t\r\n\r\n", Why::HostMissing),
        ("GET / HTTP/1.1\r\nHost: t\r\nHost: t\r\n\r\n", Why::HostDuplicate),
        ("GET / HTTP/1.1\r\nHost: t\r\nX: a\r\nhost: evil\r\n\r\n", Why::HostDuplicate),
        ("GET http://t/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Why::HostDuplicate),
        ("GET http://t/ HTTP/1.1\r\nHost: u@t\r\n\r\n", Why::HostSyntax),
        ("GET / HTTP/1.1\r\nHost : t\r\n\r\n", Why::FieldSpaceColon),
        ("GET / HTTP/1.1\r\n Host: t\r\n\r\n", Why::ObsFold),
        ("GET / HTTP/1.1\r\nHost: t\0.evil\r\n\r\n", Why::FieldValue),
    ]);
    for bad in [
        "", " ", "u@t", "t, evil", "t,evil", "t evil", "t\tevil", "t:99999x", "t:65536", "t:-1", "t:80:80",
        "t/", "/t", "http://t", "t?x", "t#x", "[::1", "::1", "[::1]x", "[]", "[gg::]", "t\u{e9}", "t\\x",
        "<t>", "\"t\"", "%zz", "t^", "{t}", "t|x", "`t`", "[::1]:x", ":80", ":", "@t", "t@",
    ] {
        assert_refused(&[(&format!("GET / HTTP/1.1\r\nHost: {bad}\r\n\r\n"), Why::HostSyntax)]);
    }
    for good in [
        "t",
        "t:80",
        "t:",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:80",
        "a-b.c_d~e",
        "a%41",
        "t:65535",
        "T.EXAMPLE.",
    ] {
        let (head, _) = accepted(&format!("GET / HTTP/1.1\r\nHost: {good}\r\n\r\n"));
        assert_eq!(head.host.as_deref(), Some(good));
    }
}

#[test]
fn field_lines_are_name_colon_value() {
    assert_refused(&[
        (&get_with("X: a\r\n b"), Why::ObsFold),
        (&get_with("X: a\r\n\tb"), Why::ObsFold),
        (&get_with("X:\r\n a"), Why::ObsFold),
        (&get_with("X : a"), Why::FieldSpaceColon),
        (&get_with("X\t: a"), Why::FieldSpaceColon),
        (&get_with("X a"), Why::FieldSpaceColon),
        (&get_with("X"), Why::FieldName),
        (&get_with("Content-Length 5"), Why::FieldSpaceColon),
        (&get_with(":"), Why::FieldName),
        (&get_with(": a"), Why::FieldName),
        (&get_with("\u{ef}: a"), Why::FieldName),
        (&get_with("X\u{1}: a"), Why::FieldName),
        (&get_with("X\0: a"), Why::FieldName),
        (&get_with("X\u{7f}: a"), Why::FieldName),
        (&get_with("X(: a"), Why::FieldName),
        (&get_with("X/Y: a"), Why::FieldName),
        (&get_with("X[]: a"), Why::FieldName),
        (&get_with("\"X\": a"), Why::FieldName),
        (&get_with("X: a\0b"), Why::FieldValue),
        (&get_with("X: \0"), Why::FieldValue),
        (&get_with("X: a\u{1}b"), Why::FieldValue),
        (&get_with("X: a\u{7f}"), Why::FieldValue),
        (&get_with("X: a\u{b}"), Why::FieldValue),
        (&get_with("X: a\u{1b}[0m"), Why::FieldValue),
        (&post_with("Content_Length: 5", "hello"), Why::FieldLookalike),
        (&post_with("content_length: 5", ""), Why::FieldLookalike),
        (&post_with("Transfer_Encoding: chunked", "0\r\n\r\n"), Why::FieldLookalike),
        (&get_with("Connection: Content-Length"), Why::ConnectionAbuse),
        (&get_with("Connection: close, transfer-encoding"), Why::ConnectionAbuse),
        (&get_with("Connection: keep-alive,Host"), Why::ConnectionAbuse),
    ]);
    for good in [
        "X: caf\u{e9}",
        "X: \u{80}\u{ff}",
        "X: a\tb",
        "X: a:b: c",
        "X: \"a\\\"\"",
        "!#$%&'*+-.^_`|~: 1",
        "X_Y: a",
        "_: a",
        "X:a",
        "X: a\r\nX: b",
        "Connection: X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4",
        "Cookie: a=b; c=d",
        "Content-Lengthy: x",
        "Transfer-Encodings: x",
        "Hosts: a b",
        "Connection: ,, close-ish , foo",
        "Connection:",
        "Keep-Alive: timeout=5",
        "Proxy-Connection: close",
        "TE: trailers",
        "X: ",
        "Trailer: X",
    ] {
        let (head, _) = accepted(&get_with(good));
        assert!(head.keep_alive, "{good:?}");
    }
    let (head, _) = accepted(&get_with("X-B: caf\u{e9}"));
    assert_eq!(head.headers[1].1, b"caf\xe9");
}

#[test]
fn connection_options_are_a_list_without_case() {
    for close in
        ["close", "Close", "CLOSE", "keep-alive, close", "close,keep-alive", "foo ,\tclose", ",,close,"]
    {
        let (head, _) = accepted(&get_with(&format!("Connection: {close}")));
        assert!(!head.keep_alive, "{close:?}");
    }
    let (head, _) = accepted(&get_with("Connection: foo\r\nConnection: close"));
    assert!(!head.keep_alive);
    let t = trace(&format!("{}{SMUGGLED}", get_with("Connection: close")));
    assert_eq!(t.heads().len(), 1);
    assert!(String::from_utf8_lossy(&t.sent).contains("Connection: close\r\n"));
}

#[test]
fn content_length_is_one_decimal_number() {
    for bad in [
        "",
        "-1",
        "+5",
        "-0",
        "0x5",
        "1_0",
        "5x",
        "x5",
        "5 5",
        "5,5",
        "5, 5",
        "5, 5, 5",
        "5, 6",
        ",5",
        "5,",
        "\u{b}5",
        "5.0",
        "5e0",
        "0b1",
        "\"5\"",
        "5;a",
        "\u{a0}5",
        "\u{b2}",
        "18446744073709551616",
        "99999999999999999999999",
        "5\t5",
        "0,0",
        "five",
        "\u{c}5",
        "(5)",
    ] {
        let why = match bad {
            "\u{b}5" | "\u{c}5" => Why::FieldValue,
            _ => Why::LengthSyntax,
        };
        assert_refused(&[(&post_with(&format!("Content-Length: {bad}"), ""), why)]);
    }
    assert_refused(&[
        (&post_with("Content-Length: 5\r\nContent-Length: 5", "hello"), Why::LengthDuplicate),
        (&post_with("Content-Length: 5\r\ncontent-length: 6", "hello"), Why::LengthDuplicate),
        (&post_with("Content-Length: 0\r\nContent-Length: 35", SMUGGLED), Why::LengthDuplicate),
        (&post_with("Content-Length: \r\nContent-Length: 35", SMUGGLED), Why::LengthSyntax),
        (&post_with("Content-Length: 5\r\nContent-Length:", "hello"), Why::LengthDuplicate),
        (&post_with("Content-Length : 5", "hello"), Why::FieldSpaceColon),
        (&post_with("Content-Length:\r\n 5", "hello"), Why::ObsFold),
        (&post_with("Content-Length: 18446744073709551615", ""), Why::BodyTooLong),
        (&post_with("Content-Length: 9223372036854775807", ""), Why::BodyTooLong),
        (&post_with("Content-Length: 1048577", ""), Why::BodyTooLong),
    ]);
    // Three bytes are the body; the rest is no request.
    let t = trace(&post_with("Content-Length: 3", "hello\r\n\r\n"));
    assert_eq!((t.heads().len(), t.body(), t.rejected()), (1, b"hel".to_vec(), Some(Why::LineSyntax)));
    let t = trace(&post_with("Content-Length: 6", "hello"));
    assert_eq!(t.rejected(), Some(Why::IncompleteBody));
}

#[test]
fn transfer_encoding_is_chunked_and_alone() {
    let with = |value: &str| post_with(&format!("Transfer-Encoding: {value}"), "0\r\n\r\n");
    for (value, why) in [
        ("", Why::CodingSyntax),
        ("chunked,", Why::CodingSyntax),
        (",chunked", Why::CodingSyntax),
        ("chunked,,", Why::CodingSyntax),
        ("\"chunked\"", Why::CodingSyntax),
        ("'chunked'", Why::CodingNotChunked),
        ("\u{a0}chunked", Why::CodingSyntax),
        ("\u{ff}chunked\u{ff}", Why::CodingSyntax),
        ("\u{b}chunked", Why::FieldValue),
        ("chunked\0", Why::FieldValue),
        ("chunked;q=1", Why::CodingSyntax),
        ("chunked;", Why::CodingSyntax),
        ("chun ked", Why::CodingSyntax),
        ("chunked chunked", Why::CodingSyntax),
        ("chunked, chunked", Why::CodingNotChunked),
        ("chunked, gzip", Why::CodingNotChunked),
        ("chunked, identity", Why::CodingNotChunked),
        ("gzip", Why::CodingNotChunked),
        ("identity", Why::CodingNotChunked),
        ("blegh", Why::CodingNotChunked),
        ("xchunked", Why::CodingNotChunked),
        ("chunkedx", Why::CodingNotChunked),
        ("cow", Why::CodingNotChunked),
        ("x-chunked", Why::CodingNotChunked),
        ("gzip, chunked", Why::CodingUnknown),
        ("GZIP,\tChunked", Why::CodingUnknown),
        ("deflate, chunked", Why::CodingUnknown),
        ("compress, gzip, chunked", Why::CodingUnknown),
        ("identity, chunked", Why::CodingUnknown),
        ("foo;a=b, chunked", Why::CodingUnknown),
        ("gzip, chunked, chunked", Why::CodingNotChunked),
    ] {
        assert_refused(&[(&with(value), why)]);
    }
    let te = "Transfer-Encoding: chunked";
    assert_refused(&[
        (&post_with(&format!("{te}\r\n{te}"), "0\r\n\r\n"), Why::CodingNotChunked),
        (&post_with(&format!("{te}\r\nTransfer-Encoding: gzip"), "0\r\n\r\n"), Why::CodingNotChunked),
        (&post_with(&format!("Transfer-Encoding: gzip\r\n{te}"), "0\r\n\r\n"), Why::CodingUnknown),
        (&post_with(&format!("{te}\r\nTransfer-Encoding:"), "0\r\n\r\n"), Why::CodingSyntax),
        (
            &post_with(&format!("Content-Length: 40\r\n{te}"), &format!("0\r\n\r\n{SMUGGLED}")),
            Why::LengthAndCoding,
        ),
        (&post_with(&format!("{te}\r\nContent-Length: 5"), "0\r\n\r\n"), Why::LengthAndCoding),
        (&post_with(&format!("Content-Length: 0\r\n{te}"), "0\r\n\r\n"), Why::LengthAndCoding),
        (&post_with("Transfer-Encoding: xchunked\r\nContent-Length: 5", "hello"), Why::LengthAndCoding),
        (&post_with("Transfer-Encoding: identity\r\nContent-Length: 5", "hello"), Why::LengthAndCoding),
        (&post_with("Transfer-Encoding:\r\nContent-Length: 5", "hello"), Why::CodingSyntax),
        (&post_with(&format!("Content-Length: x\r\n{te}"), "0\r\n\r\n"), Why::LengthSyntax),
        (&post_with("Transfer-Encoding : chunked", "0\r\n\r\n"), Why::FieldSpaceColon),
        (&post_with("Transfer-Encoding\t: chunked", "0\r\n\r\n"), Why::FieldSpaceColon),
        (&post_with("Transfer-Encoding:\r\n chunked", "0\r\n\r\n"), Why::ObsFold),
        (&post_with("Transfer-Encoding:\nchunked", "0\r\n\r\n"), Why::BareLf),
        (&post_with("X: a\nTransfer-Encoding: chunked", "0\r\n\r\n"), Why::BareLf),
        (&post_with("X: a\rTransfer-Encoding: chunked", "0\r\n\r\n"), Why::BareCr),
        (&post_with("Transfer_Encoding: chunked\r\nContent-Length: 5", "hello"), Why::FieldLookalike),
    ]);
    // Without any framing there is no body: what follows is the next request.
    let t = trace(&format!("POST /echo HTTP/1.1\r\nHost: t\r\n\r\n{GET}"));
    assert_eq!(t.heads().len(), 2);
}

#[test]
fn chunks_are_read_by_the_letter() {
    for (body, why) in [
        ("\r\n\r\n", Why::ChunkSize),
        (";a\r\n\r\n", Why::ChunkSize),
        ("0x5\r\nhello\r\n0\r\n\r\n", Why::ChunkSize),
        ("-5\r\nhello\r\n", Why::ChunkSize),
        ("+5\r\nhello\r\n", Why::ChunkSize),
        (" 5\r\nhello\r\n", Why::ChunkSize),
        ("5zz\r\nhello\r\n", Why::ChunkSize),
        ("5_0\r\n", Why::ChunkSize),
        ("\"5\"\r\n", Why::ChunkSize),
        ("INVALID!!!\r\n", Why::ChunkSize),
        ("11111111111111111\r\n", Why::ChunkSize),
        ("00000000000000000\r\n\r\n", Why::ChunkSize),
        ("ffffffffffffffff\r\n", Why::BodyTooLong),
        ("8000000000000000\r\n", Why::BodyTooLong),
        ("100001\r\n", Why::BodyTooLong),
        ("5 \r\nhello\r\n", Why::ChunkExtension),
        ("5;\r\nhello\r\n", Why::ChunkExtension),
        ("5;a=\r\nhello\r\n", Why::ChunkExtension),
        ("5;a=\"b\r\nhello\r\n", Why::ChunkExtension),
        ("5;a=\"\r\n\"\r\nhello\r\n", Why::ChunkExtension),
        ("5;a\rb\r\nhello\r\n", Why::BareCr),
        ("5;a\nb\r\nhello\r\n", Why::BareLf),
        ("5;a=\"\n\"\r\nhello\r\n", Why::BareLf),
        ("5\nhello\r\n0\r\n\r\n", Why::BareLf),
        ("5\rhello\r\n", Why::BareCr),
        ("5\r\r\nhello\r\n", Why::BareCr),
        ("5\r\nhello\n0\r\n\r\n", Why::ChunkEnd),
        ("5\r\nhello0\r\n\r\n", Why::ChunkEnd),
        ("5\r\nhelloXX0\r\n\r\n", Why::ChunkEnd),
        ("5\r\nhello\rX", Why::ChunkEnd),
        ("5\r\nhello\r\n\r\n0\r\n\r\n", Why::ChunkSize),
        ("0\n\r\n", Why::BareLf),
        ("0\r\n\n", Why::BareLf),
        ("0\r\n\rX", Why::BareLf),
        ("0\r\nX: a\n\r\n", Why::BareLf),
        ("0\r\nX : a\r\n\r\n", Why::FieldSpaceColon),
        ("0\r\n: a\r\n\r\n", Why::FieldName),
        ("0\r\nX\r\n\r\n", Why::FieldName),
        ("0\r\nX: a\r\n b\r\n\r\n", Why::ObsFold),
        ("0\r\n X: a\r\n\r\n", Why::ObsFold),
        ("0\r\nX: \0\r\n\r\n", Why::FieldValue),
        ("0\r\n\0\r\n\r\n", Why::FieldName),
    ] {
        assert_refused(&[(&chunked(body), why)]);
    }
    for incomplete in [
        "",
        "5",
        "5\r",
        "5\r\n",
        "5\r\nhe",
        "5\r\nhello",
        "5\r\nhello\r",
        "0",
        "0\r\n",
        "0\r\nX: a\r\n",
        "0\r\n\r",
    ] {
        let t = trace(&chunked(incomplete));
        assert_eq!(t.rejected(), Some(Why::IncompleteBody), "{incomplete:?}");
        assert_eq!(refused_while_open(chunked(incomplete).as_bytes()), None, "{incomplete:?}");
    }
    // What looks like a request in the trailers is a field there.
    let t = trace(&chunked(&format!("0\r\nX:{SMUGGLED}")));
    assert_eq!(t.heads().len(), 1);
}

#[test]
fn trailers_are_shown_apart_and_never_frame_anything() {
    let t = trace(&format!(
        "{}{GET}",
        chunked(
            "0\r\nX-T: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 9\r\nAuthorization: x\r\nHost: e\r\nx-t: b\r\n\r\n"
        )
    ));
    assert_eq!(t.heads().len(), 2);
    assert_eq!(t.heads()[0].headers.len(), 2);
    let end =
        t.events.iter().find_map(|e| if let Event::End(fields) = e { Some(fields.clone()) } else { None });
    assert_eq!(end.unwrap(), [("X-T".to_owned(), b"a".to_vec()), ("x-t".to_owned(), b"b".to_vec())]);
}

#[test]
fn expectations_other_than_100_continue_are_refused() {
    assert_refused(&[
        (&post_with("Expect: 200-ok\r\nContent-Length: 1", ""), Why::Expectation),
        (&post_with("Expect: 100-continue, x\r\nContent-Length: 1", ""), Why::Expectation),
        (&post_with("Expect: 100-continue\r\nExpect: y\r\nContent-Length: 1", ""), Why::Expectation),
        (&post_with("Expect: 100 continue\r\nContent-Length: 1", ""), Why::Expectation),
        (&post_with("Expect: 100-continue\r\nContent-Length: 9999999", ""), Why::BodyTooLong),
        (&get_with("Expect: foo=bar"), Why::Expectation),
    ]);
    for (text, expects) in [
        (post_with("Expect: 100-continue\r\nContent-Length: 5", "hello"), true),
        (post_with("expect: 100-Continue\r\nTransfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n"), true),
        (post_with("Expect: 100-continue, 100-continue\r\nContent-Length: 5", "hello"), true),
        (post_with("Expect:\r\nContent-Length: 5", "hello"), false),
        (post_with("Expect: 100-continue", ""), false),
        (post_with("Expect: 100-continue\r\nContent-Length: 0", ""), false),
        (get_with("Expect: 100-continue"), false),
    ] {
        assert_eq!(accepted(&text).0.expect_continue, expects, "{text:?}");
    }
}

#[test]
fn upgrades_count_only_with_their_connection_option_in_1_1() {
    for (text, upgrade) in [
        (get_with("Connection: Upgrade\r\nUpgrade: websocket"), Some("websocket")),
        (get_with("Upgrade: websocket\r\nConnection: keep-alive, upgrade"), Some("websocket")),
        (get_with("Connection: upgrade\r\nUpgrade: h2c, websocket"), Some("h2c, websocket")),
        (get_with("Upgrade: websocket"), None),
        (get_with("Connection: upgrade"), None),
        (get_with("Connection: upgrade\r\nUpgrade:"), None),
        (get_with("Connection: keep-alive\r\nUpgrade: websocket"), None),
        ("GET / HTTP/1.0\r\nConnection: keep-alive, upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(), None),
    ] {
        assert_eq!(accepted(&text).0.upgrade.as_deref(), upgrade, "{text:?}");
    }
}

#[test]
fn a_head_that_comes_again_means_the_same_and_one_like_it_its_own() {
    // Simple and not, alike up to a byte, longer and shorter, cut at every byte by `trace_with`.
    let heads = [
        "GET /path?query HTTP/1.1\r\nHost: host:80\r\nX-A: b\r\n\r\n",
        "GET /path?query HTTP/1.1\r\nHost: host:80\r\nX-A: c\r\n\r\n",
        "GET /path/query HTTP/1.1\r\nHost: host:80\r\nX-A: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nX-A: b\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    let alone: Vec<_> = heads.iter().map(|head| trace(head).heads()[0].clone()).collect();
    for first in 0..heads.len() {
        for second in 0..heads.len() {
            let order = [first, first, second, first, second, second];
            let input: String = order.iter().map(|&at| heads[at]).collect();
            let found =
                trace_with(input.as_bytes(), &Limits::default(), Policy { eof: true, ..Policy::default() });
            let wanted: Vec<_> = order.iter().map(|&at| &alone[at]).collect();
            assert_eq!(found.heads(), wanted, "{input}");
        }
    }
    // What differs only behind the head it repeats is another head, and refused for what it is.
    let refused = [heads[3], "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"].concat();
    assert_eq!(trace(&refused).rejected(), Some(Why::HostDuplicate));
}

#[test]
fn pipelined_requests_come_out_in_order_and_stop_at_a_fault() {
    let t = trace(&format!(
        "{GET}{}{}{GET}",
        post_with("Content-Length: 5", "hello"),
        chunked("5\r\nhello\r\n0\r\n\r\n")
    ));
    let paths: Vec<&str> = t.heads().iter().map(|h| h.path.as_str()).collect();
    assert_eq!(paths, ["/", "/echo", "/echo", "/"]);
    assert_eq!(t.body(), b"hellohello");
    let t = trace(&format!("{GET}{GET}GET / HTTP/1.1\r\n\r\n{SMUGGLED}"));
    assert_eq!((t.heads().len(), t.rejected()), (2, Some(Why::HostMissing)));
    assert_eq!(String::from_utf8_lossy(&t.sent).matches("HTTP/1.1 ").count(), 3);
}

#[test]
fn the_end_of_the_peer_refuses_what_is_incomplete_and_nothing_else() {
    assert_eq!(trace("").events, [Event::Closed]);
    assert_eq!(trace("\r\n").events, [Event::Closed]);
    assert_eq!(trace(GET).rejected(), None);
    for cut in 1..GET.len() {
        assert_eq!(trace(&GET[..cut]).rejected(), Some(Why::IncompleteHead), "cut {cut}");
    }
}
