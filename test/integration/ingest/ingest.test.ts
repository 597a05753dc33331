import { randomUUID } from 'node:crypto';
import { createKafka } from '../../../src/platform/kafka';
import { readiness } from '../../../src/platform/ops-server';
import { registry } from '../../../src/platform/metrics';
import { eventually, runRoles } from '../../support/harness';
import { startIngest } from '../../../src/roles/ingest';
import { sharedStack } from '../../support/shared-stack';
import { Gate } from './gate';
import {
  count,
  createIngestSpace,
  goodPurchase,
  produce,
  readAll,
  rows,
  startIngestRole,
  untilCommitted,
  PURCHASES_GROUP as GROUP,
} from './support';

const text = (value: unknown) => JSON.stringify(value);

const POISON: [string, string | Buffer | null, string][] = [
  ['no JSON', 'nope', 'invalid_json'],
  ['no value', null, 'invalid_json'],
  ['empty', '', 'invalid_json'],
  ['an array', text([goodPurchase()]), 'invalid_json'],
  ['two objects', text(goodPurchase()) + text(goodPurchase()), 'invalid_json'],
  ['two lines', `${text(goodPurchase())}\n${text(goodPurchase())}`, 'invalid_json'],
  ['an unclosed string', '{"id":"abc}', 'invalid_json'],
  ['bytes that are not UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x7d]), 'invalid_json'],
  ['a wrong type', text(goodPurchase({ userId: 7 })), 'invalid_message'],
  ['a null', text(goodPurchase({ userId: null })), 'invalid_message'],
  ['an unknown field', text(goodPurchase({ discount: '1' })), 'invalid_message'],
  ['an unknown currency', text(goodPurchase({ currency: 'QQQ' })), 'invalid_message'],
  ['an overflowing amount', text(goodPurchase({ amount: '9'.repeat(30) })), 'amount_invalid'],
  ['a number too large for a double', text(goodPurchase()).replace('"129.90"', '1e400'), 'amount_invalid'],
  ['an impossible day', text(goodPurchase({ createdAt: '2026-02-30T00:00:00.000Z' })), 'invalid_message'],
  ['too large', text(goodPurchase({ userId: 'x'.repeat(300_000) })), 'message_too_large'],
];

describe('remit ingest', () => {
  it('stores what is right and dead-letters what is not, each alone, with its bytes, headers and reason', async () => {
    const space = await createIngestSpace();
    const good = Array.from({ length: 2_000 }, (_, i) =>
      goodPurchase({ userId: `user-${i}`, amount: i % 2 ? `${i + 1}.50` : i + 1 }),
    );
    const odd = [goodPurchase({ userId: 'Ünal "the\nBuyer"', productId: '}{' })];
    const poison = POISON.map(([name, value]) => ({ key: name, value, headers: { trace: `t-${name}` } }));
    const messages = [...good, ...odd].map((each) => ({ key: String(each['id']), value: text(each) }));
    // Each bad one between good ones.
    await produce(space, space.config.TOPIC_PURCHASES, [
      ...messages.slice(0, 1_000),
      ...poison.flatMap((bad, i) => [bad, messages[1_000 + i]!]),
      ...messages.slice(1_000 + poison.length),
    ]);
    const role = await startIngestRole(space);
    try {
      await untilCommitted(space);
      const stored = await rows<{ id: string; userId: string; amount: string }>(
        space,
        'SELECT id, userId, toString(amount) AS amount FROM purchases ORDER BY toString(id)',
      );
      const expected = [...good, ...odd].map((each) => ({
        id: each['id'] as string,
        userId: each['userId'] as string,
        amount: String(Number(each['amount'])),
      }));
      expect(stored).toEqual(expected.sort((a, b) => (a.id < b.id ? -1 : 1)));

      expect(await rows(space, 'SELECT DISTINCT kafkaTopic FROM purchases')).toEqual([
        { kafkaTopic: space.config.TOPIC_PURCHASES },
      ]);

      const dead = await readAll(space, space.config.TOPIC_PURCHASES_DLQ, POISON.length);
      const found = dead.map(({ key, value, headers }) => ({
        name: key?.toString(),
        value: value?.toString('latin1') ?? null,
        trace: headers?.['trace']?.toString(),
        code: headers?.['remit-error-code']?.toString(),
        topic: headers?.['remit-source-topic']?.toString(),
      }));
      expect(new Set(found)).toEqual(
        new Set(
          POISON.map(([name, value, code]) => ({
            name,
            value: value === null ? null : Buffer.from(value).toString('latin1'),
            trace: `t-${name}`,
            code,
            topic: space.config.TOPIC_PURCHASES,
          })),
        ),
      );
      for (const { headers } of dead) {
        expect(headers?.['remit-error-message']?.toString()).not.toBe('');
        expect(Number(headers?.['remit-source-offset'])).toBeGreaterThanOrEqual(0);
      }
      expect((await readiness(role.lifecycle, 2_000)).ready).toBe(true);
    } finally {
      await role.stop();
      await space.clickhouse.close();
    }
  });

  it('in pass-through mode leaves checks to ClickHouse, and finds the rows that it refuses', async () => {
    const space = await createIngestSpace({ INGEST_VALIDATION: 'pass-through', KAFKA_TOPIC_PARTITIONS: '1' });
    const values = Array.from({ length: 3_000 }, () => text(goodPurchase()));
    const bad = new Map<number, string>([
      [0, text(goodPurchase({ currency: 'QQQ' }))],
      [999, text(goodPurchase({ amount: '9'.repeat(30) }))],
      [1_500, text(goodPurchase({ amount: null }))],
      [1_501, '{"id":"abc}'],
      [2_000, text(goodPurchase({ unknown: 1 }))],
      [2_999, text(goodPurchase({ amount: '-1' }))],
    ]);
    for (const [at, value] of bad) values[at] = value;
    await produce(
      space,
      space.config.TOPIC_PURCHASES,
      values.map((value) => ({ value })),
    );
    const role = await startIngestRole(space);
    try {
      await untilCommitted(space);
      expect(await count(space)).toBe(3_000 - bad.size);
      const dead = await readAll(space, space.config.TOPIC_PURCHASES_DLQ, bad.size);
      expect(new Set(dead.map(({ value }) => value!.toString()))).toEqual(new Set(bad.values()));
    } finally {
      await role.stop();
      await space.clickhouse.close();
    }
  });

  it('waits while ClickHouse is down, keeps its place in the group, and dead-letters nothing', async () => {
    const gate = await Gate.open(new URL(sharedStack().clickhouse));
    const space = await createIngestSpace();
    const config = { ...space.config, CLICKHOUSE_URL: `http://127.0.0.1:${gate.port}` };
    gate.close();
    const role = await runRoles({ ...space, config }, startIngest);
    try {
      const values = Array.from({ length: 500 }, () => ({ value: text(goodPurchase()) }));
      await produce(space, space.config.TOPIC_PURCHASES, values);
      // Longer than the session timeout of 6 s: the member has to stay.
      await new Promise((resolve) => setTimeout(resolve, 9_000));
      const report = await readiness(role.lifecycle, 2_000);
      expect(report.ready).toBe(false);
      expect(Object.keys(report.dependencies).filter((name) => report.dependencies[name] !== 'ok')).toEqual([
        'clickhouse',
        'table purchases',
        `batches of ${config.TOPIC_PURCHASES}`,
        'table domain_events',
      ]);
      expect(await count(space)).toBe(0);
      gate.reopen();
      await untilCommitted(space);
      expect(await count(space)).toBe(500);
      expect(await readAll(space, space.config.TOPIC_PURCHASES_DLQ, 0)).toEqual([]);
    } finally {
      await role.stop();
      await gate.end();
      await space.clickhouse.close();
    }
  });

  it('stops in time when ClickHouse is down, and the next one stores what was left', async () => {
    const gate = await Gate.open(new URL(sharedStack().clickhouse));
    const space = await createIngestSpace();
    const first = await runRoles(
      { ...space, config: { ...space.config, CLICKHOUSE_URL: `http://127.0.0.1:${gate.port}` } },
      startIngest,
    );
    gate.close();
    await produce(
      space,
      space.config.TOPIC_PURCHASES,
      Array.from({ length: 500 }, () => ({ value: text(goodPurchase()) })),
    );
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    const startedAt = Date.now();
    await first.stop();
    expect(Date.now() - startedAt).toBeLessThan(30_000);
    const second = await startIngestRole(space);
    try {
      await untilCommitted(space);
      expect(await count(space)).toBe(500);
    } finally {
      await second.stop();
      await gate.end();
      await space.clickhouse.close();
    }
  });

  it('stores each message once while consumers come and go', async () => {
    const space = await createIngestSpace({ INGEST_BATCH_ROWS: '700', KAFKA_TOPIC_PARTITIONS: '6' });
    const total = 40_000;
    const roles = [await startIngestRole(space)];
    try {
      const producing = (async () => {
        for (let sent = 0; sent < total; sent += 2_000)
          await produce(
            space,
            space.config.TOPIC_PURCHASES,
            Array.from({ length: 2_000 }, () => ({ key: randomUUID(), value: text(goodPurchase()) })),
          );
      })();
      roles.push(await startIngestRole(space));
      roles.push(await startIngestRole(space));
      await new Promise((resolve) => setTimeout(resolve, 1_000));
      await roles.pop()!.stop();
      await roles.shift()!.stop();
      await producing;
      await untilCommitted(space, 40_000);
      const [figures] = await rows<Record<string, string>>(
        space,
        'SELECT count() AS plain, uniqExact(id) AS ids, uniqExact(kafkaPartition, kafkaOffset) AS places FROM purchases',
      );
      expect(Object.fromEntries(Object.entries(figures!).map(([name, n]) => [name, Number(n)]))).toEqual({
        plain: total,
        ids: total,
        places: total,
      });
      const [sums] = await rows<{ n: string }>(space, 'SELECT sum(purchases) AS n FROM revenue_daily');
      expect(Number(sums!.n)).toBe(total);
    } finally {
      await Promise.all(roles.map((role) => role.stop()));
      await space.clickhouse.close();
    }
  });

  it('stores domain events through the same machinery', async () => {
    const space = await createIngestSpace();
    const event = {
      id: 'e-1',
      type: 'payment.succeeded',
      aggregate: 'payment',
      aggregateId: 'p-1',
      tenantId: 'default',
      occurredAt: '2026-11-21T12:00:00+03:00',
      correlationId: null,
      data: { amount: '1.00', nested: { list: [1, '}\n{'] } },
    };
    await produce(space, space.config.TOPIC_DOMAIN_EVENTS, [
      { key: 'p-1', value: text(event), headers: { 'remit-correlation-id': 'c' } },
      { key: 'p-1', value: text({ ...event, aggregate: 'planet' }) },
    ]);
    const role = await startIngestRole(space);
    try {
      await eventually(async () => expect(await count(space, 'domain_events_once')).toBe(1));
      const [row] = await rows<Record<string, string>>(space, 'SELECT * FROM domain_events');
      expect(row).toMatchObject({ id: 'e-1', occurredAt: '2026-11-21 09:00:00.000', correlationId: null });
      expect(JSON.parse(row!['data']!)).toEqual(event.data);
      const [dead] = await readAll(space, `${space.config.TOPIC_DOMAIN_EVENTS}.dlq`, 1);
      expect(dead!.headers!['remit-error-message']!.toString()).toContain('aggregate');
    } finally {
      await role.stop();
      await space.clickhouse.close();
    }
  });

  it('shows one row for an event that a producer repeats, in purchases_once at once', async () => {
    const space = await createIngestSpace({ KAFKA_TOPIC_PARTITIONS: '1' });
    const repeated = text(goodPurchase());
    await produce(space, space.config.TOPIC_PURCHASES, [{ value: repeated }, { value: repeated }]);
    const role = await startIngestRole(space);
    try {
      await untilCommitted(space);
      expect(await count(space, 'purchases_once')).toBe(1);
      await space.clickhouse.command({ query: 'OPTIMIZE TABLE purchases FINAL' });
      expect(await count(space)).toBe(1);
    } finally {
      await role.stop();
      await space.clickhouse.close();
    }
  });

  it('compresses inserts when asked to', async () => {
    const space = await createIngestSpace({ CLICKHOUSE_COMPRESS_REQUESTS: 'true' });
    const values = Array.from({ length: 3_000 }, () => ({ value: text(goodPurchase()) }));
    await produce(space, space.config.TOPIC_PURCHASES, values);
    const role = await startIngestRole(space);
    try {
      await untilCommitted(space);
      expect(await count(space)).toBe(3_000);
    } finally {
      await role.stop();
      await space.clickhouse.close();
    }
  });

  it('counts what it does', async () => {
    const space = await createIngestSpace();
    await produce(space, space.config.TOPIC_PURCHASES, [
      ...Array.from({ length: 10 }, () => ({ value: text(goodPurchase()) })),
      { value: 'nope' },
    ]);
    const role = await startIngestRole(space);
    try {
      await untilCommitted(space);
      await eventually(async () => {
        const shown = await registry.metrics();
        const topic = space.config.TOPIC_PURCHASES;
        expect(shown).toContain(`remit_ingest_rows_total{topic="${topic}"} 10`);
        expect(shown).toContain(`remit_dead_letters_total{topic="${topic}",code="invalid_json"} 1`);
        expect(shown).toMatch(new RegExp(`remit_ingest_in_flight_bytes{topic="${topic}"} 0`));
        expect(shown).toMatch(
          new RegExp(`remit_ingest_insert_seconds_count{topic="${topic}",outcome="stored"} [1-9]`),
        );
      });
    } finally {
      await role.stop();
      await space.clickhouse.close();
    }
  });
});

it('an operator who moves the offsets back repeats rows only until they are merged, and never in purchases_once', async () => {
  const space = await createIngestSpace({ KAFKA_TOPIC_PARTITIONS: '1', INGEST_BATCH_ROWS: '30' });
  await produce(
    space,
    space.config.TOPIC_PURCHASES,
    Array.from({ length: 100 }, () => ({ value: text(goodPurchase()) })),
  );
  const first = await startIngestRole(space);
  await untilCommitted(space);
  await first.stop();
  const admin = createKafka(space.config, space.log).admin();
  await admin.connect();
  await admin.setOffsets({
    groupId: `${space.name}.${GROUP}`,
    topic: space.config.TOPIC_PURCHASES,
    partitions: [{ partition: 0, offset: '7' }],
  });
  await admin.disconnect();
  const second = await startIngestRole(space);
  try {
    await untilCommitted(space);
    expect(await count(space, 'purchases_once')).toBe(100);
    await space.clickhouse.command({ query: 'OPTIMIZE TABLE purchases FINAL' });
    expect(await count(space)).toBe(100);
  } finally {
    await second.stop();
    await space.clickhouse.close();
  }
});
