import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { DEADLINE_MS } from '../../../src/domain/event-schemas';
import { expectProblem, TestApi } from '../api/support';
import { tenantOf, type Tenant } from '../api/tenant';

/** The API under schemas that take long: their tenant is told so, and nobody else notices. */
let api: TestApi;
let neighbour: Tenant;
beforeAll(async () => {
  api = await TestApi.start({ EVENTS_BATCH_MAX_EVENTS: '100' });
  neighbour = tenantOf(api);
  await neighbour.type('parcel.sent', {
    schema: { required: ['id'], properties: { id: { type: 'string' } } },
  });
});
afterAll(() => api.stop());

/** Far above what it is (milliseconds), and far below what it was: 26 s. */
const MAX_BLOCKED_MS = 1_500;

/** What a neighbour's requests meet while `during` goes on: how long they and the event loop took at most. */
async function whileOthersCall<T>(during: Promise<T>): Promise<{ result: T; calls: number }> {
  const delay = monitorEventLoopDelay({ resolution: 10 });
  delay.enable();
  let over = false;
  const done = during.finally(() => (over = true));
  let calls = 0;
  let slowestMs = 0;
  do {
    const startedMs = performance.now();
    await neighbour.publish({ type: 'parcel.sent', data: { id: String((calls += 1)) } });
    expect((await neighbour.get('/events?limit=1')).status).toBe(200);
    slowestMs = Math.max(slowestMs, performance.now() - startedMs);
  } while (!over);
  delay.disable();
  expect(delay.max / 1e6).toBeLessThan(MAX_BLOCKED_MS);
  // Behind one task that is at its end at the latest by its deadline.
  expect(slowestMs).toBeLessThan(MAX_BLOCKED_MS + 2 * DEADLINE_MS);
  return { result: await done, calls };
}

const manyTimes = <T>(n: number, make: (i: number) => T): T[] => Array.from({ length: n }, (_, i) => make(i));
/** Random (a linear congruential generator's), so that an automaton finds no end of new states in it. */
function letters(n: number): string {
  let state = 1;
  return manyTimes(n, () => {
    state = (state * 1_103_515_245 + 12_345) % 2 ** 31;
    return state & 65_536 ? 'a' : 'b';
  }).join('');
}

it.each<[string, object, Record<string, unknown>]>([
  [
    'compares items in every branch',
    {
      properties: { x: { anyOf: manyTimes(150, () => ({ $ref: '#/$defs/u' })) } },
      $defs: { u: { uniqueItems: true, maxItems: 1_000 } },
    },
    { x: [{ a: 0 }, { a: 0 }, ...manyTimes(996, (i) => ({ a: { b: { c: i } }, d: 'abcdefgh' }))] },
  ],
  [
    'has a pattern of many states in every branch',
    { properties: { x: { anyOf: manyTimes(100, (i) => ({ pattern: `[ab]*a[ab]{200}c${i}$` })) } } },
    { x: letters(60_000) },
  ],
  [
    'looks for a pattern in every item and branch',
    {
      properties: {
        x: { anyOf: manyTimes(90, (i) => ({ contains: { pattern: `^(a?){50}a{50}${i}$` } })) },
      },
    },
    { x: manyTimes(500, () => 'a'.repeat(100)) },
  ],
])('an event whose schema %s is refused in time, and others are served', async (_what, schema, data) => {
  const tenant = tenantOf(api);
  await tenant.type('slow.event', { schema });
  const { result } = await whileOthersCall(tenant.call('POST', '/events', { type: 'slow.event', data }));
  const problem = expectProblem(result, 422, 'schema_too_complex');
  expect(problem.errors).toMatchObject([{ path: 'data' }]);
  expect(problem.errors[0]?.message).toContain(`${DEADLINE_MS} ms`);
  expect((await tenant.get('/events')).body).toMatchObject({ items: [] });
  // What it can check is taken as before.
  await tenant.publish({ type: 'slow.event', data: {} });
});

it('an event of a batch that can’t be checked in time is named, and none of the batch is taken', async () => {
  const tenant = tenantOf(api);
  await tenant.type('slow.event', {
    schema: {
      properties: { x: { anyOf: manyTimes(100, (i) => ({ pattern: `[ab]*a[ab]{200}c${i}$` })) } },
    },
  });
  const events = manyTimes(60, (i) => ({ type: 'slow.event', data: i === 41 ? { x: letters(55_000) } : {} }));
  const { result } = await whileOthersCall(tenant.call('POST', '/events/batch', { events }));
  const problem = expectProblem(result, 422, 'schema_too_complex');
  expect(problem.errors).toMatchObject([{ path: 'events.41.data' }]);
  expect((await tenant.get('/events')).body).toMatchObject({ items: [] });
});

it('several tenants at once take nothing from the others', async () => {
  const schema = {
    properties: { x: { anyOf: manyTimes(90, (i) => ({ pattern: `[ab]*a[ab]{200}c${i}$` })) } },
  };
  const busy = manyTimes(3, () => tenantOf(api));
  for (const tenant of busy) await tenant.type('slow.event', { schema });
  const data = { x: letters(60_000) };
  const { result } = await whileOthersCall(
    Promise.all(busy.map((tenant) => tenant.call('POST', '/events', { type: 'slow.event', data }))),
  );
  for (const reply of result) expectProblem(reply, 422, 'schema_too_complex');
});

describe('a schema', () => {
  it.each<[string, object]>([
    [
      'has 1,900 properties',
      { properties: Object.fromEntries(manyTimes(1_900, (i) => [`p${i}`, { type: 'string' }])) },
    ],
    [
      'has 1,900 branches',
      { properties: { p1899: { anyOf: manyTimes(1_900, () => ({ type: 'string' })) } } },
    ],
  ])('that %s is either refused with its reason, or events are checked by it', async (_what, schema) => {
    const tenant = tenantOf(api);
    const { result } = await whileOthersCall(
      tenant.call('POST', '/event-types', { name: 'large.event', schema }),
    );
    if (result.status !== 201) {
      expect([400, 422]).toContain(result.status);
      return;
    }
    await tenant.publish({ type: 'large.event', data: { p0: 'a', p1899: 'b' } });
    const refused = await tenant.call('POST', '/events', { type: 'large.event', data: { p1899: 1 } });
    expectProblem(refused, 422, 'unprocessable');
  });

  it('whose example can’t be checked in time is refused when it is stored', async () => {
    const tenant = tenantOf(api);
    const { result } = await whileOthersCall(
      tenant.call('POST', '/event-types', {
        name: 'slow.event',
        schema: {
          properties: { x: { anyOf: manyTimes(99, (i) => ({ pattern: `[ab]*a[ab]{200}c${i}$` })) } },
        },
        example: { x: letters(50_000) },
      }),
    );
    const problem = expectProblem(result, 422, 'schema_too_complex');
    expect(problem.errors).toMatchObject([{ path: 'schema' }]);
  });
});
