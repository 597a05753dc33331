import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { setTimeout as sleep } from 'node:timers/promises';
import { RemitError } from '../../../src/contracts/errors';
import { createAccount, topUp } from '../../../src/domain/accounts';
import { createOrder, payOrder, type OrderView } from '../../../src/domain/orders';
import { createPayment, settleProviderEvent } from '../../../src/domain/payments';
import { reconcile } from '../../../src/domain/reconciliation';
import { refundOrder } from '../../../src/domain/refunds';
import type { Database } from '../../../src/platform/postgres';
import { createTestSpace, openTestDatabase } from '../../support/harness';
import { chargebackOf, orderEventOf } from '../../support/disputes';
import { settleDisputeEvent } from '../../../src/domain/disputes';
import { settleOrderEvent } from '../../../src/domain/order-webhooks';
import { CURRENCY, eventOf, inspectLedger, SOUND, TENANT } from '../../support/money';

/**
 * Random lives of a few accounts on a real PostgreSQL. Each plan is worked on by many hands at a time; steps are
 * repeated, reordered and contradicted, callers walk away and come back, and connections are killed between any two
 * steps. REMIT_PROPERTY_RUNS sets how many plans (default 36, each of 60 actions), REMIT_PROPERTY_SEED repeats a run.
 */
const RUNS = Number(process.env['REMIT_PROPERTY_RUNS'] ?? 36);
const SEED = Number(process.env['REMIT_PROPERTY_SEED'] ?? Date.now() % 2_147_483_647);
const ACTIONS = 60;
const USERS = 4;
const HANDS = 8;
const MAX_TRIES = 60;

let db: Database;
let killer: Database;
const done = { operations: 0, retries: 0, kills: 0 };
beforeAll(async () => {
  const space = await createTestSpace();
  db = openTestDatabase(space);
  killer = openTestDatabase({ ...space, config: { ...space.config, DATABASE_POOL_CONNECTIONS: 1 } });
});
afterAll(async () => {
  await Promise.all([db.close(), killer.close()]);
});

// ---------------------------------------------------------------------------------------------------- plans

const user = fc.nat({ max: USERS - 1 });
const amount = fc.integer({ min: 1, max: 400 });
const status = fc.constantFrom('pending' as const, 'success' as const, 'failed' as const, 'expired' as const);
const events = fc.array(
  fc.record({
    status,
    /** A repetition of the event before under the same id, an event of its own, or one that can't be applied. */
    how: fc.constantFrom('again' as const, 'own' as const, 'other amount' as const, 'other body' as const),
  }),
  { minLength: 1, maxLength: 4 },
);
const action = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('topUp' as const), user, amount }) },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('order' as const),
      user,
      amount,
      times: fc.integer({ min: 1, max: 3 }),
      provider: fc.option(status, { nil: undefined, freq: 4 }),
      refunds: fc.array(amount, { maxLength: 2 }),
      dispute: fc.option(fc.constantFrom('won' as const, 'lost' as const), { nil: undefined, freq: 3 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant('payment' as const), user, amount, events }) },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('payout' as const),
      user,
      amount,
      reserve: fc.boolean(),
      events,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('kill' as const), connections: fc.integer({ min: 1, max: 6 }) }),
  },
);
type Action = typeof action extends fc.Arbitrary<infer T> ? T : never;
/** `walksAway`: the caller of each step does not wait for its answer, and somebody does the step again. */
const plan = fc.array(fc.record({ action, walksAway: fc.boolean() }), {
  minLength: ACTIONS,
  maxLength: ACTIONS,
  size: 'max',
});

// ---------------------------------------------------------------------------------------------------- the world

/** What was accepted: it must be there in the end. */
interface Accepted {
  topUps: Map<string, bigint>;
  orders: Set<string>;
  payments: Map<string, Set<string>>;
  refunds: Map<string, bigint>;
}

class World {
  readonly accepted: Accepted = {
    topUps: new Map(),
    orders: new Set(),
    payments: new Map(),
    refunds: new Map(),
  };
  readonly users = Array.from({ length: USERS }, () => `user-${randomUUID()}`);
  private readonly abandoned: Promise<unknown>[] = [];

