//! Where a node can be reached: addresses with ports, and sockets in the file system.
//!
//! Not here: listening (`boot`), whether an address can be had (`preflight`).

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Bytes of the longest path of a socket: `sun_path` is 108, its last one NUL (unix(7)).
pub const UNIX_PATH_LEN_MAX: usize = 107;

/// What a path begins with.
const UNIX: &str = "unix:";

/// One place to listen at.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Listen {
    /// An address and a port; port 0 takes any free one.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Listen {
    /// Reads `ADDR:PORT` or `unix:/path`. A path is absolute, at most [`UNIX_PATH_LEN_MAX`] bytes long, and
    /// has neither commas nor control characters, as lists and lines are made of it.
    pub fn parse(text: &str) -> Option<Listen> {
        let Some(path) = text.strip_prefix(UNIX) else { return text.parse().ok().map(Listen::Tcp) };
        let understood = path.starts_with('/')
            && !path.ends_with('/')
            && path.len() <= UNIX_PATH_LEN_MAX
            && !path.contains(|c: char| c == ',' || c.is_control());
        understood.then(|| Listen::Unix(path.into()))
    }

    /// The address, unless it is a path.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Listen::Tcp(addr) => Some(*addr),
            Listen::Unix(_) => None,
        }
    }

    /// The path, unless it is an address.
    pub fn unix(&self) -> Option<&Path> {
        match self {
            Listen::Tcp(_) => None,
            Listen::Unix(path) => Some(path),
        }
    }
}

impl From<SocketAddr> for Listen {
    fn from(addr: SocketAddr) -> Listen {
        Listen::Tcp(addr)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Listen::Tcp(addr) => addr.fmt(f),
            Listen::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_or_an_absolute_path_is_understood_and_written_the_same() {
        for text in ["127.0.0.1:0", "[::]:8080", "unix:/run/corelane.sock", "unix:/a b"] {
            assert_eq!(Listen::parse(text).unwrap().to_string(), text);
        }
        let long = format!("unix:/{}", "x".repeat(UNIX_PATH_LEN_MAX - 1));
        assert!(Listen::parse(&long).is_some());
        for text in
            [&format!("{long}x"), "unix:", "unix:/", "unix:run.sock", "unix:/a,b", "unix:/a\nb", "/run/x"]
        {
            assert_eq!(Listen::parse(text), None, "{text}");
        }
        for text in ["", "localhost:80", "127.0.0.1", ":80", "127.0.0.1:65536"] {
            assert_eq!(Listen::parse(text), None, "{text}");
        }
    }
}
