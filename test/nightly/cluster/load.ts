import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { SubscriptionCreated } from '../../../src/contracts/subscriptions';
import { createClickHouse } from '../../../src/platform/clickhouse';
import { createKafka } from '../../../src/platform/kafka';
import { purchaseGenerator } from '../../../src/operations/purchase-generator';
import { mintToken } from '../../../src/operations/token';
import { PlayedSubscribers } from '../../faults/arrivals-stage';
import { Purchases } from '../../faults/hostile/purchases';
import { insist, postJson, successWebhook } from '../../support/callers';
import { CURRENCY, newTransaction, userWith } from '../../support/money';
import type { Cluster } from './cluster';
import { Flow } from './flow';

export const OPENING = 100_000_000n;
export const AMOUNT = 100n;
export const REFUND = 40n;
const USERS = 20;
const LOOK_MS = 200;
const POST_MS = 8_000;
const RETRY_MS = 250;
const ANSWERED_MS = 180_000;

/** How often each kind of work begins, per second. */
export interface Rates {
  payments: number;
  orders: number;
  events: number;
  purchases: number;
}

/** One is sound, one refuses each event at first, one wants order and refuses a tenth. */
export const SUBSCRIBERS = { steady: 0, failing: 1, ordered: 10 } as const;
type Subscriber = keyof typeof SUBSCRIBERS;
const NAMES = Object.keys(SUBSCRIBERS) as Subscriber[];

/** Users, providers, publishers and subscribers, who insist until they know what became of their request. */
export class Load {
  readonly flows = {
    payments: new Flow('payments'),
    orders: new Flow('orders'),
    events: new Flow('events'),
    ordered: new Flow('ordered events'),
    purchases: new Flow('purchases'),
  };
  /** Events with one delivery instead of three: what is measured, and no part of a run with faults. */
  readonly letters = new Flow('events with one delivery');
  /** Between two looks at what has come to its end. */
  lookMs = LOOK_MS;
  readonly subscribers = new PlayedSubscribers();
  readonly purchases: Purchases;
  /** Numbers of the events that were accepted, with the ids that they got, in the order of their acceptance. */
  readonly published = new Map<number, string>();
  readonly accepted = { payments: 0, orders: 0, refunds: 0 };
  /** Answers that should not have been. */
  readonly refused: string[] = [];
  users: string[] = [];
  private operator: Record<string, string> = {};
  private running = true;
  private readonly batches = new Map<string, string[]>();
  /** No longer waits for what is not finished. */
  stopped = false;
  private readonly loops: Promise<unknown>[] = [];

  constructor(
    private readonly cluster: Cluster,
    readonly rates: Rates,
  ) {
    const { config, log } = cluster;
    this.purchases = new Purchases(createKafka(config, log), config.TOPIC_PURCHASES, rates.purchases, {
      next: purchaseGenerator({ seed: 7, badShare: 0 }),
      begun: (ids) => {
        this.batches.set(ids[0]!, ids);
        this.flows.purchases.begin(ids[0]!);
      },
    });
  }

  /** @param hostile whether subscribers refuse now and then, and one wants order. */
  async prepare(hostile = true): Promise<void> {
    const { config, db } = this.cluster;
    await this.subscribers.listen();
    this.operator = {
      authorization: `Bearer ${await mintToken(config, { subject: 'operator', scopes: ['admin'], expiresInS: 36_000 })}`,
    };
    this.users = await Promise.all(
      Array.from({ length: USERS }, () => this.untilDone(() => userWith(db, OPENING))),
    );
    for (const name of ['parcel.sent', 'letter.sent'])
      await insist(() => this.post('/api/v1/event-types', { name }), [201]);
    for (const name of NAMES) {
      const body = {
        url: this.subscribers.url(name),
        eventTypes: name === 'steady' ? ['parcel.sent', 'letter.sent'] : ['parcel.sent'],
        ordered: hostile && name === 'ordered',
      };
      const created = await insist(() => this.post('/api/v1/subscriptions', body), [201]);
      const every = hostile ? SUBSCRIBERS[name] : 0;
      this.subscribers.add(
        {
          name,
          answer: (number, first) => (first && every > 0 && number % every === 0 ? 500 : 204),
        },
        SubscriptionCreated.parse(created).secret,
      );
    }
  }

  start(): void {
    this.loops.push(
      this.every(this.rates.payments, (n) => this.payment(n)),
      this.every(this.rates.orders, (n) => this.order(n)),
      this.inTurn(this.rates.events, (n) => this.event(n)),
      this.purchases.run(),
    );
    void this.look();
  }

  /** Nothing new begins; resolves when every request has its answer, or none is to be expected. */
  async stop(): Promise<void> {
    this.running = false;
    this.purchases.running = false;
    await Promise.race([Promise.all(this.loops), sleep(ANSWERED_MS)]);
  }

  async close(): Promise<void> {
    this.stopped = true;
    await this.subscribers.close();
  }

  // ------------------------------------------------------------------------------------------------ work

  /** A payment that a user began before, and whose provider now says that it succeeded. */
  async payment(n: number): Promise<void> {
    const { config, db } = this.cluster;
    const { id } = await this.untilDone(() => newTransaction(db, this.userOf(n), 'payment', AMOUNT));
    this.flows.payments.begin(id);
    await insist(() => successWebhook(this.cluster.api, config, id, POST_MS), [202]);
    this.accepted.payments += 1;
  }

