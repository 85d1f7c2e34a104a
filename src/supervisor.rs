//! What a node and its supervisor tell each other, as systemd speaks with a service: sockets that it opened for us
//! (sd_listen_fds(3)), and whether we are ready, end, or still live (sd_notify(3)).
//!
//! # Rules
//! 1. Nothing here waits: what the supervisor has no room to hear is not said, and an unsaid sign of life is said at
//!    the next look.
//! 2. A sign of life is one of all shards: none is given while one of them stands still.
//!
//! There is no reload, so RELOADING is never said. Not here: when a shard stands still (`watch`), units (`deploy/`).

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use corelane_sys::socket::{HandedAt, HandedSocket, take_handed};

use crate::config::{Env, Listen};

/// Signs of life in one time of the watchdog: one may be lost, and one late.
const SIGNS: u32 = 3;

/// The name of a socket for Redis clients; all others are for HTTP.
const RESP: &str = "resp";

/// Somebody who wants to know how the node is.
#[derive(Debug)]
pub struct Supervisor {
    socket: UnixDatagram,
    /// Between two signs of life, nanoseconds; none if nobody waits for them.
    period_ns: Option<u64>,
    /// When the last one was given.
    said_ns: AtomicU64,
}

impl Supervisor {
    /// The one that `NOTIFY_SOCKET` names, with the time that `WATCHDOG_USEC` gives us.
    ///
    /// # Errors
    /// What connecting to its socket answers. It is then for the caller to say that nobody is told.
    pub fn of_env(env: Env<'_>) -> io::Result<Option<Supervisor>> {
        let Some(name) = env("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else { return Ok(None) };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&addr_of(&name)?)?;
        socket.set_nonblocking(true)?;
        let number = |name: &str| env(name)?.to_str()?.parse::<u64>().ok();
        // A variable that was meant for the process before us says nothing about us.
        let ours = number("WATCHDOG_PID").is_none_or(|id| id == u64::from(std::process::id()));
        let time_us = number("WATCHDOG_USEC").filter(|&us| ours && us > 0);
        let period_ns = time_us.map(|us| us.saturating_mul(1_000) / u64::from(SIGNS));
        Ok(Some(Supervisor { socket, period_ns, said_ns: AtomicU64::new(0) }))
    }

    /// It serves, as `status` says.
    pub(crate) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={}", one_line(status)));
    }

    /// What the operator is to read now.
    pub(crate) fn status(&self, status: &str) {
        self.say(&format!("STATUS={}", one_line(status)));
    }

    /// It drains, and may need `time` for that.
    pub(crate) fn stopping(&self, time: Duration) {
        let us = time.as_micros();
        self.say(&format!("STOPPING=1\nEXTEND_TIMEOUT_USEC={us}\nSTATUS=draining"));
    }

    /// Rule 2. Called at every look; says so as often as the watchdog needs it.
    pub(crate) fn alive(&self, now_ns: u64) {
        let Some(period_ns) = self.period_ns else { return };
        let last_ns = self.said_ns.load(Ordering::Relaxed);
        if now_ns.saturating_sub(last_ns) >= period_ns && self.say("WATCHDOG=1") {
            self.said_ns.store(now_ns, Ordering::Relaxed);
        }
    }

    /// Rule 1. Whether it was said.
    fn say(&self, text: &str) -> bool {
        self.socket.send(text.as_bytes()).is_ok()
    }
}

/// A path, or a name without a file after an `@`.
fn addr_of(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(io::Error::new(io::ErrorKind::Unsupported, "it is neither a path nor a name after an @")),
    }
}

fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Sockets that the supervisor listens at for us: its connections wait while we are not there.
#[derive(Debug, Default)]
pub struct Handed(Vec<One>);

#[derive(Debug)]
struct One {
    place: Listen,
    is_resp: bool,
    socket: HandedSocket,
}

