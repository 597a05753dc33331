import { appendFileSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Kafka, Producer } from 'kafkajs';
import { createProducer } from '../../../src/platform/kafka-produce';
import { rangesOf, withAdmin } from '../../../src/platform/topic-reader';
import { purchaseGenerator, type GeneratedPurchase } from '../../../src/operations/purchase-generator';
import { craftBatch, recordsOf } from '../../support/record-batches';

const EACH_MS = 1_000;

/** Produces purchases, good and bad ones, into a topic that is deleted and created again under it. */
export class Purchases {
  readonly good = new Set<string>();
  /** Offsets that former incarnations of the topic had. */
  formerOffsets = 0n;
  /** Values that were written into the log by hand and can't be read. */
  crafted = 0;
  paused = false;
  running = true;
  private busy = false;
  private producer: Producer | undefined;
  private readonly next: () => GeneratedPurchase;

  constructor(
    private readonly kafka: Kafka,
    private readonly topic: string,
    private readonly perSecond: number,
    private readonly options: {
      next?: () => GeneratedPurchase;
      /** Told of the ids of good ones that are about to be sent together. */
      begun?: (ids: string[]) => void;
    } = {},
  ) {
    this.next = options.next ?? purchaseGenerator({ seed: 7, badShare: 0.01 });
  }

  async run(): Promise<void> {
    while (this.running) {
      await sleep(EACH_MS);
      if (this.paused) continue;
      this.busy = true;
      try {
        await this.send();
      } finally {
        this.busy = false;
      }
    }
    await this.producer?.disconnect().catch(() => undefined);
  }

  /** Whatever becomes of the broker; of a producer that is given up nobody knows what it stored. */
  private async send(): Promise<void> {
    const made = Array.from({ length: this.perSecond }, this.next);
    const messages = made.map(({ key, value }) => ({ key, value }));
    const good = made.flatMap(({ key, mistake }) => (mistake === undefined ? [key] : []));
    if (good.length > 0) this.options.begun?.(good);
    for (;;) {
      try {
        this.producer ??= await this.connect();
        await this.producer.send({ topic: this.topic, acks: -1, messages });
        break;
      } catch {
        await this.producer?.disconnect().catch(() => undefined);
        this.producer = undefined;
        await sleep(500);
      }
    }
    for (const key of good) this.good.add(key);
  }

  private async connect(): Promise<Producer> {
    const producer = createProducer(this.kafka, { maxInFlightRequests: 1 });
    await producer.connect();
    return producer;
  }

  async pause(): Promise<void> {
    this.paused = true;
    while (this.busy) await sleep(100);
    await this.producer?.disconnect().catch(() => undefined);
    this.producer = undefined;
  }

  async offsets(): Promise<bigint> {
    return withAdmin(this.kafka, async (admin) =>
      (await rangesOf(admin, this.topic)).reduce((sum, { low, high }) => sum + high - low, 0n),
    );
  }
}

/** The offset behind the last batch of a log segment. */
function endOf(log: Buffer): number {
  let [at, end] = [0, 0];
  while (at + 61 <= log.length) {
    const length = log.readInt32BE(at + 8);
    if (length <= 0 || at + 12 + length > log.length) break;
    end = Number(log.readBigInt64BE(at)) + log.readInt32BE(at + 23) + 1;
    at += 12 + length;
  }
  return end;
}

/**
 * Appends batches that no consumer can read to a partition's log while its broker is stopped: a codec that there is not,
 * and one whose content is none of its codec. @returns how many offsets they take; 0 when the log is not there.
 */
export async function appendUnreadable(folder: string, topic: string, partition: number): Promise<number> {
  const logs = path.join(folder, 'kafka', `${topic}-${partition}`);
  if (!existsSync(logs)) return 0;
  const last = readdirSync(logs)
    .filter((name) => name.endsWith('.log'))
    .sort()
    .at(-1)!;
  const file = path.join(logs, last);
  // Preallocated or empty files have no batch to follow.
  const end = endOf(readFileSync(file));
  if (end === 0) return 0;
  appendFileSync(
    file,
    Buffer.concat([
      await craftBatch({ baseOffset: end, body: recordsOf(['a', 'b', 'c']), count: 3, attributes: 6 }),
      await craftBatch({ baseOffset: end + 3, body: Buffer.from('no zstd at all'), count: 2, attributes: 4 }),
    ]),
  );
  return 5;
}
