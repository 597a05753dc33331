import { randomBytes } from 'node:crypto';
import { SecretRotated, Subscription, SubscriptionPage } from '../../../src/contracts/subscriptions';
import { expectProblem, TestApi } from './support';
import { deliver, tenantOf } from './tenant';

/** What a team brings with it when it moves here: its secrets, its own ids, its notes. */
let api: TestApi;
beforeAll(async () => {
  api = await TestApi.start();
});
afterAll(() => api.stop());

const whsec = (bytes: number) => `whsec_${randomBytes(bytes).toString('base64')}`;
const newSubscription = (more: object) => ({
  ...{ url: 'https://example.com/hook', eventTypes: ['invoice.*'] },
  ...more,
});

describe('a secret of one’s own', () => {
  it.each([24, 32, 64])('of %i bytes is taken at creation and at rotation', async (bytes) => {
    const tenant = tenantOf(api);
    const [first, second] = [whsec(bytes), whsec(bytes)];
    const created = await tenant.subscribe({ secret: first });
    expect(created.secret).toBe(first);
    const rotate = (body: object) =>
      tenant.call('POST', `/subscriptions/${created.id}/rotate-secret`, { overlapS: 60, ...body });
    expect(SecretRotated.parse((await rotate({ secret: second })).body).secret).toBe(second);
    expectProblem(await rotate({ secret: second }), 422, 'unprocessable');
    const shown = await Promise.all([tenant.get('/subscriptions'), tenant.get('/audit')]);
    const text = JSON.stringify(shown.map(({ body }) => body));
    for (const secret of [first, second]) expect(text).not.toContain(secret);
  });

  it.each([
    ['too short', whsec(23)],
    ['too long', whsec(65)],
    ['without its prefix', randomBytes(32).toString('base64')],
    ['not base64', `whsec_${'*'.repeat(40)}`],
    ['badly padded', `${whsec(33)}A`],
  ])('that is %s is refused without being repeated', async (_what, secret) => {
    const tenant = tenantOf(api);
    const refused = await tenant.call('POST', '/subscriptions', newSubscription({ secret }));
    expect(expectProblem(refused, 400, 'invalid_request').errors[0]).toMatchObject({ path: 'secret' });
    expect(JSON.stringify(refused.body)).not.toContain(secret);
  });
});

describe('a uid', () => {
  it('stands wherever the id does, is unique in its tenant, and is free again after a deletion', async () => {
    const [tenant, other] = [tenantOf(api), tenantOf(api)];
    const { id } = await tenant.subscribe({ uid: 'customer-17' });
    const path = '/subscriptions/customer-17';
    expect(Subscription.parse((await tenant.get(path)).body)).toMatchObject({ id, uid: 'customer-17' });
    expectProblem(await other.get(path), 404, 'not_found');
    await other.subscribe({ uid: 'customer-17' });
    expectProblem(
      await tenant.call('POST', '/subscriptions', newSubscription({ uid: 'customer-17' })),
      409,
      'conflict',
    );
    expect((await tenant.call('POST', `${path}/pause`)).status).toBe(200);
    expect((await tenant.call('POST', `${path}/resume`)).status).toBe(200);
    expect((await tenant.call('POST', `${path}/rotate-secret`)).status).toBe(200);
    const changed = await tenant.call('PATCH', path, { uid: 'customer-18' }, { 'if-match': '*' });
    expect(changed.body).toMatchObject({ id, uid: 'customer-18' });
    expectProblem(await tenant.get(path), 404, 'not_found');
    await deliver(api, tenant.name, id, 'evt_1', 'delivered');
    const of = async (uid: string) =>
      (await tenant.get(`/deliveries?subscriptionId=${uid}`)).body as { items: unknown[] };
    expect((await of('customer-18')).items).toHaveLength(1);
    expect((await of('nobody')).items).toHaveLength(0);
    expect((await tenant.call('DELETE', '/subscriptions/customer-18')).status).toBe(204);
    expect((await tenant.subscribe({ uid: 'customer-18' })).id).not.toBe(id);
  });

  it('is given to one of many that ask for it at once', async () => {
    const tenant = tenantOf(api);
    const created = await Promise.all(
      Array.from({ length: 8 }, () =>
        tenant.call('POST', '/subscriptions', newSubscription({ uid: 'wanted' })),
      ),
    );
    expect(created.map(({ status }) => status).sort()).toEqual([201, ...Array<number>(7).fill(409)]);
    const others = await Promise.all([tenant.subscribe(), tenant.subscribe()]);
    const changed = await Promise.all(
      others.map(({ id }) =>
        tenant.call('PATCH', `/subscriptions/${id}`, { uid: 'new' }, { 'if-match': '*' }),
      ),
    );
    expect(changed.map(({ status }) => status).sort()).toEqual([200, 409]);
  });

  it.each(['', 'sub_mine', 'with space', 'x'.repeat(129), 'a/b'])('can’t be %j', async (uid) => {
    const refused = await tenantOf(api).call('POST', '/subscriptions', newSubscription({ uid }));
    expect(expectProblem(refused, 400, 'invalid_request').errors).toMatchObject([{ path: 'uid' }]);
  });
});

it('labels and metadata are kept, changed as a whole, and labels find their subscriptions', async () => {
  const tenant = tenantOf(api);
  const { id } = await tenant.subscribe({
    labels: ['team:a', 'gold', 'gold'],
    metadata: { plan: 'Größe 1' },
  });
  await tenant.subscribe({ labels: ['team:b'] });
  const of = async (query: string) =>
    SubscriptionPage.parse((await tenant.get(`/subscriptions?${query}`)).body).items;
  expect(await of('label=gold')).toMatchObject([
    { id, labels: ['team:a', 'gold'], metadata: { plan: 'Größe 1' } },
  ]);
  expect(await of('label=silver')).toEqual([]);
  const change = { labels: ['silver'], metadata: {} };
  await tenant.call('PATCH', `/subscriptions/${id}`, change, { 'if-match': '*' });
  expect(await of('label=silver')).toMatchObject([{ id, labels: ['silver'], metadata: {} }]);
  const refused = await tenant.call('POST', '/subscriptions', newSubscription({ metadata: { a: 1 } }));
  expect(expectProblem(refused, 400, 'invalid_request').errors[0]?.path).toContain('metadata');
});
