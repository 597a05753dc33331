import { setTimeout as sleep } from 'node:timers/promises';
import { createClickHouse } from '../../../src/platform/clickhouse';
import { purchaseGenerator } from '../../../src/operations/purchase-generator';
import { createProducer } from '../../../src/platform/kafka-produce';
import { eventually } from '../../support/harness';
import type { Cluster } from './cluster';
import { CpuMeter } from './cpu';
import type { Flow } from './flow';
import type { Load } from './load';

const IDLE_MS = 30_000;
/** Looked at less often than in a run with faults: each look asks the database that is measured. */
const LOOK_MS = 2_000;
/** What is begun before anything is measured, so that nothing is compiled or opened for the first time then. */
const WARM = 60;
/** Numbers of events of which no two are the same. */
const FIRST_LETTER = 1_000_000;
const THROUGH_MS = 300_000;
const BATCH = 2_000;

/** How many of each are measured, and how many a second are begun. */
export interface Sizes {
  payments: number;
  orders: number;
  events: number;
  purchases: number;
  perSecond: number;
}

interface Snapshot {
  at: number;
  cpu: Map<string, number>;
  postgres: Record<string, number>;
}

/**
 * What a run of known size costs: CPU milliseconds of every part by piece of work, less what the part uses when nothing
 * comes, and what PostgreSQL writes. CPU time is that of the processes, so that a machine that does other things as well
 * changes little.
 */
export class Measure {
  readonly lines: string[] = [];
  private idle = new Map<string, number>();
  private readonly cpu: CpuMeter;

  constructor(
    private readonly cluster: Cluster,
    private readonly load: Load,
    private readonly say: (line: string) => void,
  ) {
    this.cpu = new CpuMeter(() => cluster.parts());
  }

  async all(sizes: Sizes): Promise<void> {
    const { load } = this;
    load.lookMs = LOOK_MS;
    await this.warmUp(sizes.perSecond);
    const before = await this.snapshot();
    await sleep(IDLE_MS);
    const after = await this.snapshot();
    const seconds = (after.at - before.at) / 1_000;
    this.idle = new Map(
      [...after.cpu].map(([part, cpu]) => [part, (cpu - (before.cpu.get(part) ?? 0)) / seconds]),
    );
    this.tell('idle, milliseconds of CPU a second', 1 / 1_000, this.idle);
    const numbered = (offset: number, one: (n: number) => Promise<void>) => (n: number) => one(n + offset);
    await this.work('payment', sizes.payments, sizes.perSecond, load.flows.payments, (n) => load.payment(n));
    await this.work('order', sizes.orders, sizes.perSecond, load.flows.orders, (n) => load.order(3 * n + 1));
    await this.work(
      ...(['event with one delivery', sizes.events, sizes.perSecond, load.letters] as const),
      numbered(FIRST_LETTER + WARM, (n) => load.letter(n)),
    );
    await this.work(
      ...(['event with three deliveries', sizes.events, sizes.perSecond, load.flows.events] as const),
      numbered(WARM, (n) => load.event(n)),
    );
    await this.purchases(sizes.purchases);
    this.cpu.stop();
  }

  private async warmUp(perSecond: number): Promise<void> {
    const { load } = this;
    const all: Promise<void>[] = [];
    for (let n = 0; n < WARM; n++) {
      all.push(load.payment(n), load.order(3 * n + 1), load.letter(FIRST_LETTER + n), load.event(n));
      await sleep(2_000 / perSecond);
    }
    await Promise.all(all);
    await eventually(() => {
      for (const flow of [load.letters, ...Object.values(load.flows)])
        if (flow.open().length > 0) throw new Error(`${flow.open().length} ${flow.kind} are open`);
    }, THROUGH_MS);
    this.say('warm');
  }

