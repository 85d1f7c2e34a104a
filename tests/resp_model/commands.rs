//! The templates of all commands, by families, each with its weight.
//!
//! Not here: the language of templates (`grammar`), how replies are compared (`compare`).

/// A weight and a template.
pub(crate) type Table = &'static [(u64, &'static str)];

/// Strings.
pub(crate) const STRINGS: Table = &[
    (12, "SET <s> <v> (||NX|XX) (||GET) (|||EX <ttl>|PX <pttl>|EXAT <at>|PXAT <pat>|KEEPTTL)"),
    (2, "SET <s> <v> (EX <ttl>|PX <pttl>|KEEPTTL) (NX|XX|GET|KEEPTTL|EX <ttl>)"),
    (10, "GET <s>"),
    (3, "GETEX <s> (|EX <ttl>|PX <pttl>|EXAT <at>|PXAT <pat>|PERSIST|PERSIST EX <ttl>)"),
    (3, "GETDEL <s>"),
    (2, "GETSET <s> <v>"),
    (2, "SETEX <s> <ttl> <v>"),
    (2, "PSETEX <s> <pttl> <v>"),
    (2, "SETNX <s> <v>"),
    (3, "MSET <kv*>"),
    (2, "MSETNX <kv*>"),
    (4, "MGET <s*>"),
    (2, "MGET <k*>"),
    (5, "APPEND <s> <v>"),
    (3, "STRLEN <s>"),
    (5, "INCR <s>"),
    (4, "DECR <s>"),
    (5, "INCRBY <s> <n>"),
    (4, "DECRBY <s> <n>"),
    (5, "INCRBYFLOAT <s> <f>"),
    (4, "GETRANGE <s> <i> <i>"),
    (1, "SUBSTR <s> <i> <i>"),
    (4, "SETRANGE <s> <offset> <v>"),
    (4, "SETBIT <s> <offset> <bit>"),
    (4, "GETBIT <s> <offset>"),
    (4, "BITCOUNT <s> (|<i> <i>|<i> <i> BIT|<i> <i> BYTE|<i>)"),
    (1, "BITPOS <s> <bit> (|<i>|<i> <i>|<i> <i> BIT)"),
    (1, "LCS <s> <s> (|LEN)"),
];

/// Keys of any type.
pub(crate) const KEYS: Table = &[
    (10, "DEL <k*>"),
    (3, "UNLINK <k*>"),
    (6, "EXISTS <k*>"),
    (3, "EXPIRE <k> <ttl> (|||NX|XX|GT|LT|NX XX|GT LT)"),
    (3, "PEXPIRE <k> <pttl> (|||NX|XX|GT|LT)"),
    (2, "EXPIREAT <k> <at> (|||NX|XX|GT|LT)"),
    (2, "PEXPIREAT <k> <pat> (|||NX|XX|GT|LT)"),
    (4, "TTL <k>"),
    (4, "PTTL <k>"),
    (2, "EXPIRETIME <k>"),
    (2, "PEXPIRETIME <k>"),
    (4, "PERSIST <k>"),
    (6, "TYPE <k>"),
    (4, "RENAME <k> <k>"),
    (3, "RENAMENX <k> <k>"),
    (2, "COPY <k> <k> (|REPLACE)"),
    (3, "KEYS <pattern>"),
    (2, "RANDOMKEY"),
    (3, "DBSIZE"),
    (2, "TOUCH <k*>"),
    (2, "OBJECT ENCODING <k>"),
    (1, "OBJECT FREQ <k>"),
    (1, "OBJECT IDLETIME <k>"),
    (3, "SCAN 0 (|MATCH <pattern>) (|COUNT (1|3|100)) (||TYPE (string|hash|list|set|zset|nothing))"),
    (1, "MEMORY USAGE <k>"),
];

