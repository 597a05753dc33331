import { existsSync, readFileSync, rmSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Connection } from '@temporalio/client';
import { z } from 'zod';
import type { Config } from '../platform/config';
import type { Logger } from '../platform/logging';
import { openDatabase } from '../platform/postgres';
import { connectTemporal } from '../platform/temporal';
import { recover, type RecoverReport } from './recover';
import { GroupsInUse } from './recover-groups';

/** In the data folder of a local installation whose PostgreSQL was restored, until Kafka and Temporal agree with it again. */
export const RESTORED_FILE = 'restored.json';
const Restored = z.object({ restoredTo: z.iso.datetime() });

/** In addition to a session, until the brokers know that killed roles are gone. */
const GROUPS_EMPTY_MS = 30_000;

/**
 * After `remit restore`, and before any role runs: ends the workflows that remember what has not happened, moves the bridge's
 * groups back to the restored time, and starts again what the database knows to be unfinished (`remit recover`). Does
 * nothing when there was no restore. Interrupted, it is done at the next start; safe to repeat.
 * @returns what was done.
 */
export async function recoverIfRestored(
  dataDir: string,
  config: Config,
  log: Logger,
  say: (line: string) => void,
): Promise<RecoverReport | undefined> {
  const file = path.join(dataDir, RESTORED_FILE);
  if (!existsSync(file)) return undefined;
  const { restoredTo } = Restored.parse(JSON.parse(readFileSync(file, 'utf8')));
  say(`PostgreSQL was restored to ${restoredTo}: bringing Kafka and Temporal to agree`);
  const db = openDatabase(config, log);
  const temporal = await connectTemporal(config);
  const deadline = Date.now() + config.KAFKA_SESSION_TIMEOUT_MS + GROUPS_EMPTY_MS;
  try {
    for (;;) {
      try {
        const report = await recover(
          { config, db, temporal },
          {
            dryRun: false,
            restoredTo: new Date(restoredTo),
            json: false,
            confirm: () => Promise.resolve(true),
          },
          say,
        );
        rmSync(file);
        return report;
      } catch (error) {
        if (!(error instanceof GroupsInUse) || Date.now() > deadline) throw error;
        await sleep(1_000);
      }
    }
  } finally {
    await db.close();
    await (temporal.connection as Connection).close();
  }
}
