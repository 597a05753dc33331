import { Client } from 'pg';
import { claimAttempts, recordAttempts, type AttemptRecord } from '../../../src/domain/attempt-records';
import { loadPendingOfEvents } from '../../../src/domain/pending-deliveries';
import { fanOutSteps, recordFirstAttempts } from '../../../src/domain/fan-out';
import type { Database } from '../../../src/platform/postgres';
import { createKeyring } from '../../../src/platform/secrets';
import { createTestSpace, type TestSpace } from '../../support/harness';
import { withDatabase } from '../../support/shared-stack';

/**
 * PostgreSQL keeps a connection's plans until a table is analysed. Here they are made while the tables are empty, as in a new
 * installation, then much comes at once, before any autovacuum.
 */

const EVENTS = 5_000;
/** From the sixth call on a plan is kept. */
const CALLS_UNTIL_KEPT = 7;
const RULES = { failingAttempt: 3, pauseAfterMs: 60_000, throttleBaseMs: 1_000, throttleCapMs: 60_000 };

let space: TestSpace;
/** One connection, and so one set of plans. */
let client: Client;
let db: Pick<Database, 'pool'>;

beforeAll(async () => {
  space = await createTestSpace();
  client = new Client({ connectionString: space.config.DATABASE_URL });
  await client.connect();
  db = { pool: client as unknown as Database['pool'] };
  for (let i = 0; i < CALLS_UNTIL_KEPT; i++) {
    await handOut(['evt_none']);
    await record(['evt_none']);
  }
  await withDatabase(space.ownerUrl, async (owner) => {
    for (const sql of [
      `INSERT INTO subscriptions (id, tenant_id, url, event_types, secret_ciphertext) VALUES ('sub_1', 't', 'https://example.com', '{*}', '\\x00')`,
      `INSERT INTO webhook_events (id, tenant_id, type, body, source, fanned_out_at)
       SELECT 'evt_' || i, 't', 'a.b', '{"type":"a.b","timestamp":"2026-01-01T00:00:00Z","data":{"n":1}}', 'api', NULL
         FROM generate_series(1, ${EVENTS}) AS i`,
      `INSERT INTO deliveries (tenant_id, event_id, subscription_id, event_type)
       SELECT 't', 'evt_' || i, 'sub_1', 'a.b' FROM generate_series(11, ${EVENTS}) AS i`,
    ])
      await owner.query(sql);
  });
}, 120_000);
afterAll(() => client?.end());

/** What a worker asks the database on the way of events that go well, and of those whose deliveries were written with them. */
async function handOut(eventIds: string[]): Promise<string[]> {
  const keyring = createKeyring(space.config);
  const steps = await fanOutSteps(db, keyring, { eventIds, after: '', limit: 100 });
  const fresh = [...steps.values()].flatMap((step) => step.fresh);
  const asRead = fresh.map(({ delivery }) => ({ ...delivery, isStored: false }));
  expect(await claimAttempts(db, asRead)).toEqual(asRead.map(() => true));
  const at = new Date();
  const deliveries = fresh.map((pending) => ({
    ...{ pending, laneAfterMs: null },
    attempt: delivered(pending.delivery.id, at),
  }));
  expect(await recordFirstAttempts(db, deliveries, eventIds)).toEqual(new Map());
  return fresh.map(({ delivery }) => delivery.id);
}

async function record(eventIds: string[]): Promise<void> {
  const pending = await loadPendingOfEvents(db, createKeyring(space.config), {
    eventIds,
    after: '',
    limit: 100,
  });
  const at = new Date();
  const made = pending.map(({ delivery }) => ({ at, record: delivered(delivery.id, at) }));
  await recordAttempts(db, made, RULES);
}

function delivered(deliveryId: string, startedAt: Date): AttemptRecord {
  return {
    ...{
      deliveryId,
      attempt: 1,
      startedAt,
      durationMs: 5,
      result: 'delivered',
      statusCode: 204,
      error: null,
    },
    ...{ responseBody: '', url: 'https://example.com', requestHeaders: {}, responseHeaders: {} },
    ...{ status: 'delivered', gone: false, slowDown: false, retryAfterMs: null, nextAttemptAt: null },
    correlationId: 'c',
  };
}

interface Read {
  relname: string;
  /** Times that the table was gone through from its beginning. */
  whole: number;
  /** Rows that were fetched by way of an index. */
  fetched: number;
}

async function readBy(run: () => Promise<unknown>): Promise<Read[]> {
  await client.query('BEGIN');
  try {
    await run();
    const { rows } = await client.query<Read>(
      `SELECT relname, seq_scan::int AS whole, coalesce(idx_tup_fetch, 0)::int AS fetched FROM pg_stat_xact_user_tables
        WHERE relname IN ('webhook_events', 'deliveries', 'delivery_attempts') ORDER BY relname`,
    );
    return rows;
  } finally {
    await client.query('COMMIT');
  }
}

describe('a connection that planned while the tables were empty', () => {
  it('hands out events and records their attempts by key, however much is pending beside them', async () => {
    const eventIds = Array.from({ length: 10 }, (_, i) => `evt_${i + 1}`);
    let ids: string[] = [];
    const handedOut = await readBy(async () => (ids = await handOut(eventIds)));
    expect(ids).toHaveLength(10);
    const written = Array.from({ length: 10 }, (_, i) => `evt_${i + 11}`);
    const recorded = await readBy(() => record(written));
    for (const { relname, whole, fetched } of [...handedOut, ...recorded]) {
      expect([relname, whole]).toEqual([relname, 0]);
      // Ten events and their deliveries, a few times over.
      expect([relname, fetched, fetched <= 100]).toEqual([relname, fetched, true]);
    }
    const { rows } = await client.query<{ status: string; n: number }>(
      `SELECT status, count(*)::int AS n FROM deliveries WHERE event_id = ANY($1) GROUP BY 1`,
      [[...eventIds, ...written]],
    );
    expect(rows).toEqual([{ status: 'delivered', n: 20 }]);
  });
});
