//! Plain TCP on the ring: outbound connects, accepted streams, and connections taken over after an upgrade.
//!
//! A stream is a slot of the shard's one [`Streams`] table. `read` and `write_all` take `&self`, so that one
//! task may read while another writes; two readers, or two writers, at once are a mistake of the caller.
//!
//! # Rules
//! 1. Received bytes are copied out of the ring; past [`INBOX_MAX`] unread bytes the stream stops receiving.
//! 2. A slot is freed when its handle is dropped and nothing is under way.
//! 3. At most one send is under way; its bytes belong to the kernel until it ends, even if the future that
//!    asked is gone.
//!
//! Not here: TLS, deadlines (wrap calls in [`timeout`](corelane_exec::timeout)).

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use corelane_base::{AcceptMode, Full, ListenerId, Op, RecvMode, ShutdownHow, Sock, Token};
use corelane_exec::{Data, Driver, Event, Shard, current, spawn};
use corelane_pools::{Chain, SlotKey, Slots};

use crate::accepting::{Patience, RETRY};
use crate::errno;

/// Unread bytes a stream holds before it stops receiving; what the kernel had already delivered may pass it.
pub const INBOX_MAX: usize = 64 << 10;

/// Bytes of one send operation of [`TcpStream::write_all`]; more is sent in pieces.
pub const SEND_MAX: usize = 1 << 20;

mod tag {
    pub(super) const CONNECT: u8 = 1;
    pub(super) const RECV: u8 = 2;
    pub(super) const SEND: u8 = 3;
    pub(super) const SHUTDOWN: u8 = 4;
    pub(super) const SOCKET: u8 = 5;
    pub(super) const ACCEPT: u8 = 6;
    pub(super) const ACCEPT_TIMER: u8 = 7;
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Recv {
    Idle,
    Armed,
    Cancelling,
}

struct Slot {
    sock: Option<Sock>,
    recv: Recv,
    /// Other operations under way: socket, connect, send, shutdown.
    under_way: u8,
    inbox: BytesMut,
    eof: bool,
    /// Errno that ended the stream.
    error: i32,
    reader: Option<Waker>,
    /// Result of the last connect or send; `None` while under way.
    outcome: Option<i32>,
    writer: Option<Waker>,
    /// A [`Writing`] stands.
    writing: bool,
    dropped: bool,
    cancelled: bool,
    /// Accepted or upgraded, not connected by us: a drain waits for it.
    inbound: bool,
    /// Held by whoever handed it over.
    share: Option<Box<dyn Any>>,
}

impl Slot {
    fn new(sock: Option<Sock>) -> Slot {
        Slot {
            sock,
            recv: Recv::Idle,
            under_way: 0,
            inbox: BytesMut::new(),
            eof: false,
            error: 0,
            reader: None,
            outcome: None,
            writer: None,
            writing: false,
            dropped: false,
            cancelled: false,
            inbound: false,
            share: None,
        }
    }
}

type OnStream = Rc<dyn Fn(TcpStream)>;

struct Acceptor {
    listener: ListenerId,
    on_stream: OnStream,
    under_way: bool,
    paused: bool,
    closing: bool,
    done: bool,
    patience: Patience,
}

/// The plain TCP streams of a shard.
pub struct Streams {
    me: Weak<Streams>,
    owner: Cell<u8>,
    slots: RefCell<Slots<Slot>>,
    streams_max: usize,
    inbound: Cell<usize>,
    acceptors: RefCell<Vec<Acceptor>>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Streams({})", self.slots.borrow().len())
    }
}

struct Table(Rc<Streams>);

/// One TCP connection of this shard. Dropping it closes the socket once nothing is under way.
pub struct TcpStream {
    table: Rc<Streams>,
    key: SlotKey,
}

impl fmt::Debug for TcpStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TcpStream({})", self.key.index)
    }
}

fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

