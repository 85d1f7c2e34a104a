//! Calls from shard to shard: a message goes over, is handled there inside a turn, and its reply comes back.
//!
//! What may be sent: values that are `Send`, and closures over such values. The message is moved, never shared;
//! it is handled once, on the target's own thread, with the target's own [`Shard`].
//!
//! What it costs: one box of the calling shard, kept there and used again; two pointers in a lane each way.
//! All that is sent to a shard in one turn becomes visible at the turn's end, by one store and one look whether
//! the other sleeps. A call to the own shard runs at once, without a hop and without an allocation.
//!
//! What full means: a shard may have `Limits::mesh_credits` unanswered requests with each other one. A call
//! beyond that waits for a credit, in order, `Limits::mesh_waiting_max` of them at most; past it [`CallError::Full`].
//! A cast beyond that is refused. Either way the message is dropped and the caller is told: nothing blocks.
//!
//! What can wait for itself: a message is handled and answered within one turn, so it waits for nobody. A future
//! ([`Mesh::run`]) keeps its credit while it waits; futures that wait for each other round a circle of shards can
//! hold all credits that they wait for, and end by `Limits::call_time`.
//!
//! # Rules
//! 1. A request takes a credit; its response gives it back. A response lane holds as many as there are credits,
//!    so a response always has room, and no two shards can wait for each other's lanes.
//! 2. A parcel is made and dropped on the shard that sends it, unless one of the two has ended. Its message is
//!    moved out on the other one, its reply moved in.
//! 3. A call ends by its reply, or after `Limits::call_time`. A late reply is dropped when it comes. A call that is
//!    dropped, or late, before it had a credit is never sent.
//! 4. No borrow of a cell here is held while a message is handled, a reply is dropped or a waker is called.
//!
//! Reading order: here calls and casts, and the turn's part of them; `call` the end that waits; `parcel` what goes
//! over; `table` the calls under way; `seat` what is made before the shards.
//!
//! Not here: the rings (`lanes`), which shard owns what (the application; [`Mesh::owner`] is one way).

mod call;
mod parcel;
mod seat;
mod table;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use corelane_base::{Full, ShardId};
use corelane_lanes::Port;

use crate::remote::ShardHandle;
use crate::shard::{Shard, current};
use crate::stats::bump;
pub use call::{Call, CallError};
pub use parcel::Message;
use parcel::{Errand, Letter, Parcel, Spare, With};
use seat::Roster;
pub use seat::{Seat, seats};
use table::Table;

type BoxedParcel = Box<dyn Parcel>;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of a shard's part of the mesh. All only grow.
        #[derive(Debug, Default)]
        pub struct MeshStats { $($(#[$doc])* pub $name: Cell<u64>,)* }

        impl MeshStats {
            /// Names and values, in the order of the fields.
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($name), self.$name.get()),)*]
            }
        }
    };
}

counters! {
    /// Calls to other shards.
    calls,
    /// Casts to other shards.
    casts,
    /// Calls and casts to the own shard: no hop.
    local,
    /// Requests of other shards that were handled.
    requests_in,
    /// Responses that came back.
    responses_in,
    /// Calls that found no credit and waited, and casts that were dropped for it.
    credits_spent,
    /// Calls refused because `mesh_waiting_max` waited.
    calls_refused,
    /// Calls that ended by `call_time`.
    calls_late,
    /// Responses that came after nobody waited for them any more.
    answers_late,
    /// Messages whose handling panicked here, and those that did as they were dropped.
    panics,
    /// Sleeping shards that were woken.
    wakes_sent,
}

/// The part of a shard that has to do with the others.
pub(crate) struct MeshState {
    port: RefCell<Port<BoxedParcel, BoxedParcel>>,
    here: u16,
    shards: u16,
    roster: Arc<Roster>,
    table: RefCell<Table>,
    requests: RefCell<Vec<(usize, BoxedParcel)>>,
    responses: RefCell<Vec<(usize, BoxedParcel)>>,
    /// Requests are left of a turn whose budget was spent.
    left: Cell<bool>,
    /// Something was sent since the last publish.
    unpublished: Cell<bool>,
    hasher: RandomState,
    spare: Spare,
}

