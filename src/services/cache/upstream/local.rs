//! The keys of a shard as the second tier sees them.
//!
//! Not here: which commands ask it (`tier`).

use std::cell::Cell;
use std::rc::{Rc, Weak};

use bytes::Bytes;
use corelane_exec::{current, spawn, yield_now};

use super::{Local, forget_strings};
use crate::services::cache::CacheShard;
use crate::services::cache::store::{Expiry, Now};

/// Keys of one slice of forgetting: half a millisecond, if a look and a removal take 1 us.
const SLICE_KEYS: usize = 512;

/// A [`CacheShard`] with a second tier.
#[derive(Debug)]
pub struct Here {
    /// Not kept: what it has holds this.
    shard: Weak<CacheShard>,
    /// Goes up with each beginning: a walk that is not the last one ends.
    walk: Rc<Cell<u64>>,
    forgets: Rc<Cell<bool>>,
}

impl Here {
    /// Of the current shard. Where the keys are gone, nothing is here.
    pub fn new(shard: Weak<CacheShard>) -> Here {
        Here { shard, walk: Rc::default(), forgets: Rc::default() }
    }

    /// True while all strings are being forgotten: one that is still here may be older than the upstream's.
    pub fn forgets(&self) -> Rc<Cell<bool>> {
        Rc::clone(&self.forgets)
    }
}

impl Local for Here {
    fn now(&self) -> Now {
        self.shard.upgrade().map(|here| here.now(&current())).unwrap_or_default()
    }

    fn store(&self, key: &[u8], value: &Bytes, expires_at: Option<u64>) -> bool {
        let Some(here) = self.shard.upgrade() else { return false };
        // A transaction has taken the key: what it leaves there counts.
        if here.locks.borrow().bars(key, 0) {
            return false;
        }
        here.set_now(&current());
        let mut store = here.store.borrow_mut();
        let key = here.key(key);
        let expiry = expires_at.map_or(Expiry::Never, Expiry::At);
        // Where there is no room, it stays at the upstream only.
        store.kind(key).is_some() || (store.make_room().is_ok() && store.set_str(key, value, expiry).is_ok())
    }

    fn forget(&self, key: &[u8]) {
        let Some(here) = self.shard.upgrade() else { return };
        here.set_now(&current());
        let mut store = here.store.borrow_mut();
        let key = here.key(key);
        if store.kind(key) == Some(crate::services::cache::value::Kind::String) {
            store.remove(key);
        }
    }

    fn forget_all(&self) {
        let number = self.walk.get() + 1;
        self.walk.set(number);
        let Some(here) = self.shard.upgrade() else { return };
        self.forgets.set(true);
        let (shard, walk, forgets) = (Rc::clone(&here), Rc::clone(&self.walk), Rc::clone(&self.forgets));
        let slices = async move {
            let mut cursor = 0;
            while walk.get() == number {
                shard.set_now(&current());
                cursor = forget_strings(&mut shard.store.borrow_mut(), cursor, SLICE_KEYS);
                if cursor == 0 {
                    forgets.set(false);
                    break;
                }
                yield_now().await;
            }
        };
        match spawn(slices) {
            Ok(task) => task.detach(),
            Err(_) => {
                // No free task: in one step, which may take some milliseconds.
                here.set_now(&current());
                let mut store = here.store.borrow_mut();
                let mut cursor = forget_strings(&mut store, 0, SLICE_KEYS);
                while cursor != 0 {
                    cursor = forget_strings(&mut store, cursor, SLICE_KEYS);
                }
                self.forgets.set(false);
            }
        }
    }
}