  key(index: number) {
    return { tenantId: TENANT, userId: this.users[index]!, currency: CURRENCY };
  }

  /** As an activity does it: again until it is through. Only what the domain refuses is an answer. */
  async step<T>(walksAway: boolean, run: () => Promise<T>): Promise<T> {
    const attempt = async (): Promise<T> => {
      for (let tries = 1; ; tries++) {
        try {
          done.operations += 1;
          return await run();
        } catch (error) {
          if (error instanceof RemitError || tries >= MAX_TRIES) throw error;
          done.retries += 1;
          await sleep(Math.random() * 10);
        }
      }
    };
    if (walksAway) this.abandoned.push(attempt().catch(() => undefined));
    return attempt();
  }

  async act({ action: what, walksAway }: { action: Action; walksAway: boolean }): Promise<void> {
    const step = <T>(run: () => Promise<T>) => this.step(walksAway, run);
    switch (what.kind) {
      case 'kill':
        return this.kill(what.connections);
      case 'topUp': {
        const reference = randomUUID();
        await step(() =>
          topUp(db, {
            ...this.key(what.user),
            amountMinor: BigInt(what.amount),
            reference,
            correlationId: 'p',
            actor: 'p',
          }),
        );
        this.accepted.topUps.set(`top_up:${reference}`, BigInt(what.amount));
        return;
      }
      case 'order':
        return this.order(what, step);
      case 'payment':
      case 'payout':
        return this.transaction(what, step);
    }
  }

  private async order(
    what: Extract<Action, { kind: 'order' }>,
    step: <T>(run: () => Promise<T>) => Promise<T>,
  ): Promise<void> {
    const id = randomUUID();
    const terms = { ...this.key(what.user), amountMinor: BigInt(what.amount) };
    const order: OrderView = await step(() =>
      createOrder(db, { ...terms, id, description: '', correlationId: 'p' }),
    );
    this.accepted.orders.add(id);
    const pay = () =>
      payOrder(db, {
        orderId: id,
        userId: order.userId,
        amountMinor: String(what.amount),
        currency: CURRENCY,
        correlationId: 'p',
      });
    const provider = what.provider;
    await Promise.all([
      ...Array.from({ length: what.times }, () => step(pay)),
      ...(provider
        ? [orderEventOf(order, provider)].map((event) => step(() => settleOrderEvent(db, event)))
        : []),
    ]);
    const opened = chargebackOf(order.id, 'opened', {
      disputeId: `dp-${id}`,
      amountMinor: String(Math.ceil(what.amount / 2)),
    });
    const after: Promise<unknown>[] = what.refunds.map(async (refunded) => {
      const refundId = randomUUID();
      const input = {
        refundId,
        tenantId: TENANT,
        orderId: id,
        amountMinor: String(refunded),
        reason: null,
        actor: 'p',
        correlationId: 'p',
      };
      const { outcome } = await step(() => refundOrder(db, input));
      if (outcome === 'ok' || outcome === 'duplicate') this.accepted.refunds.set(refundId, BigInt(refunded));
    });
    if (what.dispute) {
      const closed = chargebackOf(order.id, what.dispute, {
        disputeId: `dp-${id}`,
        amountMinor: opened.amountMinor,
      });
      after.push(
        step(() => settleDisputeEvent(db, opened, 60_000)),
        step(() => settleDisputeEvent(db, closed, 60_000)),
      );
    }
    await Promise.all(after);
  }