impl MeshState {
    pub(crate) fn new(seat: Seat, waiting_max: u32) -> MeshState {
        let Seat { port, roster, hasher } = seat;
        let count = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        MeshState {
            here: count(port.here()),
            shards: count(port.shards()),
            table: RefCell::new(Table::new(port.shards(), waiting_max)),
            port: RefCell::new(port),
            roster,
            requests: RefCell::default(),
            responses: RefCell::default(),
            left: Cell::new(false),
            unpublished: Cell::new(false),
            hasher,
            spare: Spare::default(),
        }
    }

    pub(crate) fn roster(&self) -> &Arc<Roster> {
        &self.roster
    }

    /// Nothing to take, for a shard that has announced its sleep.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.left.get() && self.port.borrow().is_quiet()
    }

    /// Whether a reply is awaited from another shard.
    pub(crate) fn awaits(&self) -> bool {
        !self.table.borrow().is_empty()
    }

    /// Whether requests are left of an earlier turn.
    #[inline]
    pub(crate) fn has_left(&self) -> bool {
        self.left.get()
    }

    /// Whether something was sent in this turn.
    #[inline]
    pub(crate) fn has_unpublished(&self) -> bool {
        self.unpublished.get()
    }

    /// Sends a request, or gives it back where there is no credit.
    fn request(&self, to: ShardId, parcel: BoxedParcel) -> Result<(), BoxedParcel> {
        let sent = self.port.borrow_mut().request(usize::from(to.0), parcel);
        self.unpublished.set(self.unpublished.get() | sent.is_ok());
        sent
    }

    /// Ends the calls under way: what was not sent yet is dropped, and nobody waits for a reply any more.
    pub(crate) fn end(&self) {
        let table = self.table.replace(Table::new(usize::from(self.shards), 0));
        drop(table);
    }
}

impl Shard {
    /// The other shards.
    pub fn mesh(self: &Rc<Self>) -> Mesh {
        Mesh(Rc::clone(self))
    }

    /// Step 2 of the turn: what other shards sent. Returns whether some is left.
    pub(crate) fn take_lanes(self: &Rc<Self>) -> bool {
        let mesh = &self.mesh;
        let (mut requests, mut responses) = (mesh.requests.take(), mesh.responses.take());
        let budget = self.limits.mesh_budget as usize;
        let left = mesh.port.borrow_mut().take(budget, &mut requests, &mut responses);
        mesh.left.set(left);
        if left {
            bump(&self.stats.budgets_spent);
        }
        let stats = &self.mesh_stats;
        stats.responses_in.set(stats.responses_in.get() + responses.len() as u64);
        stats.requests_in.set(stats.requests_in.get() + requests.len() as u64);
        for (_, parcel) in requests.iter().chain(&responses) {
            parcel::fetch(parcel);
        }
        for (from, parcel) in responses.drain(..) {
            self.come_back(parcel);
            self.send_waiting(from);
        }
        for (from, parcel) in requests.drain(..) {
            parcel.open(from, self);
            self.steps.end(&self.remote.pulse);
        }
        // Keep the room for the next turn.
        mesh.requests.replace(requests);
        mesh.responses.replace(responses);
        left
    }

    /// A response is here, or a message to the own shard was handled.
    fn come_back(&self, parcel: BoxedParcel) {
        let Some(key) = parcel.key() else {
            return self.discard(|| parcel.end(self)); // a cast
        };
        let done = self.mesh.table.borrow_mut().answer(key, parcel);
        match done {
            Ok(Some(waker)) => waker.wake(),
            Ok(None) => {}
            Err(late) => {
                bump(&self.mesh_stats.answers_late);
                self.discard(|| late.end(self));
            }
        }
    }

