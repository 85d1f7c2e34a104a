//! What goes through a lane: a message on its way out, its reply on its way back, in one box.
//!
//! # Rules (SAFETY comments cite these numbers)
//! 1. A prefetch touches nothing that a program can see, and never faults (Intel SDM, PREFETCHh; AMD APM 3,
//!    PREFETCHW).
//!
//! Boxes of letters that came home are kept, up to a bound, and sent again: a call that is made over and over
//! allocates nothing.
//!
//! Not here: who waits for it (`table`).

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use corelane_base::Full;

use super::table::Key;
use super::{BoxedParcel, CallError};
use crate::shard::{Shard, try_current};
use crate::stats::bump;
use crate::watch;

/// What a shard can be asked by another one.
///
/// ```
/// use corelane_exec::{Message, Shard};
/// use std::rc::Rc;
///
/// struct RunQueue;
///
/// impl Message for RunQueue {
///     type Reply = usize;
///
///     fn handle(self, shard: &Rc<Shard>) -> usize {
///         shard.run_queue()
///     }
/// }
/// ```
pub trait Message: Send + 'static {
    /// What goes back.
    type Reply: Send + 'static;

    /// Runs once, on the shard that was asked, inside its turn: it must not block, and cannot wait
    /// ([`Mesh::run`](super::Mesh::run) can). A panic is caught there, and the caller gets
    /// [`CallError::Panicked`].
    fn handle(self, shard: &Rc<Shard>) -> Self::Reply;
}

/// A closure as a message.
pub(super) struct With<F>(pub(super) F);

impl<F, R> Message for With<F>
where
    F: FnOnce(&Rc<Shard>) -> R + Send + 'static,
    R: Send + 'static,
{
    type Reply = R;

    fn handle(self, shard: &Rc<Shard>) -> R {
        (self.0)(shard)
    }
}

/// A box in a lane.
pub(crate) trait Parcel: Send {
    /// On the shard it was sent to: does what it says, and sends it home.
    fn open(self: Box<Self>, from: usize, shard: &Rc<Shard>);

    /// Who waits for it at home; none for a cast.
    fn key(&self) -> Option<Key>;

    fn into_any(self: Box<Self>) -> Box<dyn Any>;

    /// At home, when nobody waits for it: drops what it holds, which is the application's.
    fn end(self: Box<Self>, _shard: &Shard) {}
}

/// Types of letters whose boxes are kept; those of further types are freed.
const SPARE_TYPES: usize = 16;

/// Bytes of boxes that are kept of one type.
const SPARE_BYTES: usize = 64 << 10;

/// Boxes of letters to be sent again, by the type of their message. Few types, found by a linear search.
#[derive(Default)]
pub(super) struct Spare(RefCell<Vec<(TypeId, Box<dyn Any>)>>);

impl Spare {
    fn with<M: Message, R>(&self, f: impl FnOnce(&mut Vec<Box<Letter<M>>>) -> R) -> Option<R> {
        let mut all = self.0.borrow_mut();
        let of = TypeId::of::<M>();
        let at = match all.iter().position(|(id, _)| *id == of) {
            Some(at) => at,
            None if all.len() == SPARE_TYPES => return None,
            None => {
                all.push((of, Box::new(Vec::<Box<Letter<M>>>::new())));
                all.len() - 1
            }
        };
        all[at].1.downcast_mut().map(f)
    }

    /// An empty letter, from the spare ones if there is one.
    #[inline]
    pub(super) fn letter<M: Message>(&self, key: Option<Key>, message: M) -> Box<Letter<M>> {
        match self.with(Vec::<Box<Letter<M>>>::pop).flatten() {
            Some(mut letter) => {
                letter.key = key;
                letter.content = Content::Message(message);
                letter
            }
            None => Box::new(Letter { key, content: Content::Message(message) }),
        }
    }

    /// Keeps the box of a letter that holds nothing any more.
    fn keep<M: Message>(&self, letter: Box<Letter<M>>) {
        debug_assert!(matches!(letter.content, Content::Taken));
        let most = SPARE_BYTES / size_of::<Letter<M>>().max(1);
        self.with(|spare: &mut Vec<Box<Letter<M>>>| {
            if spare.len() < most {
                spare.push(letter);
            }
        });
    }
}

/// Begins to fetch a parcel that was just taken, to be written to: its reply goes in, or it is freed.
#[inline(always)]
pub(super) fn fetch(parcel: &BoxedParcel) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: rule 1.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>((&raw const **parcel).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = parcel;
}

/// A parcel that brings a reply home.
pub(super) trait Brings<R>: 'static {
    fn reply(self: Box<Self>, shard: &Shard) -> Result<R, CallError>;
}

/// Takes the reply out of a parcel that is known to be a `P`.
pub(super) fn take_reply<P: Brings<R>, R>(parcel: BoxedParcel, shard: &Shard) -> Result<R, CallError> {
    match parcel.into_any().downcast::<P>() {
        Ok(parcel) => parcel.reply(shard),
        Err(_) => unreachable!("a call's key names its own parcel"),
    }
}

