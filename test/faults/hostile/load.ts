import { createHmac, randomUUID } from 'node:crypto';
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { createPayment } from '../../../src/domain/payments';
import { BUILT_IN_PROVIDERS } from '../../../src/providers/registry';
import { secretVariable } from '../../../src/providers/names';
import type { Provider, SignedWebhook } from '../../../src/providers/provider';
import { CURRENCY, TENANT } from '../../support/money';
import type { FaultStack } from '../money-stack';
import type { Random } from './random';
import { BEHAVIOURS, type HostileSubscribers } from './subscribers';

/** A webhook that was answered 200 or 202: something must become of it. */
export interface AcceptedWebhook {
  correlationId: string;
  kind: 'provider' | 'order' | 'dispute';
  provider: string;
  /** Of the payment, payout or order that it is about. */
  about: string;
  /** The provider's id of the event, where the driver knows it. */
  eventId?: string;
  /** Nothing has to become of it: its provider says something that is no matter of remit's. */
  unhandled: boolean;
  /** A sound webhook for a payment that waits: it must be settled. */
  settles: boolean;
  what: string;
}

interface Answer {
  status: number;
  body: string;
  ms: number;
}

const AMOUNT_MINOR = 100n;
const DAY_MS = 86_400_000;
const POST_TIMEOUT_MS = 40_000;
/** Of each kind of work; a machine that is slow gets less of it. */
const UNDER_WAY = 10;
const RETRY_BASE_MS = 500;
const RETRY_CAP_MS = 15_000;

/** Amounts as JSON source text, and whether they are exactly 1.00 TRY. */
const AMOUNT_TEXTS: [string, boolean][] = [
  ['1', true],
  ['1.00', true],
  ['1.00000000000000', true],
  ['"1.00"', true],
  ['100e-2', true],
  ['1.000000000000000001', false],
  ['0.99999999999999999999', false],
  ['-1', false],
  ['"1,00"', false],
  ['1e400', false],
  ['"NaN"', false],
  ['null', false],
  ['[1]', false],
  ['true', false],
];
/** Text that decides nothing, as JSON source. */
const ODD_TEXTS = [
  '"half \\ud83d"',
  '"whole \\ud83d\\ude00"',
  '"line\\nend\\tand\\u0000NUL"',
  '4853',
  `"${'long '.repeat(400)}"`,
  'null',
  '{"code":10.4,"of":["a"]}',
  '"\\u202eright to left"',
];
/** Fields beside what counts, as JSON source. */
const EXTRAS = [
  '"fees":[{"amount":0.30000000000000004}]',
  '"fee":{"amount":1e-30}',
  '"big":12345678901234567890123',
  '"deep":' + '['.repeat(60) + ']'.repeat(60),
  '"__proto__":{"amount":2}',
  '"constructor":{"prototype":1}',
];

/** Signed as Standard Webhooks say, over bytes of any encoding. */
function standardHeaders(secret: string, id: string, body: string | Buffer): Record<string, string> {
  const at = String(Math.floor(Date.now() / 1_000));
  const signature = createHmac('sha256', Buffer.from(secret.replace('whsec_', ''), 'base64'))
    .update(`${id}.${at}.`)
    .update(body)
    .digest('base64');
  return {
    'content-type': 'application/json',
    'webhook-id': id,
    'webhook-timestamp': at,
    'webhook-signature': `v1,${signature}`,
  };
}

export class Load {
  readonly accepted: AcceptedWebhook[] = [];
  readonly violations: string[] = [];
  readonly answers: Record<string, number> = {};
  slowestMs = 0;
  users: string[] = [];
  running = true;
  /** Kinds of messages that are held back while their topic is created again. */
  readonly heldBack = new Set<string>();
  private operator = {};
  private admin = {};

  constructor(
    private readonly remit: FaultStack,
    private readonly random: Random,
    private readonly subscribers: HostileSubscribers,
  ) {}

