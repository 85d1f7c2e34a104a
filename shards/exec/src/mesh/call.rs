//! The waiting end of a call.
//!
//! Not here: the list of all calls under way (`table`).

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use corelane_base::Full;

use super::BoxedParcel;
use super::table::{Key, Outcome};
use crate::shard::Shard;

/// Why a call has no reply.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CallError {
    /// `Limits::mesh_waiting_max` calls waited for a credit already, or the other shard had `tasks_max` tasks:
    /// the message was not handled.
    Full(Full),
    /// `Limits::call_time` passed. The message may have been handled, or may be later.
    Late,
    /// The handling panicked on the other shard; it goes on without it.
    Panicked,
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::Full(full) => write!(f, "the other shard was not asked: {full}"),
            CallError::Late => f.write_str("the other shard did not answer within call_time"),
            CallError::Panicked => f.write_str("the other shard panicked over it"),
        }
    }
}

impl std::error::Error for CallError {}

type Take<R> = fn(BoxedParcel, &Shard) -> Result<R, CallError>;

enum State<R> {
    Ready(Option<Result<R, CallError>>),
    Pending { shard: Rc<Shard>, key: Key, take: Take<R> },
    Done,
}

/// A call that was made; await it for its reply. Dropping it forgets the reply.
#[must_use = "the message is on its way, but nobody waits for its reply: await it, or use `cast`"]
pub struct Call<R>(State<R>);

impl<R> fmt::Debug for Call<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Call")
    }
}

// What is inside is moved, never pinned.
impl<R> Unpin for Call<R> {}

impl<R> Call<R> {
    pub(super) fn ready(reply: Result<R, CallError>) -> Call<R> {
        Call(State::Ready(Some(reply)))
    }

    pub(super) fn pending(shard: Rc<Shard>, key: Key, take: Take<R>) -> Call<R> {
        Call(State::Pending { shard, key, take })
    }
}

impl<R> Future for Call<R> {
    type Output = Result<R, CallError>;

    /// # Panics
    /// When polled after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let out = match &mut self.0 {
            State::Ready(reply) => reply.take(),
            State::Pending { shard, key, take } => {
                let outcome = shard.mesh.table.borrow_mut().look(*key, cx.waker());
                match outcome {
                    Err(_replaced) => return Poll::Pending,
                    Ok(Outcome::Answer(parcel)) => Some(take(parcel, shard)),
                    Ok(Outcome::Error(error)) => Some(Err(error)),
                }
            }
            State::Done => None,
        };
        let Some(out) = out else { panic!("a call was polled after it was done") };
        self.0 = State::Done;
        Poll::Ready(out)
    }
}

impl<R> Drop for Call<R> {
    fn drop(&mut self) {
        if let State::Pending { shard, key, .. } = &self.0 {
            let left = shard.mesh.table.borrow_mut().forget(*key);
            drop(left); // outside the borrow: a reply or message of the application's own type
        }
    }
}
