import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createAccount, topUp } from '../../src/domain/accounts';
import type { EmbeddedPart } from '../../src/embedded/stack';
import { createClickHouse } from '../../src/platform/clickhouse';
import { createKafka } from '../../src/platform/kafka';
import { createLogger } from '../../src/platform/logging';
import { eachMessage, rangesOf, withAdmin, type StoredMessage } from '../../src/platform/topic-reader';
import { allTopics, deadLetterTopic } from '../../src/platform/topics';
import { mintToken } from '../../src/operations/token';
import { produceForeign } from '../support/foreign-producer';
import { CURRENCY, inspectLedger, TENANT } from '../support/money';
import { noteResult } from '../support/nightly';
import { family, signalAll } from '../support/processes';
import { Load } from './hostile/load';
import { appendUnreadable, Purchases } from './hostile/purchases';
import { Random } from './hostile/random';
import { HostileSubscribers } from './hostile/subscribers';
import { FaultStack, type RoleName } from './money-stack';

/**
 * node --import tsx test/faults/hostile-load.ts --minutes 60 --seed 1
 *
 * Everything that users and neighbours did to remit at its worst, at once, on a stack of its own; then it is left alone,
 * and nothing that it accepted may be missing. Ends with 1 when something is.
 */
const { values: options } = parseArgs({
  options: { minutes: { type: 'string', default: '60' }, seed: { type: 'string', default: '1' } },
});
const MINUTES = Number(options.minutes);
const SEED = Number(options.seed);
const PURCHASES_PER_SECOND = 40;
const USERS = 12;
const MEMORY_MAX_MB = 700;
const DRAIN_MS = 12 * 60_000;
const ROLES: readonly RoleName[] = ['api', 'bridge', 'worker', 'relay', 'ingest'];
const say = (line: string) =>
  void process.stderr.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`);

const random = new Random(SEED);
const subscribers = new HostileSubscribers();
let remit: FaultStack;
let load: Load;
let purchases: Purchases;
let faulting = true;
const faults: Record<string, number> = {};
const peaks: Record<string, number> = {};
let foreign = 0;

const kafka = () =>
  createKafka(remit.stack.config, createLogger({ LOG_LEVEL: 'silent', NODE_ENV: 'test' }, 'hostile'));

// ------------------------------------------------------------------------------------------------------ faults

async function terminateBackends(): Promise<void> {
  while (faulting) {
    await sleep(2_000 + random.below(4_000));
    await remit.db.pool
      .query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
            AND application_name IS DISTINCT FROM 'hostile' AND random() < 0.4`,
      )
      .then(() => (faults['terminate'] = (faults['terminate'] ?? 0) + 1))
      .catch(() => undefined);
  }
}

async function freeze(part: EmbeddedPart, ms: number): Promise<void> {
  const { pid } = remit.stack.embedded!.processes.find((each) => each.part === part)!;
  const frozen = family(pid);
  signalAll(frozen, 'SIGSTOP');
  await sleep(ms);
  signalAll(frozen, 'SIGCONT');
}

async function untilRead(group: string, topic: string): Promise<void> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    const left = await withAdmin(kafka(), async (admin) => {
      const ranges = await rangesOf(admin, topic);
      const [committed] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
      return ranges.reduce((sum, { partition, low, high }) => {
        const at = BigInt(committed?.partitions.find((each) => each.partition === partition)?.offset ?? -1);
        return sum + (high - (at < low ? low : at));
      }, 0n);
    }).catch(() => 1n);
    if (left === 0n) return;
    if (Date.now() > deadline) throw new Error(`${left} messages of ${topic} are not read by ${group}`);
    await sleep(1_000);
  }
}

/** As the operations guide has it: what is in the topic is read, then it is deleted, and `remit migrate` creates it again. */
async function recreate(topic: string): Promise<void> {
  await withAdmin(kafka(), (admin) => admin.deleteTopics({ topics: [topic] }));
  await sleep(1_000 + random.below(4_000));
  const { code, output } = await remit.remit('migrate');
  if (code !== 0) throw new Error(`migrate: ${output}`);
}

