//! Connections of a protocol that is not HTTP, on a kernel that costs next to nothing: from the received bytes of a
//! command to the send of its reply, and from a post to its send.
//!
//! Not here: what commands do (the application's), the grammar by itself (`shards/proto-resp/benches`).

use std::cell::RefCell;
use std::hint::black_box;
use std::rc::Rc;

use corelane_base::{Limits, ShardId};
use corelane_exec::{Runtime, Shard};
use corelane_net::session::Refusal;
use corelane_net::{ConnKey, Link, Next, Protocol, SessionConfig, Sessions};
use corelane_pools::{PoolConfig, Pools};
use corelane_proto_resp::{Limits as RespLimits, Parser, Step, Version, Writer};

use super::super::replay::{LISTENER, Replay};
use super::{Case, ROUND, SELDOM};

pub(super) const CASES: &[Case] = &[
    Case {
        name: "session/get",
        about: "a GET of RESP: parsed, answered with 32 bytes and sent, alone in its turn",
        ops: SELDOM,
        run: |ops| commands(GET, 1, 1, ops),
    },
    Case {
        name: "session/get-c64",
        about: "the same with 64 connections, which all ask in one turn",
        ops: SELDOM,
        run: |ops| commands(GET, 1, 64, ops),
    },
    Case {
        name: "session/get-x16",
        about: "one of 16 that came together on one connection",
        ops: SELDOM,
        run: |ops| commands(pipelined(16), 16, 1, ops),
    },
    Case {
        name: "session/get-x64",
        about: "one of 64 that came together on one connection",
        ops: SELDOM,
        run: |ops| commands(pipelined(64), 64, 1, ops),
    },
    Case {
        name: "session/split",
        about: "15 or 16 commands of a fixed length in one receive, the first or the last of them cut in two",
        ops: SELDOM,
        run: split,
    },
    Case {
        name: "session/post",
        about: "a post that says 32 bytes to a connection, one of 64 in a turn, and its send",
        ops: SELDOM,
        run: posts,
    },
];

const GET: &[u8] = b"*2\r\n$3\r\nGET\r\n$16\r\nkey:000000000001\r\n";

const VALUE: &[u8] = b"a value of thirty-two bytes, yes";

fn pipelined(depth: usize) -> &'static [u8] {
    Box::leak(GET.repeat(depth).into_boxed_slice())
}

/// Every command is answered with the same value.
#[derive(Default)]
struct Fixed {
    limits: RespLimits,
    open: RefCell<Vec<ConnKey>>,
}

impl Protocol for Fixed {
    type Conn = Parser;
    type Post = ();

    fn open(&self, _shard: &Rc<Shard>, link: &mut Link<'_>) -> Result<Parser, Refusal> {
        self.open.borrow_mut().push(link.key());
        Ok(Parser::new())
    }

    fn input(&self, _: &Rc<Shard>, parser: &mut Parser, link: &mut Link<'_>, unread: &mut &[u8]) -> Next {
        loop {
            match parser.poll(&self.limits, unread) {
                Step::Command(command) => {
                    black_box(&command[1]);
                    Writer::new(link, Version::Resp2).bulk(black_box(VALUE));
                }
                Step::NeedMore { wants } => return Next::More { wants },
                Step::Refused(_) => return Next::Abort,
            }
        }
    }

    fn post(&self, _: &Rc<Shard>, _: &mut Parser, link: &mut Link<'_>, (): ()) -> Next {
        link.put(black_box(VALUE));
        Next::Same
    }
}

/// Commands of a fixed length, answered alike.
struct Blocks;

impl Blocks {
    const LEN: usize = 36;
}

impl Protocol for Blocks {
    type Conn = ();
    type Post = ();

    fn open(&self, _shard: &Rc<Shard>, _link: &mut Link<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    fn input(&self, _: &Rc<Shard>, (): &mut (), link: &mut Link<'_>, unread: &mut &[u8]) -> Next {
        while let Some((command, behind)) = unread.split_at_checked(Blocks::LEN) {
            black_box(command);
            link.put(black_box(VALUE));
            *unread = behind;
        }
        Next::More { wants: Blocks::LEN }
    }

    fn post(&self, _: &Rc<Shard>, (): &mut (), _: &mut Link<'_>, (): ()) -> Next {
        Next::Same
    }
}

/// A shard that has accepted so many connections.
fn serving<P: Protocol>(
    protocol: P,
    input: &'static [u8],
    connections: u32,
) -> (Runtime<Replay>, Rc<Sessions<P>>) {
    let pools = Pools::new(&PoolConfig::default()).expect("memory for pools");
    let mut runtime = Runtime::new(ShardId(0), Limits::default(), pools, Replay::new(input), None);
    let sessions = runtime.within(|shard| {
        let sessions = Sessions::start(shard, protocol, SessionConfig::default());
        sessions.listen(shard, LISTENER);
        sessions
    });
    turn(&mut runtime);
    for sock in 0..connections {
        runtime.kernel().connect(sock);
    }
    turn(&mut runtime);
    turn(&mut runtime);
    (runtime, sessions)
}

fn turn(runtime: &mut Runtime<Replay>) {
    runtime.turn(true).expect("this kernel is always entered");
}

/// Bytes of a reply.
const REPLY_LEN: u64 = b"$32\r\n".len() as u64 + VALUE.len() as u64 + 2;

/// `input` holds `depth` commands; each connection receives it once a round.
fn commands(input: &'static [u8], depth: u64, connections: u32, ops: u64) {
    let (mut runtime, sessions) = serving(Fixed::default(), input, connections);
    let one = depth * u64::from(connections);
    for _ in 0..ops / one {
        for sock in 0..connections {
            runtime.kernel().ask(sock);
        }
        turn(&mut runtime);
    }
    turn(&mut runtime);
    assert_eq!(runtime.kernel().sent_bytes(), ops / one * one * REPLY_LEN);
    assert_eq!(sessions.inbox_bytes(), 0);
}

/// Two receives hold 31 commands, one of which is in both.
fn split(ops: u64) {
    let input = Box::leak(vec![b'c'; Blocks::LEN * 31 / 2].into_boxed_slice());
    let (mut runtime, sessions) = serving(Blocks, input, 1);
    for _ in 0..ops {
        runtime.kernel().ask(0);
        turn(&mut runtime);
    }
    turn(&mut runtime);
    assert_eq!(runtime.kernel().sent_bytes(), ops / 2 * 31 * VALUE.len() as u64);
    assert_eq!(sessions.inbox_bytes(), 0);
}

fn posts(ops: u64) {
    let (mut runtime, sessions) = serving(Fixed::default(), GET, 64);
    let keys = sessions.protocol().open.take();
    assert_eq!(keys.len() as u64, ROUND);
    for _ in 0..ops / ROUND {
        for &key in &keys {
            sessions.post(black_box(key), ());
        }
        turn(&mut runtime);
    }
    turn(&mut runtime);
    assert_eq!(runtime.kernel().sent_bytes(), ops * VALUE.len() as u64);
}