  violation(text: string): void {
    this.violations.push(`${new Date().toISOString()} ${text}`);
    process.stderr.write(`  VIOLATION ${text}\n`);
  }

  /** A provider's webhook for each of its samples, sound or not. */
  async start(tokens: { operator: string; admin: string; users: string[] }): Promise<void> {
    this.operator = { authorization: `Bearer ${tokens.operator}` };
    this.admin = { authorization: `Bearer ${tokens.admin}` };
    this.users = tokens.users;
    await this.subscribe();
    await this.defineTypes();
  }

  loops(): Promise<unknown> {
    return Promise.all([
      this.every(700, () => this.providerWebhook()),
      this.every(900, () => this.decardText()),
      this.every(1_300, () => this.order()),
      this.every(2_500, () => this.publish()),
      this.every(5_000, () => this.topUps()),
      this.every(7_000, () => this.oddCallers()),
      this.every(23_000, () => this.slowSchema()),
      this.every(61_000, () => this.parallelSubscriptions()),
      this.every(97_000, () => this.earlyEvents()),
    ]);
  }

  private async every(ms: number, work: () => Promise<void>): Promise<void> {
    const under = new Set<Promise<void>>();
    while (this.running) {
      await sleep(ms / 2 + this.random.below(ms));
      if (under.size >= UNDER_WAY) continue;
      const one = work().catch((error: unknown) => {
        // PostgreSQL is away now and then, and the driver asks it too.
        this.answers['driver: ' + String(error).slice(0, 60)] =
          (this.answers['driver: ' + String(error).slice(0, 60)] ?? 0) + 1;
      });
      under.add(one);
      void one.finally(() => under.delete(one));
    }
    await Promise.all(under);
  }

  private async post(
    what: string,
    path: string,
    body: string | Buffer,
    headers: Record<string, string | string[]>,
    method = 'POST',
  ): Promise<Answer> {
    const startedAt = performance.now();
    const answer = await new Promise<Answer>((resolve) => {
      const request = http.request(this.remit.api + path, { method, headers, timeout: POST_TIMEOUT_MS });
      const fail = (reason: string) =>
        resolve({ status: 0, body: reason, ms: performance.now() - startedAt });
      request.on('timeout', () => request.destroy(new Error('timeout')));
      request.on('error', (error) => fail(String(error)));
      request.on('response', (response) => {
        let text = '';
        response.setEncoding('utf8');
        response.on('data', (chunk: string) => (text += chunk));
        response.on('error', (error) => fail(String(error)));
        response.on('end', () =>
          resolve({ status: response.statusCode ?? 0, body: text, ms: performance.now() - startedAt }),
        );
      });
      request.end(body);
    });
    const key = `${what} ${answer.status}`;
    this.answers[key] = (this.answers[key] ?? 0) + 1;
    this.slowestMs = Math.max(this.slowestMs, answer.ms);
    if (answer.body.includes('urn:remit:error:internal'))
      this.violation(`${what}: internal error: ${answer.body.slice(0, 300)}`);
    return answer;
  }

  /** Until there is an answer that says yes or no; a repetition is the same event. */
  private async insist(send: () => Promise<Answer>): Promise<Answer> {
    for (let tries = 0; ; tries++) {
      const answer = await send();
      const unknown =
        [0, 429].includes(answer.status) ||
        answer.status >= 500 ||
        answer.body.includes('idempotency_in_progress');
      if (!unknown || (!this.running && tries > 30)) return answer;
      await sleep(
        (0.5 + this.random.below(1_000) / 1_000) * Math.min(RETRY_CAP_MS, RETRY_BASE_MS * 2 ** tries),
      );
    }
  }

  private secretOf(provider: Provider): string {
    return this.remit.stack.env[secretVariable(provider.name)]!.split(',')[0]!;
  }

