//! Corelane floor 1: the server side of RESP2 and RESP3, the protocol of Redis clients, as a machine without
//! I/O.
//!
//! Bytes come in as slices, commands go out as slices of the same bytes, and replies are written into a
//! [`Sink`].
//!
//! # Calling order
//! 1. [`Parser::poll`] with all unread bytes of the connection until it gives [`Step::Command`]. It advances
//!    the slice past the command: the rest is for the next poll.
//! 2. Run the command, write its reply by a [`Writer`], poll again. A pipeline is nothing but that.
//! 3. [`Step::NeedMore`] asks for more bytes: present the unread ones again, with the new ones behind them.
//!    Until there are `wants` of them, polling costs one comparison and finds nothing. The bytes may have
//!    moved.
//! 4. [`Step::Refused`] means that this is no RESP: write [`Writer::protocol_error`], flush, and close.
//!
//! ```
//! use corelane_proto_resp::{Limits, Parser, Step, Version, Writer};
//!
//! let (mut parser, limits) = (Parser::new(), Limits::default());
//! let mut unread: &[u8] = b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\nPING\r\n";
//! let mut out = Vec::new();
//! loop {
//!     let mut writer = Writer::new(&mut out, Version::Resp2);
//!     match parser.poll(&limits, &mut unread) {
//!         Step::Command(command) if command.name() == b"ECHO" => writer.bulk(&command[1]),
//!         Step::Command(_) => writer.raw(corelane_proto_resp::PONG),
//!         Step::NeedMore { .. } => break,
//!         Step::Refused(error) => {
//!             writer.protocol_error(error);
//!             break;
//!         }
//!     }
//! }
//! assert_eq!(out, b"$5\r\nhello\r\n+PONG\r\n");
//! ```
//!
//! # Rules
//! 1. A protocol error ends the connection: no byte after it is ever read as a command.
//! 2. A length that is not followed by what it announced is refused, even where Redis skips over it unread.
//! 3. Everything a peer can make grow has a maximum in [`Limits`].
//! 4. How bytes were split into reads changes neither the commands nor the errors, and all reads together
//!    cost no more than one: the parser looks at no byte twice. What [`Ahead`] begins and does not find whole is read
//!    once more, by the parser; that is at most 9 KiB, once for each command.
//! 5. Nothing is allocated for a command once a connection has seen one as large; what a very large one left
//!    is given back when the connection has nothing more to read.
//!
//! Requests have no nesting: a command is one array of strings, and anything else in it is a protocol error.
//! Only replies nest, and there the application counts.
//!
//! Not here: sockets, deadlines, which commands exist and who may send them, matching of key patterns,
//! reading replies (a client's work).
#![forbid(unsafe_code)]

mod ahead;
#[doc(hidden)]
pub mod check;
mod command;
mod double;
mod error;
mod inline;
mod limits;
mod number;
mod parser;
#[cfg(test)]
mod tests;
mod writer;

pub use ahead::Ahead;
pub use command::{Args, Command};
pub use double::{DoubleText, format_double};
pub use error::ProtocolError;
pub use limits::Limits;
pub use parser::{OpenArgument, Parser, Step};
pub use writer::{
    EMPTY_ARRAY, EMPTY_BULK, MINUS_ONE, MINUS_TWO, OK, ONE, PONG, QUEUED, Sink, Version, Writer, ZERO,
};