async function recreatePurchases(): Promise<void> {
  const { TOPIC_PURCHASES: topic } = remit.stack.config;
  await purchases.pause();
  try {
    await untilRead('remit.ingest.purchases', topic);
    purchases.formerOffsets += await purchases.offsets();
    await recreate(topic);
  } finally {
    purchases.paused = false;
  }
}

async function recreateOrders(): Promise<void> {
  load.heldBack.add('orders');
  try {
    await sleep(10_000);
    const { TOPIC_WEBHOOKS_ORDERS: topic } = remit.stack.config;
    await untilRead('remit.order-webhooks', topic);
    await recreate(topic);
  } finally {
    load.heldBack.delete('orders');
  }
}

async function clickhouse(...statements: string[]): Promise<void> {
  const client = createClickHouse(remit.stack.config);
  try {
    for (const query of statements) await client.command({ query });
  } finally {
    await client.close();
  }
}

async function throwingView(): Promise<void> {
  await clickhouse(
    'CREATE TABLE IF NOT EXISTS numbers_of_users (n UInt8) ENGINE = MergeTree ORDER BY n',
    `CREATE MATERIALIZED VIEW theirs TO numbers_of_users AS SELECT toUInt8(throwIf(userId <> '', 'no')) AS n FROM purchases`,
  );
  await sleep(15_000);
  await clickhouse('DROP VIEW theirs');
}

async function droppedColumn(): Promise<void> {
  await clickhouse('ALTER TABLE purchases RENAME COLUMN userId TO userId_gone');
  await sleep(15_000);
  await clickhouse('ALTER TABLE purchases RENAME COLUMN userId_gone TO userId');
}

async function foreignBatches(): Promise<void> {
  // What it writes are no purchases: each is a dead letter.
  const { TOPIC_PURCHASES: topic, KAFKA_BROKERS } = remit.stack.config;
  const codecs = ['gzip', 'snappy', 'lz4', 'zstd'] as const;
  await produceForeign(KAFKA_BROKERS, [
    ...codecs.map((codec) => ({ topic, codec, count: 20, valueBytes: 300 })),
    {
      topic: remit.stack.config.TOPIC_WEBHOOKS_ORDERS,
      codec: random.pick(codecs),
      count: 10,
      valueBytes: 200,
    },
  ]);
  foreign += 4 * 20;
}

async function unreadable(): Promise<void> {
  const { TOPIC_PURCHASES: topic } = remit.stack.config;
  await purchases.pause();
  try {
    await sleep(1_000);
    await remit.stack.embedded!.kill('kafka');
    purchases.crafted += await appendUnreadable(remit.dataDir, topic, random.below(3));
    await remit.stack.embedded!.restart('kafka');
    await sleep(3_000);
  } finally {
    purchases.paused = false;
  }
}

const killRole = (role: RoleName) => () => remit.killRole(role);
const killPart = (part: EmbeddedPart) => () => remit.killPart(part, 2_000 + random.below(6_000));

const FAULTS: [string, number, () => Promise<void>][] = [
  ...ROLES.map((role): [string, number, () => Promise<void>] => [`kill -9 ${role}`, 4, killRole(role)]),
  ['kill -9 postgres', 2, killPart('postgres')],
  ['kill -9 kafka', 2, killPart('kafka')],
  ['kill -9 temporal', 2, killPart('temporal')],
  ['kill -9 clickhouse', 2, killPart('clickhouse')],
  ['freeze postgres', 3, () => freeze('postgres', 10_000)],
  ['freeze temporal', 2, () => freeze('temporal', 10_000)],
  ['freeze kafka', 2, () => freeze('kafka', 8_000)],
  ['throwing view', 2, throwingView],
  ['renamed column', 2, droppedColumn],
  ['foreign batches', 2, foreignBatches],
  ['unreadable batches', 2, unreadable],
  ['purchases again', 2, recreatePurchases],
  ['webhooks.orders again', 2, recreateOrders],
];
const TICKETS = FAULTS.flatMap((fault) => Array.from({ length: fault[1] }, () => fault));

