//! Commands: what each is ([`spec`]), which there are ([`lookup`]), and what they do to the store of one shard.
//!
//! A command reads its arguments, does its work inside the turn and writes exactly one reply. What is wrong with it is
//! said in the words of Redis, since clients look for them.
//!
//! Not here: which shard runs it, MULTI, blocking, connections (`session`).

pub mod admin;
#[cfg(test)]
pub(super) mod beside_redis;
pub mod blocking;
#[cfg(any(test, feature = "testing"))]
pub mod check;
pub mod connection;
pub mod data;
pub mod describe;
mod extended;
pub mod parse;
pub mod reply;
pub mod scan;
pub mod spec;
mod table;

use corelane_proto_resp::Command;

use super::store::{Key, Store};
pub use extended::Extended;
pub use reply::Reply;
pub use spec::{Categories, Flags, Gather, Keys, Run, Spec};
pub use table::{all, lookup};

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
const TABLES: &[&[Spec]] = &[
    data::strings::TABLE,
    data::bits::TABLE,
    data::bitfield::TABLE,
    data::keys::TABLE,
    data::hashes::TABLE,
    data::lists::TABLE,
    data::sets::TABLE,
    data::sorted_sets::TABLE,
    connection::TABLE,
    admin::TABLE,
];

/// Why there is nothing to run.
#[derive(Clone, Copy, Debug)]
pub enum Unfit {
    /// No such command.
    Command,
    /// This command has no such subcommand.
    Subcommand(&'static Spec),
    /// Too few arguments for this command or subcommand, or too many.
    Arity(&'static Spec),
}

/// What `command` is: a command, or a subcommand where it has such. The number of arguments is right.
///
/// # Errors
/// [`Unfit`], which is to be replied ([`Unfit::reply`]).
#[inline]
pub fn find(command: &Command<'_>) -> Result<&'static Spec, Unfit> {
    find_in(command.name(), command.get(1), command.len())
}

/// As [`find`], by the name, the word behind it and the number of words.
#[inline]
pub(crate) fn find_in(name: &[u8], second: Option<&[u8]>, len: usize) -> Result<&'static Spec, Unfit> {
    let mut spec = lookup(name).ok_or(Unfit::Command)?;
    if !spec.subcommands.is_empty()
        && let Some(own) = second
    {
        let found = spec.subcommands.iter().find(|one| parse::is(own, one.own_name()));
        spec = found.ok_or(Unfit::Subcommand(spec))?;
    }
    if spec.takes(len) { Ok(spec) } else { Err(Unfit::Arity(spec)) }
}

/// Bytes of a name, and of all arguments, that an error about them repeats, as in Redis.
const ECHO_LEN_MAX: usize = 128;

impl Unfit {
    /// Says so, in the words of Redis.
    #[cold]
    pub fn reply(self, command: &Command<'_>, reply: &mut Reply) {
        // As far as C would print it.
        let cut = |bytes: &[u8], max: usize| {
            let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
            bytes[..end.min(max)].to_vec()
        };
        let mut text: Vec<u8> = Vec::new();
        match self {
            Unfit::Arity(spec) => return wrong_arity(reply, spec.name),
            Unfit::Subcommand(spec) => {
                text.extend_from_slice(b"ERR unknown subcommand '");
                text.extend(cut(&command[1], ECHO_LEN_MAX));
                text.extend_from_slice(format!("'. Try {} HELP.", spec.name.to_ascii_uppercase()).as_bytes());
            }
            Unfit::Command => {
                let mut args = Vec::new();
                for word in command.iter().skip(1) {
                    if args.len() >= ECHO_LEN_MAX {
                        break;
                    }
                    let shown = cut(word, ECHO_LEN_MAX - args.len());
                    args.extend([&b"'"[..], &shown, b"' "].concat());
                }
                text.extend_from_slice(b"ERR unknown command '");
                text.extend(cut(command.name(), ECHO_LEN_MAX));
                text.extend_from_slice(b"', with args beginning with: ");
                text.extend(args);
            }
        }
        reply.write().error(&text);
    }
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
    let spec = match find(command) {
        Ok(spec) => spec,
        Err(Unfit::Command) => return false,
        Err(unfit) => {
            unfit.reply(command, reply);
            return true;
        }
    };
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
