//! Where the upstream is: `redis://[[user]:password@]host[:port][/database]`.
//!
//! The scheme is the one registered with IANA for Redis. User and password may be percent-encoded (RFC 3986, 2.1).
//!
//! Not here: looking the host up, TLS (`rediss://` is refused).

use std::fmt;

/// Where nothing else is said.
pub const PORT: u16 = 6379;

/// An upstream, taken apart.
#[derive(Clone, Eq, PartialEq)]
pub struct Url {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// For `AUTH`; `None` for the default user.
    pub user: Option<String>,
    /// For `AUTH`; `None` for none.
    pub password: Option<String>,
    /// For `SELECT`.
    pub database: u32,
}

/// The password does not go into logs.
impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secret = if self.password.is_some() { ":***@" } else { "" };
        let user = self.user.as_deref().unwrap_or_default();
        write!(f, "redis://{user}{secret}{}/{}", self.host_and_port(), self.database)
    }
}

fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(
                "a % in it is not followed by two hexadecimal digits; write %25 for the sign itself".into()
            );
        };
        bytes.push(u8::try_from(high * 16 + low).unwrap_or_default());
    }
    String::from_utf8(bytes).map_err(|_| "user and password must be UTF-8".into())
}

impl Url {
    /// On this host, at the usual port, without a password.
    pub fn local() -> Url {
        Url { host: "127.0.0.1".to_owned(), port: PORT, user: None, password: None, database: 0 }
    }

    /// Reads an address of an upstream.
    ///
    /// # Errors
    /// What is wrong with it, without the password, and what to write.
    pub fn parse(text: &str) -> Result<Url, String> {
        let Some(rest) = text.strip_prefix("redis://") else {
            let scheme = text.split("://").next().filter(|_| text.contains("://")).unwrap_or("nothing");
            return Err(format!("it begins with {scheme}; write redis://host:6379 (TLS is not supported)"));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, place) = match authority.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, authority),
        };
        let (user, password) = match login {
            None => (None, None),
            Some(login) => {
                let Some((user, password)) = login.split_once(':') else {
                    return Err("there is a user without a password; write user:password@".into());
                };
                let user = decoded(user)?;
                (Some(user).filter(|user| !user.is_empty()), Some(decoded(password)?))
            }
        };
        let (host, port) = match place.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']').ok_or("the bracket of its address is not closed")?;
                (host, if port.is_empty() { None } else { Some(port.strip_prefix(':').unwrap_or(port)) })
            }
            None => place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port))),
        };
        if host.is_empty() {
            return Err("it names no host; write redis://host:6379".into());
        }
        let port = match port {
            None => PORT,
            Some(port) => port
                .parse()
                .ok()
                .filter(|&port| port > 0)
                .ok_or_else(|| format!("its port is {port:?}; write a number from 1 to 65535"))?,
        };
        let database = match path {
            "" => 0,
            number => number.parse().map_err(|_| {
                format!("its database is {number:?}; write a number behind the slash, or nothing")
            })?,
        };
        Ok(Url { host: host.to_owned(), port, user, password, database })
    }

    /// As a resolver takes it.
    pub fn host_and_port(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_all_its_parts_or_their_defaults() {
        let url = Url::parse("redis://cache.example").unwrap();
        assert_eq!((url.host_and_port().as_str(), url.database), ("cache.example:6379", 0));
        assert_eq!((url.user, url.password), (None, None));
        let url = Url::parse("redis://app:p%40ss%3aword@[::1]:7000/3").unwrap();
        assert_eq!(url.host_and_port(), "[::1]:7000");
        assert_eq!((url.user.as_deref(), url.password.as_deref()), (Some("app"), Some("p@ss:word")));
        assert_eq!(url.database, 3);
        let url = Url::parse("redis://:secret@10.0.0.1/").unwrap();
        assert_eq!((url.user, url.password.as_deref()), (None, Some("secret")));
    }

    #[test]
    fn what_is_no_address_is_refused_with_what_to_write() {
        for (text, wanted) in [
            ("cache:6379", "it begins with nothing; write redis://host:6379"),
            ("rediss://cache", "it begins with rediss"),
            ("redis://", "names no host"),
            ("redis://:6379", "names no host"),
            ("redis://a:0", "its port is \"0\""),
            ("redis://a:66000", "its port is \"66000\""),
            ("redis://a/x", "its database is \"x\""),
            ("redis://user@a", "a user without a password"),
            ("redis://u:%4@a", "two hexadecimal digits"),
            ("redis://[::1", "not closed"),
        ] {
            let said = Url::parse(text).unwrap_err();
            assert!(said.contains(wanted), "{text}: {said}");
        }
    }

    #[test]
    fn a_password_is_not_shown() {
        let url = Url::parse("redis://app:secret@h").unwrap();
        for shown in [format!("{url}"), format!("{url:?}")] {
            assert_eq!(shown, "redis://app:***@h:6379/0");
        }
    }
}
