import { setTimeout as sleep } from 'node:timers/promises';
import type { KafkaMessage } from 'kafkajs';
import { OutboxPublisher, type OutboxRow } from '../../../src/bridges/outbox-publisher';
import { OutboxRelay, type RelayOptions } from '../../../src/bridges/relay';
import { RELAY_LOCK } from '../../../src/bridges/relay-turn';
import { createKafka, ensureTopics } from '../../../src/platform/kafka';
import { registry } from '../../../src/platform/metrics';
import type { Database } from '../../../src/platform/postgres';
import { allTopics } from '../../../src/platform/topics';
import { createTestSpace, eventually, openTestDatabase, type TestSpace } from '../../support/harness';
import { FrozenRelay } from './frozen-relay';
import { StreamBench } from './streams';

const opened: { relays: OutboxRelay[]; databases: Database[] } = { relays: [], databases: [] };
let bench: StreamBench;
beforeAll(async () => {
  bench = await StreamBench.open();
});
afterEach(async () => {
  await Promise.all(opened.relays.splice(0).map((relay) => relay.stop()));
  await Promise.all(opened.databases.splice(0).map((database) => database.close()));
});
afterAll(() => bench.close());

/** A database and topics of the test's own, and relays on them. */
async function setUp(env: Record<string, string> = {}) {
  const space: TestSpace = await createTestSpace({
    topics: true,
    env: { RELAY_RETRY_BASE_MS: '20', RELAY_RETRY_CAP_MS: '100', ...env },
  });
  const database = openTestDatabase(space);
  opened.databases.push(database);
  const { config, log } = space;
  const { pool } = database;
  const kafka = createKafka(config, log);
  let inserted = 0;
  return {
    config,
    env: space.env,
    pool,
    kafka,
    relay: (options: Partial<RelayOptions> = {}) => {
      const relay = new OutboxRelay({ pool, kafka, config, log, ...options });
      opened.relays.push(relay);
      return relay;
    },
    /** Rows whose values count up from 0 through all inserts; keys are k0, k1, … in turn. */
    insert: (count: number, keys: number, topic = 'payment-request') =>
      pool.query(
        `INSERT INTO outbox (topic, key, value, headers)
         SELECT $3, 'k' || n % $2, ($4::int + n)::text, '{"remit-correlation-id": "c"}'
           FROM generate_series(0, $1 - 1) AS n`,
        [count, keys, topic, (inserted += count) - count],
      ),
    left: async () => {
      const { rows } = await pool.query<{ n: number }>('SELECT count(*)::int AS n FROM outbox');
      return rows[0]!.n;
    },
  };
}

/** The values of each key, in the order of the topic. */
function byKey(messages: readonly KafkaMessage[]): Map<string, number[]> {
  const result = new Map<string, number[]>();
  for (const { key, value } of messages)
    result.set(String(key), [...(result.get(String(key)) ?? []), Number(value)]);
  return result;
}

const ascending = (values: readonly number[]) => [...values].sort((a, b) => a - b);
const firsts = (values: readonly number[]) => [...new Set(values)];

