//! What is said to a connection from elsewhere on its shard: queued, and delivered before the turn's sends.
//!
//! # Rules
//! 1. Posts and kills are delivered in the order they were made, whichever connections they are for.
//! 2. All that stand there when a turn is flushed are delivered in it. What comes of that is too, up to [`ROUNDS`] times
//!    over; two connections that answer each other without end do not keep a turn from its own.
//! 3. Every post ends in a call: `post`, or `undelivered`.
//! 4. The queue is emptied every turn. It is as long as what the calls of one turn posted: the table stops using input at
//!    `posts_max`, and a protocol that posts much within one call can look at [`Sessions::posts_waiting`].
//!
//! Not here: messages between shards (`exec::mesh`), whose handlers post.

use corelane_exec::{Shard, try_current};

use super::conn::{Conn, Phase};
use super::protocol::{ConnKey, Ending, Next, Protocol};
use super::{Sessions, add, bump};

/// Times a turn delivers what its own deliveries posted.
const ROUNDS: u32 = 4;

enum Said<T> {
    Post(T),
    Kill(Next),
}

/// One post or kill on its way.
pub(super) struct Letter<T> {
    to: ConnKey,
    said: Said<T>,
}

impl<P: Protocol> Sessions<P> {
    /// Says something to a connection of this table, from anywhere on its shard: a task, a message of another shard, a
    /// call of the protocol. Delivered before the sends of this turn, or of the next where those are made already.
    ///
    /// One whose connection is gone comes back to [`Protocol::undelivered`].
    pub fn post(&self, key: ConnKey, post: P::Post) {
        self.send_letter(Letter { to: key, said: Said::Post(post) });
    }

    /// Ends a connection of this table in the same way: [`Next::Abort`] resets it, anything else sends what was said
    /// and closes it. Nothing where it is gone.
    pub fn kill(&self, key: ConnKey, how: Next) {
        self.send_letter(Letter { to: key, said: Said::Kill(how) });
    }

    /// Posts and kills that wait to be delivered.
    pub fn posts_waiting(&self) -> usize {
        self.posts.borrow().len()
    }

    #[inline]
    pub(super) fn has_many_posts(&self) -> bool {
        self.posts.borrow().len() >= self.config.posts_max as usize
    }

    #[inline]
    fn send_letter(&self, letter: Letter<P::Post>) {
        let mut posts = self.posts.borrow_mut();
        if posts.is_empty()
            && let Some(shard) = try_current()
            && self.flushed.get() == shard.stats.turns.get()
        {
            // This turn is flushed: it must not end in a sleep.
            shard.turn_again();
        }
        posts.push_back(letter);
    }

    /// Delivers what was posted, and has the protocol do what it gathered. True where more was posted than this turn
    /// delivers.
    pub(super) fn deliver(&self, shard: &Shard) -> bool {
        for _ in 0..ROUNDS {
            // Bounded by what stands there now.
            for _ in 0..self.posts_waiting() {
                let Some(letter) = self.posts.borrow_mut().pop_front() else { break };
                self.deliver_one(shard, letter);
            }
            if self.touched.take() {
                self.fenced(shard, |protocol, shard| protocol.turn_end(shard));
            }
            if self.posts.borrow().is_empty() {
                return self.touched.get();
            }
        }
        true
    }

    fn deliver_one(&self, shard: &Shard, Letter { to: ConnKey(key), said }: Letter<P::Post>) {
        match said {
            Said::Post(post) => {
                let mut post = Some(post);
                self.with(shard, key.index, |conn| {
                    if conn.wire.key == key && conn.wire.phase == Phase::Open {
                        self.posted(shard, conn, &mut post);
                    }
                });
                if let Some(post) = post {
                    bump(&self.stats.posts_undelivered);
                    self.touched.set(true);
                    self.fenced(shard, |protocol, shard| protocol.undelivered(shard, post));
                }
            }
            Said::Kill(how) => self.with(shard, key.index, |conn| {
                if conn.wire.key == key && conn.wire.phase < Phase::Dying {
                    add(&self.stats.killed, usize::from(conn.wire.phase <= Phase::Open));
                    match how {
                        Next::Abort => self.cut(&mut conn.wire, Ending::Asked),
                        _ => self.end_input(&mut conn.wire, Ending::Asked),
                    }
                }
            }),
        }
    }

    fn posted(&self, shard: &Shard, conn: &mut Conn<P::Conn>, post: &mut Option<P::Post>) {
        let Some(post) = post.take() else { return };
        bump(&self.stats.posts);
        let next =
            self.call(shard, conn, |protocol, shard, state, link| protocol.post(shard, state, link, post));
        self.follow(shard, &mut conn.wire, next);
        self.go_on(shard, conn);
        self.retire_if_done(&mut conn.wire);
    }
}
