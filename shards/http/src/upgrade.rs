//! The opening handshake of WebSocket (RFC 6455, 4.2), and nothing behind it.
//!
//! Not here: frames. The connection goes to the function given to [`WebSocketAccept::respond`].

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corelane_net::h1::{Method, Version};
use corelane_net::message::Response;
use corelane_net::stream::TcpStream;
use sha1::{Digest as _, Sha1};

use crate::request::Request;

/// RFC 6455, 1.3: concatenated to every key.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A handshake that may be accepted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WebSocketAccept([u8; 28]);

impl WebSocketAccept {
    /// The value of `Sec-WebSocket-Accept`.
    pub fn value(&self) -> &str {
        std::str::from_utf8(&self.0).expect("base64 is ASCII")
    }

    /// The 101. Once it is sent the connection is `takeover`'s, unread bytes first.
    pub fn respond(self, takeover: impl FnOnce(TcpStream) + 'static) -> Response {
        Response::upgrade("websocket", takeover).header("sec-websocket-accept", self.0.to_vec())
    }
}

/// Checks the handshake of RFC 6455, 4.2.1. No subprotocol and no extension is taken.
///
/// # Errors
/// The answer to give instead: 405 for a method other than GET; 426 with `Sec-WebSocket-Version: 13` for
/// another version (4.2.2, 4); 400 with the reason for the rest.
///
/// ```
/// use corelane_http::{App, Request, Response, websocket_accept};
///
/// fn open(request: &Request<'_, ()>) -> Result<Response, Response> {
///     Ok(websocket_accept(request)?.respond(|stream| drop(stream)))
/// }
///
/// let app = App::new(()).get("/ws", open);
/// # let _ = app;
/// ```
pub fn websocket_accept<S>(request: &Request<'_, S>) -> Result<WebSocketAccept, Response> {
    let bad = |why: &'static str| Err(Response::text(why).with_status(400));
    // 4.2.1, 1: "An HTTP/1.1 or higher GET request". A Host is there: 1.1 without one never comes this far.
    if request.method() != Method::Get {
        return Err(Response::text("a WebSocket is opened with GET\n")
            .with_status(405)
            .header("allow", &b"GET"[..]));
    }
    if request.version() < Version::Http11 {
        return bad("a WebSocket is opened with HTTP/1.1\n");
    }
    // 4.2.1, 3 and 4: tokens compared without case.
    if !has_token(request, "connection", "upgrade") {
        return bad("`Connection: upgrade` is missing\n");
    }
    if !has_token(request, "upgrade", "websocket") {
        return bad("`Upgrade: websocket` is missing\n");
    }
    let mut keys = values(request, "sec-websocket-key");
    // 11.3.1: "MUST NOT appear more than once in an HTTP request".
    let (Some(key), None) = (keys.next(), keys.next()) else {
        return bad("exactly one `Sec-WebSocket-Key` is needed\n");
    };
    // 4.2.1, 5: "a base64-encoded value that, when decoded, is 16 bytes in length".
    let mut decoded = [0; 18];
    if STANDARD.decode_slice(key, &mut decoded) != Ok(16) {
        return bad("`Sec-WebSocket-Key` is not 16 bytes in base64\n");
    }
    // 4.2.1, 6, and 4.2.2, 4.
    let mut versions = values(request, "sec-websocket-version");
    match (versions.next(), versions.next()) {
        (Some(b"13"), None) => {}
        (Some(_), None) => {
            // RFC 9110, 15.5.22: "The server MUST send an Upgrade header field in a 426 response".
            return Err(Response::text("only WebSocket version 13 is spoken\n")
                .with_status(426)
                .header("upgrade", &b"websocket"[..])
                .header("sec-websocket-version", &b"13"[..]));
        }
        _ => return bad("exactly one `Sec-WebSocket-Version` is needed\n"),
    }
    // 4.2.2, 5.4: "concatenated with the string ..., taking the SHA-1 hash ... and base64-encoding".
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; 28];
    let len = STANDARD.encode_slice(hash, &mut accept).expect("20 bytes are 28 in base64");
    assert_eq!(len, accept.len());
    Ok(WebSocketAccept(accept))
}

fn values<'a, S>(request: &Request<'a, S>, name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    request.headers().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Whether a comma list over all fields of this name holds `token` (RFC 9110, 5.6.1).
fn has_token<S>(request: &Request<'_, S>, name: &'static str, token: &str) -> bool {
    values(request, name)
        .flat_map(|value| value.split(|b| *b == b','))
        .any(|part| part.trim_ascii().eq_ignore_ascii_case(token.as_bytes()))
}