impl Handed {
    /// Takes over what `LISTEN_FDS` counts, where `LISTEN_PID` is this process. Those that `LISTEN_FDNAMES` calls
    /// `resp` are for Redis clients, all others for HTTP. Once in the life of the process, before it listens itself.
    ///
    /// # Errors
    /// `InvalidInput` for a count that is none, and for two sockets at one place; else as
    /// [`corelane_sys::socket::take_handed`].
    pub fn of_env(env: Env<'_>) -> io::Result<Handed> {
        let text = |name: &str| env(name).map(|value| value.to_string_lossy().into_owned());
        let (Some(pid), Some(count)) = (text("LISTEN_PID"), text("LISTEN_FDS")) else {
            return Ok(Handed::default());
        };
        if pid != std::process::id().to_string() {
            return Ok(Handed::default());
        }
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidInput, what);
        let count = count.parse().map_err(|_| invalid(format!("{} is no number", count.escape_debug())))?;
        let names = text("LISTEN_FDNAMES").unwrap_or_default();
        let names = names.split(':').chain(std::iter::repeat(""));
        let mut all = Handed::default();
        for (socket, name) in take_handed(count)?.into_iter().zip(names) {
            let place = match socket.at() {
                HandedAt::Tcp(addr) => Listen::Tcp(*addr),
                HandedAt::Unix(path) => Listen::Unix(path.clone()),
            };
            if all.find(&place).is_some() {
                return Err(invalid(format!("two of them listen on {place}")));
            }
            all.0.push(One { place, is_resp: name == RESP, socket });
        }
        Ok(all)
    }

    /// Places for HTTP.
    pub fn http(&self) -> Vec<Listen> {
        self.0.iter().filter(|one| !one.is_resp).map(|one| one.place.clone()).collect()
    }

    /// Places for Redis clients.
    pub fn resp(&self) -> Vec<Listen> {
        self.0.iter().filter(|one| one.is_resp).map(|one| one.place.clone()).collect()
    }

    /// All of them.
    pub(crate) fn places(&self) -> Vec<Listen> {
        self.0.iter().map(|one| one.place.clone()).collect()
    }

    /// The socket that listens at `place`.
    pub(crate) fn find(&self, place: &Listen) -> Option<&HandedSocket> {
        self.0.iter().find(|one| one.place == *place).map(|one| &one.socket)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::ffi::OsString;

    use super::*;

    fn env<'a>(list: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| list.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    }

    /// A supervisor, and what it hears with.
    fn pair(more: &[(&str, &str)]) -> (Supervisor, UnixDatagram, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let ear = UnixDatagram::bind(&path).unwrap();
        ear.set_nonblocking(true).unwrap();
        let list: Vec<_> = more.iter().copied().chain([("NOTIFY_SOCKET", path.to_str().unwrap())]).collect();
        (Supervisor::of_env(&env(&list)).unwrap().unwrap(), ear, dir)
    }

    fn heard(ear: &UnixDatagram) -> Vec<String> {
        let mut all = Vec::new();
        let mut room = [0; 512];
        while let Ok(len) = ear.recv(&mut room) {
            all.push(String::from_utf8(room[..len].to_vec()).unwrap());
        }
        all
    }

    #[test]
    fn signs_of_life_come_three_times_as_often_as_the_watchdog_needs_them() {
        let id = std::process::id().to_string();
        let (supervisor, ear, _dir) = pair(&[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", &id)]);
        for now_ms in (5_000..8_000).step_by(100) {
            supervisor.alive(now_ms * 1_000_000);
        }
        assert_eq!(heard(&ear), ["WATCHDOG=1"; 3]);
    }

    #[test]
    fn a_watchdog_of_another_process_or_of_no_time_hears_nothing() {
        for more in [&[][..], &[("WATCHDOG_USEC", "1000"), ("WATCHDOG_PID", "1")], &[("WATCHDOG_USEC", "0")]]
        {
            let (supervisor, ear, _dir) = pair(more);
            supervisor.alive(u64::MAX);
            assert_eq!(heard(&ear), [""; 0], "{more:?}");
        }
    }

    #[test]
    fn a_status_is_one_line_whatever_is_in_it() {
        let (supervisor, ear, _dir) = pair(&[]);
        supervisor.ready("unix:/a\nWATCHDOG=trigger");
        supervisor.stopping(Duration::from_millis(1_500));
        assert_eq!(
            heard(&ear),
            [
                "READY=1\nSTATUS=unix:/a WATCHDOG=trigger",
                "STOPPING=1\nEXTEND_TIMEOUT_USEC=1500000\nSTATUS=draining"
            ]
        );
    }

    #[test]
    fn a_sign_that_found_no_room_is_given_at_the_next_look() {
        let (supervisor, ear, _dir) = pair(&[("WATCHDOG_USEC", "3")]);
        let mut sent = 0;
        while supervisor.say("x") {
            sent += 1;
            assert!(sent < 1_000_000, "the queue has an end");
        }
        supervisor.alive(1_000_000);
        assert_eq!(heard(&ear).len(), sent);
        supervisor.alive(1_000_001);
        assert_eq!(heard(&ear), ["WATCHDOG=1"]);
    }

    #[test]
    fn a_name_without_a_file_is_understood_and_another_family_is_not() {
        let name = format!("corelane-test-{}", std::process::id());
        let ear = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        let at = format!("@{name}");
        let supervisor = Supervisor::of_env(&env(&[("NOTIFY_SOCKET", &at)])).unwrap().unwrap();
        supervisor.status("here");
        assert_eq!(heard(&ear_now(ear)), ["STATUS=here"]);
        assert!(Supervisor::of_env(&env(&[("NOTIFY_SOCKET", "vsock:2:1")])).is_err());
        assert!(Supervisor::of_env(&env(&[("NOTIFY_SOCKET", "")])).unwrap().is_none());
    }

    fn ear_now(ear: UnixDatagram) -> UnixDatagram {
        ear.set_nonblocking(true).unwrap();
        ear
    }

    #[test]
    fn sockets_of_another_process_are_not_ours_and_a_count_must_be_one() {
        for list in [&[("LISTEN_FDS", "1")][..], &[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")]] {
            assert!(Handed::of_env(&env(list)).unwrap().places().is_empty());
        }
        let id = std::process::id().to_string();
        let error = Handed::of_env(&env(&[("LISTEN_FDS", "two"), ("LISTEN_PID", &id)])).unwrap_err();
        assert_eq!(error.to_string(), "two is no number");
    }
}
