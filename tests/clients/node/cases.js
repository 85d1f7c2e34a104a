// What the scripts of both clients share: cases with names, run one after the other, and one line of a total.
//
// Not here: which client.
'use strict';

/** Runs `cases`, pairs of a name and an async function; ends the process with 0 if all pass. */
async function run(cases, close) {
  let failed = 0;
  for (const [name, test] of cases) {
    try {
      await within(10_000, test());
    } catch (error) {
      failed += 1;
      console.log(`FAILED ${name}: ${error.stack || error}`);
    }
  }
  console.log(`${cases.length - failed} passed, ${failed} failed`);
  await within(5_000, close()).catch((error) => console.log(`closing: ${error}`));
  process.exit(failed === 0 ? 0 : 1);
}

function within(ms, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`nothing after ${ms} ms`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Resolves once `test` is true. */
async function until(test) {
  for (let turn = 0; turn < 1000; turn += 1) {
    if (await test()) return;
    await new Promise((done) => setTimeout(done, 5));
  }
  throw new Error(`never: ${test}`);
}

module.exports = { run, until };