async function injectFaults(): Promise<void> {
  while (faulting) {
    await sleep(10_000 + random.below(20_000));
    if (!faulting) break;
    const [name, , inject] = random.pick(TICKETS);
    say(`fault: ${name}`);
    try {
      await inject();
      faults[name] = (faults[name] ?? 0) + 1;
    } catch (error) {
      load.violation(`fault ${name}: ${String(error)}`);
      await clickhouse('DROP VIEW IF EXISTS theirs').catch(() => undefined);
    }
  }
}

// ------------------------------------------------------------------------------------------------------ watching

async function watch(): Promise<void> {
  for (let i = 0; faulting; i++) {
    await sleep(5_000);
    for (const { role, pid } of remit.processes) {
      try {
        const rss =
          Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1_024;
        if (rss > (peaks[role] ?? 0)) peaks[role] = Math.round(rss);
      } catch {
        // Killed a moment ago.
      }
    }
    if (i % 12 === 11)
      say(
        `accepted ${load.accepted.length}, purchases ${purchases.good.size}, received ${JSON.stringify(subscribers.received)}, ` +
          `peaks ${JSON.stringify(peaks)}, ended by themselves ${remit.ended.length}, violations ${load.violations.length}, slowest answer ${load.slowestMs.toFixed(0)} ms`,
      );
  }
}

// ------------------------------------------------------------------------------------------------------ afterwards

interface Letter {
  topic: string;
  code: string;
  correlationId: string;
  /** The same for what a crash has written twice, and for nothing else: also in a topic that was made anew. */
  source: string;
}

async function deadLetters(): Promise<Letter[]> {
  const { config } = remit.stack;
  const found: Letter[] = [];
  const text = (value: unknown) => String(Array.isArray(value) ? value[0] : (value ?? ''));
  for (const topic of allTopics(config).filter((each) => each.endsWith('.dlq'))) {
    const ranges = await withAdmin(kafka(), (admin) => rangesOf(admin, topic));
    if (ranges.every(({ low, high }) => low === high)) continue;
    await eachMessage(
      kafka(),
      { topic, ranges, limit: 1_000_000, groupPrefix: 'hostile' },
      ({ headers, value }: StoredMessage) =>
        void found.push({
          topic,
          code: text(headers['remit-error-code']),
          correlationId: text(headers['remit-correlation-id']),
          source: [
            text(headers['remit-source-partition']),
            text(headers['remit-source-offset']),
            createHash('sha256')
              .update(value ?? '')
              .digest('hex'),
          ].join(':'),
        }),
    );
  }
  return found;
}

async function drained(): Promise<string> {
  const { rows } = await remit.db.pool.query<{
    pending: string;
    outbox: string;
    events: string;
    orders: string;
  }>(
    // What waits for a subscriber that rests may wait for days: its lane tries one at a time, and reconciliation looks for the lane.
    `SELECT (SELECT count(*) FROM deliveries d JOIN subscriptions s ON s.id = d.subscription_id
              WHERE d.status = 'pending' AND NOT (d.in_lane AND s.throttle_level > 0)) AS pending, (SELECT count(*) FROM outbox) AS outbox,
            (SELECT count(*) FROM webhook_events WHERE fanned_out_at IS NULL) AS events,
            (SELECT count(*) FROM orders WHERE status = 'NEW' AND payment_method = 'balance') AS orders`,
  );
  const { pending, outbox, events, orders } = rows[0]!;
  return pending === '0' && outbox === '0' && events === '0' && orders === '0' ? '' : JSON.stringify(rows[0]);
}

async function untilQuiet(): Promise<void> {
  const deadline = Date.now() + DRAIN_MS;
  for (;;) {
    const left = await drained().catch(String);
    if (left === '') break;
    if (Date.now() > deadline) {
      load.violation(`not drained: ${left}`);
      break;
    }
    await sleep(5_000);
  }
  // What waits for an unknown transaction or order waits for a minute.
  say('drained; waiting for what waits for the unknown');
  await sleep(100_000);
}

