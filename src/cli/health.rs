//! `corelane health`: is a node alive, asked from outside.
//!
//! Not here: what `/health` answers (`corelane::node`), asking (`ask`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use corelane::config::Config;

use super::ask::{self, Target, Wants};
use super::{CannotRun, Exit, print, tell};

const WANTS: Wants<'static> =
    Wants { time: Duration::from_secs(2), len_max: 1024, line_only: true, field: "" };

/// Asks the node that `config` would start: at its first address, and through its first socket if it has none.
pub(crate) fn ask_node(config: &Config) -> Exit {
    let settings = config.settings();
    let socket = || settings.listen.iter().find_map(|listen| listen.unix().map(Path::to_owned));
    let (authority, socket) = match settings.first_tcp() {
        Some(addr) => (reachable(addr).to_string(), None),
        None => ("localhost".to_owned(), socket()),
    };
    tell_health(&Target { authority, path: "/health".to_owned(), socket })
}

/// Asks the node at `url`.
pub(crate) fn ask_url(url: &str) -> Result<Exit, CannotRun> {
    Ok(tell_health(&ask::parse("--url", url, "/health")?))
}

fn tell_health(target: &Target) -> Exit {
    match ask::ask(target, WANTS).map(|(status, _)| status) {
        Ok(200) => print(format_args!("healthy: {target} answers 200\n")),
        Ok(status) => {
            tell(format_args!("corelane: not healthy: {target} answers {status}"));
            Exit::Failed
        }
        Err(error) => {
            tell(format_args!("corelane: not healthy: {target}: {error}"));
            Exit::Failed
        }
    }
}

/// The address under which a listener is reached from its own host.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_wildcard_is_asked_by_loopback() {
        let asked = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:1"), "127.0.0.1:1");
        assert_eq!(asked("[::]:1"), "[::1]:1");
        assert_eq!(asked("10.1.2.3:1"), "10.1.2.3:1");
    }
}