  /** An order that is paid from the balance; each third one is refunded in part afterwards. */
  async order(n: number): Promise<void> {
    const [mark, key] = [randomUUID(), randomUUID()];
    this.flows.orders.begin(mark);
    const placed = await insist(
      () =>
        this.post(
          '/orders',
          { amount: '1.00', currency: CURRENCY },
          { 'x-user-id': this.userOf(n), 'idempotency-key': key },
        ),
      [201],
    );
    const { id } = placed as { id: string };
    this.accepted.orders += 1;
    await this.untilDone(async () => {
      if (this.lookMs > LOOK_MS) await sleep(this.lookMs);
      const { rows } = await this.cluster.db.pool.query<{ status: string }>(
        'SELECT status FROM orders WHERE id = $1',
        [id],
      );
      if (rows[0]?.status === 'NEW') throw new Error('not decided');
    });
    this.flows.orders.end(mark);
    if (n % 3 !== 0) return;
    const refundKey = randomUUID();
    await insist(
      () =>
        this.post(
          `/api/v1/orders/${id}/refunds`,
          { amount: '0.40' },
          { ...this.operator, 'idempotency-key': refundKey },
        ),
      [201],
    );
    this.accepted.refunds += 1;
  }

  /** An event; the next one is published when this one is accepted, so that their order is known. */
  async event(n: number): Promise<void> {
    for (const flow of [this.flows.events, this.flows.ordered]) flow.begin(String(n));
    const body = { id: `n-${n}`, type: 'parcel.sent', data: { number: n } };
    const answer = await insist(() => this.post('/api/v1/events', body), [200, 202]);
    this.published.set(n, (answer as { id: string }).id);
  }

  /** An event to one subscriber alone. @param n of no other event. */
  async letter(n: number): Promise<void> {
    this.letters.begin(String(n));
    const body = { id: `n-${n}`, type: 'letter.sent', data: { number: n } };
    await insist(() => this.post('/api/v1/events', body), [200, 202]);
  }

  /** Webhooks that a subscriber accepted more than once, by when it happened. */
  repeatedBetween(from: number, to: number): number {
    return this.subscribers.repeated.filter((at) => at >= from && at < to).length;
  }

  // ------------------------------------------------------------------------------------------------ ends

  /** Notes what has come to its end, for as long as the load runs and something is open. */
  async look(): Promise<void> {
    const { flows } = this;
    const clickhouse = createClickHouse(this.cluster.config);
    while (this.running || Object.values(flows).some((flow) => flow.open().length > 0)) {
      await sleep(this.lookMs);
      if (this.stopped) break;
      const paid = flows.payments.open();
      if (paid.length > 0)
        await this.cluster.db.pool
          .query<{ id: string }>(
            `SELECT id FROM payments WHERE id = ANY($1::uuid[]) AND status <> 'pending'`,
            [paid],
          )
          .then(({ rows }) => rows.forEach(({ id }) => flows.payments.end(id)))
          .catch(() => undefined);
      const has = (name: Subscriber, n: string) =>
        (this.subscribers.arrivals(name).get(Number(n))?.accepted ?? 0) > 0;
      for (const n of flows.events.open()) if (has('steady', n) && has('failing', n)) flows.events.end(n);
      for (const n of this.letters.open()) if (has('steady', n)) this.letters.end(n);
      for (const n of flows.ordered.open()) if (has('ordered', n)) flows.ordered.end(n);
      for (const first of flows.purchases.open()) {
        const ids = this.batches.get(first)!;
        const stored = await clickhouse
          .query({
            query: 'SELECT uniqExact(id) AS n FROM purchases WHERE id IN {ids: Array(UUID)}',
            query_params: { ids },
            format: 'JSONEachRow',
          })
          .then((answer) => answer.json<{ n: string }>())
          .catch(() => []);
        if (Number(stored[0]?.n) !== ids.length) continue;
        flows.purchases.end(first);
        this.batches.delete(first);
      }
    }
    await clickhouse.close();
  }

  // ------------------------------------------------------------------------------------------------ callers

  private userOf(n: number): string {
    return this.users[n % this.users.length]!;
  }

  private async every(perSecond: number, work: (n: number) => Promise<void>): Promise<void> {
    const under = new Set<Promise<void>>();
    for (let n = 0; this.running && perSecond > 0; n++) {
      const one = work(n).catch((error: unknown) => void this.refused.push(String(error)));
      under.add(one);
      void one.finally(() => under.delete(one));
      await sleep(1_000 / perSecond);
    }
    await Promise.all(under);
  }

  private async inTurn(perSecond: number, work: (n: number) => Promise<void>): Promise<void> {
    for (let n = 0; this.running && perSecond > 0; n++) {
      const startedAt = Date.now();
      await work(n).catch((error: unknown) => void this.refused.push(String(error)));
      await sleep(Math.max(0, 1_000 / perSecond - (Date.now() - startedAt)));
    }
  }

  private post(path: string, body: unknown, headers = this.operator) {
    return postJson(this.cluster.api + path, body, headers, POST_MS);
  }

  private async untilDone<T>(attempt: () => Promise<T>): Promise<T> {
    for (;;)
      try {
        return await attempt();
      } catch (error) {
        if (this.stopped) throw error;
        await sleep(RETRY_MS);
      }
  }
}
