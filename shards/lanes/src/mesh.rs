//! The mesh: a lane of requests and a lane of responses from each shard to each other, with credits.
//!
//! A request spends a credit of its target, and gets it back when its response is taken. So lanes are never
//! full by surprise (rule 9), and who has no credit left knows it without asking anybody.
//!
//! A shard's turn: [`Port::take`]; then [`Port::request`] and [`Port::respond`] as it comes; then one
//! [`Port::publish`] for all of it.
//!
//! Not here: the rules (`lib.rs`), which response belongs to which request, what waits for a credit (`exec`).

use std::fmt;

use crate::atomic::Arc;
use crate::door::WORD_SOURCES;
use crate::{Consumer, Door, Producer, lane, ring};

/// Most shards of a mesh. A pair of shards costs some memory, so a mesh costs its square: see [`MeshConfig`].
pub const SHARDS_MAX: usize = 1024;

/// Size of a mesh.
///
/// Each pair of shards, each way, costs two rings (384 bytes each on x86-64: counts, tail and head, each
/// padded), a handle of about 230 bytes, and `credits`, rounded up to a power of two, slots of a request and as
/// many of a response. A slot's page is in memory from its first message on. Without slots a mesh costs 61 KiB
/// at 8 shards, 3.9 MiB at 64 and 1 GiB at 1024; with 128 credits and 64 bytes a message, each way that is
/// ever used costs 16 KiB more. [`MeshConfig::bytes`] has the sum.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct MeshConfig {
    /// Shards, 1 to [`SHARDS_MAX`].
    pub shards: usize,
    /// Requests of one shard to one other that are not answered, at most. At least 1.
    pub credits: u32,
}

impl MeshConfig {
    /// Bytes that [`mesh`] allocates for this size, all slots included.
    pub fn bytes<Q, R>(&self) -> usize {
        let (shards, credits) = (self.shards, self.credits as usize);
        let pairs = shards * shards.saturating_sub(1);
        let port = size_of::<Port<Q, R>>()
            + shards * (size_of::<Option<Link<Q, R>>>() + size_of::<usize>())
            + shards.div_ceil(WORD_SOURCES) * size_of::<u64>();
        shards * (port + Door::bytes(shards))
            + pairs * (ring::bytes::<Q>(credits) + ring::bytes::<R>(credits))
    }
}

/// Makes the ports of all shards at once, in the order of their shards. Each goes to its own thread.
///
/// # Panics
/// If a number is outside of what [`MeshConfig`] says.
pub fn mesh<Q: Send, R: Send>(config: &MeshConfig) -> Vec<Port<Q, R>> {
    let (shards, credits) = (config.shards, config.credits as usize);
    assert!((1..=SHARDS_MAX).contains(&shards), "a mesh is of 1 to {SHARDS_MAX} shards, not {shards}");
    assert!(credits >= 1, "a mesh without credits carries nothing");
    let doors: Vec<_> = (0..shards).map(|_| Door::new(shards)).collect();
    let mut links: Vec<Vec<Option<Link<Q, R>>>> =
        (0..shards).map(|_| (0..shards).map(|_| None).collect()).collect();
    for low in 0..shards {
        for high in low + 1..shards {
            let (at_low, at_high) = pair(&doors[low], &doors[high], credits);
            links[low][high] = Some(at_low);
            links[high][low] = Some(at_high);
        }
    }
    let port = |(here, (door, links)): (usize, (&Arc<Door>, Vec<_>))| Port {
        here,
        credits_max: credits,
        door: Arc::clone(door),
        links: links.into_boxed_slice(),
        touched: Vec::with_capacity(shards),
        marked: vec![0; door.words()].into_boxed_slice(),
        marked_count: 0,
        next: 0,
    };
    doors.iter().zip(links).enumerate().map(port).collect()
}

/// One shard's side of what is between it and one other.
struct Link<Q, R> {
    /// The other's door.
    door: Arc<Door>,
    requests_out: Producer<Q>,
    responses_out: Producer<R>,
    requests_in: Consumer<Q>,
    responses_in: Consumer<R>,
    /// Requests that may still be made.
    credits: usize,
    /// Requests taken and not answered.
    owed: usize,
    /// Something was pushed since the last publish.
    touched: bool,
}

