//! The words of a target: `http://host:port/path`, `tcp://host:port`, `redis://host:port`.
//!
//! Not here: looking up a host (`engine`).

use crate::model::Speaks;

/// A target, taken apart.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Target {
    pub(crate) speaks: Speaks,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// With the query; `/` where there is none.
    pub(crate) path: String,
}

/// Takes a URL apart.
///
/// # Errors
/// What is wrong with it, and what to write.
pub(crate) fn parse(url: &str) -> Result<Target, String> {
    let bad = |what: &str| format!("the URL {url:?} {what}");
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(bad(&format!("has no scheme: write http://{url}, tcp://HOST:PORT or redis://HOST:PORT")));
    };
    let (speaks, usual) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (Speaks::Http1, Some(80)),
        "tcp" => (Speaks::Echo, None),
        "redis" => (Speaks::Resp, Some(6379)),
        "https" | "rediss" => {
            return Err(bad(
                "asks for TLS, which loadgen does not speak: measure the plain port (http://) behind it",
            ));
        }
        other => return Err(bad(&format!("has the scheme {other:?}: there are http, tcp and redis"))),
    };
    let rest = rest.split('#').next().unwrap_or(rest);
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    if authority.contains('@') {
        return Err(bad("has a user name: give credentials as a header (-H 'Authorization: ...')"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(inner) => {
            let (host, rest) = inner.split_once(']').ok_or_else(|| bad("has a [ without a ]"))?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| bad("has no IPv6 address in its brackets"))?;
            (host, rest.strip_prefix(':').or(if rest.is_empty() { None } else { Some("") }))
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(bad(
                    "has several colons: an IPv6 address stands in brackets, as in http://[::1]:8080/",
                ));
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err(bad("names no host"));
    }
    if let Some(odd) = host.chars().find(|c| !(c.is_ascii_alphanumeric() || "-._:".contains(*c))) {
        return Err(bad(&format!("has {odd:?} in its host")));
    }
    let port = match port {
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => {
                return Err(bad(&format!("has the port {port:?}: write a number from 1 to 65535")));
            }
            Ok(port) => port,
        },
        None => usual.ok_or_else(|| bad("has no port: write tcp://HOST:PORT"))?,
    };
    if let Some(odd) = path.chars().find(|c| c.is_ascii_control() || *c == ' ' || !c.is_ascii()) {
        return Err(bad(&format!("has {odd:?} in its path: write it percent-encoded")));
    }
    if speaks != Speaks::Http1 && !matches!(path, "" | "/") {
        return Err(bad("has a path, which its protocol does not know"));
    }
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok(Target { speaks, host: host.to_owned(), port, path })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn of(speaks: Speaks, host: &str, port: u16, path: &str) -> Target {
        Target { speaks, host: host.into(), port, path: path.into() }
    }

    #[test]
    fn a_url_gives_its_parts() {
        let h = Speaks::Http1;
        assert_eq!(parse("http://127.0.0.1:8080/a?b=c#d").unwrap(), of(h, "127.0.0.1", 8080, "/a?b=c"));
        assert_eq!(parse("HTTP://example.test").unwrap(), of(h, "example.test", 80, "/"));
        assert_eq!(parse("http://[::1]:81/x").unwrap(), of(h, "::1", 81, "/x"));
        assert_eq!(parse("http://[::1]").unwrap(), of(h, "::1", 80, "/"));
        assert_eq!(parse("http://h?q").unwrap(), of(h, "h", 80, "/?q"));
        assert_eq!(parse("redis://r").unwrap(), of(Speaks::Resp, "r", 6379, "/"));
        assert_eq!(parse("tcp://e:7").unwrap(), of(Speaks::Echo, "e", 7, "/"));
    }

    #[test]
    fn a_bad_url_is_refused_with_what_to_write() {
        for (url, word) in [
            ("127.0.0.1:8080/", "http://127.0.0.1:8080/"),
            ("https://a/", "TLS"),
            ("ftp://a/", "\"ftp\""),
            ("http://", "no host"),
            ("http:///x", "no host"),
            ("http://a:0/", "1 to 65535"),
            ("http://a:65536/", "1 to 65535"),
            ("http://a:/", "1 to 65535"),
            ("http://::1/", "brackets"),
            ("http://[::1/", "without a ]"),
            ("http://[::1]x/", "1 to 65535"),
            ("http://[nonsense]/", "IPv6"),
            ("http://u:p@a/", "Authorization"),
            ("http://a/b c", "percent-encoded"),
            ("http://a/\u{e9}", "percent-encoded"),
            ("http://a b/", "' ' in its host"),
            ("tcp://a", "no port"),
            ("tcp://a:1/x", "a path"),
        ] {
            let error = parse(url).unwrap_err();
            assert!(error.contains(word), "{url}: {error}");
        }
    }
}
