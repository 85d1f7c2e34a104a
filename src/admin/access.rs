//! Who may ask for what.
//!
//! # Rules
//! 1. Only GET and HEAD, so nothing that a page in somebody's browser sends can change anything.
//! 2. `/health` is for everybody who reaches the port: it says nothing but whether the node is well.
//! 3. Where there is a token, all else needs it, by `Authorization: Bearer TOKEN`.
//! 4. Where there is none, the listener is on loopback, and the host that was asked for must be an IP address or
//!    `localhost`. A page of a foreign name that was made to resolve to this host (DNS rebinding) sends that name.
//!
//! Not here: the rule that a listener others can reach has a token (`bind`).

use std::net::IpAddr;

use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};

use crate::config::Secret;

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    Method,
    Token,
    Host,
}

impl Refusal {
    pub(super) fn status(self) -> StatusCode {
        match self {
            Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
            Refusal::Token => StatusCode::UNAUTHORIZED,
            Refusal::Host => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Refusal::Method => "only GET and HEAD are answered here\n",
            Refusal::Token => "send the admin token: Authorization: Bearer TOKEN\n",
            Refusal::Host => "ask for this host by an IP address or as localhost, or set admin_token\n",
        }
    }
}

/// The head decides: bodies are not looked at.
pub(super) fn check<B>(request: &Request<B>, token: &Secret) -> Result<(), Refusal> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Refusal::Method);
    }
    if request.uri().path() == "/health" {
        return Ok(());
    }
    if token.is_empty() {
        return if is_local(request) { Ok(()) } else { Err(Refusal::Host) };
    }
    let mut given = request.headers().get_all(AUTHORIZATION).iter();
    let bearer = given.next().and_then(|value| bearer(value.as_bytes()));
    match bearer {
        Some(bearer) if given.next().is_none() && token.is(bearer) => Ok(()),
        _ => Err(Refusal::Token),
    }
}

/// The credentials of the scheme `Bearer`, whose name has no case (RFC 9110, 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, rest) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| rest.trim_ascii())
}

/// Every host the request names is an address or `localhost`, and it names one.
fn is_local<B>(request: &Request<B>) -> bool {
    let fields = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or(""));
    let mut named = fields.chain(request.uri().authority().map(|authority| authority.as_str())).peekable();
    named.peek().is_some() && named.all(is_plain)
}

/// `localhost` or an address, with or without a port.
fn is_plain(host: &str) -> bool {
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, rest)) => (v6, rest.strip_prefix(':').or(rest.is_empty().then_some("0"))),
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, Some("0")),
        },
    };
    let is_port = port.is_some_and(|port| port.parse::<u16>().is_ok());
    is_port && (name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, target: &str, fields: &[(&str, &str)]) -> Request<()> {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request")
    }

    #[test]
    fn without_a_token_only_addresses_and_localhost_are_asked_for() {
        let asked = |host: &str| check(&request("GET", "/metrics", &[("host", host)]), &Secret::default());
        for host in
            ["127.0.0.1", "127.0.0.1:9901", "localhost:9901", "LOCALHOST", "[::1]:9901", "[::1]", "192.0.2.1"]
        {
            assert_eq!(asked(host), Ok(()), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example:9901", "127.0.0.1.evil.example", "[::1]x", "a:b"]
        {
            assert_eq!(asked(host), Err(Refusal::Host), "{host:?}");
        }
        assert_eq!(check(&request("GET", "/metrics", &[]), &Secret::default()), Err(Refusal::Host));
        let absolute = request("GET", "http://evil.example/metrics", &[("host", "127.0.0.1")]);
        assert_eq!(check(&absolute, &Secret::default()), Err(Refusal::Host));
        let two = request("GET", "/metrics", &[("host", "127.0.0.1"), ("host", "evil.example")]);
        assert_eq!(check(&two, &Secret::default()), Err(Refusal::Host));
    }

    #[test]
    fn with_a_token_all_but_health_needs_it_and_the_host_does_not_matter() {
        let token = Secret::new("0123456789abcdef");
        let asked = |path: &str, given: &[&str]| {
            let mut fields = vec![("host", "node-7.example")];
            fields.extend(given.iter().map(|given| ("authorization", *given)));
            check(&request("GET", path, &fields), &token)
        };
        assert_eq!(asked("/health", &[]), Ok(()));
        for right in ["Bearer 0123456789abcdef", "bearer 0123456789abcdef", "BEARER  0123456789abcdef "] {
            assert_eq!(asked("/metrics", &[right]), Ok(()), "{right}");
        }
        for wrong in [
            "Bearer 0123456789abcdeg",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Bearer",
            "Bearer ",
            "Basic 0123456789abcdef",
            "0123456789abcdef",
        ] {
            assert_eq!(asked("/metrics", &[wrong]), Err(Refusal::Token), "{wrong}");
        }
        assert_eq!(asked("/", &[]), Err(Refusal::Token));
        assert_eq!(asked("/metrics", &["Bearer 0123456789abcdef", "Bearer x"]), Err(Refusal::Token));
        assert_eq!(asked("/health/", &[]), Err(Refusal::Token), "only that path is open");
    }

    #[test]
    fn nothing_but_get_and_head_exists() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT"] {
            let request = request(method, "/health", &[("host", "127.0.0.1")]);
            assert_eq!(check(&request, &Secret::default()), Err(Refusal::Method), "{method}");
        }
    }
}