impl Streams {
    /// The table of this shard, made when first asked for.
    pub fn of(shard: &Shard) -> Rc<Streams> {
        let mut made = false;
        let table = shard.local(|| {
            made = true;
            let limits = shard.limits();
            let room = limits.connections_max.saturating_add(limits.descriptors_headroom);
            Table(Rc::new_cyclic(|me| Streams {
                me: Weak::clone(me),
                owner: Cell::new(0),
                slots: RefCell::new(Slots::new("connections_max", room)),
                streams_max: limits.connections_max as usize,
                inbound: Cell::new(0),
                acceptors: RefCell::new(Vec::new()),
            }))
        });
        if made {
            table.0.owner.set(shard.add_driver(Rc::clone(&table.0) as Rc<dyn Driver>));
        }
        Rc::clone(&table.0)
    }

    /// Streams open.
    pub fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Whether none is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn token(&self, tag: u8, key: SlotKey) -> Token {
        // A slot is freed after its last completion, so the low half of the generation is enough.
        #[allow(clippy::cast_possible_truncation)]
        Token::new(self.owner.get(), tag, key.generation as u16, key.index)
    }

    fn handle(&self, key: SlotKey) -> TcpStream {
        match self.me.upgrade() {
            Some(table) => TcpStream { table, key },
            None => unreachable!("a table in use has an owner"),
        }
    }

    /// Makes a stream of a socket that has no operation under way. `unread` comes first when it is read;
    /// `share` is dropped with the slot.
    pub(crate) fn adopt(
        &self,
        sock: Sock,
        unread: &[u8],
        eof: bool,
        share: Option<Box<dyn Any>>,
    ) -> Result<TcpStream, Full> {
        let mut slot = Slot::new(Some(sock));
        slot.inbound = true;
        slot.share = share;
        slot.inbox.extend_from_slice(unread);
        slot.eof = eof;
        let key = self.slots.borrow_mut().insert(slot).map_err(|(_, full)| full)?;
        self.inbound.set(self.inbound.get() + 1);
        Ok(self.handle(key))
    }

    /// Calls `on_stream` with every connection accepted from `listener`, inside the turn.
    pub fn listen(&self, shard: &Shard, listener: ListenerId, on_stream: impl Fn(TcpStream) + 'static) {
        let mut acceptors = self.acceptors.borrow_mut();
        acceptors.push(Acceptor {
            listener,
            on_stream: Rc::new(on_stream),
            under_way: false,
            paused: false,
            closing: false,
            done: false,
            patience: Patience::default(),
        });
        let at = acceptors.len() - 1;
        self.arm_accept(shard, &mut acceptors[at], at);
    }

    fn arm_accept(&self, shard: &Shard, acceptor: &mut Acceptor, at: usize) {
        if acceptor.under_way || acceptor.paused || acceptor.done {
            return;
        }
        acceptor.under_way = true;
        let mode = if acceptor.closing { AcceptMode::Queued } else { AcceptMode::Multi };
        let token = Token::new(self.owner.get(), tag::ACCEPT, 0, u32::try_from(at).unwrap_or(u32::MAX));
        shard.push(Op::Accept { listener: acceptor.listener, token, mode });
    }

