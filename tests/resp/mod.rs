//! What the tests of the RESP cache share: replies as values, connections, and the servers.
//!
//! Not here: the assertions.

// Each test program uses its part of this; tests have a clock of their own.
#![allow(dead_code, unused_imports, clippy::disallowed_methods)]

pub(crate) mod conn;
pub(crate) mod script;
pub(crate) mod subject;
pub(crate) mod value;
pub(crate) mod witness;

pub(crate) use conn::{Conn, Cut, encode};
pub(crate) use script::compare;
pub(crate) use subject::Subject;
pub(crate) use value::{Value, shown};
pub(crate) use witness::Witness;