  /** As the provider signs now; a repetition has the same id. */
  private sign(provider: Provider, body: string, webhookId: string): SignedWebhook {
    const secret = this.secretOf(provider);
    return provider.name === 'decard'
      ? { headers: standardHeaders(secret, webhookId, body), body }
      : provider.sign(body, secret, Date.now());
  }

  private note(answer: Answer, webhook: AcceptedWebhook, expected: 'yes' | 'no' | 'either'): void {
    const yes = answer.status === 200 || answer.status === 202;
    if (yes) this.accepted.push(webhook);
    if (yes && expected === 'no') this.violation(`${webhook.what} was accepted`);
    if (!yes && expected === 'yes' && answer.status >= 400 && answer.status < 500)
      this.violation(`${webhook.what} was refused: ${answer.status} ${answer.body.slice(0, 400)}`);
  }

  // ------------------------------------------------------------------------------------------------ webhooks in

  private async pending(
    provider: string,
    type: 'payment' | 'payout',
  ): Promise<{ id: string; userId: string }> {
    return createPayment(this.remit.db, {
      tenantId: TENANT,
      type,
      provider,
      userId: this.random.pick(this.users),
      amountMinor: AMOUNT_MINOR,
      currency: CURRENCY,
      reserve: true,
      expiresAfterMs: DAY_MS,
      correlationId: randomUUID(),
      actor: 'hostile',
    });
  }

  private async providerWebhook(): Promise<void> {
    const provider = this.random.pick(BUILT_IN_PROVIDERS);
    const [name, sample] = this.random.pick(Object.entries(provider.samples));
    const correlationId = randomUUID();
    let id: string = randomUUID();
    let userId = this.random.pick(this.users);
    if (sample.kind === 'payment' || sample.kind === 'payout')
      ({ id, userId } = await this.pending(provider.name, sample.kind));
    if (sample.kind === 'order' || sample.kind === 'dispute') {
      const order = await this.placeOrder(userId, sample.kind === 'order' ? 'provider' : 'balance');
      if (order === undefined) return;
      id = order;
    }
    const eventId = randomUUID().replaceAll('-', '').slice(0, 16).toUpperCase();
    let body = sample.body({ id, userId, amount: '1.00', currency: CURRENCY, eventId });
    const isForm = provider.contentType !== 'application/json';
    const odd = !isForm && this.random.chance(0.4);
    if (odd) body = this.withOddities(body);
    const wrongAmount = !isForm && !odd && this.random.chance(0.1);
    if (wrongAmount)
      body = body
        .replaceAll('"1.00"', '"3.00"')
        .replace(/("(?:amount|value|amount_received)":)100\b/g, '$1300');
    const spoilt = this.random.chance(0.05);
    const what = `${provider.name} ${name}${odd ? ' odd' : ''}${wrongAmount ? ' wrong amount' : ''}${spoilt ? ' spoilt' : ''}`;
    const send = () => {
      const signed = this.sign(provider, body, `msg_${eventId}`);
      const bytes = spoilt ? `${signed.body} ` : signed.body;
      return this.post(`webhook ${provider.name}`, `/webhooks/providers/${provider.name}`, bytes, {
        ...signed.headers,
        'x-correlation-id': correlationId,
      });
    };
    const record: AcceptedWebhook = {
      correlationId,
      kind: sample.kind === 'order' ? 'order' : sample.kind === 'dispute' ? 'dispute' : 'provider',
      provider: provider.name,
      about: id,
      unhandled: sample.kind === 'unhandled',
      settles: (sample.kind === 'payment' || sample.kind === 'payout') && !wrongAmount,
      what,
    };
    // A blank behind JSON that is signed in its fields (Adyen), or behind a form, may still be what was signed.
    this.note(await this.insist(send), record, spoilt ? 'either' : odd ? 'either' : 'yes');
    if (this.random.chance(0.2)) await send();
  }

