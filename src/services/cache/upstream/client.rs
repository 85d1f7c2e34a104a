//! One pipelined connection to the upstream: made, kept, made again. Of one shard.
//!
//! Commands go out in the order of [`Client::start`] and are answered in that order. A task connects, greets (HELLO 3
//! with AUTH, else AUTH alone; SELECT; CLIENT TRACKING), then writes what is to be written and hands out what comes.
//!
//! # Rules
//! 1. Calls under way and bytes to be written have maxima; past them a call is [`CallError::Busy`], at once.
//! 2. Without a connection a call is [`CallError::Down`], at once: nothing waits for one.
//! 3. A call that is not answered in time is given up; its place in the order stays until the answer or the end of the
//!    connection. Where nothing at all was answered since it was made, the connection is ended.
//! 4. A connection without traffic is asked every [`BEAT`]: a dead one is known after that and one deadline.
//! 5. Between two tries there is a wait that doubles, up to [`WAIT_MAX`], of which a random half is left out, so that
//!    shards and nodes do not come back all at once.
//!
//! Not here: what is asked (`mod`), whether to ask (`breaker`).

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use corelane_base::{Full, Rng};
use corelane_exec::{Task, sleep, spawn, timeout};
use corelane_net::TcpStream;
use futures_channel::oneshot;

use super::reply::{Reader, Reply};
use super::url::Url;

/// To connect and greet. A server on the same continent takes 200 ms for both; one SYN may be lost (1 s).
pub const CONNECT_TIME: Duration = Duration::from_secs(3);
/// Between two looks at a connection without traffic.
pub const BEAT: Duration = Duration::from_secs(5);
/// The first wait after a connection ended.
pub const WAIT: Duration = Duration::from_millis(50);
/// The longest.
pub const WAIT_MAX: Duration = Duration::from_secs(5);
/// Bytes that may wait to be written; one command may be larger.
pub const OUT_LEN_MAX: usize = 16 << 20;

/// What a client is to do.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where.
    pub url: Url,
    /// Commands that may be unanswered.
    pub in_flight_max: usize,
    /// For an answer.
    pub timeout: Duration,
    /// Bytes of a string in an answer.
    pub string_max: usize,
    /// Whether to ask for invalidations.
    pub tracking: bool,
    /// For the waits.
    pub seed: u64,
}

/// Why a call has no answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallError {
    /// There is no connection, or it ended before the answer.
    Down,
    /// Not in time.
    Timeout,
    /// Too many are under way.
    Busy(Full),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Down => f.write_str("there is no connection to it"),
            CallError::Timeout => f.write_str("it did not answer in time"),
            CallError::Busy(full) => full.fmt(f),
        }
    }
}

/// What happens without a call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// There is a connection; whether it tells of changes.
    Up {
        /// CLIENT TRACKING was accepted.
        tracking: bool,
    },
    /// It ended.
    Down,
    /// Somebody else changed this key.
    Changed(Bytes),
    /// Somebody emptied the database.
    AllChanged,
}

struct Call {
    replies: Vec<Reply>,
    wanted: usize,
    done: oneshot::Sender<Vec<Reply>>,
}

#[derive(Default)]
struct Link {
    up: bool,
    out: Vec<u8>,
    writer: Option<Waker>,
    calls: VecDeque<Call>,
    /// Commands of `calls`.
    in_flight: usize,
    /// Set by a call that found the connection dead.
    dead: bool,
    waiting_for_up: Vec<Waker>,
}

struct Inner {
    settings: Settings,
    link: RefCell<Link>,
    /// Answers so far.
    answered: Cell<u64>,
    connects: Cell<u64>,
    on_event: Box<dyn Fn(Event)>,
}

/// See the module.
pub struct Client {
    inner: Rc<Inner>,
    task: RefCell<Option<Task<()>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({}, up: {})", self.inner.settings.url, self.is_up())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.cancel();
        }
    }
}

/// A call under way.
#[must_use = "its answer is awaited by `wait`"]
pub struct Pending {
    inner: Rc<Inner>,
    answer: oneshot::Receiver<Vec<Reply>>,
    answered_before: u64,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pending")
    }
}