/// Hashes.
pub(crate) const HASHES: Table = &[
    (12, "HSET <h> <mv*>"),
    (2, "HMSET <h> <mv*>"),
    (3, "HSETNX <h> <mv>"),
    (6, "HGET <h> <m>"),
    (4, "HMGET <h> <m*>"),
    (5, "HGETALL <h>"),
    (5, "HDEL <h> <m*>"),
    (3, "HLEN <h>"),
    (2, "HSTRLEN <h> <m>"),
    (3, "HEXISTS <h> <m>"),
    (3, "HKEYS <h>"),
    (3, "HVALS <h>"),
    (4, "HINCRBY <h> <m> <n>"),
    (4, "HINCRBYFLOAT <h> <m> <f>"),
    (2, "HRANDFIELD <h> (|<signed>|<signed> WITHVALUES)"),
    (2, "HSCAN <h> 0 (|MATCH <pattern>) (|COUNT (1|3|100))"),
];

/// Lists; those that may wait are in [`BLOCKING`].
pub(crate) const LISTS: Table = &[
    (8, "LPUSH <l> <v*>"),
    (8, "RPUSH <l> <v*>"),
    (2, "LPUSHX <l> <v*>"),
    (2, "RPUSHX <l> <v*>"),
    (5, "LPOP <l> (||<count>)"),
    (5, "RPOP <l> (||<count>)"),
    (3, "LLEN <l>"),
    (4, "LINDEX <l> <i>"),
    (4, "LSET <l> <i> <v>"),
    (5, "LRANGE <l> <i> <i>"),
    (3, "LTRIM <l> <i> <i>"),
    (4, "LINSERT <l> (BEFORE|AFTER|before|ACROSS) <v> <v>"),
    (4, "LREM <l> <signed> <v>"),
    (3, "LPOS <l> <v> (|RANK <signed>) (|COUNT <count>) (|MAXLEN <count>)"),
    (4, "LMOVE <l> <l> (LEFT|RIGHT|UP) (LEFT|RIGHT)"),
    (2, "RPOPLPUSH <l> <l>"),
    (1, "LMPOP <ls> (LEFT|RIGHT) (|COUNT <few>)"),
];

/// What waits for a push where there is nothing to take. 0 waits without end.
pub(crate) const BLOCKING: Table = &[
    (4, "BLPOP <l*> (0|0|0|0.01)"),
    (4, "BRPOP <l*> (0|0|0|0.005)"),
    (4, "BLMOVE <l> <l> (LEFT|RIGHT) (LEFT|RIGHT) (0|0|0|0.01)"),
    (1, "BRPOPLPUSH <l> <l> (0|0|0.01)"),
    (1, "BLPOP <l> (-1|abc|1e400|inf|nan)"),
    (1, "BZPOPMIN <z*> (0|0|0.01)"),
    (1, "BZPOPMAX <z*> (0|0|0.01)"),
    (1, "BLMPOP (0|0.01) <ls> (LEFT|RIGHT) (|COUNT <few>)"),
    (1, "BZMPOP (0|0.01) <zs> (MIN|MAX) (|COUNT <few>)"),
];

/// Sets.
pub(crate) const SETS: Table = &[
    (12, "SADD <set> <m*>"),
    (4, "SREM <set> <m*>"),
    (4, "SMEMBERS <set>"),
    (3, "SISMEMBER <set> <m>"),
    (2, "SMISMEMBER <set> <m*>"),
    (3, "SCARD <set>"),
    (3, "SMOVE <set> <set> <m>"),
    (3, "SPOP <set> (|<count>)"),
    (3, "SRANDMEMBER <set> (|<signed>)"),
    (3, "SINTER <set*>"),
    (3, "SUNION <set*>"),
    (3, "SDIFF <set*>"),
    (2, "SINTERSTORE <set> <set*>"),
    (2, "SUNIONSTORE <set> <set*>"),
    (2, "SDIFFSTORE <set> <set*>"),
    (2, "SINTERCARD <sets> (|LIMIT <count>)"),
    (2, "SSCAN <set> 0 (|MATCH <pattern>) (|COUNT (1|3|100))"),
];

