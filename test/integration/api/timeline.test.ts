import { randomUUID } from 'node:crypto';
import os from 'node:os';
import { DeadLetterDetail, DeadLetterPage, DeadLetterTopics } from '../../../src/contracts/dead-letters';
import { Payment } from '../../../src/contracts/payments';
import { SearchResult, Timeline } from '../../../src/contracts/timeline';
import { mintToken } from '../../../src/operations/token';
import { runWhy, timelineAsText } from '../../../src/operations/why';
import { eventually } from '../../support/harness';
import { subscriber, type Subscriber } from '../../support/subscriber';
import { expectProblem, newUser, TestApi } from './support';

let api: TestApi;
let hooks: Subscriber;
beforeAll(async () => {
  [api, hooks] = await Promise.all([
    TestApi.withWorkers({ WEBHOOK_SCHEDULE_MS: '0,3600000' }),
    subscriber((response) => {
      response.statusCode = 500;
      response.end('out of order');
    }),
  ]);
}, 180_000);
afterAll(async () => {
  await api?.stop();
  await hooks?.close();
}, 60_000);

const platform = { scopes: ['admin', 'platform'] };
const timeline = async (id: string): Promise<Timeline> => {
  const reply = await api.operator('GET', `/api/v1/timeline/${encodeURIComponent(id)}`);
  expect(reply).toMatchObject({ status: 200 });
  return Timeline.parse(reply.body);
};
const said = ({ happened }: Timeline) => happened.map(({ source, what }) => `${source}: ${what}`);

async function pendingPayment(): Promise<Payment> {
  const userId = newUser();
  await api.fund(userId, '1.00');
  const body = { userId, amount: '100.00', currency: 'TRY', provider: 'decard' };
  return Payment.parse((await api.operator('POST', '/api/v1/payments', body)).body);
}
const webhook = (payment: Payment, amount: number) =>
  api.webhook(
    JSON.stringify({
      provider: 'decard',
      transactionId: payment.id,
      status: 'success',
      amount,
      currency: 'TRY',
      type: 'payment',
    }),
    { 'x-correlation-id': `corr-${payment.id}` },
  );