/// The links of two shards with each other, the one of the first shard first.
fn pair<Q: Send, R: Send>(a: &Arc<Door>, b: &Arc<Door>, credits: usize) -> (Link<Q, R>, Link<Q, R>) {
    let (a_requests, b_requests_in) = lane(credits);
    let (b_requests, a_requests_in) = lane(credits);
    let (a_responses, b_responses_in) = lane(credits);
    let (b_responses, a_responses_in) = lane(credits);
    let link = |door, requests_out, responses_out, requests_in, responses_in| Link {
        door: Arc::clone(door),
        requests_out,
        responses_out,
        requests_in,
        responses_in,
        credits,
        owed: 0,
        touched: false,
    };
    (
        link(b, a_requests, a_responses, a_requests_in, a_responses_in),
        link(a, b_requests, b_responses, b_requests_in, b_responses_in),
    )
}

/// What one shard reaches the others by, and they it.
pub struct Port<Q, R> {
    here: usize,
    credits_max: usize,
    door: Arc<Door>,
    /// By shard; none to itself.
    links: Box<[Option<Link<Q, R>>]>,
    /// The shards that something was pushed for since the last publish, each once.
    touched: Vec<usize>,
    /// The sources that have requests left, as the door's words have them.
    marked: Box<[u64]>,
    /// How many those are.
    marked_count: usize,
    /// The source whose turn it is.
    next: usize,
}

impl<Q, R> Port<Q, R> {
    /// The shard this is the port of.
    #[inline]
    pub fn here(&self) -> usize {
        self.here
    }

    /// Shards of the mesh.
    #[inline]
    pub fn shards(&self) -> usize {
        self.links.len()
    }

    /// This shard's door.
    #[inline]
    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// The door of a shard, this one or another.
    ///
    /// # Panics
    /// If there is no such shard.
    #[inline]
    pub fn door_of(&self, shard: usize) -> &Arc<Door> {
        self.links[shard].as_ref().map_or(&self.door, |link| &link.door)
    }

    /// Requests that `to` may still be sent before it answers.
    ///
    /// # Panics
    /// If `to` is this shard, or none.
    #[inline]
    pub fn credits(&self, to: usize) -> u32 {
        u32::try_from(self.link(to).credits).unwrap_or(u32::MAX)
    }

    /// Sends a request, which spends a credit. It leaves with the next [`Port::publish`].
    ///
    /// # Errors
    /// The request comes back when there is no credit left.
    ///
    /// # Panics
    /// If `to` is this shard, or none.
    #[inline]
    pub fn request(&mut self, to: usize, request: Q) -> Result<(), Q> {
        let link = link_mut(&mut self.links, to);
        let Some(credits) = link.credits.checked_sub(1) else { return Err(request) };
        link.credits = credits;
        assert!(link.requests_out.push(request).is_ok(), "rule 9: a credit is room in the lane");
        if !link.touched {
            link.touched = true;
            self.touched.push(to);
        }
        Ok(())
    }

    /// Answers a request that was taken from `to`. It leaves with the next [`Port::publish`].
    ///
    /// # Panics
    /// If all requests taken from `to` were answered; if `to` is this shard, or none.
    #[inline]
    pub fn respond(&mut self, to: usize, response: R) {
        let link = link_mut(&mut self.links, to);
        assert!(link.owed > 0, "every request taken from shard {to} has its response");
        link.owed -= 1;
        assert!(link.responses_out.push(response).is_ok(), "rule 9: a request is room for its response");
        if !link.touched {
            link.touched = true;
            self.touched.push(to);
        }
    }