/// Sorted sets; those by lexicographical order are in [`LEX`].
pub(crate) const ZSETS: Table = &[
    (12, "ZADD <z> (|||NX|XX|GT|LT|XX GT|NX GT) (||CH) <fm*>"),
    (3, "ZADD <z> (|NX|XX|GT|LT) (|CH) INCR <fm*>"),
    (5, "ZINCRBY <z> <f> <m>"),
    (3, "ZREM <z> <m*>"),
    (3, "ZCARD <z>"),
    (4, "ZSCORE <z> <m>"),
    (2, "ZMSCORE <z> <m*>"),
    (3, "ZRANK <z> <m>"),
    (3, "ZREVRANK <z> <m>"),
    (3, "ZCOUNT <z> <min> <max>"),
    (6, "ZRANGE <z> <start> <end> (|REV) (|WITHSCORES)"),
    (5, "ZRANGE <z> <min> <max> BYSCORE (|REV) (|LIMIT <i> <i>) (|WITHSCORES)"),
    (3, "ZREVRANGE <z> <start> <end> (|WITHSCORES)"),
    (3, "ZRANGEBYSCORE <z> <min> <max> (|WITHSCORES) (|LIMIT <i> <i>)"),
    (3, "ZREVRANGEBYSCORE <z> <max> <min> (|WITHSCORES) (|LIMIT <i> <i>)"),
    (2, "ZRANGESTORE <z> <z> <start> <end> (|REV)"),
    (2, "ZRANGESTORE <z> <z> <min> <max> BYSCORE (|REV) (|LIMIT <i> <i>)"),
    (3, "ZPOPMIN <z> (|<count>)"),
    (3, "ZPOPMAX <z> (|<count>)"),
    (1, "ZMPOP <zs> (MIN|MAX) (|COUNT <few>)"),
    (2, "ZRANDMEMBER <z> (|<signed>|<signed> WITHSCORES)"),
    (2, "ZREMRANGEBYRANK <z> <start> <end>"),
    (2, "ZREMRANGEBYSCORE <z> <min> <max>"),
    (3, "ZUNIONSTORE <z> (<zs>|<zw>) (|AGGREGATE (SUM|MIN|MAX|AVG))"),
    (3, "ZINTERSTORE <z> (<zs>|<zw>) (|AGGREGATE (SUM|MIN|MAX))"),
    (2, "ZDIFFSTORE <z> <zs>"),
    (2, "ZUNION (<zs>|<zw>) (|AGGREGATE (SUM|MIN|MAX)) (|WITHSCORES)"),
    (2, "ZINTER (<zs>|<zw>) (|AGGREGATE (SUM|MIN|MAX)) (|WITHSCORES)"),
    (2, "ZDIFF <zs> (|WITHSCORES)"),
    (1, "ZINTERCARD <zs> (|LIMIT <count>)"),
    (2, "ZSCAN <z> 0 (|MATCH <pattern>) (|COUNT (1|3|100))"),
];

/// By lexicographical order. The first key is the one whose scores must be equal, or the second where one is stored.
pub(crate) const LEX: Table = &[
    (4, "ZRANGEBYLEX <lex> <lmin> <lmax> (|LIMIT <i> <i>)"),
    (3, "ZREVRANGEBYLEX <lex> <lmax> <lmin> (|LIMIT <i> <i>)"),
    (4, "ZRANGE <lex> <lmin> <lmax> BYLEX (|LIMIT <i> <i>) (|WITHSCORES)"),
    (3, "ZRANGE <lex> <lmax> <lmin> BYLEX REV (|LIMIT <i> <i>)"),
    (3, "ZLEXCOUNT <lex> <lmin> <lmax>"),
    (2, "ZREMRANGEBYLEX <lex> <lmin> <lmax>"),
    (1, "ZRANGESTORE <z> <lex> <lmin> <lmax> BYLEX"),
];

/// What fills the keys of [`LEX`].
pub(crate) const LEX_FILL: Table =
    &[(3, "ZADD <lex> 0 <m> 0 <m> 0 <m>"), (1, "ZREM <lex> <m*>"), (1, "ZCARD <lex>")];

