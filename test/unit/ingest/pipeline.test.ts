import { setTimeout as sleep } from 'node:timers/promises';
import { IngestPipeline } from '../../../src/bridges/ingest/pipeline';
import { checkedPurchases } from '../../../src/bridges/ingest/row-format';
import { decodePending } from '../../../src/bridges/ingest/pending';
import type { SourceRecord } from '../../../src/bridges/ingest/source';
import { testConfig } from '../../support/test-config';
import { createLogger } from '../../../src/platform/logging';
import { registry } from '../../../src/platform/metrics';
import { PlayedCluster, PlayedSource, PlayedTable, randomOf } from './played-log';
import { bytesOf, purchase, record } from './purchase';

const log = createLogger({ LOG_LEVEL: 'silent', NODE_ENV: 'test' }, 'test');
const good = bytesOf(purchase());
const bad = Buffer.from('{"id":"abc}');

/** Records with gaps between their offsets (compaction, control records) and every 50th broken. */
function partition(count: number, random: (below: number) => number): SourceRecord[] {
  let offset = random(5);
  return Array.from({ length: count }, (_, i) => {
    offset += random(15) === 0 ? 1 + random(40) : 1;
    return record(offset, i % 50 === 7 ? bad : good);
  });
}

function start(cluster: PlayedCluster, table: PlayedTable, random: (below: number) => number, env = {}) {
  let alive = true;
  const { config } = testConfig({
    INGEST_BATCH_ROWS: '60',
    INGEST_FLUSH_MS: '10',
    INGEST_COMMIT_INTERVAL_MS: '3',
    INGEST_RETRY_BASE_MS: '1',
    INGEST_RETRY_CAP_MS: '3',
    ...env,
  });
  const source = new PlayedSource(cluster, random);
  const pipeline = new IngestPipeline({
    source,
    writer: table.writer(() => alive),
    format: checkedPurchases,
    defaultTopic: 'purchases',
    config,
    log,
    stopping: new AbortController(),
  });
  return {
    source,
    pipeline,
    kill() {
      alive = false;
      source.die();
      pipeline.onLost();
      void pipeline.stop(0);
    },
  };
}

const ids = (cluster: PlayedCluster, value: Buffer) =>
  [...cluster.records].flatMap(([number, records]) =>
    records.filter((each) => each.value === value).map(({ offset }) => `${cluster.log}/${number}/${offset}`),
  );
const allCommitted = (cluster: PlayedCluster) =>
  [...cluster.records].every(([number, records]) => {
    const committed = cluster.committed.get(number);
    return committed?.metadata === '' && committed.offset > Number(records.at(-1)!.offset);
  });
/** Timers that keep the process awake. */
const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
const lastCommitAge = async () =>
  (await registry.getSingleMetric('remit_ingest_last_commit_age_seconds')!.get()).values[0]?.value ?? 0;
async function until(done: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 20_000; !done(); await sleep(2))
    if (Date.now() > deadline) throw new Error('did not come to an end');
}