/// Handles a message behind a fence.
pub(super) fn handle<M: Message>(message: M, shard: &Rc<Shard>) -> Result<M::Reply, CallError> {
    watch::note(std::any::type_name::<M>);
    catch_unwind(AssertUnwindSafe(|| message.handle(shard))).map_err(|_| {
        bump(&shard.mesh_stats.panics);
        tracing::error!(
            shard = shard.id().0,
            message = std::any::type_name::<M>(),
            "the handling of a message panicked"
        );
        CallError::Panicked
    })
}

enum Content<M, R> {
    Message(M),
    Reply(Result<R, CallError>),
    Taken,
}

/// A message that is handled at once.
pub(super) struct Letter<M: Message> {
    key: Option<Key>,
    content: Content<M, M::Reply>,
}

impl<M: Message> Parcel for Letter<M> {
    fn open(mut self: Box<Self>, from: usize, shard: &Rc<Shard>) {
        let Content::Message(message) = std::mem::replace(&mut self.content, Content::Taken) else {
            unreachable!("a letter is opened once");
        };
        self.content = Content::Reply(handle(message, shard));
        shard.respond(from, self);
    }

    fn key(&self) -> Option<Key> {
        self.key
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn end(mut self: Box<Self>, shard: &Shard) {
        drop(std::mem::replace(&mut self.content, Content::Taken));
        shard.mesh.spare.keep(self);
    }
}

impl<M: Message> Brings<M::Reply> for Letter<M> {
    fn reply(mut self: Box<Self>, shard: &Shard) -> Result<M::Reply, CallError> {
        let Content::Reply(reply) = std::mem::replace(&mut self.content, Content::Taken) else {
            unreachable!("a letter that came back was handled");
        };
        shard.mesh.spare.keep(self);
        reply
    }
}

/// A closure that makes a future, which runs as a task of the shard it was sent to.
pub(super) struct Errand<F, R> {
    key: Key,
    content: Content<F, R>,
}

impl<F, R> Errand<F, R> {
    pub(super) fn new(key: Key, f: F) -> Errand<F, R> {
        Errand { key, content: Content::Message(f) }
    }
}

/// Sends an errand home, however its task ends.
struct Return<F, Fut, R>
where
    F: FnOnce(&Rc<Shard>) -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    errand: Option<Box<Errand<F, R>>>,
    from: usize,
    _future: PhantomData<fn() -> Fut>,
}

impl<F, Fut, R> Drop for Return<F, Fut, R>
where
    F: FnOnce(&Rc<Shard>) -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    fn drop(&mut self) {
        // Without a shard around, this is the end of it: the caller has its deadline.
        if let (Some(mut errand), Some(shard)) = (self.errand.take(), try_current()) {
            if matches!(errand.content, Content::Taken) {
                errand.content = Content::Reply(Err(CallError::Panicked));
            }
            shard.respond(self.from, errand);
        }
    }
}

impl<F, Fut, R> Parcel for Errand<F, R>
where
    F: FnOnce(&Rc<Shard>) -> Fut + Send + 'static,
    Fut: Future<Output = R> + 'static,
    R: Send + 'static,
{
    fn open(mut self: Box<Self>, from: usize, shard: &Rc<Shard>) {
        let Content::Message(f) = std::mem::replace(&mut self.content, Content::Taken) else {
            unreachable!("an errand is opened once");
        };
        // Until it starts, this is what its caller gets.
        let full = Full::new("tasks_max", shard.limits().tasks_max.into());
        self.content = Content::Reply(Err(CallError::Full(full)));
        let mut home = Return::<F, Fut, R> { errand: Some(self), from, _future: PhantomData };
        let whole = async move {
            if let Some(errand) = &mut home.errand {
                errand.content = Content::Taken;
            }
            let shard = crate::shard::current();
            let reply = f(&shard).await;
            if let Some(errand) = &mut home.errand {
                errand.content = Content::Reply(Ok(reply));
            }
        };
        // Refused: the closure is dropped with its future, and the errand goes home with an error.
        match catch_unwind(AssertUnwindSafe(|| shard.spawn(whole))) {
            Ok(Ok(task)) => task.detach(),
            Ok(Err(_)) => {}
            Err(_) => {
                bump(&shard.mesh_stats.panics);
                tracing::error!(shard = shard.id().0, "a closure panicked as it was dropped");
            }
        }
    }

    fn key(&self) -> Option<Key> {
        Some(self.key)
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

impl<F: 'static, R: 'static> Brings<R> for Errand<F, R> {
    fn reply(self: Box<Self>, _shard: &Shard) -> Result<R, CallError> {
        match self.content {
            Content::Reply(reply) => reply,
            Content::Message(_) | Content::Taken => unreachable!("an errand that came back was run"),
        }
    }
}
