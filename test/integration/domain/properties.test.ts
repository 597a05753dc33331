import fc from 'fast-check';
import { reconcile } from '../../../src/domain/reconciliation';
import type { Order } from '../../../src/generated/prisma/client';
import type { Database } from '../../../src/platform/postgres';
import { createTestSpace, openOwnerDatabase, openTestDatabase } from '../../support/harness';
import { inspectLedger, SOUND } from '../../support/money';
import { noteResult } from '../../support/nightly';
import { plan } from './ledger-plans';
import { newTally, World } from './ledger-world';

/**
 * Random lives of a few accounts on a real PostgreSQL. Each plan is worked on by many hands at a time; steps are
 * repeated, reordered and contradicted, callers walk away and come back, and connections are killed between any two
 * steps. REMIT_PROPERTY_RUNS sets how many plans (of 60 actions each), REMIT_PROPERTY_SEED repeats a run.
 */
const RUNS = Number(process.env['REMIT_PROPERTY_RUNS'] ?? 24);
const SEED = Number(process.env['REMIT_PROPERTY_SEED'] ?? Date.now() % 2_147_483_647);
/** Every one of these must have been drawn often. */
const OPERATIONS = [
  'settle_provider_event',
  'pay_order',
  'expire_order',
  'settle_order_event',
  'refund_order',
  'settle_dispute_event',
  'expire_dispute',
  'submit_evidence',
];

let db: Database;
let killer: Database;
const tally = newTally();
beforeAll(async () => {
  const space = await createTestSpace();
  db = openTestDatabase(space);
  killer = openOwnerDatabase({ ...space, config: { ...space.config, DATABASE_POOL_CONNECTIONS: 1 } });
});
afterAll(async () => {
  await Promise.all([db.close(), killer.close()]);
});

async function check(world: World): Promise<void> {
  expect(await inspectLedger(db)).toEqual(SOUND);
  const { checks } = await reconcile(db, { maxFindings: 3, days: 1, timeoutMs: 60_000 });
  expect(checks.filter(({ found }) => found > 0)).toEqual([]);
  await checkEvents(world);
  await checkStatuses(world);
  await checkBalances(world);
}

/** Every event that was taken in is there with the body that was, and no other; none was applied twice. */
async function checkEvents(world: World): Promise<void> {
  const orderIds = [...world.orders];
  const rows = await db.prisma.providerEvent.findMany({
    where: { transactionId: { in: [...orderIds, ...world.payments] } },
  });
  const stored = rows.map((row) => [`${row.provider} ${row.providerEventId}`, [row.payloadHash]] as const);
  expect(Object.fromEntries(stored)).toEqual(
    Object.fromEntries([...world.events].map(([id, hashes]) => [id, [...hashes]])),
  );
  expect([...world.applied].filter(([, times]) => times > 1)).toEqual([]);

  const refunds = await db.prisma.refund.findMany({ where: { orderId: { in: orderIds } } });
  expect(new Set(refunds.map(({ id }) => id))).toEqual(new Set(world.refunds.keys()));
  for (const { id, amountMinor } of refunds) expect(world.refunds.get(id) ?? amountMinor).toBe(amountMinor);

  const evidence = await db.prisma.disputeEvidence.findMany({
    where: { disputeId: { in: [...world.disputes] } },
  });
  expect(new Map(evidence.map(({ disputeId, hash }) => [disputeId, new Set([hash])]))).toEqual(
    world.evidence,
  );

  const entries = await db.prisma.ledgerEntry.findMany({
    where: { journal: { reference: { in: [...world.topUps.keys()] } }, accountId: { not: null } },
    include: { journal: true },
  });
  expect(entries).toHaveLength(world.topUps.size);
  for (const { journal, amountMinor } of entries)
    expect(amountMinor).toBe(world.topUps.get(journal.reference)?.amountMinor);
}

/** Whatever was accepted is there, and no answer has ever shown another end than the one it has. */
async function checkStatuses({ orders, payments, disputes, seen }: World): Promise<void> {
  const found = [
    ...(await db.prisma.order.findMany({ where: { id: { in: [...orders] } } })),
    ...(await db.prisma.payment.findMany({ where: { id: { in: [...payments] } } })),
    ...(await db.prisma.dispute.findMany({ where: { id: { in: [...disputes] } } })),
  ];
  const status = new Map(found.map((row) => [row.id, row.status]));
  for (const id of [...orders, ...payments]) expect([id, status.get(id)]).toEqual([id, expect.any(String)]);
  for (const [id, shown] of seen) {
    const ends = new Set([...shown].filter((each) => !/^(NEW|pending|opened|under_review)$/.test(each)));
    const end = status.get(id);
    if (end === 'CHARGED_BACK') ends.delete('FINISHED');
    expect([id, [...ends]]).toEqual([id, ends.size === 0 ? [] : [end]]);
  }
}

