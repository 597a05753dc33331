import { RemitError } from '../../../src/contracts/errors';
import {
  createSubscription,
  deleteSubscription,
  getSubscription,
  listSubscriptions,
  secretContext,
} from '../../../src/domain/subscriptions';
import type { Database } from '../../../src/platform/postgres';
import { createKeyring, type Keyring } from '../../../src/platform/secrets';
import { createTestSpace, openTestDatabase } from '../../support/harness';

let db: Database;
let keyring: Keyring;
beforeAll(async () => {
  const space = await createTestSpace();
  db = openTestDatabase(space);
  keyring = createKeyring(space.config);
});
afterAll(() => db.close());

const create = (changes: Partial<Parameters<typeof createSubscription>[2]> = {}) =>
  createSubscription(db, keyring, {
    tenantId: 'acme',
    url: 'https://subscriber.example/hooks',
    eventTypes: ['remit.payment.*'],
    description: 'the shop',
    allowedPrivateCidrs: [],
    maxPerTenant: 1_000,
    ...changes,
  });

const codeOf = (error: unknown) => (error instanceof RemitError ? error.code : error);

describe('a subscription', () => {
  it('is created active, with a secret that is shown once and encrypted at rest', async () => {
    const { subscription, secret } = await create({
      eventTypes: ['remit.payment.*', 'remit.order.finished', 'remit.payment.*'],
    });
    expect(subscription).toEqual({
      stateReason: null,
      stateChangedAt: expect.any(Date) as Date,
      filter: [],
      headerNames: [],
      ordered: false,
      rateLimitPerSecond: null,
      restsUntil: null,
      uid: null,
      labels: [],
      metadata: {},
      version: 1,
      id: expect.stringMatching(/^sub_[0-9a-f]{32}$/) as string,
      url: 'https://subscriber.example/hooks',
      eventTypes: ['remit.payment.*', 'remit.order.finished'],
      description: 'the shop',
      state: 'active',
      createdAt: expect.any(Date) as Date,
      updatedAt: expect.any(Date) as Date,
    });
    expect(await getSubscription(db, { tenantId: 'acme', id: subscription.id })).toEqual(subscription);

    const { rows } = await db.pool.query<{ row: string; ciphertext: Buffer }>(
      'SELECT s::text AS row, secret_ciphertext AS ciphertext FROM subscriptions s WHERE id = $1',
      [subscription.id],
    );
    expect(rows[0]?.row).not.toContain(secret.slice(6));
    expect(rows[0]?.ciphertext.includes(secret.slice(6))).toBe(false);
    expect(keyring.decrypt(rows[0]?.ciphertext ?? Buffer.alloc(0), secretContext(subscription.id))).toBe(
      secret,
    );
  });

  it.each([
    ['not a URL', 'subscriber'],
    ['another scheme', 'ftp://subscriber.example/'],
    ['a scheme that runs code', 'javascript:alert(1)'],
    ['a user name', 'https://user@subscriber.example/'],
    ['a password', 'https://:password@subscriber.example/'],
    ['a loopback address', 'http://127.0.0.1/'],
    ['a loopback address in octal', 'http://0177.0.0.1/'],
    ['a metadata service', 'http://169.254.169.254/latest/meta-data/'],
    ['a mapped loopback address', 'http://[::ffff:127.0.0.1]/'],
    ['this machine by name', 'http://localhost:8080/'],
    ['this machine below a name', 'http://api.localhost./'],
  ])('is refused with %s as its URL, and the field is named', async (_, url) => {
    const error = await create({ url }).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toBeInstanceOf(RemitError);
    expect(error).toMatchObject({ code: 'invalid_request', fields: [{ path: 'url' }] });
  });

  it('may have a private URL where configuration allows it', async () => {
    const allowedPrivateCidrs = ['127.0.0.0/8'];
    for (const url of ['http://127.0.0.1:9000/', 'http://localhost:9000/'])
      expect((await create({ url, allowedPrivateCidrs })).subscription.url).toBe(url);
    await expect(create({ url: 'http://10.0.0.1/', allowedPrivateCidrs })).rejects.toThrow(RemitError);
  });

  it('is one of at most so many in a tenant, also when many are created at once', async () => {
    const tenantId = 'small';
    const created = await Promise.allSettled(
      Array.from({ length: 8 }, () => create({ tenantId, maxPerTenant: 3 })),
    );
    expect(created.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    for (const each of created)
      if (each.status === 'rejected') expect(codeOf(each.reason)).toBe('unprocessable');

    const { items } = await listSubscriptions(db, { tenantId, limit: 10 });
    await deleteSubscription(db, { tenantId, id: items[0]?.id ?? '' });
    await expect(create({ tenantId, maxPerTenant: 3 })).resolves.toBeDefined();
  });

  it('disappears from every read when it is deleted, together with its secret, and is kept for its deliveries', async () => {
    const { id } = (await create({ tenantId: 'leaver' })).subscription;
    await deleteSubscription(db, { tenantId: 'leaver', id });
    await expect(getSubscription(db, { tenantId: 'leaver', id })).rejects.toMatchObject({
      code: 'not_found',
    });
    await expect(deleteSubscription(db, { tenantId: 'leaver', id })).rejects.toMatchObject({
      code: 'not_found',
    });
    expect((await listSubscriptions(db, { tenantId: 'leaver', limit: 10 })).items).toEqual([]);
    const { rows } = await db.pool.query(
      'SELECT state, length(secret_ciphertext) AS bytes FROM subscriptions WHERE id = $1',
      [id],
    );
    expect(rows).toEqual([{ state: 'deleted', bytes: 0 }]);
  });

  it('of one tenant does not exist for another', async () => {
    const { id } = (await create({ tenantId: 'one' })).subscription;
    const other = { tenantId: 'other', id };
    await expect(getSubscription(db, other)).rejects.toMatchObject({ code: 'not_found' });
    await expect(deleteSubscription(db, other)).rejects.toMatchObject({ code: 'not_found' });
    expect((await listSubscriptions(db, { tenantId: 'other', limit: 10 })).items).toEqual([]);
    expect((await getSubscription(db, { tenantId: 'one', id })).state).toBe('active');
  });

  it('is listed newest first, page by page, each once', async () => {
    const ids: string[] = [];
    for (let count = 0; count < 5; count++)
      ids.unshift((await create({ tenantId: 'lister' })).subscription.id);
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await listSubscriptions(db, { tenantId: 'lister', limit: 2, cursor });
      expect(page.items.length).toBeLessThanOrEqual(2);
      seen.push(...page.items.map(({ id }) => id));
      cursor = page.nextCursor ?? undefined;
    } while (cursor !== undefined);
    expect([...seen].sort()).toEqual([...ids].sort());
    expect(new Set(seen).size).toBe(5);
  });
});