describe('the timeline of a payment', () => {
  it('says why it is not credited: nothing has come of it yet, and when it expires', async () => {
    const payment = await pendingPayment();
    const found = await timeline(payment.id);
    expect(found.why).toMatch(/pending because decard has reported nothing/);
    expect(found.willHappen[0]).toMatchObject({ at: payment.expiresAt, waitsFor: 'provider' });
    expect(said(found)[0]).toMatch(/^request: the payment of 100.00 TRY by decard/);
  });

  it('tells a refused webhook with where it lies in Kafka, its dead letter, and how to mend it', async () => {
    const payment = await pendingPayment();
    expect((await webhook(payment, 99)).status).toBe(202);
    const found = await eventually(async () => {
      const read = await timeline(payment.id);
      expect(read.happened.map(({ source }) => source)).toContain('dead_letter');
      return read;
    });
    expect(found.notes).toEqual([]);
    expect(found.why).toMatch(/99.00 TRY.*amount_mismatch.*waits in .*payment.webhook.decard.dlq/);
    const kafka = found.happened.find(({ source }) => source === 'kafka');
    expect(kafka?.correlationId).toBe(`corr-${payment.id}`);
    expect(kafka?.what).toMatch(/success, 99.00 TRY lies at .*payment.webhook.decard\/\d+@\d+$/);
    expect(found.happened.find(({ source }) => source === 'dead_letter')).toMatchObject({
      level: 'error',
      details: { code: 'amount_mismatch' },
    });
    const lines: string[] = [];
    const token = await mintToken(api.space.config, {
      subject: 'operator',
      scopes: ['read'],
      expiresInS: 60,
    });
    const command = { json: false, url: api.url, token };
    expect(await runWhy(os.tmpdir(), payment.id, command, (line) => lines.push(line))).toBe(0);
    expect(lines.join('\n')).toMatch(
      /✗ .*dead_letter {2}a message was dead-lettered, amount_mismatch[\s\S]*remit dlq redrive/,
    );
    expect(await runWhy(os.tmpdir(), randomUUID(), command, (line) => lines.push(line))).toBe(1);
    const mending = found.willHappen
      .flatMap(({ actions }) => actions)
      .filter(({ effect }) => effect === 'mend');
    expect(mending.map(({ command }) => command).join()).toMatch(/^remit dlq redrive /);
  }, 60_000);

  it('joins request, Kafka, workflow, ledger, audit, event and attempts in the order of time, and says when the next attempt is', async () => {
    const subscribed = await api.operator('POST', '/api/v1/subscriptions', {
      url: `${hooks.url}/hook`,
      eventTypes: ['remit.payment.succeeded'],
    });
    expect(subscribed.status).toBe(201);
    const payment = await pendingPayment();
    await webhook(payment, 100);
    const found = await eventually(async () => {
      const read = await timeline(payment.id);
      // Once the first attempt has failed, the delivery's workflow has a timer for the next one.
      expect(read.willHappen.some(({ at, subject }) => subject.kind === 'delivery' && at !== null)).toBe(
        true,
      );
      return read;
    });
    expect(found.subject).toMatchObject({ kind: 'payment', status: 'succeeded', amount: '100.00' });
    const sources = found.happened.map(({ source }) => source);
    for (const source of [
      'request',
      'kafka',
      'workflow',
      'provider',
      'ledger',
      'audit',
      'state',
      'event',
      'delivery',
      'attempt',
    ])
      expect(sources).toContain(source);
    expect(found.happened.map(({ at }) => at)).toEqual(found.happened.map(({ at }) => at).sort());
    const attempt = found.happened.find(({ source }) => source === 'attempt');
    expect(attempt).toMatchObject({
      level: 'warning',
      details: { statusCode: 500, responseBody: 'out of order' },
    });
    const next = found.willHappen.find(({ subject }) => subject.kind === 'delivery');
    const inMinutes = (Date.parse(next?.at ?? '') - Date.now()) / 60_000;
    expect(inMinutes).toBeGreaterThan(45);
    expect(inMinutes).toBeLessThan(75);
    expect(next?.actions).toMatchObject([{ effect: 'hurry' }, { effect: 'stop' }]);

    const text = [...timelineAsText(found)].join('\n');
    expect(text).toMatch(
      /What happened\n[\s\S]*ledger +money moved \(payment\): \+100.00 TRY user [\s\S]*What will happen\n[\s\S]*attempt 2/,
    );
    expect(text).toContain('/try-now');

    // What is called now is made now.
    const action = next!.actions[0]!;
    expect((await api.operator('POST', action.path!)).status).toBe(202);
    const again = await eventually(async () => {
      const read = await timeline(next!.subject.id);
      expect(read.subject).toMatchObject({ kind: 'delivery', status: 'exhausted' });
      return read;
    });
    expect(again.willHappen).toMatchObject([{ waitsFor: 'operator', actions: [{ effect: 'mend' }] }]);
  }, 90_000);

  it('is found by the id of its workflow and by the provider’s reference', async () => {
    const payment = await pendingPayment();
    await webhook(payment, 100);
    await eventually(async () => expect((await timeline(payment.id)).subject.status).toBe('succeeded'));
    expect((await timeline(`payment/decard/${payment.id}`)).subject.id).toBe(payment.id);
    const { happened } = await timeline(payment.id);
    const reference = happened.find(({ source }) => source === 'provider')?.details['providerEventId'];
    expect((await timeline(String(reference))).subject.id).toBe(payment.id);
  }, 60_000);

  it('shows nothing to another tenant, nor of what is not there', async () => {
    const payment = await pendingPayment();
    const stranger = { tenant: 'stranger' };
    for (const id of [payment.id, payment.userId, `payment/decard/${payment.id}`])
      expectProblem(
        await api.withToken(stranger, 'GET', `/api/v1/timeline/${encodeURIComponent(id)}`),
        404,
        'not_found',
      );
    expectProblem(await api.operator('GET', `/api/v1/timeline/${randomUUID()}`), 404, 'not_found');
    const hits = await api.withToken(stranger, 'GET', `/api/v1/search?q=${payment.id.slice(0, 8)}`);
    expect(hits.body).toEqual({ items: [], more: false });
  });
});

describe('the timeline of an order', () => {
  it('goes from the request through its payment to its end, and from the user to the order', async () => {
    const userId = newUser();
    await api.fund(userId, '100.00');
    const placed = await api.asUser(userId, 'POST', '/orders', { amount: '30.00' });
    const { id } = placed.body as { id: string };
    const found = await eventually(async () => {
      const read = await timeline(id);
      expect(read.subject.status).toBe('FINISHED');
      return read;
    });
    expect(found.willHappen.filter(({ subject }) => subject.kind === 'order')).toEqual([]);
    const text = said(found).join('\n');
    expect(text).toMatch(/money moved \(order\): -30.00 TRY user .*\+30.00 TRY revenue:orders/);
    const user = await timeline(userId);
    expect(user.subject.kind).toBe('user');
    expect(user.why).toBe('Balance 70.00 TRY.');
    expect(user.related).toContainEqual(expect.objectContaining({ kind: 'order', id }));
  }, 60_000);
});