    /// Whether something was sent that no [`Port::publish`] has made visible.
    #[inline]
    pub fn has_unpublished(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Makes visible all that was sent, and knocks once at each shard it is for. Calls `ring` for each of
    /// them that sleeps and that nobody else rings.
    ///
    /// Costs two stores and one atomic change for each shard that something was sent to, nothing for others.
    #[inline]
    pub fn publish(&mut self, mut ring: impl FnMut(usize)) {
        while let Some(to) = self.touched.pop() {
            let link = link_mut(&mut self.links, to);
            link.touched = false;
            link.requests_out.publish();
            link.responses_out.publish();
            if link.door.knock(self.here) {
                ring(to);
            }
        }
    }

    /// Takes what others sent: all responses, each of which gives its credit back, and at most `budget`
    /// requests. Appends them with the shard they are from; in order for each shard. Returns whether
    /// requests are left: the next call goes on with them, no door needed.
    ///
    /// The budget is shared evenly among the shards that have requests, and who comes next goes round, so
    /// that each gets its share of every few calls. Costs one relaxed load for 64 shards when there is
    /// nothing, two more reads for each shard that knocked.
    pub fn take(
        &mut self,
        budget: usize,
        requests: &mut Vec<(usize, Q)>,
        responses: &mut Vec<(usize, R)>,
    ) -> bool {
        for at in 0..self.door.words() {
            // The lines of the lanes come while the swap of the word waits for its own.
            let mut coming = self.door.word(at);
            while coming != 0 {
                let source = at * WORD_SOURCES + coming.trailing_zeros() as usize;
                coming &= coming - 1;
                let link = link_mut(&mut self.links, source);
                link.requests_in.prefetch();
                link.responses_in.prefetch();
            }
            let mut fresh = self.door.take_word(at);
            while fresh != 0 {
                let bit = fresh & fresh.wrapping_neg();
                fresh ^= bit;
                let has_requests =
                    self.take_responses(at * WORD_SOURCES + bit.trailing_zeros() as usize, responses);
                if has_requests && self.marked[at] & bit == 0 {
                    self.marked[at] |= bit;
                    self.marked_count += 1;
                }
            }
        }
        self.take_requests(budget, requests)
    }

    /// Whether there is nothing to take. After [`Door::announce_sleep`], whoever sends something later will
    /// ring.
    #[inline]
    pub fn is_quiet(&self) -> bool {
        self.marked_count == 0 && self.door.is_quiet()
    }

    /// Requests to `to` that it has not taken.
    ///
    /// # Panics
    /// If `to` is this shard, or none.
    pub fn depth_out(&self, to: usize) -> usize {
        self.link(to).requests_out.depth()
    }

    /// Requests of `from` that are not taken yet.
    ///
    /// # Panics
    /// If `from` is this shard, or none.
    pub fn depth_in(&self, from: usize) -> usize {
        self.link(from).requests_in.depth()
    }

    #[inline]
    fn link(&self, other: usize) -> &Link<Q, R> {
        let Some(link) = &self.links[other] else { no_lane(other) };
        link
    }

    /// Takes the responses of a shard that knocked. Returns whether it also has requests.
    #[inline]
    fn take_responses(&mut self, from: usize, responses: &mut Vec<(usize, R)>) -> bool {
        let link = link_mut(&mut self.links, from);
        let back = link.responses_in.pop_each(usize::MAX, responses, |response| (from, response));
        let max = self.credits_max - link.credits;
        assert!(back <= max, "rule 9: shard {from} answered {back} of {max} requests");
        link.credits += back;
        link.requests_in.look()
    }

    #[inline]
    fn take_requests(&mut self, mut budget: usize, requests: &mut Vec<(usize, Q)>) -> bool {
        while self.marked_count != 0 && budget != 0 {
            // A round: each marked source once, from `next` on, each with its part of what the others left.
            let mut sources = self.marked_count;
            while sources != 0 && budget != 0 {
                let Some(from) = self.next_marked() else { unreachable!("{sources} sources are marked") };
                let link = link_mut(&mut self.links, from);
                let share = budget.div_ceil(sources);
                let taken = link.requests_in.pop_each(share, requests, |request| (from, request));
                link.owed += taken;
                assert!(link.owed <= self.credits_max, "rule 9: shard {from} has more requests than credits");
                if !link.requests_in.has_more() {
                    self.marked[from / WORD_SOURCES] &= !(1 << (from % WORD_SOURCES));
                    self.marked_count -= 1;
                }
                self.next = from + 1;
                budget -= taken;
                sources -= 1;
            }
        }
        self.marked_count != 0
    }

    /// The first marked source from `next` on, or else from 0 on.
    #[inline]
    fn next_marked(&self) -> Option<usize> {
        let (first, bit) = (self.next / WORD_SOURCES, self.next % WORD_SOURCES);
        let from =
            |at: usize, word: u64| (word != 0).then(|| at * WORD_SOURCES + word.trailing_zeros() as usize);
        let rest = self.marked.get(first).and_then(|word| from(first, word >> bit << bit));
        let ahead = || (first + 1..self.marked.len()).find_map(|at| from(at, self.marked[at]));
        let around = || (0..self.marked.len()).find_map(|at| from(at, self.marked[at]));
        rest.or_else(ahead).or_else(around)
    }
}

impl<Q, R> fmt::Debug for Port<Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("here", &self.here).field("shards", &self.shards()).finish()
    }
}

#[inline]
fn link_mut<Q, R>(links: &mut [Option<Link<Q, R>>], other: usize) -> &mut Link<Q, R> {
    let Some(link) = &mut links[other] else { no_lane(other) };
    link
}

#[cold]
fn no_lane(other: usize) -> ! {
    panic!("shard {other} has no lane to itself");
}

#[cfg(all(test, not(loom)))]
mod tests;
