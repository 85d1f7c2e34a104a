// node-redis against a server: node node-redis.js PORT. It sends all commands of one turn as one pipeline.
'use strict';

const assert = require('node:assert/strict');
const { createClient, commandOptions, WatchError } = require('redis');
const { run, until } = require('./cases');

const url = `redis://127.0.0.1:${process.argv[2]}`;
const open = async () => {
  const client = createClient({ url });
  client.on('error', (error) => console.log(`client: ${error}`));
  await client.connect();
  return client;
};
let redis;
let other;

const cases = [
  ['texts, with a time to live and conditions', async () => {
    [redis, other] = [await open(), await open()];
    await redis.flushAll();
    assert.equal(await redis.set('a', 'one', { EX: 100 }), 'OK');
    assert.equal(await redis.set('a', 'two', { NX: true }), null);
    assert.equal(await redis.set('a', 'three', { XX: true, KEEPTTL: true, GET: true }), 'one');
    const ttl = await redis.ttl('a');
    assert.ok(ttl > 95 && ttl <= 100, `${ttl}`);
    assert.equal(await redis.getEx('a', { PERSIST: true }), 'three');
    assert.equal(await redis.ttl('a'), -1);
    assert.equal(await redis.getDel('a'), 'three');
    assert.equal(await redis.exists('a'), 0);
  }],
  ['bytes come back as they were', async () => {
    const binary = Buffer.from([0, 255, 13, 10, 36]);
    await redis.set('binary', binary);
    assert.deepEqual(await redis.get(commandOptions({ returnBuffers: true }), 'binary'), binary);
  }],
  ['1,000 commands of one turn keep their order', async () => {
    const replies = await Promise.all(
      Array.from({ length: 1000 }, (_, n) => (n % 2 ? redis.get(`p${n - 1}`) : redis.set(`p${n}`, String(n)))),
    );
    replies.forEach((reply, at) => assert.equal(reply, at % 2 ? String(at - 1) : 'OK'));
  }],
  ['MULTI is all or nothing, and WATCH ends what came too late', async () => {
    await redis.del(['m', 'l']);
    const replies = await redis.multi().set('m', '1').incr('m').rPush('l', ['a', 'b']).lRange('l', 0, -1).exec();
    assert.deepEqual(replies, ['OK', 2, 2, ['a', 'b']]);
    await redis.watch('m');
    await other.set('m', 'changed');
    await assert.rejects(redis.multi().set('m', 'late').exec(), WatchError);
    assert.equal(await redis.get('m'), 'changed');
  }],
  ['hashes, lists, sets and sorted sets', async () => {
    await redis.del(['h', 'l', 's', 't', 'z']);
    await redis.hSet('h', { a: '1', b: '2' });
    assert.deepEqual({ ...(await redis.hGetAll('h')) }, { a: '1', b: '2' });
    assert.equal(await redis.hIncrBy('h', 'a', 4), 5);
    await redis.rPush('l', ['1', '2', '3']);
    assert.equal(await redis.lMove('l', 'l', 'LEFT', 'RIGHT'), '1');
    await redis.sAdd('s', ['a', 'b', 'c']);
    await redis.sAdd('t', ['b', 'c', 'd']);
    assert.deepEqual((await redis.sInter(['s', 't'])).sort(), ['b', 'c']);
    assert.equal(await redis.sUnionStore('u', ['s', 't']), 4);
    await redis.zAdd('z', [{ score: 1, value: 'one' }, { score: 2.5, value: 'two' }]);
    assert.deepEqual(await redis.zRangeWithScores('z', 0, -1), [
      { score: 1, value: 'one' }, { score: 2.5, value: 'two' },
    ]);
    assert.deepEqual(await redis.zPopMin('z'), { score: 1, value: 'one' });
    await assert.rejects(redis.lPush('z', 'x'), /^Error: WRONGTYPE|^ErrorReply: WRONGTYPE|WRONGTYPE/);
  }],
  ['one that waits is served by a push, and times out without', async () => {
    await redis.del('queue');
    const waiting = await open();
    const served = waiting.blPop('queue', 0);
    await other.rPush('queue', 'job');
    assert.deepEqual(await served, { key: 'queue', element: 'job' });
    assert.equal(await waiting.brPop('queue', 0.05), null);
    await waiting.quit();
  }],
  ['messages reach channels and patterns', async () => {
    const listener = await open();
    const heard = [];
    await listener.subscribe('news', (text, channel) => heard.push([channel, text]));
    await listener.pSubscribe('n*', (text, channel) => heard.push(['n*', channel, text]));
    assert.equal(await redis.publish('news', 'hello'), 2);
    assert.equal(await redis.publish('none', 'x'), 1);
    await until(() => heard.length === 3);
    assert.deepEqual(heard.sort(), [['n*', 'news', 'hello'], ['n*', 'none', 'x'], ['news', 'hello']]);
    assert.deepEqual(await redis.pubSubChannels(), ['news']);
    await listener.unsubscribe('news');
    await listener.pUnsubscribe('n*');
    assert.equal(await listener.ping(), 'PONG');
    await listener.quit();
  }],
  ['iterators give everything', async () => {
    await redis.flushAll();
    await Promise.all(Array.from({ length: 1000 }, (_, n) => redis.set(`key:${n}`, String(n))));
    await redis.hSet('h', Object.fromEntries(Array.from({ length: 300 }, (_, n) => [`f${n}`, String(n)])));
    const keys = new Set();
    for await (const key of redis.scanIterator({ MATCH: 'key:*', COUNT: 50 })) keys.add(key);
    assert.equal(keys.size, 1000);
    const fields = new Set();
    for await (const { field } of redis.hScanIterator('h')) fields.add(field);
    assert.equal(fields.size, 300);
    assert.equal(await redis.dbSize(), 1001);
  }],
  ['the server is known', async () => {
    const hello = await redis.sendCommand(['HELLO', '2']);
    assert.ok(hello.includes('proto'));
    assert.equal(await redis.clientGetName(), null);
    await redis.clientSetName('tester');
    assert.equal(await redis.clientGetName(), 'tester');
    assert.match(await redis.info('memory'), /used_memory:\d+/);
  }],
];

run(cases, () => Promise.all([redis.quit(), other.quit()]));