describe('the relay', () => {
  it('publishes each row with its key, value and headers, in the order of each key', async () => {
    const { relay, insert, left, config } = await setUp();
    await insert(2_000, 25);
    relay().start();
    const messages = await bench.read(config.TOPIC_PAYMENT_REQUEST, 2_000);
    for (const values of byKey(messages).values()) expect(values).toEqual(ascending(values));
    expect(messages[0]?.headers?.['remit-correlation-id']?.toString()).toBe('c');
    await eventually(async () => expect(await left()).toBe(0));
  });

  it('knows every topic that the outbox names', async () => {
    const { relay, insert, config } = await setUp();
    for (const topic of ['payment-request', 'payment-status', 'domain.events', 'events'])
      await insert(1, 1, topic);
    relay().start();
    for (const topic of [
      config.TOPIC_PAYMENT_REQUEST,
      config.TOPIC_PAYMENT_STATUS,
      config.TOPIC_DOMAIN_EVENTS,
      config.TOPIC_EVENTS,
    ])
      expect(await bench.read(topic, 1)).toHaveLength(1);
  });

  it('picks up rows that come one by one, each on its own', async () => {
    const { relay, insert, left } = await setUp();
    relay().start();
    for (let round = 0; round < 10; round += 1) {
      await insert(1, 1);
      await eventually(async () => expect(await left()).toBe(0));
    }
  });

  it('publishes nothing of a transaction that was rolled back', async () => {
    const { relay, pool, insert, config, left } = await setUp();
    relay().start();
    const client = await pool.connect();
    await client.query('BEGIN');
    await client.query(`INSERT INTO outbox (topic, key, value) VALUES ('payment-request', 'x', '999')`);
    await insert(1, 1);
    await eventually(async () => expect(await left()).toBe(0));
    await client.query('ROLLBACK');
    client.release();
    await insert(1, 1);
    expect(
      (await bench.read(config.TOPIC_PAYMENT_REQUEST, 2)).map(({ value }) => String(value)).sort(),
    ).toEqual(['0', '1']);
  });
});

describe('a crash between publishing and commit', () => {
  it('repeats the round and loses nothing', async () => {
    const { relay, insert, left, config, kafka } = await setUp({ RELAY_BATCH_ROWS: '50' });
    const publisher = new OutboxPublisher(kafka, config);
    let crashes = 3;
    const crashing = relay({
      publisher: {
        publish: async (rows: readonly OutboxRow[]) => {
          const refused = await publisher.publish(rows);
          if ((crashes -= 1) >= 0) throw new Error('the process ended here');
          return refused;
        },
        stop: () => publisher.stop(),
      },
    });
    await insert(200, 7);
    crashing.start();
    await eventually(async () => expect(await left()).toBe(0));
    const messages = await bench.read(config.TOPIC_PAYMENT_REQUEST, 200);
    expect(new Set(messages.map(({ value }) => String(value))).size).toBe(200);
    for (const values of byKey(messages).values()) expect(firsts(values)).toEqual(ascending(firsts(values)));
  });

  it('leaves the lock to the next relay when the database ends the turn of one that hangs', async () => {
    const { relay, insert, left, config } = await setUp({
      ...{ RELAY_TURN_TIMEOUT_MS: '1000', RELAY_ROUND_MAX_MS: '1000' },
    });
    let release = () => {};
    const hung = relay({
      publisher: {
        publish: () => new Promise((resolve) => (release = () => resolve([]))),
        stop: () => Promise.resolve(),
      },
    });
    await insert(10, 10);
    hung.start();
    await sleep(200);
    relay().start();
    expect(await bench.read(config.TOPIC_PAYMENT_REQUEST, 10)).toHaveLength(10);
    await eventually(async () => expect(await left()).toBe(0));
    release();
  });
});

describe('a relay process that is frozen in a round', () => {
  const frozen: FrozenRelay[] = [];
  afterEach(async () => {
    await Promise.all(frozen.splice(0).map((each) => each.end()));
  });

  it.each([
    ['before it publishes', 'publishing', /has lost its turn/, 40],
    // What it had published is published by the next as well.
    ['after it has published', 'published', /./, 60],
    ['while PostgreSQL answers', 'reading', /./, 40],
  ] as const)(
    '%s loses its turn to the next, and publishes nothing more of that round when it wakes',
    async (_, where, why, published) => {
      const { relay, insert, left, pool, config, env } = await setUp();
      await insert(20, 4);
      // More than the connection takes: the server stands still in the middle of its answer.
      if (where === 'reading')
        await pool.query(
          `INSERT INTO outbox (topic, key, value)
           SELECT 'domain.events', 'large', repeat('x', 600000) FROM generate_series(1, 24)`,
        );
      const hung = await FrozenRelay.start(env, where);
      frozen.push(hung);
      await eventually(async () => {
        const { rows } = await pool.query<{ wait_event: string }>(
          `SELECT wait_event FROM pg_stat_activity JOIN pg_locks USING (pid)
            WHERE datname = current_database() AND locktype = 'advisory'`,
        );
        expect(rows).toEqual([{ wait_event: where === 'reading' ? 'ClientWrite' : 'ClientRead' }]);
      });

      relay().start();
      await eventually(async () => expect(await left()).toBe(0));
      await insert(20, 4);
      await eventually(async () => expect(await left()).toBe(0));
      expect(await hung.wake()).toMatch(why);
      expect(await bench.count(config.TOPIC_PAYMENT_REQUEST)).toBe(published);
      const messages = await bench.read(config.TOPIC_PAYMENT_REQUEST, 40);
      for (const values of byKey(messages).values())
        expect(firsts(values)).toEqual(ascending(firsts(values)));

      // And it takes part again.
      await Promise.all(opened.relays.splice(0).map((other) => other.stop()));
      await insert(4, 4);
      hung.goOn();
      await eventually(async () => expect(await left()).toBe(0));
    },
  );
});

