// ioredis against a server: node ioredis.js PORT. RESP2, which is all that it speaks.
'use strict';

const assert = require('node:assert/strict');
const Redis = require('ioredis');
const { run, until } = require('./cases');

const port = Number(process.argv[2]);
const open = () => new Redis({ host: '127.0.0.1', port, maxRetriesPerRequest: 1 });
const redis = open();
const other = open();
const binary = Buffer.from([0, 255, 13, 10, 36]);

const cases = [
  ['texts, with a time to live and conditions', async () => {
    await redis.flushall();
    assert.equal(await redis.set('a', 'one', 'EX', 100), 'OK');
    assert.equal(await redis.set('a', 'two', 'NX'), null);
    assert.equal(await redis.get('a'), 'one');
    const ttl = await redis.ttl('a');
    assert.ok(ttl > 95 && ttl <= 100, `${ttl}`);
    assert.equal(await redis.get('nothing'), null);
    assert.equal(await redis.incrby('n', 5), 5);
    assert.deepEqual(await redis.mget('a', 'nothing', 'n'), ['one', null, '5']);
  }],
  ['bytes come back as they were', async () => {
    await redis.set(binary, binary);
    assert.deepEqual(await redis.getBuffer(binary), binary);
  }],
  ['a pipeline of 1,000 keeps its order', async () => {
    const pipeline = redis.pipeline();
    for (let n = 0; n < 500; n += 1) pipeline.set(`p${n}`, n).get(`p${n}`);
    const replies = await pipeline.exec();
    assert.equal(replies.length, 1000);
    replies.forEach(([error, reply], at) => {
      assert.equal(error, null);
      assert.equal(reply, at % 2 === 0 ? 'OK' : String((at - 1) / 2));
    });
  }],
  ['an error in a pipeline is that of its command alone', async () => {
    await redis.set('text', 'x');
    const replies = await redis.pipeline().get('text').lpush('text', 'a').incr('text').get('text').exec();
    assert.match(replies[1][0].message, /^WRONGTYPE Operation against a key holding the wrong kind of value$/);
    assert.match(replies[2][0].message, /^ERR value is not an integer or out of range$/);
    assert.equal(replies[3][1], 'x');
  }],
  ['MULTI is all or nothing', async () => {
    await redis.del('m', 'l');
    const replies = await redis.multi().set('m', 1).incr('m').rpush('l', 'a', 'b').lrange('l', 0, -1).exec();
    assert.deepEqual(replies.map(([, reply]) => reply), ['OK', 2, 2, ['a', 'b']]);
    await assert.rejects(redis.multi().set('m').exec(), /EXECABORT/);
    assert.equal(await redis.get('m'), '2');
  }],
  ['WATCH ends a transaction that came too late', async () => {
    await redis.watch('m', 'w');
    await other.set('w', 'changed');
    assert.equal(await redis.multi().set('m', 'late').exec(), null);
    assert.equal(await redis.get('m'), '2');
  }],
  ['hashes, lists, sets and sorted sets', async () => {
    await redis.del('h', 'l', 's', 'z');
    assert.equal(await redis.hset('h', { a: '1', b: '2' }), 2);
    assert.deepEqual(await redis.hgetall('h'), { a: '1', b: '2' });
    assert.equal(await redis.rpush('l', 1, 2, 3), 3);
    assert.deepEqual(await redis.lrange('l', -2, -1), ['2', '3']);
    await redis.sadd('s', 'a', 'b');
    assert.deepEqual((await redis.smembers('s')).sort(), ['a', 'b']);
    await redis.zadd('z', 1, 'one', 2.5, 'two', 3, 'three');
    assert.deepEqual(await redis.zrange('z', '(1', '+inf', 'BYSCORE', 'WITHSCORES'), ['two', '2.5', 'three', '3']);
    assert.deepEqual(await redis.zrevrangebyscore('z', 3, 1, 'LIMIT', 0, 2), ['three', 'two']);
  }],
  ['one that waits is served by a push, and times out without', async () => {
    await redis.del('queue');
    const waiting = open();
    const served = waiting.blpop('none', 'queue', 0);
    await other.rpush('queue', 'job');
    assert.deepEqual(await served, ['queue', 'job']);
    assert.equal(await waiting.brpop('queue', 0.05), null);
    const moved = waiting.blmove('queue', 'done', 'LEFT', 'RIGHT', 0);
    await other.lpush('queue', 'next');
    assert.equal(await moved, 'next');
    assert.deepEqual(await redis.lrange('done', 0, -1), ['next']);
    await waiting.quit();
  }],
  ['messages reach channels and patterns', async () => {
    const listener = open();
    const heard = [];
    listener.on('message', (channel, text) => heard.push([channel, text]));
    listener.on('pmessage', (pattern, channel, text) => heard.push([pattern, channel, text]));
    assert.equal(await listener.subscribe('news', 'sport'), 2);
    assert.equal(await listener.psubscribe('n*'), 3);
    assert.equal(await redis.publish('news', 'hello'), 2);
    assert.equal(await redis.publish('sport', 'goal'), 1);
    assert.equal(await redis.publish('nobody', 'x'), 1);
    await until(() => heard.length === 4);
    assert.deepEqual(heard, [
      ['news', 'hello'], ['n*', 'news', 'hello'], ['sport', 'goal'], ['n*', 'nobody', 'x'],
    ]);
    assert.deepEqual(await redis.pubsub('NUMSUB', 'news', 'none'), ['news', 1, 'none', 0]);
    assert.equal(await listener.unsubscribe('news', 'sport'), 1);
    assert.equal(await listener.punsubscribe('n*'), 0);
    assert.equal(await redis.publish('news', 'gone'), 0);
    assert.equal(await listener.get('a'), 'one', 'it may send commands again');
    await listener.quit();
  }],
  ['iterators give everything', async () => {
    await redis.flushall();
    const fill = redis.pipeline();
    for (let n = 0; n < 1000; n += 1) {
      fill.set(`key:${n}`, n).hset('h', `f${n}`, n).sadd('s', `m${n}`).zadd('z', n, `m${n}`);
    }
    await fill.exec();
    const all = async (stream) => {
      const found = new Set();
      for await (const some of stream) some.forEach((one) => found.add(one));
      return found;
    };
    const keys = await all(redis.scanStream({ match: 'key:*', count: 100 }));
    assert.equal(keys.size, 1000);
    assert.equal((await all(redis.scanStream({ type: 'hash' }))).size, 1);
    assert.equal((await all(redis.sscanStream('s', { count: 50 }))).size, 1000);
    const fields = await all(redis.hscanStream('h', { match: 'f9*' }));
    assert.ok(fields.has('f999') && !fields.has('f1'));
    assert.ok((await all(redis.zscanStream('z'))).has('m500'));
  }],
  ['the server and its commands are known', async () => {
    assert.match(await redis.info('server'), /redis_version:7/);
    await redis.client('SETNAME', 'tester');
    assert.equal(await redis.client('GETNAME'), 'tester');
    assert.match(await redis.client('LIST'), /name=tester/);
    assert.equal((await redis.command('INFO', 'get'))[0][0], 'get');
    await assert.rejects(redis.call('NOSUCH', 'a'), /^ReplyError: ERR unknown command 'NOSUCH', with args beginning with: 'a'/);
  }],
];

run(cases, () => Promise.all([redis.quit(), other.quit()]));
