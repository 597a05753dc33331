import { randomBytes, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ClickHouseClient } from '@clickhouse/client';
import type { Kafka } from 'kafkajs';
import { SubscriptionCreated } from '../../src/contracts/subscriptions';
import type { Config } from '../../src/platform/config';
import type { Database } from '../../src/platform/postgres';
import { purchaseGenerator } from '../../src/operations/purchase-generator';
import { mintToken } from '../../src/operations/token';
import { insist, postJson, successWebhook } from '../support/callers';
import { eventually } from '../support/harness';
import { CURRENCY, inspectLedger, SOUND, TENANT } from '../support/money';
import { PlayedSubscribers } from './arrivals-stage';
import { Purchases } from './hostile/purchases';

/** A remit that is not in this process, and what this process sees of it. */
export interface OutsideRemit {
  /** Base URLs of its API processes. */
  apis: readonly string[];
  config: Config;
  kafka: Kafka;
  db: Pick<Database, 'pool'>;
  clickhouse: ClickHouseClient;
  /** The address of this machine at which it reaches subscribers. */
  subscriberHost: string;
}

export const KINDS = ['payments', 'orders', 'events', 'purchases'] as const;
export type Kind = (typeof KINDS)[number];
export type PerKind = Record<Kind, number>;

export interface Verdict {
  accepted: PerKind;
  /** Accepted, and nothing came of it. */
  lost: PerKind;
  /** More than once: a row too many, or an event under a second id. */
  twice: PerKind;
  /** Deliveries that the subscriber got again under the same id, as it may. */
  redelivered: number;
  /** What is wrong with the ledger or its balances, and requests that were refused; empty when all is well. */
  wrong: string[];
}

const USERS = 8;
const OPENING_MINOR = 10_000_000n;
const OPENING = '100000.00';
const AMOUNT = '1.00';
const AMOUNT_MINOR = 100n;
const PACE_MS = 500;
const PURCHASES_PER_SECOND = 20;
/** Of each kind of work: what waits for an answer holds a connection. */
const UNDER_WAY = 40;
const ANSWER_MS = 15_000;
const PROBE_MS = 240_000;
const SETTLED_MS = 300_000;
const FOUND_AFTER_MS = 100;
/** Longer than ingest waits for a batch to fill. */
const STILL_MS = 2_500;

/** Payments, orders, events and purchases, by the doors that their callers use, each insisted on until it is accepted. */
export class OutsideLoad {
  private readonly run = randomBytes(3).toString('hex');
  private readonly users = Array.from({ length: USERS }, (_, i) => `load-${this.run}-${i}`);
  private readonly subscribers: PlayedSubscribers;
  private readonly purchases: Purchases;
  private readonly probes: Purchases;
  private readonly accepted = {
    payments: new Set<string>(),
    orders: new Set<string>(),
    events: new Map<number, string>(),
  };
  private readonly underWay = { payments: 0, orders: 0, events: 0 };
  private readonly sending = new Set<Promise<unknown>>();
  private readonly refused: string[] = [];
  private turn = 0;
  private loading = false;
  private loop: Promise<void> | undefined;
  private producing: Promise<void>[] = [];
  /** Messages of the topic that are no row: what was refused before this load began, which sends good ones alone. */
  private noRows = 0n;

  private constructor(private readonly remit: OutsideRemit) {
    const topic = remit.config.TOPIC_PURCHASES;
    const of = (perSecond: number, seed: number) =>
      new Purchases(remit.kafka, topic, perSecond, { next: purchaseGenerator({ seed, badShare: 0 }) });
    this.subscribers = new PlayedSubscribers(remit.subscriberHost);
    this.purchases = of(PURCHASES_PER_SECOND, 1 + Number.parseInt(this.run, 16));
    this.probes = of(1, 2 + Number.parseInt(this.run, 16));
  }

  /** Opens accounts with money in them, and subscribes. */
  static async start(remit: OutsideRemit): Promise<OutsideLoad> {
    const load = new OutsideLoad(remit);
    await load.subscribers.listen();
    const body = { url: load.subscribers.url('steady'), eventTypes: ['parcel.sent'] };
    await load.call('operator', ['admin'], '/api/v1/event-types', { name: 'parcel.sent' }, [200, 201, 409]);
    const subscription = await load.call('operator', ['admin'], '/api/v1/subscriptions', body, [201]);
    load.subscribers.add({ name: 'steady' }, SubscriptionCreated.parse(subscription).secret);
    for (const user of load.users) {
      await load.call(user, [], '/accounts', { currency: CURRENCY }, [200, 201]);
      await load.call(user, ['topup'], '/accounts/topup', { amount: OPENING }, [200]);
    }
    load.noRows = await load.still();
    for (const purchases of [load.purchases, load.probes]) {
      purchases.paused = true;
      load.producing.push(purchases.run());
    }
    return load;
  }