async function checkOutcomes(letters: Letter[]): Promise<void> {
  const { rows: events } = await remit.db.pool.query<{
    provider: string;
    id: string;
    about: string;
    outcome: string;
  }>('SELECT provider, provider_event_id AS id, transaction_id::text AS about, outcome FROM provider_events');
  const byEvent = new Set(events.map(({ id }) => id));
  const byAbout = new Set(events.map(({ about }) => about));
  const lettered = new Set(letters.map(({ correlationId }) => correlationId));
  const { rows: open } = await remit.db.pool.query<{ id: string }>(
    `SELECT id::text FROM payments WHERE status = 'pending'`,
  );
  const pending = new Set(open.map(({ id }) => id));
  const counts: Record<string, number> = {};
  for (const webhook of load.accepted) {
    const settled = webhook.eventId === undefined ? byAbout.has(webhook.about) : byEvent.has(webhook.eventId);
    const outcome = settled
      ? 'settled'
      : lettered.has(webhook.correlationId)
        ? 'dead letter'
        : webhook.unhandled
          ? 'ignored'
          : 'NONE';
    counts[`${webhook.kind} ${outcome}`] = (counts[`${webhook.kind} ${outcome}`] ?? 0) + 1;
    if (outcome === 'NONE')
      load.violation(`no outcome: ${webhook.what} (${webhook.about}, ${webhook.correlationId})`);
    if (webhook.settles && pending.has(webhook.about))
      load.violation(`still pending: ${webhook.what} (${webhook.about})`);
  }
  say(`outcomes ${JSON.stringify(counts)}`);
}

async function checkPurchases(letters: Letter[]): Promise<void> {
  const { TOPIC_PURCHASES: topic } = remit.stack.config;
  await untilRead('remit.ingest.purchases', topic);
  const client = createClickHouse(remit.stack.config);
  try {
    const query = async <T>(text: string) =>
      (await client.query({ query: text, format: 'JSONEachRow' })).json<T>();
    const rows = Number((await query<{ n: string }>('SELECT count() AS n FROM purchases'))[0]!.n);
    const ids = new Set(
      (await query<{ id: string }>('SELECT DISTINCT toString(id) AS id FROM purchases')).map(({ id }) => id),
    );
    const missing = [...purchases.good].filter((id) => !ids.has(id));
    if (missing.length > 0)
      load.violation(`${missing.length} purchases are not stored: ${missing.slice(0, 5).join(', ')}`);
    const offsets = purchases.formerOffsets + (await purchases.offsets());
    const dlq = deadLetterTopic(remit.stack.config, topic);
    const mine = letters.filter((each) => each.topic === dlq);
    const batches = mine.filter(({ code }) => code === 'unreadable_batch').length;
    // One that was in flight when ingest was killed may be there twice.
    const dead = new Set(mine.filter(({ code }) => code !== 'unreadable_batch').map(({ source }) => source))
      .size;
    // Of what was written by hand two batches hold five offsets.
    const accounted = BigInt(rows + dead + purchases.crafted);
    say(
      `purchases: ${offsets} messages, ${rows} stored (${ids.size} ids), ${dead} dead-lettered, ${batches} unreadable batches (${purchases.crafted} offsets), foreign ${foreign}`,
    );
    if (accounted !== offsets) load.violation(`purchases: ${offsets} messages, ${accounted} accounted for`);
  } finally {
    await client.close();
  }
}

