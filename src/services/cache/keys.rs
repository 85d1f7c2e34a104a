//! Keys: commands that look for keys on every shard in their own way, SCAN and RANDOMKEY.
//!
//! Not here: KEYS and DBSIZE, which every shard runs as it is (`command`).

use std::future::Future;
use std::rc::Rc;

use corelane_base::ShardId;
use corelane_exec::{Shard, Sharded};
use corelane_proto_resp::{Command, Version};

use super::CacheError;
use super::batch::encode;
use super::command::Reply;
use super::command::data::keys::scan_part;
use super::command::scan::{self, Scanned};
use super::shard::CacheShard;
use super::transaction::with_command;

/// Bits of a SCAN cursor that the shard does not use.
const CURSOR_BITS: u32 = 48;

/// SCAN: shard by shard. The shard stands in the high bits of the cursor. What it replies, or will.
pub(super) fn scan(
    shard: &Rc<Shard>,
    all: &Sharded<CacheShard>,
    command: &Command<'_>,
    version: Version,
) -> Result<impl Future<Output = Result<Reply, CacheError>> + 'static, Reply> {
    let mut refused = Reply::new(version);
    let Some(cursor) = scan::cursor_or_reply(&mut refused, &command[1]) else { return Err(refused) };
    if scan::options_or_reply(&mut refused, command, 2, Scanned::Keys).is_none() {
        return Err(refused);
    }
    let (of, inner) = (cursor >> CURSOR_BITS, cursor & ((1 << CURSOR_BITS) - 1));
    let shards = all.of(shard).shards();
    let Some(of) = u16::try_from(of).ok().filter(|of| *of < shards) else {
        // Of a node with more shards: nothing is there.
        refused.array(2);
        refused.bulk(b"0");
        refused.array(0);
        return Err(refused);
    };
    let mut wire = Vec::new();
    encode(&mut wire, command.iter());
    let all = all.clone();
    let call = shard.mesh().with(ShardId(of), move |shard| {
        let here = all.of(shard);
        here.set_now(shard);
        with_command(&wire, |command| {
            let mut keys = Reply::new(version);
            let Some(options) = scan::options_or_reply(&mut keys, command, 2, Scanned::Keys) else {
                return (0, 0, Reply::new(version)); // not so: it was looked at before
            };
            let mut store = here.store.borrow_mut();
            let (next, count) = scan_part(&mut store, inner, &options, &mut keys);
            (next, count, keys)
        })
    });
    Ok(async move {
        let (next, count, keys) = call.await?;
        let cursor = match next {
            0 if of + 1 == shards => 0,
            0 => u64::from(of + 1) << CURSOR_BITS,
            next => (u64::from(of) << CURSOR_BITS) | next,
        };
        let mut reply = Reply::new(version);
        reply.array(2);
        reply.bulk(cursor.to_string().as_bytes());
        reply.array(count);
        reply.append(&keys);
        Ok(reply)
    })
}

/// RANDOMKEY: a shard by the number of its keys, then a key of it.
pub(super) fn random_key(
    shard: &Rc<Shard>,
    all: &Sharded<CacheShard>,
    version: Version,
) -> impl Future<Output = Result<Reply, CacheError>> + 'static {
    let here = all.of(shard);
    let (pick, choose) = (here.random(), here.random());
    let mesh = shard.mesh();
    let calls: Vec<_> = mesh
        .all()
        .map(|to| {
            let all = all.clone();
            mesh.with(to, move |shard| {
                let here = all.of(shard);
                here.set_now(shard);
                let mut store = here.store.borrow_mut();
                (store.len() as u64, store.random_key(pick).map(Box::<[u8]>::from))
            })
        })
        .collect();
    async move {
        let mut found = Vec::with_capacity(calls.len());
        for call in calls {
            found.push(call.await?);
        }
        let total: u64 = found.iter().filter(|(_, key)| key.is_some()).map(|(len, _)| len).sum();
        let mut at = choose % total.max(1);
        let mut reply = Reply::new(version);
        for (len, key) in found {
            let Some(key) = key else { continue };
            if at < len {
                reply.bulk(&key);
                return Ok(reply);
            }
            at -= len;
        }
        reply.null();
        Ok(reply)
    }
}