    /// Drops what is the application's, where nobody else stands between its panic and the turn.
    fn discard(&self, end: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(end)).is_err() {
            bump(&self.mesh_stats.panics);
            tracing::error!(shard = self.id().0, "a message or reply panicked as it was dropped");
        }
    }

    /// A credit came back from `peer`: whoever waits longest for one has it now, unless what was dropped or woken
    /// for an earlier response of this turn has spent it.
    fn send_waiting(&self, peer: usize) {
        if self.mesh.port.borrow().credits(peer) == 0 {
            return;
        }
        let next = self.mesh.table.borrow_mut().next_waiting(peer);
        if let Some(parcel) = next {
            let to = ShardId(u16::try_from(peer).unwrap_or(u16::MAX));
            assert!(self.mesh.request(to, parcel).is_ok(), "a credit just came back");
        }
    }

    /// Sends a handled parcel home. On its way out of a shard that ends, it may be lost: its caller is told by
    /// its deadline.
    fn respond(&self, to: usize, parcel: BoxedParcel) {
        if to == usize::from(self.mesh.here) {
            return self.come_back(parcel);
        }
        self.mesh.port.borrow_mut().respond(to, parcel);
        self.mesh.unpublished.set(true);
    }

    /// Step 6 of the turn: shows the others what was sent. Calls `ring` for those that sleep.
    pub(crate) fn publish_lanes(&self, mut ring: impl FnMut(&ShardHandle)) {
        self.mesh.unpublished.set(false);
        self.mesh.port.borrow_mut().publish(|peer| {
            // It announced its sleep, so it has been made.
            if let Some(handle) = self.mesh.roster.get(peer) {
                bump(&self.mesh_stats.wakes_sent);
                ring(handle);
            }
        });
    }

    /// Ends the calls whose time is over.
    pub(crate) fn expire_calls(&self) {
        self.mesh.table.borrow_mut().timer_fired();
        loop {
            let next = self.mesh.table.borrow_mut().expire(self.now().mono_ns);
            let Some(ended) = next else { break };
            bump(&self.mesh_stats.calls_late);
            let (waker, parcel) = ended;
            self.discard(|| drop(parcel));
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        self.set_call_timer();
    }

    fn set_call_timer(&self) {
        let mut table = self.mesh.table.borrow_mut();
        if let Some(at) = table.needs_timer() {
            self.timers.borrow_mut().insert(at, crate::timer::Target::Calls);
        }
    }
}

/// The shards of this node, seen from one of them. Cheap to clone; stays on its shard.
#[derive(Clone)]
pub struct Mesh(Rc<Shard>);

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mesh({} of {})", self.0.mesh.here, self.0.mesh.shards)
    }
}

/// The mesh of the current shard.
///
/// # Panics
/// Outside a shard.
pub fn mesh() -> Mesh {
    Mesh(current())
}

impl Mesh {
    /// How many shards there are.
    pub fn shards(&self) -> usize {
        usize::from(self.0.mesh.shards)
    }

    /// Every shard, in order.
    pub fn all(&self) -> impl ExactSizeIterator<Item = ShardId> + use<> {
        (0..self.0.mesh.shards).map(ShardId)
    }

    /// The shard this runs on.
    pub fn here(&self) -> ShardId {
        ShardId(self.0.mesh.here)
    }

    /// The shard that owns `key`: the same on every shard for the life of the node, different the next time
    /// (SipHash-1-3 under a key drawn at the start, so that nobody outside can choose keys of one shard).
    pub fn owner<K: Hash + ?Sized>(&self, key: &K) -> ShardId {
        let hash = self.0.mesh.hasher.hash_one(key);
        // The high bits choose, without a division (Lemire, "Fast random integer generation in an interval").
        let at = (u128::from(hash) * u128::from(self.0.mesh.shards)) >> 64;
        ShardId(u16::try_from(at).unwrap_or(0))
    }