impl Pending {
    /// The answers, one for each command.
    ///
    /// # Errors
    /// [`CallError::Timeout`], counted from here; [`CallError::Down`].
    pub async fn wait(self) -> Result<Vec<Reply>, CallError> {
        match timeout(self.inner.settings.timeout, self.answer).await {
            Ok(Ok(replies)) => Ok(replies),
            Ok(Err(_)) => Err(CallError::Down),
            Err(_) => {
                if self.inner.answered.get() == self.answered_before {
                    self.inner.end();
                }
                Err(CallError::Timeout)
            }
        }
    }
}

impl Client {
    /// Begins to connect. `on_event` is called inside turns, never within a call of the client.
    ///
    /// # Errors
    /// [`Full`] where the shard has no free task.
    ///
    /// # Panics
    /// Outside a shard.
    pub fn start_on_shard(settings: Settings, on_event: impl Fn(Event) + 'static) -> Result<Client, Full> {
        let inner = Rc::new(Inner {
            settings,
            link: RefCell::default(),
            answered: Cell::new(0),
            connects: Cell::new(0),
            on_event: Box::new(on_event),
        });
        let task = spawn(run(Rc::clone(&inner)))?;
        Ok(Client { inner, task: RefCell::new(Some(task)) })
    }

    /// Whether there is a connection.
    pub fn is_up(&self) -> bool {
        self.inner.link.borrow().up
    }

    /// Connections made so far.
    pub fn connects(&self) -> u64 {
        self.inner.connects.get()
    }

    /// Commands not answered yet.
    pub fn in_flight(&self) -> usize {
        self.inner.link.borrow().in_flight
    }

    /// Waits for a connection.
    pub fn up(&self) -> impl Future<Output = ()> + use<> {
        let inner = Rc::clone(&self.inner);
        poll_fn(move |cx| {
            let mut link = inner.link.borrow_mut();
            if link.up {
                return Poll::Ready(());
            }
            if !link.waiting_for_up.iter().any(|waker| waker.will_wake(cx.waker())) {
                link.waiting_for_up.push(cx.waker().clone());
            }
            Poll::Pending
        })
    }

