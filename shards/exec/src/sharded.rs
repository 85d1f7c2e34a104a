//! One value a shard, made there and never moved: state that every shard has a part of.
//!
//! # Rules
//! 1. A value is made, used and dropped on its shard's thread. It need not be `Send`.
//! 2. What goes from shard to shard are closures and their results.
//!
//! Not here: which part has what (the application; [`Sharded::owner`] is one way).

use std::any::Any;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::marker::PhantomData;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use corelane_base::ShardId;

use crate::mesh::{Call, CallError, mesh};
use crate::shard::{Shard, current};

/// The values of one shard, by the number of their `Sharded`; none for one that is being made.
#[derive(Default)]
struct Values(RefCell<HashMap<u64, Option<Rc<dyn Any>>>>);

/// Stands while a value is made. Where that panics, the next who asks makes it.
struct Making<'a>(&'a Values, u64);

impl Drop for Making<'_> {
    fn drop(&mut self) {
        let mut values = self.0.0.borrow_mut();
        if values.get(&self.1).is_some_and(Option::is_none) {
            values.remove(&self.1);
        }
    }
}

type Make<T> = dyn Fn(&Rc<Shard>) -> T + Send + Sync;

/// A `T` on every shard. Clones are handles to the same values, and may be sent anywhere.
///
/// ```no_run
/// use corelane_exec::{Sharded, CallError};
/// use std::cell::RefCell;
/// use std::collections::HashMap;
///
/// type Counts = RefCell<HashMap<String, u64>>;
///
/// async fn count(counts: Sharded<Counts>, word: String) -> Result<u64, CallError> {
///     let owner = counts.owner(&word);
///     counts
///         .on(owner, move |counts| {
///             let mut counts = counts.borrow_mut();
///             let n = counts.entry(word).or_default();
///             *n += 1;
///             *n
///         })
///         .await
/// }
/// ```
pub struct Sharded<T> {
    number: u64,
    make: Arc<Make<T>>,
    _of: PhantomData<fn() -> T>,
}

impl<T> Clone for Sharded<T> {
    fn clone(&self) -> Sharded<T> {
        Sharded { number: self.number, make: Arc::clone(&self.make), _of: PhantomData }
    }
}

impl<T> fmt::Debug for Sharded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sharded({})", self.number)
    }
}

impl<T: 'static> Sharded<T> {
    /// Values that `make` makes, on each shard when it is first asked for its own. May be called anywhere, also
    /// before there are shards.
    pub fn new(make: impl Fn(&Rc<Shard>) -> T + Send + Sync + 'static) -> Sharded<T> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Sharded { number, make: Arc::new(make), _of: PhantomData }
    }

    /// The value of the current shard.
    ///
    /// # Panics
    /// Outside a shard, or if `make` asks for the value that it is to make.
    pub fn here(&self) -> Rc<T> {
        self.of(&current())
    }

    /// The value of this shard.
    ///
    /// # Panics
    /// If `make` asks for the value that it is to make.
    pub fn of(&self, shard: &Rc<Shard>) -> Rc<T> {
        let values = shard.local(Values::default);
        let found = values.0.borrow().get(&self.number).cloned();
        let any = match found {
            Some(Some(any)) => any,
            Some(None) => panic!("the value of a shard was asked for while it was being made"),
            None => {
                values.0.borrow_mut().insert(self.number, None);
                let _making = Making(&values, self.number);
                let made: Rc<dyn Any> = Rc::new((self.make)(shard));
                values.0.borrow_mut().insert(self.number, Some(Rc::clone(&made)));
                made
            }
        };
        match any.downcast() {
            Ok(value) => value,
            Err(_) => unreachable!("the number of a `Sharded` names one type"),
        }
    }

    /// The shard that owns `key`; see [`Mesh::owner`](crate::Mesh::owner).
    ///
    /// # Panics
    /// Outside a shard.
    pub fn owner<K: Hash + ?Sized>(&self, key: &K) -> ShardId {
        mesh().owner(key)
    }

    /// Runs `f` on the value of shard `to`, inside a turn of that shard: it must not block, and cannot wait. On
    /// the current shard it runs at once.
    ///
    /// # Panics
    /// Outside a shard, and if there is no shard `to`.
    pub fn on<R: Send + 'static>(&self, to: ShardId, f: impl FnOnce(&T) -> R + Send + 'static) -> Call<R> {
        let values = self.clone();
        mesh().with(to, move |shard| f(&values.of(shard)))
    }

    /// Runs `f` on every value, and gives the results in the order of the shards. All are asked before the first
    /// is waited for.
    ///
    /// # Panics
    /// Outside a shard.
    pub async fn each<R: Send + 'static>(
        &self,
        f: impl Fn(&T) -> R + Clone + Send + 'static,
    ) -> Vec<Result<R, CallError>> {
        let calls: Vec<Call<R>> = mesh().all().map(|to| self.on(to, f.clone())).collect();
        let mut results = Vec::with_capacity(calls.len());
        for call in calls {
            results.push(call.await);
        }
        results
    }
}