    fn accepted(&self, shard: &Shard, event: &Event<'_>) {
        let at = event.token.index() as usize;
        let on_stream = Rc::clone(&self.acceptors.borrow()[at].on_stream);
        if let Ok(number) = u32::try_from(event.result) {
            self.acceptors.borrow_mut()[at].patience.succeeded();
            match self.adopt(Sock(number), &[], false, None) {
                Ok(stream) => on_stream(stream),
                Err(_) => shard.push(Op::Close { sock: Sock(number), token: Token::NONE }),
            }
        }
        let full = self.len() >= self.streams_max;
        let mut acceptors = self.acceptors.borrow_mut();
        let acceptor = &mut acceptors[at];
        if !event.more {
            acceptor.under_way = false;
        }
        if acceptor.closing && event.result == -errno::EAGAIN {
            acceptor.done = true;
            shard.turn_again(); // the listener is to be closed at once
        } else if event.result < 0
            && event.result != -errno::ECANCELED
            && !event.more
            && acceptor.patience.rests_after(-event.result)
        {
            acceptor.paused = true;
            let when = Duration::from_nanos(shard.now().mono_ns) + RETRY;
            let when = u64::try_from(when.as_nanos()).unwrap_or(u64::MAX);
            let index = u32::try_from(at).unwrap_or(u32::MAX);
            shard.timer_for(when, Token::new(self.owner.get(), tag::ACCEPT_TIMER, 0, index));
        } else if full && !acceptor.paused && !acceptor.closing {
            acceptor.paused = true;
            if acceptor.under_way {
                shard.push(Op::Cancel { target: event.token, token: Token::NONE });
            }
        }
        self.arm_accept(shard, acceptor, at);
    }

    /// Stops accepting: what is queued is taken, then the listener is done.
    pub fn drain(&self, shard: &Shard) {
        let mut acceptors = self.acceptors.borrow_mut();
        for (at, acceptor) in acceptors.iter_mut().enumerate() {
            if !std::mem::replace(&mut acceptor.closing, true) {
                acceptor.paused = false;
                if acceptor.under_way {
                    let index = u32::try_from(at).unwrap_or(u32::MAX);
                    let target = Token::new(self.owner.get(), tag::ACCEPT, 0, index);
                    shard.push(Op::Cancel { target, token: Token::NONE });
                } else {
                    self.arm_accept(shard, acceptor, at);
                }
            }
        }
    }

    /// Listeners that are done, each given once.
    pub fn take_closed_listeners(&self) -> Vec<ListenerId> {
        let mut closed = Vec::new();
        for acceptor in self.acceptors.borrow_mut().iter_mut() {
            if acceptor.done && !acceptor.under_way && acceptor.listener != ListenerId(u16::MAX) {
                closed.push(acceptor.listener);
                acceptor.listener = ListenerId(u16::MAX);
            }
        }
        closed
    }

    /// Streams that were accepted, or handed over after an upgrade.
    pub fn inbound(&self) -> usize {
        self.inbound.get()
    }

    /// Whether every listener is done.
    pub fn is_drained(&self) -> bool {
        self.acceptors.borrow().iter().all(|a| a.done && !a.under_way)
    }

    fn with<R>(&self, key: SlotKey, f: impl FnOnce(&mut Slot) -> R) -> R {
        match self.slots.borrow_mut().get_mut(key) {
            Some(slot) => f(slot),
            None => unreachable!("a handle outlived its slot"),
        }
    }

    fn want_recv(&self, shard: &Shard, key: SlotKey, slot: &mut Slot) {
        let Some(sock) = slot.sock else { return };
        let room = slot.inbox.len() < INBOX_MAX && !slot.eof && slot.error == 0 && !slot.dropped;
        match slot.recv {
            Recv::Idle if room => {
                slot.recv = Recv::Armed;
                shard.push(Op::Recv { sock, token: self.token(tag::RECV, key), mode: RecvMode::Multi });
            }
            Recv::Armed if !room && !slot.dropped => {
                slot.recv = Recv::Cancelling;
                shard.push(Op::Cancel { target: self.token(tag::RECV, key), token: Token::NONE });
            }
            Recv::Idle | Recv::Armed | Recv::Cancelling => {}
        }
    }