/// Transactions.
pub(crate) const TRANSACTIONS: Table = &[
    (8, "MULTI"),
    (6, "WATCH <k*>"),
    (1, "UNWATCH"),
    (1, "EXEC"),
    (1, "DISCARD"),
    (1, "WATCH"),
    (1, "MULTI x"),
    (1, "EXEC x"),
];

/// What is said on channels.
pub(crate) const PUBLISHING: Table = &[
    (10, "PUBLISH <channel> <v>"),
    (2, "PUBSUB CHANNELS (|<chanpat>)"),
    (2, "PUBSUB NUMSUB <channel*>"),
    (1, "PUBSUB NUMSUB"),
    (2, "PUBSUB NUMPAT"),
    (1, "PUBSUB (NOTHING|CHANNELS a b|NUMPAT a)"),
];

/// What is heard from them.
pub(crate) const SUBSCRIBING: Table = &[
    (6, "SUBSCRIBE <channel*>"),
    (4, "PSUBSCRIBE <chanpat*>"),
    (4, "UNSUBSCRIBE <channel*>"),
    (2, "UNSUBSCRIBE"),
    (3, "PUNSUBSCRIBE <chanpat*>"),
    (2, "PUNSUBSCRIBE"),
    (1, "(SUBSCRIBE|PSUBSCRIBE)"),
];

/// The connection and the server.
pub(crate) const SESSION: Table = &[
    (4, "PING (|<v>|<v> <v>)"),
    (3, "ECHO <v>"),
    (2, "SELECT (0|1|-1|abc)"),
    (2, "CLIENT GETNAME"),
    (3, "CLIENT SETNAME (name|other|)"),
    (1, "CLIENT SETNAME <v>"),
    (1, "CLIENT ID"),
    (1, "CLIENT INFO"),
    (1, "CLIENT LIST"),
    (1, "CLIENT NO-EVICT (on|off|maybe)"),
    (1, "CLIENT NOTHING"),
    (3, "HELLO (|2|3|4|abc|3 SETNAME me|2 SETNAME|3 NOTHING)"),
    (1, "AUTH x"),
    (1, "AUTH default x"),
    (1, "AUTH nobody x"),
    (1, "RESET"),
    (1, "QUIT"),
    (1, "TIME"),
    (1, "COMMAND COUNT"),
    (1, "NOSUCHCOMMAND <v*>"),
    (1, "nosuch"),
    (1, "OBJECT NOTHING <k>"),
    (1, "CONFIG RESETSTAT"),
    (1, "CONFIG NOTHING"),
    (1, "SCAN (abc|1.5)"),
    (1, "SCAN 0 (COUNT 0|COUNT abc|MATCH|TYPE|NOTHING x)"),
    (1, "HSCAN <h> (abc|0 COUNT 0|0 NOTHING x)"),
    (1, "(FLUSHALL|FLUSHDB) (|ASYNC|SYNC|NOW)"),
];

/// Commands that the promised list leaves open: ours may not know them. Asked for once, before a run.
pub(crate) const OPTIONAL: &[&str] = &[
    "GETSET",
    "SUBSTR",
    "BITPOS",
    "LCS",
    "COPY",
    "RPOPLPUSH",
    "BRPOPLPUSH",
    "LMPOP",
    "BLMPOP",
    "ZMPOP",
    "BZMPOP",
    "BZPOPMIN",
    "BZPOPMAX",
    "SINTERCARD",
    "ZINTERCARD",
    "HSTRLEN",
    "LPOS",
    "SMISMEMBER",
    "ZMSCORE",
    "HMSET",
    "ZRANGESTORE",
    "HRANDFIELD",
    "ZRANDMEMBER",
    "UNWATCH",
    "MEMORY",
    "PEXPIRETIME",
    "ZDIFF",
    "ZDIFFSTORE",
    "ZUNION",
    "ZINTER",
];
