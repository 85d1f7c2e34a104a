//! The kinds of values that a key can have.
//!
//! # Rules
//! 1. A value is `Send`: a copy of it may be moved to another shard.
//! 2. A collection knows at all times how many bytes it holds; each change costs that knowledge O(1).
//!
//! Not here: keys, expiry, memory limits (`store`).

mod block;
pub mod codec;
mod hash;
mod ints;
mod list;
mod pack;
mod set;
mod small;
mod sorted_set;
mod table;

use bytes::Bytes;

pub use hash::{Fields, Hash};
pub use list::{End, List};
pub use set::{Member, Members, Set};
pub use sorted_set::{Put, SortedSet};

/// The kind of a value, in the words of `TYPE`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// Bytes, or an integer.
    String,
    /// Fields with values.
    Hash,
    /// Elements in order, with two ends.
    List,
    /// Different members.
    Set,
    /// Different members in the order of their scores.
    SortedSet,
}

impl Kind {
    /// As `TYPE` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::Hash => "hash",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::SortedSet => "zset",
        }
    }
}

/// A string value as it is read.
#[derive(Clone, Copy, Debug)]
pub enum Str<'a> {
    /// Kept as a number: its text is the shortest decimal one.
    Int(i64),
    /// Bytes that lie in the store.
    Bytes(&'a [u8]),
    /// Large bytes, which can be sent from where they are.
    Shared(&'a Bytes),
}

/// A value that belongs to nobody yet, or no more.
#[derive(Clone, Debug)]
pub enum Value {
    /// A string that is a canonical decimal of 64 bits.
    Int(i64),
    /// Any other string.
    Bytes(Bytes),
    /// See [`Kind::Hash`].
    Hash(Box<Hash>),
    /// See [`Kind::List`].
    List(Box<List>),
    /// See [`Kind::Set`].
    Set(Box<Set>),
    /// See [`Kind::SortedSet`].
    SortedSet(Box<SortedSet>),
}

impl Value {
    /// Its kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Value::Int(_) | Value::Bytes(_) => Kind::String,
            Value::Hash(_) => Kind::Hash,
            Value::List(_) => Kind::List,
            Value::Set(_) => Kind::Set,
            Value::SortedSet(_) => Kind::SortedSet,
        }
    }
}

/// A value as it is read.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// See [`Kind::String`].
    Str(Str<'a>),
    /// See [`Kind::Hash`].
    Hash(&'a Hash),
    /// See [`Kind::List`].
    List(&'a List),
    /// See [`Kind::Set`].
    Set(&'a Set),
    /// See [`Kind::SortedSet`].
    SortedSet(&'a SortedSet),
}

impl ValueRef<'_> {
    /// Its kind.
    pub const fn kind(self) -> Kind {
        match self {
            ValueRef::Str(_) => Kind::String,
            ValueRef::Hash(_) => Kind::Hash,
            ValueRef::List(_) => Kind::List,
            ValueRef::Set(_) => Kind::Set,
            ValueRef::SortedSet(_) => Kind::SortedSet,
        }
    }
}

/// What [`struct@Hash`], [`List`], [`Set`] and [`SortedSet`] have in common.
pub trait Collection: Default + Sized {
    /// Its kind.
    const KIND: Kind;
    /// Bytes it holds on the heap and itself.
    fn bytes(&self) -> usize;
    /// Whether nothing is in it: then its key goes.
    fn is_empty(&self) -> bool;
    /// As a value.
    fn into_value(self: Box<Self>) -> Value;
    /// Out of a value of this kind.
    fn from_ref(value: ValueRef<'_>) -> Option<&Self>;
    /// Out of a value of this kind, to be changed.
    fn from_value(value: &mut Value) -> Option<&mut Self>;
}

macro_rules! collection {
    ($kind:ident) => {
        impl Collection for $kind {
            const KIND: Kind = Kind::$kind;

            fn bytes(&self) -> usize {
                $kind::bytes(self)
            }

            fn is_empty(&self) -> bool {
                $kind::is_empty(self)
            }

            fn into_value(self: Box<Self>) -> Value {
                Value::$kind(self)
            }

            fn from_ref(value: ValueRef<'_>) -> Option<&Self> {
                match value {
                    ValueRef::$kind(found) => Some(found),
                    _ => None,
                }
            }

            fn from_value(value: &mut Value) -> Option<&mut Self> {
                match value {
                    Value::$kind(found) => Some(found),
                    _ => None,
                }
            }
        }
    };
}

collection!(Hash);
collection!(List);
collection!(Set);
collection!(SortedSet);
