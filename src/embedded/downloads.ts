import path from 'node:path';
import { cacheProblem, embeddedCacheDir } from './cache';
import { findJava } from './java';
import { KAFKA_JARS, kafkaArchive } from './kafka';
import { ensureKafkaArchive } from './kafka-archive';
import { waitForLock } from '../platform/lock';
import { ensureJars, haveJars } from './maven';
import { checkPrerequisites, thisMachine } from './prerequisites';
import { ensureTemporalCli, findTemporalCli } from './temporal-cli';
import { EmbeddedError, type EmbeddedPart } from './types';
import { existsSync } from 'node:fs';

const LOCK_TIMEOUT_MS = 20 * 60_000;

/**
 * Brings what these parts need into the cache of this user: pinned versions, verified checksums, progress by
 * `report`. Returns at once when everything is there. Of two processes that need the same thing, one waits
 * for the other. Throws an EmbeddedError that names every missing program (Java, Maven, Go), or says that the cache can't be
 * written, before it begins. What is in a cache that can't be written is used as it is.
 */
export async function ensureDownloads(
  parts: readonly EmbeddedPart[],
  report: (line: string) => void,
): Promise<void> {
  checkPrerequisites(parts, thisMachine());
  const jobs: Promise<void>[] = [];
  // Without the archive of class data the broker starts a little slower; without its jars it does not.
  const brokerWillDo = haveJars(KAFKA_JARS) && cacheProblem() !== undefined;
  if (parts.includes('kafka') && !haveKafka() && !brokerWillDo)
    jobs.push(once('kafka', report, () => ensureKafka(report)));
  if (parts.includes('temporal') && findTemporalCli() === undefined) {
    jobs.push(once('temporal', report, () => ensureTemporalCli(report)));
  }
  // Every job ends before an error is told: a half-done build in the background would outlive its message.
  const results = await Promise.allSettled(jobs);
  for (const result of results) if (result.status === 'rejected') throw result.reason;
}

function haveKafka(): boolean {
  const java = findJava();
  if (java === undefined || !haveJars(KAFKA_JARS)) return false;
  return existsSync(kafkaArchive(java)) || existsSync(`${kafkaArchive(java)}.failed`);
}

async function ensureKafka(report: (line: string) => void): Promise<void> {
  await ensureJars(KAFKA_JARS, report);
  const java = findJava();
  if (java !== undefined) await ensureKafkaArchive(java, report);
}

/**
 * Runs a job under the cache's lock of that name. The job itself sees whether another has done it meanwhile.
 * @throws EmbeddedError when the cache can't be written.
 */
export async function once(
  name: string,
  report: (line: string) => void,
  job: () => Promise<void>,
): Promise<void> {
  const problem = cacheProblem();
  if (problem !== undefined) throw new EmbeddedError(problem);
  const file = path.join(embeddedCacheDir(process.env), `${name}.lock`);
  const lock = await waitForLock(file, LOCK_TIMEOUT_MS, ({ pid }) =>
    report(`${name}: process ${pid} is bringing it already, waiting for that`),
  );
  try {
    await job();
  } finally {
    lock.release();
  }
}