  /** Puts odd fields and texts into a body's outermost object, and odd text where a reason stands. */
  private withOddities(body: string): string {
    const odd = this.random.pick(ODD_TEXTS);
    const changed = body.replace(/"reason":"[^"]*"/, `"reason":${odd}`);
    return `{${this.random.pick(EXTRAS)},"note":${this.random.pick(ODD_TEXTS)},${changed.slice(1)}`;
  }

  /** DeCard's own body by hand: amounts as text, encodings, keys given twice, and lies. */
  private async decardText(): Promise<void> {
    const provider = BUILT_IN_PROVIDERS.find(({ name }) => name === 'decard')!;
    const { id } = await this.pending('decard', 'payment');
    const [amount, exact] = this.random.pick(AMOUNT_TEXTS);
    const key = this.random.chance(0.2) ? '"\\u0061mount"' : '"amount"';
    let text = `{"provider":"decard","transactionId":"${id}","status":"success",${key}:${amount},"currency":"TRY","type":"payment"}`;
    if (this.random.chance(0.4)) text = this.withOddities(text);
    if (this.random.chance(0.05)) text = text.replace(/\}$/, ',"amount":7}');
    const twice = text.includes('"amount":7}');
    const encoding = this.random.below(12);
    const bytes =
      encoding === 0
        ? Buffer.from(text, 'utf16le')
        : encoding === 1
          ? Buffer.concat([Buffer.from([0xff, 0xfe]), Buffer.from(text, 'utf16le')])
          : encoding === 2
            ? Buffer.concat([
                Buffer.from(text.slice(0, -1)),
                Buffer.from([0x2c, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]),
              ])
            : Buffer.from(text);
    const webhookId = `msg_${randomUUID()}`;
    const correlationId = randomUUID();
    const contentType = encoding === 0 ? 'application/json; charset=utf-16' : 'application/json';
    const send = () =>
      this.post('webhook decard', '/webhooks/providers/decard', bytes, {
        ...standardHeaders(this.secretOf(provider), webhookId, bytes),
        'content-type': contentType,
        'x-correlation-id': correlationId,
      });
    const record: AcceptedWebhook = {
      ...{ correlationId, kind: 'provider', provider: 'decard', about: id, eventId: webhookId },
      unhandled: false,
      settles: exact && encoding > 2 && !twice,
      what: `decard amount ${amount} encoding ${encoding}${twice ? ' twice' : ''} ${text.slice(0, 120)}`,
    };
    const wrong = encoding <= 2 || (!exact && !twice);
    this.note(
      await this.insist(send),
      record,
      wrong
        ? 'no'
        : twice
          ? 'either'
          : amount === '100e-2' || text.includes('deep') || text.includes('__proto__')
            ? 'either'
            : 'yes',
    );
  }

  private async placeOrder(
    userId: string,
    paymentMethod: 'balance' | 'provider',
  ): Promise<string | undefined> {
    const key = randomUUID();
    const answer = await this.insist(() =>
      this.post('order', '/orders', JSON.stringify({ amount: '1.00', currency: CURRENCY, paymentMethod }), {
        ...{ 'content-type': 'application/json', 'x-user-id': userId, 'idempotency-key': key },
      }),
    );
    if (answer.status !== 201) {
      if (this.running) this.violation(`an order was answered ${answer.status} ${answer.body.slice(0, 200)}`);
      return undefined;
    }
    return (JSON.parse(answer.body) as { id: string }).id;
  }

  /** An order, paid from the balance or by its provider, with a refund and with a dispute whose reason is odd. */
  private async order(): Promise<void> {
    const byProvider = this.random.chance(0.4);
    const userId = this.random.pick(this.users);
    const id = await this.placeOrder(userId, byProvider ? 'provider' : 'balance');
    if (id === undefined) return;
    // Some chargebacks come before the order is paid.
    if (this.random.chance(0.3)) await this.chargeback(id, 'opened');
    if (byProvider && !this.heldBack.has('orders')) await this.orderWebhook(id, userId);
    if (this.random.chance(0.3)) await this.refund(id);
    if (this.random.chance(0.3)) {
      await this.chargeback(id, 'opened');
      await this.chargeback(id, this.random.pick(['won', 'lost', 'under_review']));
    }
  }

  private async orderWebhook(orderId: string, userId: string): Promise<void> {
    const body = `{"provider_event_id":"${randomUUID()}","order_id":"${orderId}","user_id":"${userId}","status":"${this.random.pick(['success', 'success', 'success', 'pending', 'failed'])}","amount":1.00,"currency":"TRY"}`;
    await this.enveloped('order', '/webhooks/payments/orders', body, orderId, 'yes');
  }

  private async chargeback(orderId: string, status: string): Promise<void> {
    const reason = this.random.pick(ODD_TEXTS);
    const due = this.random.pick(['null', '"soon"', '"2027-01-01T00:00:00.123456Z"', '12']);
    const body = `{"provider_event_id":"${randomUUID()}","order_id":"${orderId}","status":"${status}","amount":"0.50","currency":"TRY","reason":${reason},"evidence_due_by":${due}}`;
    await this.enveloped('dispute', '/webhooks/payments/chargebacks', body, orderId, 'yes');
  }

  private async enveloped(
    kind: 'order' | 'dispute',
    path: string,
    body: string,
    about: string,
    expected: 'yes' | 'either',
  ): Promise<void> {
    const correlationId = randomUUID();
    const id = `msg_${randomUUID()}`;
    const secret = this.remit.stack.config.ORDER_WEBHOOK_SECRET!;
    const send = () =>
      this.post(`webhook ${kind}`, path, body, {
        ...standardHeaders(secret, id, body),
        'x-correlation-id': correlationId,
      });
    const eventId = /"provider_event_id":"([^"]+)"/.exec(body)![1]!;
    const record: AcceptedWebhook = {
      ...{ correlationId, kind, provider: 'payments', about, eventId },
      ...{ unhandled: false, settles: false, what: `${kind} ${body.slice(0, 200)}` },
    };
    this.note(await this.insist(send), record, expected);
  }

  private async refund(orderId: string): Promise<void> {
    const key = randomUUID();
    const send = () =>
      this.post('refund', `/api/v1/orders/${orderId}/refunds`, '{"amount":"0.10"}', {
        ...this.operator,
        'content-type': 'application/json',
        'idempotency-key': key,
      });
    await this.insist(send);
  }

  /** Many and large events of what nobody knows. */
  private async earlyEvents(): Promise<void> {
    const provider = BUILT_IN_PROVIDERS.find(({ name }) => name === 'decard')!;
    const about = randomUUID();
    for (let i = 0; i < 150 && this.running; i++) {
      const body = `{"provider":"decard","transactionId":"${about}","status":"success","amount":1,"currency":"TRY","type":"payment","padding":"${'p'.repeat(i % 3 === 0 ? 60_000 : 500)}"}`;
      const correlationId = randomUUID();
      const webhookId = `msg_${randomUUID()}`;
      const answer = await this.insist(() =>
        this.post('webhook early', '/webhooks/providers/decard', body, {
          ...standardHeaders(this.secretOf(provider), webhookId, body),
          'x-correlation-id': correlationId,
        }),
      );
      this.note(
        answer,
        {
          ...{ correlationId, kind: 'provider', provider: 'decard', about, eventId: webhookId },
          ...{ unhandled: false, settles: false, what: `early event ${i}` },
        },
        'yes',
      );
      await sleep(20);
    }
  }

  // ------------------------------------------------------------------------------------------------ callers

  private async topUps(): Promise<void> {
    const userId = this.random.pick(this.users);
    const key = randomUUID();
    await this.insist(() =>
      this.post('top up', '/accounts/topup', JSON.stringify({ amount: '20.00', currency: CURRENCY }), {
        ...{ 'content-type': 'application/json', 'x-user-id': userId, 'idempotency-key': key },
      }),
    );
  }

  private async oddCallers(): Promise<void> {
    const [a, b] = [this.random.pick(this.users), this.random.pick(this.users)];
    const expect = async (what: string, allowed: number[], answer: Promise<Answer>) => {
      const { status, body } = await answer;
      if (status !== 0 && status !== 503 && !allowed.includes(status))
        this.violation(`${what}: ${status} ${body.slice(0, 200)}`);
    };
    const none = '';
    await expect(
      'two users',
      [400],
      this.post('two users', '/accounts/balance', none, { 'x-user-id': [a, b] }, 'GET'),
    );
    // It is a user of that name, whom nobody knows.
    await expect(
      'a user list',
      [400, 404],
      this.post('a user list', '/accounts/balance', none, { 'x-user-id': `${a}, ${b}` }, 'GET'),
    );
    for (const token of [
      'Bearer x.y.z',
      `Bearer ${'a'.repeat(9_000)}`,
      'Basic YTpi',
      `Bearer ${Buffer.from('{"alg":"none"}').toString('base64url')}.${Buffer.from('{"sub":"a","scope":"admin"}').toString('base64url')}.`,
      `Bearer ${Buffer.from('{"alg":"HS256","crit":["b64"],"b64":false}').toString('base64url')}.e30.AAAA`,
    ])
      await expect(
        'odd token',
        [401, 431],
        this.post('odd token', '/api/v1/events', none, { authorization: token }, 'GET'),
      );
    await expect(
      'a huge balance',
      [200, 400, 422],
      this.post(
        'a huge balance',
        '/accounts/topup',
        JSON.stringify({ amount: '92233720368547758.07', currency: CURRENCY }),
        {
          ...{ 'content-type': 'application/json', 'x-user-id': 'rich', 'idempotency-key': randomUUID() },
        },
      ),
    );
    await expect(
      'a health check',
      [200],
      this.post('a user', `/accounts/balance`, none, { 'x-user-id': a }, 'GET'),
    );
  }

  // ------------------------------------------------------------------------------------------------ events out

  private async subscribe(): Promise<void> {
    for (const behaviour of BEHAVIOURS) {
      const eventTypes =
        behaviour === 'good' ? ['*'] : [`hostile.${behaviour.replace('-', '_')}`, 'hostile.all'];
      const body = JSON.stringify({ url: this.subscribers.url(behaviour), eventTypes });
      const headers = { ...this.operator, 'content-type': 'application/json' };
      const answer = await this.insist(() => this.post('subscribe', '/api/v1/subscriptions', body, headers));
      if (answer.status !== 201) this.violation(`subscribe: ${answer.status} ${answer.body}`);
    }
  }

  private define(name: string, schema: unknown): Promise<Answer> {
    return this.post('define', '/api/v1/event-types', JSON.stringify({ name, schema }), {
      ...this.admin,
      'content-type': 'application/json',
    });
  }

  private async defineTypes(): Promise<void> {
    for (const name of [
      'hostile.all',
      'odd.numbers',
      ...BEHAVIOURS.map((each) => `hostile.${each.replace('-', '_')}`),
    ])
      await this.insist(() => this.define(name, null));
    await this.insist(() =>
      this.define('money.step', { properties: { total: { type: 'number', multipleOf: 0.01 } } }),
    );
    for (const [i, schema] of SLOW_SCHEMAS.entries())
      await this.insist(() => this.define(`slow.s${i}`, schema));
  }

  private event(type: string, data: string, what = 'publish'): Promise<Answer> {
    return this.post(what, '/api/v1/events', `{"id":"${randomUUID()}","type":"${type}","data":${data}}`, {
      ...this.operator,
      'content-type': 'application/json',
    });
  }

  private async publish(): Promise<void> {
    if (this.heldBack.has('events')) return;
    const which = this.random.below(10);
    if (which < 2) {
      const answer = await this.insist(() =>
        this.event(
          'odd.numbers',
          `{"a":9007199254740993,"z":1.10,"b":0.1000000000000000055511151231257827,"c":-0,"d":1E3,"e":"\\ud83d\\ude00 \\u0041"}`,
        ),
      );
      if (answer.status >= 400 && answer.status < 500)
        this.violation(`odd numbers: ${answer.status} ${answer.body}`);
    } else if (which < 4) {
      const total = this.random.pick(['19.99', '8.69', '143.48', '0.94', '1.10000000000000']);
      const answer = await this.insist(() => this.event('money.step', `{"total":${total}}`));
      if (answer.status !== 202 && this.running)
        this.violation(`multipleOf: ${total} ${answer.status} ${answer.body}`);
      if (this.random.chance(0.3)) {
        const wrong = await this.event('money.step', '{"total":0.015}');
        if (wrong.status === 202) this.violation('multipleOf: 0.015 was taken');
      }
    } else {
      const behaviour = this.random.pick(BEHAVIOURS).replace('-', '_');
      await this.insist(() =>
        this.event(
          which === 9 ? 'hostile.all' : `hostile.${behaviour}`,
          `{"n":${this.random.below(1_000_000)}}`,
        ),
      );
    }
  }

  /** While a slow schema is asked, others must be answered. */
  private async slowSchema(): Promise<void> {
    const i = this.random.below(SLOW_SCHEMAS.length);
    const data =
      i === 1
        ? `{"x":"${'a'.repeat(2_000)}!"}`
        : `{"x":[${Array.from({ length: 998 }, (_, n) => `{"n":${n}}`).join(',')}]}`;
    const slow = this.event(`slow.s${i}`, data, 'slow schema');
    await sleep(50);
    const other = await this.post('beside slow', '/health', '', {}, 'GET');
    if (other.status !== 0 && other.ms > 10_000)
      this.violation(`a caller beside a slow schema waited ${other.ms.toFixed(0)} ms`);
    const { status, ms, body } = await slow;
    if (ms > 20_000 && status !== 0)
      this.violation(`a slow schema took ${ms.toFixed(0)} ms: ${status} ${body.slice(0, 200)}`);
  }

  /** Many at once, of which the same number is deleted again. */
  private async parallelSubscriptions(): Promise<void> {
    const headers = { ...this.operator, 'content-type': 'application/json' };
    const body = JSON.stringify({ url: this.subscribers.url('good'), eventTypes: ['never.sent'] });
    const answers = await Promise.all(
      Array.from({ length: 40 }, () =>
        this.post('parallel subscription', '/api/v1/subscriptions', body, headers),
      ),
    );
    for (const { status, body: text } of answers) {
      if (![201, 0, 503, 429].includes(status))
        this.violation(`parallel subscription: ${status} ${text.slice(0, 200)}`);
      if (status !== 201) continue;
      const { id } = JSON.parse(text) as { id: string };
      const deleted = await this.insist(() =>
        this.post('delete subscription', `/api/v1/subscriptions/${id}`, '', this.operator, 'DELETE'),
      );
      if (![204, 404, 0].includes(deleted.status))
        this.violation(`delete: ${deleted.status} ${deleted.body.slice(0, 200)}`);
    }
  }
}

const SLOW_SCHEMAS: unknown[] = [
  {
    properties: { x: { anyOf: Array.from({ length: 150 }, () => ({ $ref: '#/$defs/u' })) } },
    $defs: { u: { uniqueItems: true, maxItems: 1_000 } },
  },
  {
    properties: {
      x: { anyOf: Array.from({ length: 60 }, (_, i) => ({ type: 'string', pattern: `^(a+)+$|${i}b` })) },
    },
  },
  {
    properties: Object.fromEntries(
      Array.from({ length: 1_900 }, (_, i) => [`p${i}`, { type: 'array', uniqueItems: true }]),
    ),
  },
];
