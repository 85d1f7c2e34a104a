//! A shard's place in the mesh, made for all shards before their threads start.
//!
//! Not here: the shard that takes it.

use std::fmt;
use std::hash::RandomState;
use std::sync::{Arc, OnceLock};

use corelane_base::Limits;
use corelane_lanes::{MeshConfig, Port};

use super::BoxedParcel;
use crate::remote::ShardHandle;

/// The place of one shard.
pub struct Seat {
    pub(super) port: Port<BoxedParcel, BoxedParcel>,
    pub(super) roster: Arc<Roster>,
    pub(super) hasher: RandomState,
}

impl fmt::Debug for Seat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seat({} of {})", self.port.here(), self.port.shards())
    }
}

impl Seat {
    pub(crate) fn here(&self) -> usize {
        self.port.here()
    }

    pub(crate) fn door(&self) -> &Arc<corelane_lanes::Door> {
        self.port.door()
    }
}

/// The seats of `shards` shards, in their order. Memory: for each pair two lanes of `mesh_credits` places of 16
/// bytes each way.
pub fn seats(shards: usize, limits: &Limits) -> Vec<Seat> {
    let roster = Arc::new(Roster((0..shards).map(|_| OnceLock::new()).collect()));
    let hasher = RandomState::new();
    corelane_lanes::mesh(&MeshConfig { shards, credits: limits.mesh_credits })
        .into_iter()
        .map(|port| Seat { port, roster: Arc::clone(&roster), hasher: hasher.clone() })
        .collect()
}

/// Handles of all shards, each there once its shard was made.
#[derive(Debug)]
pub(crate) struct Roster(Vec<OnceLock<ShardHandle>>);

impl Roster {
    pub(crate) fn get(&self, shard: usize) -> Option<&ShardHandle> {
        self.0.get(shard)?.get()
    }

    pub(crate) fn set(&self, shard: usize, handle: ShardHandle) {
        assert!(self.0[shard].set(handle).is_ok(), "seat {shard} was taken twice");
    }
}
