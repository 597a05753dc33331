import { randomUUID } from 'node:crypto';
import { createAccount, getAccount, topUp } from '../../../src/domain/accounts';
import { createOrder, payOrder } from '../../../src/domain/orders';
import type { Database } from '../../../src/platform/postgres';
import { createTestSpace, openTestDatabase, type TestSpace } from '../../support/harness';
import {
  CURRENCY,
  eventOf,
  inspectLedger,
  newTransaction,
  settle,
  SOUND,
  TENANT,
  userWith,
} from '../../support/money';
import { settleProviderEvent } from '../../../src/domain/payments';

const CALLERS = 64;
let space: TestSpace;
let db: Database;
/** As in another process: pools and lanes of its own. */
let other: Database;
beforeAll(async () => {
  space = await createTestSpace();
  db = openTestDatabase(space);
  other = openTestDatabase(space);
});
afterAll(async () => {
  expect(await inspectLedger(db)).toEqual(SOUND);
  await Promise.all([db.close(), other.close()]);
});

/** Each caller works through its share one by one; returns how many milliseconds each call took, by caller. */
async function callers(
  each: number,
  run: (caller: number, turn: number) => Promise<unknown>,
): Promise<number[][]> {
  return Promise.all(
    Array.from({ length: CALLERS }, async (_, caller) => {
      const took: number[] = [];
      for (let turn = 0; turn < each; turn++) {
        const startedAt = performance.now();
        await run(caller, turn);
        took.push(performance.now() - startedAt);
      }
      return took;
    }),
  );
}

const key = (userId: string) => ({ tenantId: TENANT, userId, currency: CURRENCY });
const book = (on: Database, userId: string, amountMinor: bigint) =>
  topUp(on, { ...key(userId), amountMinor, correlationId: 'test', actor: 'test' });

async function orderAndPay(on: Database, userId: string, amountMinor: bigint) {
  const order = await createOrder(on, {
    ...key(userId),
    amountMinor,
    description: '',
    correlationId: 'test',
  });
  return payOrder(on, {
    orderId: order.id,
    userId,
    amountMinor: String(amountMinor),
    currency: CURRENCY,
    correlationId: 'test',
  });
}

describe(`${CALLERS} callers`, () => {
  it('on one account, from two processes: no update is lost, no conflict surfaces, nobody starves', async () => {
    const userId = await userWith(db, 1_000_000n);
    const each = 10;
    const took = await callers(each, async (caller, turn) => {
      const on = caller % 2 === 0 ? db : other;
      if (turn % 2 === 0) await book(on, userId, 3n);
      else
        expect(await orderAndPay(on, userId, 1n)).toMatchObject({ outcome: 'applied', status: 'FINISHED' });
    });
    expect(await getAccount(db, key(userId))).toMatchObject({
      balanceMinor: 1_000_000n + BigInt((CALLERS * each) / 2) * 2n,
      version: 1n + BigInt(CALLERS * each),
    });
    // First come, first served: the unluckiest caller is not far behind the luckiest.
    const totals = took.map((times) => times.reduce((sum, time) => sum + time, 0));
    expect(Math.max(...totals)).toBeLessThan(5 * Math.min(...totals) + 1_000);
  });

  it('on 1,000 accounts: every movement is there', async () => {
    const users = Array.from({ length: 1_000 }, () => `user-${randomUUID()}`);
    await db.prisma.account.createMany({ data: users.map((userId) => key(userId)) });
    const each = 40;
    const expected = new Map<string, bigint>();
    await callers(each, async (caller, turn) => {
      const userId = users[(caller * each + turn) % users.length]!;
      const amount = BigInt(1 + ((caller + turn) % 9));
      await book(caller % 2 === 0 ? db : other, userId, amount);
      expected.set(userId, (expected.get(userId) ?? 0n) + amount);
    });
    const accounts = await db.prisma.account.findMany({ where: { userId: { in: users } } });
    for (const { userId, balanceMinor } of accounts) expect(balanceMinor).toBe(expected.get(userId) ?? 0n);
    expect(expected.size).toBeGreaterThan(500);
  });

  it('settling payments of one account at once: each is credited once', async () => {
    const userId = await userWith(db);
    const payments = await Promise.all(
      Array.from({ length: CALLERS }, () => newTransaction(db, userId, 'payment', 7n)),
    );
    const results = await Promise.all(
      payments.flatMap((payment) => [
        settle(db, payment, 'success'),
        settleProviderEvent(other, eventOf(payment, 'success')),
      ]),
    );
    expect(results.filter(({ outcome }) => outcome === 'applied')).toHaveLength(CALLERS);
    expect(results.filter(({ outcome }) => outcome === 'duplicate')).toHaveLength(CALLERS);
    expect((await getAccount(db, key(userId))).balanceMinor).toBe(7n * BigInt(CALLERS));
  });
});

describe('a movement that is a defect', () => {
  it('fails alone, and those that shared its turn are booked', async () => {
    const userId = await userWith(db);
    await createAccount(db, { ...key(userId), currency: 'EUR' });
    const results = await Promise.allSettled(
      Array.from({ length: 20 }, (_, i) => book(db, userId, i === 10 ? 10n ** 30n : 1n)),
    );
    expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(1);
    expect((await getAccount(db, key(userId))).balanceMinor).toBe(19n);
  });

  it('is refused at once when too many wait for the account already', async () => {
    const userId = await userWith(db);
    const narrow = openTestDatabase({ ...space, config: { ...space.config, MONEY_QUEUE_CALLS: 5 } });
    const results = await Promise.allSettled(Array.from({ length: 20 }, () => book(narrow, userId, 1n)));
    const refused = results.filter(({ status }) => status === 'rejected');
    expect(refused.length).toBeGreaterThan(0);
    expect((await getAccount(db, key(userId))).balanceMinor).toBe(BigInt(20 - refused.length));
    await narrow.close();
  });
});
