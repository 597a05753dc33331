import path from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { CrowdedError, FairPool, OverrunError } from '../../../src/platform/fair-pool';
import type { Work } from './fair-pool-task';

let pool: FairPool;
beforeAll(() => {
  pool = new FairPool(path.join(__dirname, 'fair-pool-task'), 'work');
});
afterAll(() => pool.close());

const run = (owner: string, work: Work, deadlineMs = 60_000) => pool.run(owner, work, deadlineMs);
const FOR_EVER = 3_600_000;

it('answers what the thread answers, and fails as it fails', async () => {
  await expect(run('a', { what: 'answer', value: { b: [1] } })).resolves.toEqual({ b: [1] });
  await expect(run('a', { what: 'fail' })).rejects.toThrow('failed on purpose');
});

it('ends a task at its deadline, says how far it was, and goes on with the next', async () => {
  const overrun = await run('a', { what: 'spin', ms: FOR_EVER }, 200).catch((error: unknown) => error);
  expect(overrun).toBeInstanceOf(OverrunError);
  expect(overrun).toMatchObject({ limit: 'time', progress: 7 });
  await expect(run('a', { what: 'answer', value: 1 })).resolves.toBe(1);
});

it('ends a task that fills its thread’s memory', async () => {
  const overrun = await run('a', { what: 'hoard' }).catch((error: unknown) => error);
  expect(overrun).toMatchObject({ name: 'OverrunError', limit: 'memory' });
  await expect(run('a', { what: 'answer', value: 1 })).resolves.toBe(1);
});

it('serves others while owners keep threads busy, and the event loop turns meanwhile', async () => {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  const answered: string[] = [];
  const busy = ['x', 'y', 'z'].flatMap((owner) =>
    Array.from({ length: 20 }, () =>
      run(owner, { what: 'spin', ms: FOR_EVER }, 100).catch(() => answered.push(owner)),
    ),
  );
  // Until the busy ones have had threads, nobody knows that they are.
  await Promise.race(busy);
  await Promise.all(
    Array.from({ length: 5 }, () =>
      run('quick', { what: 'answer', value: 1 }).then(() => answered.push('quick')),
    ),
  );
  expect(answered.length).toBeLessThan(30);
  delay.disable();
  expect(delay.max / 1e6).toBeLessThan(2_000);
  await Promise.all(busy);
});

it('refuses an owner that has too much waiting, and still takes another’s', async () => {
  const many = Array.from({ length: 250 }, () => run('flood', { what: 'spin', ms: 5 }));
  const one = run('other', { what: 'answer', value: 1 });
  const settled = await Promise.allSettled(many);
  const refused = settled.filter(({ status }) => status === 'rejected');
  expect(refused.length).toBeGreaterThanOrEqual(40);
  for (const each of refused as PromiseRejectedResult[]) {
    expect(each.reason).toBeInstanceOf(CrowdedError);
    expect(each.reason).toMatchObject({ who: 'owner' });
  }
  await expect(one).resolves.toBe(1);
});

it('does not count the start of a thread against a task', async () => {
  const fresh = new FairPool(path.join(__dirname, 'fair-pool-task'), 'work');
  // Threads take longer than this to load their code from TypeScript.
  await expect(fresh.run('a', { what: 'answer', value: 1 }, 25)).resolves.toBe(1);
  await fresh.close();
});
