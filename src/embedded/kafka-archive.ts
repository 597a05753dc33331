import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, openSync, closeSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Java } from './java';
import { KAFKA_STARTED, kafkaArchive, kafkaArguments, kafkaEnv, prepareKafka } from './kafka';
import { readLogFrom } from './log-file';
import { seconds } from './maven';
import { PortAllocator } from './ports';

const TRAINING_TIMEOUT_MS = 60_000;

/**
 * Starts a throw-away broker once and lets Java write the classes it loaded to an archive that later starts
 * map into memory. A convenience: when it fails, a note is left and brokers start without it.
 */
export async function ensureKafkaArchive(java: Java, report: (line: string) => void): Promise<void> {
  const archive = kafkaArchive(java);
  const failed = `${archive}.failed`;
  if (existsSync(archive) || existsSync(failed)) return;
  const startedAt = Date.now();
  const folder = mkdtempSync(path.join(tmpdir(), 'remit-kafka-'));
  const aside = `${archive}.${process.pid}.tmp`;
  try {
    await train(java, folder, aside);
    renameSync(aside, archive);
    report(`Kafka: class data archived for faster starts (${seconds(startedAt)} s)`);
  } catch (error) {
    writeFileSync(failed, `${String(error)}\n`);
    report(`Kafka: no class-data archive (${String(error)}); it still starts, a little slower`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
    rmSync(aside, { force: true });
  }
}

async function train(java: Java, folder: string, archive: string): Promise<void> {
  const ports = new PortAllocator();
  const place = {
    dir: path.join(folder, 'data'),
    port: await ports.free(),
    controllerPort: await ports.free(),
  };
  const properties = await prepareKafka(place, java);
  const log = path.join(folder, 'log');
  const fd = openSync(log, 'a');
  const child = spawn(
    java.executable,
    kafkaArguments(properties, 512, [`-XX:ArchiveClassesAtExit=${archive}`]),
    {
      stdio: ['ignore', fd, fd],
      env: kafkaEnv(),
      detached: true,
    },
  );
  closeSync(fd);
  const state = { ended: false };
  const end = new Promise<void>((resolve) => {
    const done = (): void => {
      state.ended = true;
      resolve();
    };
    child.once('exit', done);
    child.once('error', done);
  });
  const timer = setTimeout(() => child.kill('SIGKILL'), TRAINING_TIMEOUT_MS);
  try {
    while (!state.ended && !KAFKA_STARTED.test(readLogFrom(log, 0))) await sleep(50);
    child.kill('SIGTERM');
    await end;
  } finally {
    clearTimeout(timer);
    if (!state.ended) child.kill('SIGKILL');
  }
  if (!existsSync(archive))
    throw new Error(`Java wrote none: ${readLogFrom(log, 0).trim().split('\n').at(-1) ?? ''}`);
}