describe('search', () => {
  it('finds by whole ids, by their beginnings, and by the beginning of a user’s id', async () => {
    const payment = await pendingPayment();
    const find = async (q: string) =>
      SearchResult.parse((await api.operator('GET', `/api/v1/search?q=${encodeURIComponent(q)}`)).body);
    expect((await find(payment.id)).items).toMatchObject([
      { kind: 'payment', id: payment.id, matched: 'id' },
    ]);
    const begun = await find(payment.id.slice(0, 10));
    expect(begun.items).toContainEqual(expect.objectContaining({ id: payment.id, matched: 'prefix' }));
    expect((await find(payment.userId.slice(0, -3))).items).toMatchObject([
      { kind: 'user', id: payment.userId },
    ]);
    expect((await find('no such thing at all')).items).toEqual([]);
  });
});

describe('dead letters', () => {
  const call = (method: string, path: string, body?: unknown) =>
    api.withToken(platform, method, `/api/v1/dead-letters${path}`, body);

  it('are listed by reason, read byte for byte, redriven one by one, and given up', async () => {
    const payments = await Promise.all([pendingPayment(), pendingPayment(), pendingPayment()]);
    for (const payment of payments) await webhook(payment, 98);
    const mine = new Set(payments.map(({ id }) => id));
    const { topic, letters } = await eventually(async () => {
      const { items } = DeadLetterTopics.parse((await call('GET', '')).body);
      const found = items.find((each) => each.reasons.some(({ code }) => code === 'amount_mismatch'));
      const page = DeadLetterPage.parse(
        (await call('GET', `/${found?.topic}/letters?code=amount_mismatch&limit=500`)).body,
      );
      const listed = page.items.filter(({ key }) => mine.has(key ?? ''));
      expect(listed).toHaveLength(3);
      return { topic: found!.topic, letters: listed };
    });
    const detail = DeadLetterDetail.parse((await call('GET', `/${topic}/letters/${letters[1]!.id}`)).body);
    const value = JSON.parse(Buffer.from(detail.valueBase64!, 'base64').toString()) as { amount: number };
    expect(value).toMatchObject({ transactionId: letters[1]!.key, amount: 98 });
    // Unchanged it is refused again, and comes back as a letter of two attempts.
    const redriven = await call('POST', `/${topic}/redrive`, { letters: [letters[1]!.id] });
    expect(redriven).toMatchObject({ status: 200, body: { redriven: 1, passedOver: [] } });
    await eventually(async () => {
      const page = DeadLetterPage.parse((await call('GET', `/${topic}/letters?limit=500`)).body);
      const of = (key: string | null) =>
        page.items.filter((each) => each.key === key).map(({ attempts }) => attempts);
      expect(of(letters[0]!.key)).toEqual([1]);
      expect(of(letters[1]!.key)).toEqual([2]);
    });
    expectProblem(
      await call('POST', `/${topic}/redrive`, { letters: [letters[1]!.id] }),
      422,
      'unprocessable',
    );
    const all = await call('POST', `/${topic}/purge`, { code: 'amount_mismatch' });
    expect(all).toMatchObject({ status: 200, body: { waiting: 0 } });
    const left = DeadLetterPage.parse((await call('GET', `/${topic}/letters?limit=500`)).body);
    expect(left.items).toEqual([]);
    const audit = await api.withToken(platform, 'GET', '/api/v1/audit?action=dead_letters.redriven');
    expect((audit.body as { items: unknown[] }).items.length).toBeGreaterThan(0);
  }, 120_000);

  it('are of the installation: a tenant’s administrator does not see them', async () => {
    const admin = { scopes: ['admin'] };
    expectProblem(await api.withToken(admin, 'GET', '/api/v1/dead-letters'), 403, 'forbidden');
    const reader = { scopes: ['platform'] };
    expectProblem(
      await api.withToken(reader, 'POST', '/api/v1/dead-letters/x/redrive', { limit: 1 }),
      403,
      'forbidden',
    );
    expectProblem(await call('GET', '/orders/letters'), 404, 'not_found');
  });
});