it('a relay that waits for brokers keeps its turn for as long as it is heard of', async () => {
  const { relay, insert, left, config, kafka } = await setUp({ RELAY_TURN_TIMEOUT_MS: '2000' });
  const publisher = new OutboxPublisher(kafka, config);
  let calls = 0;
  const slow = () =>
    relay({
      publisher: {
        publish: async (rows, assertTurn) => {
          calls += 1;
          await sleep(4_000);
          return publisher.publish(rows, assertTurn);
        },
        stop: () => publisher.stop(),
      },
    });
  await insert(10, 10);
  slow().start();
  slow().start();
  await eventually(async () => expect(await left()).toBe(0));
  expect(calls).toBe(1);
});

describe('two relays', () => {
  it('never publish at the same time, and keep the order of each key', async () => {
    const { relay, insert, left, config, kafka } = await setUp({ RELAY_BATCH_ROWS: '100' });
    let publishing = 0;
    let most = 0;
    const rounds = [0, 0];
    const watched = (index: number) => {
      const publisher = new OutboxPublisher(kafka, config);
      return relay({
        publisher: {
          publish: async (rows: readonly OutboxRow[]) => {
            most = Math.max(most, (publishing += 1));
            rounds[index]! += 1;
            try {
              return await publisher.publish(rows);
            } finally {
              publishing -= 1;
            }
          },
          stop: () => publisher.stop(),
        },
      });
    };
    watched(0).start();
    watched(1).start();
    for (let batch = 0; batch < 20; batch += 1) {
      await insert(100, 10);
      await sleep(60);
    }
    await eventually(async () => expect(await left()).toBe(0));
    expect(most).toBe(1);
    const messages = await bench.read(config.TOPIC_PAYMENT_REQUEST, 2_000);
    for (const values of byKey(messages).values()) {
      expect(values).toEqual(ascending(values));
    }
  });

  it('take over from each other when one dies', async () => {
    const { relay, insert, left, pool } = await setUp();
    const client = await pool.connect();
    await client.query(`BEGIN; SELECT pg_advisory_xact_lock(${RELAY_LOCK})`);
    await insert(10, 10);
    relay().start();
    await sleep(300);
    expect(await left()).toBe(10);
    client.release(true); // the connection of the dead one
    await eventually(async () => expect(await left()).toBe(0));
  });
});