    /// Sends `count` commands, which `write` appends.
    ///
    /// # Errors
    /// [`CallError::Down`], [`CallError::Busy`]; nothing was sent.
    pub fn start(&self, count: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<Pending, CallError> {
        self.inner.start(count, write)
    }
}

impl Inner {
    fn start(self: &Rc<Self>, count: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<Pending, CallError> {
        let mut link = self.link.borrow_mut();
        if !link.up || link.dead {
            return Err(CallError::Down);
        }
        let max = self.settings.in_flight_max;
        if link.in_flight + count > max {
            return Err(CallError::Busy(Full::new("upstream_in_flight_max", max as u64)));
        }
        if link.out.len() > OUT_LEN_MAX {
            return Err(CallError::Busy(Full::new("upstream bytes to be written", OUT_LEN_MAX as u64)));
        }
        write(&mut link.out);
        let (done, answer) = oneshot::channel();
        link.calls.push_back(Call { replies: Vec::with_capacity(count), wanted: count, done });
        link.in_flight += count;
        let waker = link.writer.take();
        drop(link);
        if let Some(waker) = waker {
            waker.wake();
        }
        Ok(Pending { inner: Rc::clone(self), answer, answered_before: self.answered.get() })
    }

    /// Ends the connection.
    fn end(&self) {
        let mut link = self.link.borrow_mut();
        link.dead = true;
        let waker = link.writer.take();
        drop(link);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn went_up(&self) {
        let mut link = self.link.borrow_mut();
        (link.up, link.dead) = (true, false);
        let waiting = std::mem::take(&mut link.waiting_for_up);
        drop(link);
        self.connects.set(self.connects.get() + 1);
        waiting.into_iter().for_each(Waker::wake);
    }

    fn went_down(&self) {
        let link = std::mem::take(&mut *self.link.borrow_mut());
        self.link.borrow_mut().waiting_for_up = link.waiting_for_up;
        // Their senders are dropped: that is the answer `Down`.
        drop(link.calls);
        (self.on_event)(Event::Down);
    }

    /// Hands out a reply. False for one that nobody asked for.
    fn handle(&self, reply: Reply) -> bool {
        if let Reply::Push(items) = reply {
            self.pushed(items);
            return true;
        }
        self.answered.set(self.answered.get() + 1);
        let mut link = self.link.borrow_mut();
        let Some(call) = link.calls.front_mut() else { return false };
        call.replies.push(reply);
        let whole = call.replies.len() == call.wanted;
        link.in_flight -= 1;
        if whole && let Some(call) = link.calls.pop_front() {
            drop(link);
            // Who gave up does not want it.
            drop(call.done.send(call.replies));
        }
        true
    }

    fn pushed(&self, items: Vec<Reply>) {
        let mut items = items.into_iter();
        match (items.next(), items.next()) {
            (Some(Reply::Bulk(kind)), Some(what)) if kind == "invalidate" => match what {
                Reply::Array(keys) => {
                    for key in keys {
                        if let Reply::Bulk(key) = key {
                            (self.on_event)(Event::Changed(key));
                        }
                    }
                }
                _ => (self.on_event)(Event::AllChanged),
            },
            // Other pushes are none that we asked for.
            _ => {}
        }
    }
}

/// Appends a command.
pub fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Waits between two tries: rule 5.
#[derive(Debug)]
struct Waits {
    next: Duration,
    rng: Rng,
}

impl Waits {
    fn new(seed: u64) -> Waits {
        Waits { next: WAIT, rng: Rng::new(seed) }
    }

    fn take(&mut self) -> Duration {
        let whole = u64::try_from(self.next.as_millis()).unwrap_or(u64::MAX);
        self.next = (self.next * 2).min(WAIT_MAX);
        Duration::from_millis(whole / 2 + self.rng.below(whole / 2 + 1))
    }
}

async fn run(inner: Rc<Inner>) {
    let mut waits = Waits::new(inner.settings.seed);
    let mut said = String::new();
    loop {
        let why = match timeout(CONNECT_TIME, connect(&inner.settings)).await {
            Ok(Ok((stream, reader, tracking))) => {
                waits.next = WAIT;
                said.clear();
                tracing::info!(upstream = %inner.settings.url, tracking, "connected to the upstream of the cache");
                inner.went_up();
                (inner.on_event)(Event::Up { tracking });
                let why = serve(&inner, &stream, reader).await;
                inner.went_down();
                why
            }
            Ok(Err(why)) => why,
            Err(_) => format!("it did not answer within {CONNECT_TIME:?}"),
        };
        // Once for each reason, not for each try.
        if why != said {
            tracing::warn!(upstream = %inner.settings.url, why, "no connection to the upstream of the cache; trying on");
            said = why;
        }
        sleep(waits.take()).await;
    }
}

async fn read(stream: &TcpStream, reader: &mut Reader) -> Result<(), String> {
    let bytes = stream.read().await.map_err(|error| error.to_string())?;
    if bytes.is_empty() {
        return Err("it ended the connection".into());
    }
    reader.handle(&bytes);
    Ok(())
}

/// One command, while nothing else goes on.
async fn ask(
    stream: &TcpStream,
    reader: &mut Reader,
    words: &[&[u8]],
) -> Result<Result<Reply, Bytes>, String> {
    let mut out = Vec::new();
    command(&mut out, words);
    stream.write_all(out).await.map_err(|error| error.to_string())?;
    loop {
        match reader.poll().map_err(|garbage| garbage.0.to_owned())? {
            Some(Reply::Error(text)) => return Ok(Err(text)),
            Some(Reply::Push(_)) => {}
            Some(reply) => return Ok(Ok(reply)),
            None => read(stream, reader).await?,
        }
    }
}

async fn connect(settings: &Settings) -> Result<(TcpStream, Reader, bool), String> {
    let Settings { url, string_max, .. } = settings;
    let place = url.host_and_port();
    let stream = match place.parse::<SocketAddr>() {
        Ok(addr) => TcpStream::connect(addr).await,
        Err(_) => TcpStream::connect_host(&place).await,
    };
    let stream = stream.map_err(|error| error.to_string())?;
    let mut reader = Reader::new(*string_max);
    let refused = |what: &str, text: Bytes| format!("it refused {what}: {}", text.escape_ascii());
    let user = url.user.as_deref().unwrap_or("default").as_bytes();
    let password = url.password.as_deref().map(str::as_bytes);
    let mut hello: Vec<&[u8]> = vec![b"HELLO", b"3"];
    if let Some(password) = password {
        hello.extend([b"AUTH", user, password]);
    }
    let speaks_3 = match ask(&stream, &mut reader, &hello).await? {
        Ok(_) => true,
        // Before Redis 6.
        Err(text) if text.starts_with(b"ERR unknown command") || text.starts_with(b"NOPROTO") => {
            if let Some(password) = password {
                let words: &[&[u8]] =
                    if url.user.is_some() { &[b"AUTH", user, password] } else { &[b"AUTH", password] };
                ask(&stream, &mut reader, words).await?.map_err(|text| refused("AUTH", text))?;
            }
            false
        }
        Err(text) => return Err(refused("HELLO", text)),
    };
    if url.database > 0 {
        let number = url.database.to_string();
        let said = ask(&stream, &mut reader, &[b"SELECT", number.as_bytes()]).await?;
        said.map_err(|text| refused("SELECT", text))?;
    }
    let mut tracking = false;
    if settings.tracking && speaks_3 {
        // NOLOOP: what this shard writes it knows.
        let words: &[&[u8]] = &[b"CLIENT", b"TRACKING", b"ON", b"BCAST", b"NOLOOP"];
        match ask(&stream, &mut reader, words).await? {
            Ok(_) => tracking = true,
            Err(text) => tracing::warn!(upstream = %url, error = %text.escape_ascii(), "no invalidations"),
        }
    }
    Ok((stream, reader, tracking))
}

/// Until the connection ends: why it did.
async fn serve(inner: &Rc<Inner>, stream: &TcpStream, reader: Reader) -> String {
    let mut reading = pin!(reads(inner, stream, reader));
    let mut writing = pin!(writes(inner, stream));
    let mut beating = pin!(beats(inner));
    poll_fn(|cx| {
        if let Poll::Ready(why) = reading.as_mut().poll(cx) {
            return Poll::Ready(why);
        }
        if let Poll::Ready(why) = beating.as_mut().poll(cx) {
            return Poll::Ready(why);
        }
        writing.as_mut().poll(cx)
    })
    .await
}

async fn reads(inner: &Inner, stream: &TcpStream, mut reader: Reader) -> String {
    loop {
        loop {
            match reader.poll() {
                Ok(None) => break,
                Ok(Some(reply)) => {
                    if !inner.handle(reply) {
                        return "it answered what nobody asked".into();
                    }
                }
                Err(garbage) => return format!("what it sends is no RESP: {}", garbage.0),
            }
        }
        if let Err(why) = read(stream, &mut reader).await {
            return why;
        }
    }
}

async fn writes(inner: &Inner, stream: &TcpStream) -> String {
    loop {
        let out = poll_fn(|cx| {
            let mut link = inner.link.borrow_mut();
            if link.dead {
                return Poll::Ready(None);
            }
            if link.out.is_empty() {
                link.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Some(std::mem::take(&mut link.out)))
        })
        .await;
        let Some(out) = out else { return "it did not answer in time".into() };
        let mut writing = pin!(stream.write_all(out));
        // A server that takes nothing is found dead by a call; then nobody waits for this write.
        let wrote = poll_fn(|cx| {
            if let Poll::Ready(wrote) = writing.as_mut().poll(cx) {
                return Poll::Ready(wrote);
            }
            let mut link = inner.link.borrow_mut();
            if link.dead {
                return Poll::Ready(Ok(()));
            }
            link.writer = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
        if let Err(error) = wrote {
            return error.to_string();
        }
    }
}

async fn beats(inner: &Rc<Inner>) -> String {
    loop {
        let before = inner.answered.get();
        sleep(BEAT).await;
        if inner.answered.get() != before {
            continue;
        }
        if let Ok(pending) = inner.start(1, |out| command(out, &[b"PING"]))
            && pending.wait().await.is_err()
        {
            return "it did not answer a PING in time".into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_their_maximum_and_leave_out_a_random_part_of_half() {
        let mut waits = Waits::new(3);
        let mut whole = WAIT;
        for _ in 0..20 {
            let wait = waits.take();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(WAIT_MAX);
        }
        let others: Vec<Duration> = (0..8).map(|seed| Waits::new(seed).take()).collect();
        assert!(others.iter().any(|wait| *wait != others[0]), "{others:?}");
    }
}