  /** Begins to work, until `pause`. */
  resume(): void {
    this.loading = true;
    this.purchases.paused = false;
    this.loop = this.work();
  }

  /** No new work; what was begun is insisted on until it is accepted. */
  async pause(): Promise<void> {
    this.loading = false;
    await this.loop;
    await Promise.all([...this.sending, this.purchases.pause()]);
  }

  async close(): Promise<void> {
    this.loading = false;
    this.purchases.running = this.probes.running = false;
    await Promise.all(this.producing);
    await this.subscribers.close();
  }

  private async work(): Promise<void> {
    while (this.loading) {
      for (const kind of ['payments', 'orders', 'events'] as const) {
        if (this.underWay[kind] >= UNDER_WAY) continue;
        this.underWay[kind] += 1;
        const sent = this[kind]()
          .catch((error: unknown) => this.refused.push(`${kind}: ${String(error)}`))
          .finally(() => {
            this.underWay[kind] -= 1;
            this.sending.delete(sent);
          });
        this.sending.add(sent);
      }
      await sleep(PACE_MS);
    }
  }

  /** One of each kind from now on. @returns seconds until it had its effect, retries of the caller included. */
  async probe(): Promise<PerKind> {
    const startedAt = performance.now();
    const until = async (come: () => Promise<boolean>): Promise<number> => {
      await eventually(
        async () => {
          if (!(await come())) throw new Error('not yet');
        },
        PROBE_MS,
        FOUND_AFTER_MS,
      );
      return (performance.now() - startedAt) / 1_000;
    };
    const seconds = await Promise.all([
      this.payments().then((id) =>
        until(() => this.is(`payments WHERE status = 'succeeded' AND id = $1`, id)),
      ),
      this.orders().then((id) => until(() => this.is(`orders WHERE status = 'FINISHED' AND id = $1`, id))),
      this.events().then((number) => until(() => Promise.resolve(this.arrived(number)))),
      this.purchaseProbe().then((id) => until(() => this.stored(id))),
    ]);
    return Object.fromEntries(KINDS.map((kind, i) => [kind, seconds[i]])) as PerKind;
  }

  private async payments(): Promise<string> {
    const userId = this.users[this.turn++ % USERS]!;
    const body = { userId, provider: 'decard', amount: AMOUNT, currency: CURRENCY };
    const { id } = (await this.call('operator', ['write'], '/api/v1/payments', body, [201])) as {
      id: string;
    };
    await insist(() => successWebhook(this.api(), this.remit.config, id, ANSWER_MS), [202]);
    this.accepted.payments.add(id);
    return id;
  }

  private async orders(): Promise<string> {
    const user = this.users[this.turn++ % USERS]!;
    const body = { amount: AMOUNT, currency: CURRENCY };
    const { id } = (await this.call(user, [], '/orders', body, [201])) as { id: string };
    this.accepted.orders.add(id);
    return id;
  }

  /** @returns the number that the event carries. */
  private async events(): Promise<number> {
    const number = this.turn++;
    const body = { id: `${this.run}-${number}`, type: 'parcel.sent', data: { number } };
    const { id } = (await this.call('operator', ['write'], '/api/v1/events', body, [200, 201, 202])) as {
      id: string;
    };
    this.accepted.events.set(number, id);
    return number;
  }

  /** A purchase that is acknowledged from now on. */
  private async purchaseProbe(): Promise<string> {
    const before = this.probes.good.size;
    this.probes.paused = false;
    await eventually(
      () => {
        if (this.probes.good.size === before) throw new Error('not acknowledged');
      },
      PROBE_MS,
      20,
    );
    this.probes.paused = true;
    return [...this.probes.good].at(before)!;
  }

  private arrived(number: number): boolean {
    return (this.subscribers.arrivals('steady').get(number)?.accepted ?? 0) > 0;
  }

  private async is(from: string, id: string): Promise<boolean> {
    return (await this.remit.db.pool.query(`SELECT 1 FROM ${from}`, [id])).rowCount === 1;
  }

  private async stored(id: string): Promise<boolean> {
    const where = `toString(id) = '${id}'`;
    return (
      (await this.clickhouse<{ n: string }>(`SELECT count() AS n FROM purchases WHERE ${where}`))[0]!.n !==
      '0'
    );
  }

  private async clickhouse<T>(query: string): Promise<T[]> {
    return (await this.remit.clickhouse.query({ query, format: 'JSONEachRow' })).json<T>();
  }

  /** Rows are counted where merging does not make one of two. */
  private async messagesOverRows(): Promise<bigint> {
    const query = 'SELECT sum(purchases) AS rows FROM revenue_daily';
    const [counted] = await this.clickhouse<{ rows: string }>(query);
    return (await this.purchases.offsets()) - BigInt(counted?.rows ?? 0);
  }

