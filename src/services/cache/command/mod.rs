//! Commands: what each is ([`spec`]), which there are ([`lookup`]), and what they do to the store of one shard.
//!
//! A command reads its arguments, does its work inside the turn and writes exactly one reply. What is wrong with it is
//! said in the words of Redis, since clients look for them.
//!
//! Not here: which shard runs it, MULTI, blocking, connections (`session`).

pub mod parse;
pub mod reply;
pub mod scan;
pub mod spec;

use corelane_proto_resp::Command;

use super::store::{Key, Store};
pub use reply::Reply;
pub use spec::{Categories, Flags, Gather, Keys, Run, Spec};

/// What a command runs on.
#[derive(Debug)]
pub struct Ctx<'a> {
    /// The keys of this shard. Its time is set.
    pub store: &'a mut Store,
    /// Where the reply goes.
    pub reply: &'a mut Reply,
    /// The first key of the command, hashed already, if the caller knew it.
    pub first: Option<Key<'a>>,
    /// A command of [`Flags::BLOCKING`] sets this, and replies nothing, where it would have to wait.
    pub blocked: bool,
    /// A random number, another one for each command.
    pub random: u64,
}

impl Ctx<'_> {
    /// `bytes`, an argument of the command, as a key.
    #[inline]
    pub fn key<'k>(&self, bytes: &'k [u8]) -> Key<'k> {
        match self.first {
            Some(first) if std::ptr::eq(first.bytes, bytes) => Key { bytes, hash: first.hash },
            _ => self.store.hasher().key(bytes),
        }
    }
}

/// Tables of commands, by whoever implements them: each module of `data` has one.
const TABLES: &[&[Spec]] = &[];

/// The command of this name, in any case of letters.
pub fn lookup(name: &[u8]) -> Option<&'static Spec> {
    TABLES.iter().copied().flatten().find(|spec| spec.name.as_bytes().eq_ignore_ascii_case(name))
}

/// The error of a command with the wrong number of arguments. `name` as in [`Spec::name`]; of a subcommand `command|subcommand`.
pub fn wrong_arity(reply: &mut Reply, name: &str) {
    reply.error(format_args!("ERR wrong number of arguments for '{name}' command"));
}

/// Runs a [`Run::Data`] command on a store, as the tests of commands do.
#[cfg(test)]
pub(crate) fn run_one(store: &mut Store, words: &[&[u8]], version: corelane_proto_resp::Version) -> Vec<u8> {
    let mut wire = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        wire.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        wire.extend_from_slice(word);
        wire.extend_from_slice(b"\r\n");
    }
    let (mut parser, limits) = (corelane_proto_resp::Parser::new(), corelane_proto_resp::Limits::default());
    let mut unread: &[u8] = &wire;
    let corelane_proto_resp::Step::Command(command) = parser.poll(&limits, &mut unread) else {
        panic!("this is no command")
    };
    let mut reply = Reply::new(version);
    run_command(store, &command, &mut reply, 0x5eed);
    reply.to_vec()
}

/// Looks a command up and runs it, all keys being here. For tests, snapshots of state, and commands inside a transaction.
pub fn run_command(store: &mut Store, command: &Command<'_>, reply: &mut Reply, random: u64) -> bool {
    let Some(spec) = lookup(command.name()) else { return false };
    if !spec.takes(command.len()) {
        wrong_arity(reply, spec.name);
        return true;
    }
    let (Run::Data(run) | Run::Split(run, _) | Run::All(run, _)) = spec.run else { return false };
    if spec.flags.has(Flags::DENYOOM)
        && let Err(error) = store.make_room()
    {
        reply.error(error);
        return true;
    }
    let mut ctx = Ctx { store, reply, first: None, blocked: false, random };
    run(&mut ctx, command);
    !ctx.blocked
}