describe('the ingest pipeline', () => {
  // The table tells repetitions by the token alone: one batch that a successor cuts elsewhere, and rows appear twice.
  it.each(Array.from({ length: 25 }, (_, seed) => [seed + 1]))(
    'stores every message once, whenever it is killed or rebalanced and whatever commits fail (seed %i)',
    async (seed) => {
      const random = randomOf(seed * 7_919);
      const cluster = new PlayedCluster(
        new Map([0, 1, 2].map((number) => [number, partition(400 + random(400), random)])),
      );
      const table = new PlayedTable(random);
      const env = { INGEST_BATCH_ROWS: String(20 + random(150)), INGEST_FLUSH_MS: String(10 + random(20)) };
      for (let life = 0; life < 6; life++) {
        const member = start(cluster, table, random, env);
        await member.pipeline.start();
        for (let i = random(3); i > 0; i--) {
          await sleep(random(15));
          member.source.rebalance();
        }
        await sleep(random(25));
        member.kill();
      }
      const last = start(cluster, table, random, env);
      await last.pipeline.start();
      await until(() => allCommitted(cluster));
      await last.pipeline.stop(1_000);
      expect(table.rows.sort()).toEqual(ids(cluster, good).sort());
      expect([...table.dead].sort()).toEqual(ids(cluster, bad).sort());
    },
  );

  it.each(Array.from({ length: 10 }, (_, seed) => [seed + 1]))(
    'stores every message of a log that took the place of another at any moment, and none twice (seed %i)',
    async (seed) => {
      const random = randomOf(seed * 104_729);
      const log = () =>
        new Map([0, 1, 2].map((number) => [number, partition(100 + random(500), random)] as const));
      const cluster = new PlayedCluster(log());
      const table = new PlayedTable(random);
      let member = start(cluster, table, random);
      await member.pipeline.start();
      for (let i = 0; i < 3; i++) {
        await sleep(random(40));
        if (random(2) === 0) {
          member.kill();
          member = start(cluster, table, random);
          await member.pipeline.start();
        }
        await sleep(random(20));
        cluster.makeAnew(log());
      }
      await until(() => allCommitted(cluster));
      await member.pipeline.stop(1_000);
      expect(new Set(table.rows).size).toBe(table.rows.length);
      expect(table.rows.filter((row) => row.startsWith(`${cluster.log}/`)).sort()).toEqual(
        ids(cluster, good).sort(),
      );
      expect([...table.dead].filter((row) => row.startsWith(`${cluster.log}/`)).sort()).toEqual(
        ids(cluster, bad).sort(),
      );
    },
  );

  it('hands on everything at an orderly stop, and holds nothing back', async () => {
    const random = randomOf(3);
    const cluster = new PlayedCluster(new Map([[0, partition(2_000, random)]]));
    const table = new PlayedTable(random);
    const member = start(cluster, table, random, { INGEST_FLUSH_MS: '60000', INGEST_BATCH_ROWS: '100000' });
    await member.pipeline.start();
    await sleep(40);
    await member.pipeline.stop(20_000);
    const committed = cluster.committed.get(0)!;
    expect(committed.metadata).toBe('');
    expect(table.rows.length).toBeGreaterThan(0);
    expect(table.rows.length + table.dead.size).toBe(
      cluster.records.get(0)!.filter(({ offset }) => Number(offset) < committed.offset).length,
    );
  });

  it('has no timer while there is nothing to store', async () => {
    const random = randomOf(7);
    const cluster = new PlayedCluster(new Map([[0, []]]));
    const none = timers();
    const { pipeline, source } = start(cluster, new PlayedTable(random), random);
    await pipeline.start();
    const ofTheSource = timers() - none;
    expect(ofTheSource).toBe(1);
    cluster.records = new Map([[0, partition(300, random)]]);
    await until(() => allCommitted(cluster));
    // Also of what was paused meanwhile, or committed again.
    await until(() => timers() === none + ofTheSource);
    source.die();
    await pipeline.stop(1_000);
    expect(timers()).toBe(none);
  });

  it('counts from what is fetched how long nothing was committed, not from when it was silent before', async () => {
    const random = randomOf(13);
    const cluster = new PlayedCluster(new Map([[0, []]]));
    const table = new PlayedTable(random);
    const { pipeline } = start(cluster, table, random, { INGEST_FLUSH_MS: '200' });
    await pipeline.start();
    const anHourLater = Date.now() + 3_600_000;
    const clock = jest.spyOn(Date, 'now').mockReturnValue(anHourLater);
    try {
      cluster.records = new Map([[0, partition(5, random)]]);
      await until(() => pipeline.inFlightBytes > 0);
      clock.mockReturnValue(anHourLater + 100);
      let age = 0;
      while (age === 0) {
        await sleep(2);
        age = await lastCommitAge();
      }
      expect(age).toBe(0.1);
    } finally {
      clock.mockRestore();
      await pipeline.stop(1_000);
    }
  });

  it('announces a batch before it is sent', async () => {
    const random = randomOf(5);
    const cluster = new PlayedCluster(new Map([[0, partition(500, random)]]));
    const table = new PlayedTable(random);
    const unannounced: string[] = [];
    const { store } = table.writer(() => true);
    const source = new PlayedSource(cluster, random);
    const pipeline = new IngestPipeline({
      source,
      writer: {
        store(batch) {
          const committed = cluster.committed.get(0);
          const ends = committed ? decodePending(committed.offset, committed.metadata) : [];
          if (!ends.includes(batch.last)) unannounced.push(batch.token);
          return store(batch);
        },
      },
      format: checkedPurchases,
      defaultTopic: 'purchases',
      config: testConfig({ INGEST_BATCH_ROWS: '50', INGEST_RETRY_BASE_MS: '1' }).config,
      log,
      stopping: new AbortController(),
    });
    await pipeline.start();
    await until(() => table.tokens.size >= 8);
    await pipeline.stop(1_000);
    expect(unannounced).toEqual([]);
  });

  it('stops reading while ClickHouse takes nothing, and keeps to its memory', async () => {
    const random = randomOf(9);
    const cluster = new PlayedCluster(new Map([0, 1].map((number) => [number, partition(60_000, random)])));
    const source = new PlayedSource(cluster, random, 4_000);
    let release: () => void = () => undefined;
    const down = new Promise<void>((resolve) => (release = resolve));
    const { config } = testConfig({
      INGEST_IN_FLIGHT_BYTES: '4194304',
      INGEST_BATCH_ROWS: '5000',
      INGEST_RETRY_BASE_MS: '1',
      INGEST_FLUSH_MS: '20',
    });
    const pipeline = new IngestPipeline({
      source,
      writer: { store: () => down },
      format: checkedPurchases,
      defaultTopic: 'purchases',
      config,
      log,
      stopping: new AbortController(),
    });
    await pipeline.start();
    await until(() => pipeline.inFlightBytes >= 4_194_304);
    await sleep(50);
    // One fetch may go over the limit.
    const fetchBytes = 2 * 4_000 * 450;
    expect(pipeline.inFlightBytes).toBeLessThan(4_194_304 + fetchBytes);
    release();
    await until(() => allCommitted(cluster));
    expect(pipeline.inFlightBytes).toBe(0);
    await pipeline.stop(1_000);
  });

  it.each([
    ['broken', Buffer.from('{"id":"abc}')],
    ['empty', Buffer.alloc(0)],
    ['without a value', null],
  ])(
    'closes batches of nothing but messages that are %s by their number, and keeps to its memory',
    async (_, value) => {
      const random = randomOf(11);
      const records = Array.from({ length: 12_000 }, (__, i) => record(i, value, { key: null }));
      const cluster = new PlayedCluster(new Map([0, 1].map((number) => [number, records])));
      const source = new PlayedSource(cluster, random, 20_000);
      let release: () => void = () => undefined;
      const away = new Promise<void>((resolve) => (release = resolve));
      const sizes: number[] = [];
      const limit = 2 * 1_048_576;
      const pipeline = new IngestPipeline({
        source,
        writer: {
          store: (batch) => {
            sizes.push(batch.poison.length);
            return away;
          },
        },
        format: checkedPurchases,
        defaultTopic: 'purchases',
        config: testConfig({
          INGEST_IN_FLIGHT_BYTES: String(limit),
          INGEST_BATCH_ROWS: '300',
          INGEST_RETRY_BASE_MS: '1',
          INGEST_FLUSH_MS: '200',
        }).config,
        log,
        stopping: new AbortController(),
      });
      await pipeline.start();
      await until(() => sizes.length >= 3);
      await sleep(50);
      expect(Math.max(...sizes)).toBe(300);
      expect(pipeline.inFlightBytes).toBeGreaterThan(limit / 4);
      expect(pipeline.inFlightBytes).toBeLessThan(limit + 4_096);
      release();
      await until(() => allCommitted(cluster));
      expect(pipeline.inFlightBytes).toBe(0);
      await pipeline.stop(1_000);
    },
  );
});