  private async work(
    what: string,
    count: number,
    perSecond: number,
    flow: Flow,
    one: (n: number) => Promise<void>,
  ): Promise<void> {
    if (count === 0) return;
    await this.phase(what, count, async () => {
      const all: Promise<void>[] = [];
      for (let n = 0; n < count; n++) {
        all.push(one(n));
        await sleep(1_000 / perSecond);
      }
      await Promise.all(all);
      await eventually(() => {
        if (flow.open().length > 0) throw new Error(`${flow.open().length} of ${what} are open`);
      }, THROUGH_MS);
    });
  }

  private async purchases(count: number): Promise<void> {
    if (count === 0) return;
    const { config } = this.cluster;
    const client = createClickHouse(config);
    const stored = async () => {
      const answer = await client.query({
        query: 'SELECT count() AS n FROM purchases',
        format: 'JSONEachRow',
      });
      return Number((await answer.json<{ n: string }>())[0]?.n);
    };
    const had = await stored();
    const next = purchaseGenerator({ seed: 11, badShare: 0 });
    const producer = createProducer(this.cluster.kafkaClient());
    await producer.connect();
    await this.phase('1,000 purchases', count / 1_000, async () => {
      for (let sent = 0; sent < count; sent += BATCH)
        await producer.send({
          topic: config.TOPIC_PURCHASES,
          acks: -1,
          messages: Array.from({ length: BATCH }, next).map(({ key, value }) => ({ key, value })),
        });
      await eventually(async () => {
        if ((await stored()) < had + count) throw new Error('not all are stored');
      }, THROUGH_MS);
    });
    await producer.disconnect();
    await client.close();
  }

  private async phase(what: string, count: number, run: () => Promise<void>): Promise<void> {
    const before = await this.snapshot();
    await run();
    // What follows behind: offsets, visibility, replication.
    await sleep(3_000);
    const after = await this.snapshot();
    const seconds = (after.at - before.at) / 1_000;
    const cpu = new Map(
      [...after.cpu].map(([part, end]) => [
        part,
        end - (before.cpu.get(part) ?? 0) - (this.idle.get(part) ?? 0) * seconds,
      ]),
    );
    this.note(`${what}: ${count} in ${seconds.toFixed(0)} s`);
    this.tell(`a ${what}, milliseconds of CPU`, count / 1_000, cpu);
    const wrote = Object.entries(after.postgres).map(
      ([name, value]) => `${name} ${((value - before.postgres[name]!) / count).toFixed(2)}`,
    );
    this.note(`PostgreSQL, a ${what}: ${wrote.join(', ')}`);
  }

  private async snapshot(): Promise<Snapshot> {
    const { rows } = await this.cluster.db.pool.query<Record<string, string>>(
      `SELECT (SELECT wal_bytes FROM pg_stat_wal) AS "WAL bytes",
              (SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal') AS "WAL fsyncs",
              (SELECT sum(xact_commit) FROM pg_stat_database WHERE datname = 'remit') AS "commits of remit",
              (SELECT sum(xact_commit) FROM pg_stat_database WHERE datname LIKE 'temporal%') AS "commits of Temporal",
              (SELECT pg_database_size('remit')) AS "bytes of remit",
              (SELECT sum(pg_database_size(datname)) FROM pg_database WHERE datname LIKE 'temporal%') AS "bytes of Temporal"`,
    );
    const postgres = Object.fromEntries(
      Object.entries(rows[0]!).map(([name, value]) => [name, Number(value)]),
    );
    return { at: Date.now(), cpu: this.cpu.seconds(), postgres };
  }

  private tell(what: string, per: number, seconds: Map<string, number>): void {
    const parts = [...seconds].map(([part, value]) => `${part} ${(value / per).toFixed(2)}`);
    const sum = [...seconds.values()].reduce((total, value) => total + value, 0);
    this.note(`${what}: ${parts.join(', ')}; sum ${(sum / per).toFixed(2)}`);
  }

  private note(line: string): void {
    this.lines.push(line);
    this.say(line);
  }
}