/**
 * Disputes take from a user no more than a provider had collected for the order, and nothing of an order's revenue when
 * that money covers them, whichever was heard first.
 */
function checkDisputed(
  { id, amountMinor, collectedAs, disputedMinor, chargedBackMinor }: Order,
  takenMinor: bigint,
): void {
  const brought = collectedAs === 'account' ? amountMinor : 0n;
  expect([id, takenMinor > brought]).toEqual([id, false]);
  if (collectedAs === 'account') expect([id, disputedMinor, chargedBackMinor]).toEqual([id, 0n, 0n]);
}

/** Every balance is what the accepted top-ups, and the ends of payments, orders, refunds and disputes, make it. */
async function checkBalances({ users, topUps }: World): Promise<void> {
  const own = { where: { userId: { in: users } } };
  const [accounts, payments, orders, disputes] = [
    await db.prisma.account.findMany(own),
    await db.prisma.payment.findMany({ where: { ...own.where, status: 'succeeded' } }),
    await db.prisma.order.findMany(own),
    await db.prisma.dispute.findMany({ where: { ...own.where, accountId: { not: null } } }),
  ];
  const paid = await db.prisma.paymentAttempt.findMany({
    where: { orderId: { in: orders.map(({ id }) => id) }, status: 'succeeded', method: 'balance' },
  });
  const byBalance = new Set(paid.map(({ orderId }) => orderId));
  const expected = new Map(users.map((user) => [user, 0n]));
  const book = (user: string, minor: bigint) => expected.set(user, (expected.get(user) ?? 0n) + minor);

  for (const { user, amountMinor } of topUps.values()) book(user, amountMinor);
  for (const { userId, type, amountMinor } of payments)
    book(userId, type === 'payment' ? amountMinor : -amountMinor);
  for (const { id, userId, amountMinor, refundedMinor, collectedAs } of orders) {
    if (byBalance.has(id)) book(userId, -amountMinor);
    if (collectedAs === 'account') book(userId, amountMinor);
    book(userId, refundedMinor);
  }
  const taken = new Map<string, bigint>();
  for (const { userId, orderId, coveredMinor, status } of disputes) {
    if (status === 'won') continue;
    book(userId, -coveredMinor);
    taken.set(orderId, (taken.get(orderId) ?? 0n) + coveredMinor);
  }
  for (const order of orders) checkDisputed(order, taken.get(order.id) ?? 0n);

  expect(new Map(accounts.map(({ userId, balanceMinor }) => [userId, balanceMinor]))).toEqual(expected);
  for (const { balanceMinor, heldMinor } of accounts) {
    expect(heldMinor).toBeGreaterThanOrEqual(0n);
    expect(heldMinor).toBeLessThanOrEqual(balanceMinor);
  }
}

it(`the ledger holds whatever happens (seed ${SEED})`, async () => {
  await fc.assert(
    fc.asyncProperty(plan, async (steps) => {
      const world = new World(db, killer, tally);
      await world.live(steps);
      await check(world);
    }),
    // A smaller counterexample of a race is seldom one; the seed finds the plan again.
    { numRuns: RUNS, seed: SEED, endOnFailure: true },
  );
  const outcomes = [...tally.outcomes].sort().map(([outcome, times]) => `    ${outcome}: ${times}\n`);
  noteResult(
    `${tally.operations} operations, ${tally.retries} repeated after a lost connection, ${tally.kills} connections killed, seed ${SEED}`,
  );
  process.stderr.write(outcomes.join(''));
  if (process.env['REMIT_PROPERTY_RUNS'] !== undefined) return;
  expect(tally.operations).toBeGreaterThanOrEqual(10_000);
  for (const operation of OPERATIONS) {
    const times = [...tally.outcomes].reduce(
      (sum, [key, n]) => sum + (key.startsWith(`${operation} `) ? n : 0),
      0,
    );
    expect([operation, times > 50]).toEqual([operation, true]);
  }
}, 86_400_000);