describe('rows that Kafka will never take', () => {
  it('are moved aside with the reason, and the others go out', async () => {
    const { relay, insert, left, pool, config } = await setUp();
    await insert(3, 3);
    await pool.query(`INSERT INTO outbox (topic, key, value) VALUES ('no-such-topic', 'a', 'x')`);
    await pool.query(
      `INSERT INTO outbox (topic, key, value) VALUES ('payment-request', 'b', repeat('x', 3000000))`,
    );
    await insert(3, 3);
    relay().start();
    expect(await bench.read(config.TOPIC_PAYMENT_REQUEST, 6)).toHaveLength(6);
    await eventually(async () => expect(await left()).toBe(0));
    const { rows } = await pool.query<{ key: string; reason: string; length: number }>(
      'SELECT key, reason, length(value) FROM outbox_refused ORDER BY id',
    );
    expect(rows).toEqual([
      { key: 'a', reason: 'no topic is known as no-such-topic', length: 1 },
      { key: 'b', reason: expect.stringContaining('MESSAGE_TOO_LARGE') as string, length: 3_000_000 },
    ]);
    await relay().measure();
    expect(await registry.metrics()).toContain('remit_outbox_refused_rows 2');

    // What docs/operations.md tells an operator to do.
    await pool.query(`UPDATE outbox_refused SET topic = 'payment-request' WHERE key = 'a'`);
    await pool.query(
      `WITH back AS (DELETE FROM outbox_refused WHERE key = 'a' RETURNING topic, key, value, headers)
       INSERT INTO outbox (topic, key, value, headers) SELECT * FROM back`,
    );
    await eventually(async () => expect(await left()).toBe(0));
    await relay().measure();
    expect(await registry.metrics()).toContain('remit_outbox_refused_rows 1');
  });

  it('are not the many that are too large together: a round is limited in bytes', async () => {
    const { relay, pool, left } = await setUp();
    await pool.query(
      `INSERT INTO outbox (topic, key, value) SELECT 'payment-request', 'k', repeat('x', 100000) FROM generate_series(1, 40)`,
    );
    relay().start();
    await eventually(async () => expect(await left()).toBe(0));
    expect((await pool.query('SELECT 1 FROM outbox_refused')).rowCount).toBe(0);
  });
});

describe('while a server is away', () => {
  it('keeps the rows, says in its readiness what is wrong, and goes on when the server is back', async () => {
    const { relay, insert, left, config, kafka } = await setUp();
    const publisher = new OutboxPublisher(kafka, config);
    let outage = true;
    const unlucky = relay({
      publisher: {
        publish: (rows: readonly OutboxRow[]) =>
          outage ? Promise.reject(new Error('brokers are away')) : publisher.publish(rows),
        stop: () => publisher.stop(),
      },
    });
    await insert(10, 10);
    unlucky.start();
    await eventually(() => expect(unlucky.check()).rejects.toThrow('brokers are away'));
    expect(await left()).toBe(10);
    outage = false;
    await eventually(async () => expect(await left()).toBe(0));
    await unlucky.check();
  });

  it('survives that its database connections are cut', async () => {
    const { relay, insert, left, pool } = await setUp();
    relay().start();
    for (let cut = 0; cut < 5; cut += 1) {
      await insert(100, 10);
      await pool.query(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND usename = current_user',
      );
    }
    await eventually(async () => expect(await left()).toBe(0));
  });

  it('waits for a topic that has not been created yet', async () => {
    const { pool, kafka } = await setUp();
    const space = await createTestSpace();
    const config = { ...space.config, RELAY_RETRY_CAP_MS: 200 };
    const relay = new OutboxRelay({ pool, kafka, config, log: space.log });
    opened.relays.push(relay);
    await pool.query(`INSERT INTO outbox (topic, key, value) VALUES ('payment-request', 'a', '1')`);
    relay.start();
    await eventually(() => expect(relay.check()).rejects.toThrow());
    await ensureTopics(kafka, allTopics(config), config);
    expect(await bench.read(config.TOPIC_PAYMENT_REQUEST, 1)).toHaveLength(1);
  });
});

it('tells how much waits and since when', async () => {
  const { relay, pool, insert } = await setUp();
  await insert(5, 5);
  await pool.query(`UPDATE outbox SET created_at = now() - interval '1 minute'`);
  await relay().measure();
  const text = await registry.metrics();
  expect(text).toContain('remit_outbox_pending_rows 5');
  expect(text).toMatch(/remit_outbox_oldest_seconds 6\d/);
});

it('empties a backlog of 20,000 rows', async () => {
  const { relay, insert, left } = await setUp();
  await insert(20_000, 1_000, 'domain.events');
  relay().start();
  await eventually(async () => expect(await left()).toBe(0));
});