    /// Frees the slot of a dropped handle when nothing is under way; cancels what is.
    fn retire(&self, shard: &Shard, key: SlotKey) {
        let mut slots = self.slots.borrow_mut();
        let Some(slot) = slots.get_mut(key) else { return };
        if !slot.dropped {
            return;
        }
        if slot.under_way == 0 && slot.recv == Recv::Idle {
            if let Some(sock) = slot.sock {
                shard.push(Op::Close { sock, token: Token::NONE });
            }
            let freed = slots.remove(key);
            drop(slots);
            if freed.as_ref().is_some_and(|slot| slot.inbound) {
                self.inbound.set(self.inbound.get() - 1);
                if self.inbound.get() == 0 {
                    shard.turn_again(); // a drain may be over
                }
            }
            drop(freed);
            self.resume_accept(shard);
        } else if !slot.cancelled
            && let Some(sock) = slot.sock
        {
            slot.cancelled = true;
            shard.push(Op::CancelSock { sock, token: Token::NONE });
        }
    }

    fn resume_accept(&self, shard: &Shard) {
        if self.len() < self.streams_max {
            let mut acceptors = self.acceptors.borrow_mut();
            for (at, acceptor) in acceptors.iter_mut().enumerate() {
                acceptor.paused = false;
                self.arm_accept(shard, acceptor, at);
            }
        }
    }

    fn received(&self, shard: &Shard, key: SlotKey, event: &Event<'_>) {
        let waker = self.with(key, |slot| {
            if !event.more {
                slot.recv = Recv::Idle;
            }
            match (&event.data, event.result) {
                (Data::Received(bytes), n) if n > 0 => {
                    if !slot.dropped {
                        slot.inbox.extend_from_slice(bytes);
                    }
                }
                (_, 0) => slot.eof = true,
                (_, e) if e == -errno::ENOBUFS || e == -errno::ECANCELED || e == -errno::EINTR => {}
                (_, e) => slot.error = -e,
            }
            // Armed again only while somebody reads: an unread stream holds no buffer and no receive.
            let waker =
                if slot.inbox.is_empty() && !slot.eof && slot.error == 0 { None } else { slot.reader.take() };
            if slot.recv == Recv::Armed || slot.reader.is_some() || waker.is_some() {
                self.want_recv(shard, key, slot);
            }
            waker
        });
        if let Some(w) = waker {
            w.wake();
        }
        self.retire(shard, key);
    }

    fn ended(&self, shard: &Shard, key: SlotKey, event: Event<'_>) {
        let tag = event.token.tag();
        let waker = self.with(key, |slot| {
            slot.under_way -= 1;
            match tag {
                tag::SOCKET => {
                    if let Ok(number) = u32::try_from(event.result) {
                        slot.sock = Some(Sock(number));
                    }
                    slot.outcome = Some(event.result);
                }
                tag::SEND => {
                    let Data::Sent(mut data) = event.data else {
                        unreachable!("a send gives its bytes back")
                    };
                    let again = event.result == -errno::EINTR || event.result == -errno::EAGAIN;
                    data.advance(usize::try_from(event.result).unwrap_or(0));
                    if (event.result >= 0 || again) && !data.is_empty() && !slot.cancelled {
                        // The rest goes on even when the writer is gone: half a message helps nobody, and
                        // the drop of the handle cancels it anyway.
                        if let Some(sock) = slot.sock {
                            slot.under_way += 1;
                            shard.push(Op::Send { sock, token: event.token, data });
                            return None;
                        }
                    }
                    slot.outcome = Some(event.result.min(0));
                }
                _ => slot.outcome = Some(event.result),
            }
            slot.writer.take()
        });
        if let Some(w) = waker {
            w.wake();
        }
        self.retire(shard, key);
    }
}

impl Driver for Streams {
    fn complete(&self, shard: &Shard, event: Event<'_>) {
        if event.token.tag() == tag::ACCEPT {
            return self.accepted(shard, &event);
        }
        let Some(key) = self.slots.borrow().key_at(event.token.index()) else {
            unreachable!("a completion for a freed stream: {:?}", event.token);
        };
        if event.token.tag() == tag::RECV {
            self.received(shard, key, &event);
        } else {
            self.ended(shard, key, event);
        }
    }