  private async transaction(
    what: Extract<Action, { kind: 'payment' | 'payout' }>,
    step: <T>(run: () => Promise<T>) => Promise<T>,
  ): Promise<void> {
    const id = randomUUID();
    const payment = await step(() =>
      createPayment(db, {
        ...this.key(what.user),
        id,
        type: what.kind,
        provider: 'decard',
        amountMinor: BigInt(what.amount),
        reserve: what.kind === 'payout' && what.reserve,
        expiresAfterMs: 3_600_000,
        correlationId: 'p',
        actor: 'p',
      }),
    );
    const applied = new Set<string>();
    this.accepted.payments.set(id, applied);
    let previous = `${id}:0`;
    await Promise.all(
      what.events.map(({ status: said, how }, i) => {
        const eventId = how === 'again' || how === 'other body' ? previous : `${id}:${i}`;
        previous = eventId;
        const event = eventOf(payment, said, {
          providerEventId: eventId,
          payloadHash: how === 'other body' ? randomUUID() : `${eventId}:${said}`,
          ...(how === 'other amount' ? { amountMinor: String(what.amount + 1) } : {}),
        });
        return step(async () => {
          const { outcome } = await settleProviderEvent(db, event);
          if (outcome === 'applied') applied.add(eventId);
          if (how === 'other amount' && !['amount_mismatch', 'event_conflict'].includes(outcome))
            throw new RemitError('internal', `an event of another amount was ${outcome}`);
        });
      }),
    );
  }

  private async kill(connections: number): Promise<void> {
    const { rowCount } = await killer.pool.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid() ORDER BY state = 'active' DESC, random() LIMIT $1`,
      [connections],
    );
    done.kills += rowCount ?? 0;
  }

  async settled(): Promise<void> {
    await Promise.all(this.abandoned);
  }
}

/** Runs a plan with several hands at a time. */
async function live(steps: { action: Action; walksAway: boolean }[]): Promise<World> {
  const world = new World();
  for (let i = 0; i < USERS; i++)
    await world.step(false, () => createAccount(db, { ...world.key(i), id: randomUUID() }));
  let next = 0;
  const hand = async () => {
    for (let step = steps[next++]; step; step = steps[next++]) await world.act(step);
  };
  await Promise.all(Array.from({ length: HANDS }, hand));
  await world.settled();
  return world;
}

// ---------------------------------------------------------------------------------------------------- what must hold

async function check({ accepted, users }: World): Promise<void> {
  expect(await inspectLedger(db)).toEqual(SOUND);
  const { checks } = await reconcile(db, { maxFindings: 3, days: 1, timeoutMs: 60_000 });
  expect(checks.filter(({ found }) => found > 0)).toEqual([]);

  // Nothing that was accepted is lost, nothing is there twice.
  const entries = await db.prisma.ledgerEntry.findMany({
    where: { journal: { reference: { in: [...accepted.topUps.keys()] } }, accountId: { not: null } },
    include: { journal: true },
  });
  expect(new Map(entries.map((entry) => [entry.journal.reference, entry.amountMinor]))).toEqual(
    accepted.topUps,
  );
  expect(entries).toHaveLength(accepted.topUps.size);
  const orders = await db.prisma.order.findMany({ where: { id: { in: [...accepted.orders] } } });
  expect(orders).toHaveLength(accepted.orders.size);
  expect(orders.filter((order) => order.status === 'NEW')).toEqual([]);
  const refunds = await db.prisma.refund.findMany({ where: { id: { in: [...accepted.refunds.keys()] } } });
  expect(new Map(refunds.map((refund) => [refund.id, refund.amountMinor]))).toEqual(accepted.refunds);
  for (const [id, applied] of accepted.payments) expect([id, [...applied].slice(1)]).toEqual([id, []]);

  const accounts = await db.prisma.account.findMany({ where: { userId: { in: users } } });
  for (const { balanceMinor, heldMinor } of accounts) {
    expect(balanceMinor).toBeGreaterThanOrEqual(0n);
    expect(heldMinor).toBeLessThanOrEqual(balanceMinor);
  }
}

it(`the ledger holds whatever happens (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(plan, async (steps) => check(await live(steps))),
    // A smaller counterexample of a race is seldom one; the seed finds the plan again.
    { numRuns: RUNS, seed: SEED, endOnFailure: true },
  );
  process.stderr.write(
    `  ${done.operations} operations, ${done.retries} repeated after a lost connection, ${done.kills} connections killed, seed ${SEED}\n`,
  );
  if (process.env['REMIT_PROPERTY_RUNS'] === undefined)
    expect(done.operations).toBeGreaterThanOrEqual(10_000);
}, 86_400_000);
