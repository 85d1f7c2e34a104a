//! The WebSocket handshake, fault by fault.

#![allow(clippy::unwrap_used)]

use crate::harness::TestServer;
use crate::{App, Request, Response, websocket_accept};

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
