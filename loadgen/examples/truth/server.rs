//! A server with one queue, whose every answer is due at a time that can be computed: for echoes of
//! [`ECHO_LEN`] bytes, whose first eight are the number of the request.
//!
//! One thread does nothing but look: at its connections (epoll, edge-triggered, so that they come in the
//! order in which their requests did), and at the clock. Work is the time that passes until the request at
//! the head of the queue is done: `max(came, end of the one before) + draw`. So what the server itself needs,
//! for reading and writing, delays an answer by a few microseconds and is no work of the queue: it does not
//! add up.
//!
//! # Rules
//! 1. The work of request `n` is the `n`-th draw of the seed, whoever comes first.
//! 2. A peer that sends something else is closed.
//!
//! Not here: the recursion it is held against (`lindley`).

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use corelane_sys::clock::mono_ns;
use loadgen::plan::draw::Draws;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};

/// Bytes of a request and of its answer.
pub(crate) const ECHO_LEN: usize = 16;

/// Requests in the life of a server: those of the longest experiment are a tenth. Past it: closed.
const REQUESTS_MAX: u64 = 1_000_000;

/// Connections in the life of a server: 512, and those opened anew after a timeout. Past it: closed.
const CONNECTIONS_MAX: usize = 16_384;

/// Connections that are looked at between two looks at the clock.
const EVENTS_MAX: usize = 64;

/// Stands for the listener among connections.
const LISTENER: u64 = u64::MAX;

/// How a server works.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habit {
    /// Mean work of a request; 0 is none at all.
    pub(crate) mean_ns: u64,
    /// Of the draws.
    pub(crate) seed: u64,
    /// Each request whose number, counted from 1, is a multiple of it is never answered; 0 for none.
    pub(crate) silent_every: u64,
}

/// The work of request 0, 1, 2, and so on: what the server and its judge both draw.
pub(crate) fn works(mean_ns: u64, seed: u64) -> impl Iterator<Item = u64> {
    let mut draws = Draws::new(seed);
    std::iter::from_fn(move || {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // at most 37 times the mean
        let work_ns = (draws.exponential() * mean_ns as f64) as u64;
        Some(work_ns)
    })
}

struct Waiting {
    conn: usize,
    message: [u8; ECHO_LEN],
    came_ns: u64,
}

impl Waiting {
    fn number(&self) -> u64 {
        let mut number = [0; 8];
        number.copy_from_slice(&self.message[..8]);
        u64::from_le_bytes(number)
    }
}

struct Conn {
    stream: TcpStream,
    message: [u8; ECHO_LEN],
    len: usize,
}

struct Server {
    habit: Habit,
    listener: TcpListener,
    epoll: rustix::fd::OwnedFd,
    /// By the number under which epoll knows them; gone ones leave a hole.
    conns: Vec<Option<Conn>>,
    waiting: VecDeque<Waiting>,
    draws: Box<dyn Iterator<Item = u64>>,
    works_ns: Vec<u64>,
    free_ns: u64,
}

/// Serves for `life`; `ready` is told where.
///
/// # Errors
/// What could not be set up, or why epoll failed.
pub(crate) fn serve(habit: Habit, life: Duration, ready: impl FnOnce(SocketAddr)) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("the queue server cannot go on: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(|error| failed(error.into()))?;
    let data = epoll::EventData::new_u64(LISTENER);
    epoll::add(&poll, &listener, data, epoll::EventFlags::IN).map_err(|error| failed(error.into()))?;
    ready(listener.local_addr().map_err(failed)?);
    let mut server = Server {
        habit,
        listener,
        epoll: poll,
        conns: Vec::new(),
        waiting: VecDeque::new(),
        draws: Box::new(works(habit.mean_ns, habit.seed)),
        works_ns: Vec::new(),
        free_ns: 0,
    };
    let end_ns = mono_ns().saturating_add(u64::try_from(life.as_nanos()).unwrap_or(u64::MAX));
    let mut events = Vec::with_capacity(EVENTS_MAX);
    loop {
        let now = mono_ns();
        if now >= end_ns {
            return Ok(());
        }
        server.answer(now);
        match epoll::wait(&server.epoll, spare_capacity(&mut events), Some(&Timespec::default())) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(failed(error.into())),
        }
        if events.is_empty() {
            continue;
        }
        let now = mono_ns();
        for event in events.drain(..) {
            match event.data.u64() {
                LISTENER => server.accept(),
                conn => server.read(usize::try_from(conn).unwrap_or(usize::MAX), now),
            }
        }
    }
}

impl Server {
    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let data = epoll::EventData::new_u64(self.conns.len() as u64);
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            let is_set = stream.set_nonblocking(true).is_ok() && stream.set_nodelay(true).is_ok();
            if !is_set || self.conns.len() >= CONNECTIONS_MAX {
                continue;
            }
            // What came before this is reported, too: epoll looks when one is added.
            if epoll::add(&self.epoll, &stream, data, flags).is_ok() {
                self.conns.push(Some(Conn { stream, message: [0; ECHO_LEN], len: 0 }));
            }
        }
    }

    /// Takes what came on a connection, up to one message: there is no next one before its answer.
    fn read(&mut self, index: usize, now: u64) {
        let Some(slot) = self.conns.get_mut(index) else { return };
        let Some(conn) = slot else { return };
        loop {
            match conn.stream.read(&mut conn.message[conn.len..]) {
                Ok(0) => break *slot = None,
                Ok(count) => {
                    conn.len += count;
                    if conn.len < ECHO_LEN {
                        continue;
                    }
                    conn.len = 0;
                    let waiting = Waiting { conn: index, message: conn.message, came_ns: now };
                    if waiting.number() < REQUESTS_MAX {
                        self.waiting.push_back(waiting);
                    } else {
                        *slot = None;
                    }
                    break;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => break *slot = None,
            }
        }
    }

    /// Answers all that is done by now.
    fn answer(&mut self, now: u64) {
        while let Some(first) = self.waiting.front() {
            let number = first.number();
            let done_ns = first.came_ns.max(self.free_ns) + self.work_ns(number);
            if done_ns > now {
                return;
            }
            self.free_ns = done_ns;
            let Some(first) = self.waiting.pop_front() else { return };
            let every = self.habit.silent_every;
            if every > 0 && (number + 1).is_multiple_of(every) {
                continue;
            }
            let slot = &mut self.conns[first.conn];
            // It may have gone while it waited, and a send buffer has room for one answer.
            if slot.as_mut().is_some_and(|conn| conn.stream.write_all(&first.message).is_err()) {
                *slot = None;
            }
        }
    }

    fn work_ns(&mut self, number: u64) -> u64 {
        let index = usize::try_from(number).unwrap_or(usize::MAX);
        // Below `REQUESTS_MAX`.
        while self.works_ns.len() <= index {
            self.works_ns.push(self.draws.next().unwrap_or(0));
        }
        self.works_ns[index]
    }
}