    /// Has `message` handled on `to`. Sent at once where there is a credit, else in order when one comes
    /// back; the reply comes by awaiting. Dropping the [`Call`] forgets the reply, and a message that was sent is
    /// handled all the same.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn call<M: Message>(&self, to: ShardId, message: M) -> Call<M::Reply> {
        let shard = &self.0;
        self.check(to);
        if to == self.here() {
            bump(&shard.mesh_stats.local);
            return Call::ready(parcel::handle(message, shard));
        }
        bump(&shard.mesh_stats.calls);
        self.send(
            to,
            |key| shard.mesh.spare.letter(Some(key), message),
            parcel::take_reply::<Letter<M>, M::Reply>,
        )
    }

    /// Runs `f` on `to`, inside a turn of that shard. As [`Mesh::call`] otherwise.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn with<F, R>(&self, to: ShardId, f: F) -> Call<R>
    where
        F: FnOnce(&Rc<Shard>) -> R + Send + 'static,
        R: Send + 'static,
    {
        self.call(to, With(f))
    }

    /// Has `f` make a future on `to`, which runs there as a task; the reply is what it gives. The future need
    /// not be `Send`. One more allocation than [`Mesh::with`]; `Limits::tasks_max` of that shard applies.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn run<F, Fut, R>(&self, to: ShardId, f: F) -> Call<R>
    where
        F: FnOnce(&Rc<Shard>) -> Fut + Send + 'static,
        Fut: Future<Output = R> + 'static,
        R: Send + 'static,
    {
        self.check(to);
        let shard = &self.0;
        bump(if to == self.here() { &shard.mesh_stats.local } else { &shard.mesh_stats.calls });
        let make = |key| -> BoxedParcel { Box::new(Errand::new(key, f)) };
        self.send(to, make, parcel::take_reply::<Errand<F, R>, R>)
    }

    /// Has `message` handled on `to`; nobody waits for the reply.
    ///
    /// # Errors
    /// [`Full`] where no credit is left; the message is dropped.
    ///
    /// # Panics
    /// If there is no such shard.
    pub fn cast<M: Message>(&self, to: ShardId, message: M) -> Result<(), Full> {
        let shard = &self.0;
        self.check(to);
        if to == self.here() {
            bump(&shard.mesh_stats.local);
            drop(parcel::handle(message, shard));
            return Ok(());
        }
        let (state, at) = (&shard.mesh, usize::from(to.0));
        // Who waits for a credit comes first.
        if state.port.borrow().credits(at) == 0 || state.table.borrow().waiting_for(at) > 0 {
            bump(&shard.mesh_stats.credits_spent);
            return Err(Full::new("mesh_credits", shard.limits.mesh_credits.into()));
        }
        let sent = state.request(to, state.spare.letter(None, message));
        assert!(sent.is_ok(), "there was a credit");
        bump(&shard.mesh_stats.casts);
        Ok(())
    }

    /// Requests that `to` has not answered yet, and those that wait for a credit.
    pub fn under_way(&self, to: ShardId) -> (usize, usize) {
        self.check(to);
        let mesh = &self.0.mesh;
        let at = usize::from(to.0);
        if to == self.here() {
            return (0, 0);
        }
        let left = mesh.port.borrow().credits(at) as usize;
        let waiting = mesh.table.borrow().waiting_for(at);
        (self.0.limits.mesh_credits as usize - left, waiting)
    }

    /// Requests of `from` that wait to be taken by this shard.
    pub fn lane_depth(&self, from: ShardId) -> usize {
        self.check(from);
        if from == self.here() { 0 } else { self.0.mesh.port.borrow().depth_in(usize::from(from.0)) }
    }

    /// A handle of another shard that any thread may use; none before that shard was made.
    pub fn handle(&self, of: ShardId) -> Option<ShardHandle> {
        self.check(of);
        self.0.mesh.roster.get(usize::from(of.0)).cloned()
    }

    fn check(&self, to: ShardId) {
        assert!(
            to.0 < self.0.mesh.shards,
            "there is no shard {}: this node has {}",
            to.0,
            self.0.mesh.shards
        );
    }

    fn send<R>(
        &self,
        to: ShardId,
        make: impl FnOnce(table::Key) -> BoxedParcel,
        take: fn(BoxedParcel, &Shard) -> Result<R, CallError>,
    ) -> Call<R> {
        let shard = &self.0;
        let state = &shard.mesh;
        let at = usize::from(to.0);
        let deadline = shard
            .now()
            .mono_ns
            .saturating_add(u64::try_from(shard.limits.call_time.as_nanos()).unwrap_or(u64::MAX));
        let key = state.table.borrow_mut().open(deadline);
        let parcel = make(key);
        if to == self.here() {
            parcel.open(at, shard);
        } else if state.table.borrow().waiting_for(at) > 0 {
            self.wait(at, key, parcel);
        } else if let Err(parcel) = state.request(to, parcel) {
            self.wait(at, key, parcel);
        }
        shard.set_call_timer();
        Call::pending(Rc::clone(shard), key, take)
    }

    fn wait(&self, at: usize, key: table::Key, parcel: BoxedParcel) {
        let shard = &self.0;
        bump(&shard.mesh_stats.credits_spent);
        let refused = shard.mesh.table.borrow_mut().wait(at, key, parcel);
        if let Some(parcel) = refused {
            bump(&shard.mesh_stats.calls_refused);
            drop(parcel);
        }
    }
}