    fn timer(&self, shard: &Shard, token: Token) {
        debug_assert_eq!(token.tag(), tag::ACCEPT_TIMER);
        let full = self.len() >= self.streams_max;
        let mut acceptors = self.acceptors.borrow_mut();
        let at = token.index() as usize;
        // Where all streams are taken meanwhile, the next one that closes resumes.
        acceptors[at].paused = full && !acceptors[at].closing;
        self.arm_accept(shard, &mut acceptors[at], at);
    }

    fn flush(&self, _shard: &Shard) -> bool {
        false
    }
}

impl TcpStream {
    /// Connects to an address. No deadline of its own but the kernel's (about two minutes).
    ///
    /// # Errors
    /// As connect(2); `OutOfMemory` when the shard holds `connections_max + descriptors_headroom` streams.
    ///
    /// # Panics
    /// Outside a shard.
    pub async fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
        let shard = current();
        let table = Streams::of(&shard);
        let key = table
            .slots
            .borrow_mut()
            .insert(Slot::new(None))
            .map_err(|(_, full)| io::Error::new(io::ErrorKind::OutOfMemory, full))?;
        let stream = table.handle(key);
        let v6 = addr.is_ipv6();
        stream.begin(&shard, |token, _| Op::Socket { v6, token }, tag::SOCKET);
        let number = stream.outcome().await;
        let Ok(number) = u32::try_from(number) else { return Err(error(-number)) };
        stream.begin(&shard, |token, _| Op::Connect { sock: Sock(number), token, addr }, tag::CONNECT);
        match stream.outcome().await {
            e if e < 0 => Err(error(-e)),
            _ => Ok(stream),
        }
    }

    /// Looks `host` up (`"name:port"`) on a blocking thread and connects to the first address that answers.
    ///
    /// # Errors
    /// As the look-up and [`TcpStream::connect`]; the error of the last address.
    pub async fn connect_host(host: &str) -> io::Result<TcpStream> {
        let name = host.to_owned();
        let found = corelane_exec::blocking(move || name.to_socket_addrs().map(Vec::from_iter))
            .await
            .map_err(io::Error::other)??;
        let mut last = io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address"));
        for addr in found {
            match TcpStream::connect(addr).await {
                Ok(stream) => return Ok(stream),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    fn begin(&self, shard: &Shard, op: impl FnOnce(Token, &mut Slot) -> Op<Chain>, tag: u8) {
        let token = self.table.token(tag, self.key);
        self.table.with(self.key, |slot| {
            assert_eq!(slot.under_way, 0, "one operation at a time beside the receive");
            slot.outcome = None;
            slot.under_way += 1;
            let op = op(token, slot);
            shard.push(op);
        });
    }

    fn outcome(&self) -> impl Future<Output = i32> + '_ {
        poll_fn(|cx| {
            self.table.with(self.key, |slot| match slot.outcome {
                Some(result) => Poll::Ready(result),
                None => {
                    slot.writer = Some(cx.waker().clone());
                    Poll::Pending
                }
            })
        })
    }

    /// The one writer: waits for what an earlier one, dropped half-way, left under way.
    async fn writing(&self) -> Writing<'_> {
        self.table.with(self.key, |slot| {
            assert!(!slot.writing, "two writers on one stream");
            slot.writing = true;
        });
        let writing = Writing(self);
        poll_fn(|cx| {
            self.table.with(self.key, |slot| {
                if slot.under_way == 0 {
                    return Poll::Ready(());
                }
                slot.writer = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
        writing
    }

    /// The next bytes, as many as have come; empty at the end of the stream.
    ///
    /// # Errors
    /// As recv(2); `ConnectionReset` among them.
    pub async fn read(&self) -> io::Result<Bytes> {
        poll_fn(|cx| {
            let shard = current();
            self.table.with(self.key, |slot| {
                if !slot.inbox.is_empty() {
                    let bytes = slot.inbox.split().freeze();
                    self.table.want_recv(&shard, self.key, slot);
                    return Poll::Ready(Ok(bytes));
                }
                if slot.error != 0 {
                    return Poll::Ready(Err(error(slot.error)));
                }
                if slot.eof {
                    return Poll::Ready(Ok(Bytes::new()));
                }
                slot.reader = Some(cx.waker().clone());
                self.table.want_recv(&shard, self.key, slot);
                Poll::Pending
            })
        })
        .await
    }

    /// Sends all of `bytes`. Waits until the kernel has taken them, not until the peer has.
    ///
    /// A future dropped half-way leaves the rest of the present piece to be sent.
    ///
    /// # Errors
    /// As send(2).
    ///
    /// # Panics
    /// If another `write_all` or [`shutdown`](TcpStream::shutdown) of this stream is being awaited.
    pub async fn write_all(&self, bytes: impl Into<Bytes>) -> io::Result<()> {
        let mut rest: Bytes = bytes.into();
        let _writing = self.writing().await;
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(SEND_MAX));
            let shard = current();
            let mut data = Chain::new();
            data.push(piece);
            self.begin(
                &shard,
                |token, slot| match slot.sock {
                    Some(sock) => Op::Send { sock, token, data },
                    None => unreachable!("a stream without a socket is never handed out"),
                },
                tag::SEND,
            );
            let result = self.outcome().await;
            if result < 0 {
                return Err(error(-result));
            }
        }
        Ok(())
    }

    /// Ends our side: the peer reads the end of the stream, after what a `write_all` that was dropped left.
    ///
    /// # Errors
    /// As shutdown(2).
    ///
    /// # Panics
    /// As [`write_all`](TcpStream::write_all).
    pub async fn shutdown(&self) -> io::Result<()> {
        let _writing = self.writing().await;
        let shard = current();
        self.begin(
            &shard,
            |token, slot| match slot.sock {
                Some(sock) => Op::Shutdown { sock, token, how: ShutdownHow::Write },
                None => unreachable!("a stream without a socket is never handed out"),
            },
            tag::SHUTDOWN,
        );
        match self.outcome().await {
            e if e < 0 => Err(error(-e)),
            _ => Ok(()),
        }
    }
}

/// Stands while somebody writes or shuts down.
struct Writing<'a>(&'a TcpStream);

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.table.with(self.0.key, |slot| {
            slot.writing = false;
            slot.writer = None;
        });
    }
}