  /** Until every purchase that is in Kafka was read, and what might come after it has come. */
  private async still(): Promise<bigint> {
    let before: bigint | undefined;
    return eventually(
      async () => {
        const now = await this.messagesOverRows();
        if (now !== before) {
          before = now;
          throw new Error('purchases are being read');
        }
        return now;
      },
      PROBE_MS,
      STILL_MS,
    );
  }

  private api(): string {
    const { apis } = this.remit;
    return apis[this.turn++ % apis.length]!;
  }

  /** The same request under the same key, until it is answered with what is wanted. */
  private async call(
    subject: string,
    scopes: string[],
    path: string,
    body: unknown,
    wanted: readonly number[],
  ): Promise<unknown> {
    const key = randomUUID();
    return insist(async () => {
      const token = await mintToken(this.remit.config, { subject, scopes, expiresInS: 600 });
      const headers = { authorization: `Bearer ${token}`, 'idempotency-key': key };
      return postJson(this.api() + path, body, headers, ANSWER_MS);
    }, wanted);
  }

  /**
   * Waits until everything that was accepted has had its effect, and counts. Call it while paused.
   * @returns the counts and the seconds that it took; what is still missing after five minutes counts as lost.
   */
  async settle(): Promise<{ verdict: Verdict; seconds: number }> {
    const startedAt = performance.now();
    for (;;) {
      // A server that was just reconnected may not answer this process yet.
      const verdict = await eventually(() => this.verdict(), PROBE_MS, 500);
      const seconds = (performance.now() - startedAt) / 1_000;
      const whole = verdict.wrong.length === 0 && KINDS.every((kind) => verdict.lost[kind] === 0);
      if (whole || seconds * 1_000 > SETTLED_MS) {
        // A second one of something comes later, if it comes.
        await this.still();
        return { verdict: await eventually(() => this.verdict(), PROBE_MS, 500), seconds };
      }
      await sleep(500);
    }
  }

  private async verdict(): Promise<Verdict> {
    const { payments, orders, events } = this.accepted;
    const good = new Set([...this.purchases.good, ...this.probes.good]);
    const paid = await this.ids(`payments WHERE user_id = ANY($1) AND status = 'succeeded'`);
    const placed = await this.ids(`orders WHERE user_id = ANY($1) AND status = 'FINISHED'`);
    const all = {
      payments: (await this.ids('payments WHERE user_id = ANY($1)')).size,
      orders: (await this.ids('orders WHERE user_id = ANY($1)')).size,
    };
    const arrivals = [...this.subscribers.arrivals('steady')];
    const stored = new Set(
      (await this.clickhouse<{ id: string }>('SELECT DISTINCT toString(id) AS id FROM purchases')).map(
        ({ id }) => id,
      ),
    );
    const missing = (wanted: Iterable<string>, there: ReadonlySet<string>) =>
      [...wanted].filter((id) => !there.has(id)).length;
    const ledger = await inspectLedger(this.remit.db as Database);
    return {
      accepted: { payments: payments.size, orders: orders.size, events: events.size, purchases: good.size },
      lost: {
        payments: missing(payments, paid),
        orders: missing(orders, placed),
        events: [...events.keys()].filter((number) => !this.arrived(number)).length,
        purchases: missing(good, stored),
      },
      twice: {
        payments: all.payments - payments.size,
        orders: all.orders - orders.size,
        events: arrivals.filter(([number, { ids }]) => ids.size !== 1 || !ids.has(events.get(number) ?? ''))
          .length,
        // Rows over messages: what a producer sent again after it was given up is two of both.
        purchases: Math.max(0, Number(this.noRows - (await this.messagesOverRows()))),
      },
      redelivered: arrivals.reduce((sum, [, { accepted }]) => sum + accepted - 1, 0),
      wrong: [
        ...this.refused,
        ...(JSON.stringify(ledger) === JSON.stringify(SOUND) ? [] : [JSON.stringify(ledger)]),
        ...(await this.wrongBalance(payments.size - orders.size)),
      ],
    };
  }

  private async ids(from: string): Promise<Set<string>> {
    const { rows } = await this.remit.db.pool.query<{ id: string }>(`SELECT id::text FROM ${from}`, [
      this.users,
    ]);
    return new Set(rows.map(({ id }) => id));
  }

  /** A payment settled twice, or an order paid twice, shows in what the users have together. */
  private async wrongBalance(paymentsOverOrders: number): Promise<string[]> {
    const { rows } = await this.remit.db.pool.query<{ sum: string }>(
      'SELECT sum(balance_minor)::text AS sum FROM accounts WHERE tenant_id = $1 AND user_id = ANY($2)',
      [TENANT, this.users],
    );
    const wanted = OPENING_MINOR * BigInt(USERS) + AMOUNT_MINOR * BigInt(paymentsOverOrders);
    const found = BigInt(rows[0]?.sum ?? 0);
    return found === wanted ? [] : [`the users have ${found} together and should have ${wanted}`];
  }
}