async function check(): Promise<void> {
  const letters = await deadLetters();
  const codes: Record<string, number> = {};
  for (const { topic, code } of letters) codes[`${topic} ${code}`] = (codes[`${topic} ${code}`] ?? 0) + 1;
  say(`dead letters ${JSON.stringify(codes)}`);
  await checkOutcomes(letters);
  await checkPurchases(letters);
  const ledger = await inspectLedger(remit.db);
  for (const [name, found] of Object.entries(ledger) as [string, string[]][])
    if (found.length > 0) load.violation(`ledger: ${name} ${found.slice(0, 5).join(', ')}`);
  const { code, output } = await remit.remit('reconcile', '--margin', '1');
  if (code !== 0) load.violation(`reconcile is not clean:\n${output}`);
  const { rows } = await remit.db.pool.query('SELECT status, count(*) FROM deliveries GROUP BY 1 ORDER BY 1');
  say(`deliveries ${JSON.stringify(rows)}`);
  const odd = subscribers.bodies.filter((body) => body.includes('"odd.numbers"'));
  const exact = odd.filter((body) =>
    ['9007199254740993', '1.10,', '0.1000000000000000055511151231257827', '-0', '1E3'].every((each) =>
      body.includes(each),
    ),
  );
  say(`odd numbers: ${exact.length} of ${odd.length} arrived as they were written`);
  if (exact.length !== odd.length)
    load.violation(`odd numbers changed: ${odd.find((body) => !exact.includes(body))}`);
  if (remit.ended.length > 0) load.violation(`roles ended by themselves: ${remit.ended.join('; ')}`);
  for (const [role, peak] of Object.entries(peaks))
    if (peak > MEMORY_MAX_MB) load.violation(`${role} took ${peak} MB`);
}

async function main(): Promise<number> {
  await subscribers.listen();
  remit = await FaultStack.start(
    {
      UNKNOWN_TRANSACTION_WAIT_MS: '60000',
      WEBHOOK_SCHEDULE_MS: '0,1000,3000,5000,10000',
      WEBHOOK_TIMEOUT_MS: '3000',
      WEBHOOK_CONNECT_TIMEOUT_MS: '1000',
      // Subscribers that hang or are overloaded are given up while one watches.
      WEBHOOK_THROTTLE_BASE_MS: '1000',
      WEBHOOK_THROTTLE_CAP_MS: '5000',
      KAFKA_SESSION_TIMEOUT_MS: '6000',
    },
    ROLES,
  );
  purchases = new Purchases(kafka(), remit.stack.config.TOPIC_PURCHASES, PURCHASES_PER_SECOND);
  load = new Load(remit, random, subscribers);
  const users = Array.from({ length: USERS }, (_, i) => `user-${i}`);
  for (const userId of [...users, 'rich']) {
    const key = { tenantId: TENANT, userId, currency: CURRENCY };
    await createAccount(remit.db, key);
    await topUp(remit.db, { ...key, amountMinor: 10_000_000n, correlationId: 'hostile', actor: 'hostile' });
  }
  const token = (scope: string) =>
    mintToken(remit.stack.config, { subject: 'operator', scopes: [scope], expiresInS: 36_000 });
  await load.start({ operator: await token('write'), admin: await token('admin'), users });
  say(
    `started in ${remit.dataDir}, ${MINUTES} minutes, seed ${SEED}, logs in ${path.join(remit.dataDir, 'logs')}`,
  );
  const loops = [load.loops(), purchases.run(), terminateBackends(), injectFaults(), watch()];
  await sleep(MINUTES * 60_000);
  say('the load ends');
  load.running = false;
  purchases.running = false;
  faulting = false;
  await Promise.all(loops);
  say('everything has been answered');
  await untilQuiet();
  await check();
  say(`answers ${JSON.stringify(load.answers)}`);
  say(`slowest answer ${load.slowestMs.toFixed(0)} ms`);
  noteResult(
    `${MINUTES} minutes, seed ${SEED}: ${load.violations.length} found; faults ${JSON.stringify(faults)}, peaks ${JSON.stringify(peaks)} MB`,
  );
  say(
    load.violations.length === 0
      ? 'NOTHING FOUND'
      : `${load.violations.length} FOUND:\n${load.violations.slice(0, 200).join('\n')}`,
  );
  if (process.env['REMIT_HOSTILE_KEEP'] === '1') {
    say('kept until a signal comes');
    await new Promise((resolve) => process.once('SIGTERM', resolve));
  }
  await remit.stop();
  await subscribers.close();
  return load.violations.length === 0 ? 0 : 1;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exit(1);
  },
);