impl Drop for TcpStream {
    fn drop(&mut self) {
        // Outside a shard only when the shard itself has ended, and with it the table's kernel.
        let Some(shard) = corelane_exec::try_current() else { return };
        self.table.with(self.key, |slot| {
            slot.dropped = true;
            slot.reader = None;
            slot.writer = None;
        });
        self.table.retire(&shard, self.key);
    }
}

/// Serves plain TCP: `handler` runs as a task for every connection of a listener.
///
/// A connection stays on the shard whose listener the kernel gave it to: streams take no part in a
/// [`Balance`](crate::Balance). Of a `SO_REUSEPORT` group each shard serves what its own queue gets, and a shard
/// at its limit lets that queue wait.
#[derive(Debug)]
pub struct TcpAcceptor;

impl TcpAcceptor {
    /// Starts accepting from `listener` on this shard. A connection that finds no free task is closed.
    pub fn serve<F, Fut>(shard: &Shard, listener: ListenerId, handler: F)
    where
        F: Fn(TcpStream) -> Fut + 'static,
        Fut: Future<Output = ()> + 'static,
    {
        let handler = Rc::new(handler);
        Streams::of(shard).listen(shard, listener, move |stream| {
            let handler = Rc::clone(&handler);
            // All of the handler within the task: a panic before its first await, too, costs one connection.
            if let Ok(task) = spawn(async move { handler(stream).await }) {
                task.detach();
            }
        });
    }
}
