import path from 'node:path';
import { reencryptSecrets } from '../domain/reencryption';
import { createLogger } from '../platform/logging';
import { openDatabase } from '../platform/postgres';
import { createKeyring } from '../platform/secrets';
import { localAccess } from './local-access';

const REENCRYPT_BATCH_ROWS = 500;

/** `remit reencrypt`: brings every secret to the present ENCRYPTION_KEY. */
export async function runReencrypt(dataDir: string, say: (line: string) => void): Promise<void> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const url = config.DATABASE_URL ?? endpoints.postgres;
  if (!url) throw new Error('no database is known: start remit first (npm start), or set DATABASE_URL');
  const keyring = createKeyring(config);
  const db = openDatabase(
    { ...config, DATABASE_URL: url },
    createLogger({ ...config, LOG_LEVEL: 'error' }, 'reencrypt'),
  );
  try {
    const { examined, reencrypted, answers } = await reencryptSecrets(db, keyring, REENCRYPT_BATCH_ROWS);
    say(`${examined} subscriptions examined, ${reencrypted} of their secrets re-encrypted`);
    say(`${answers} kept answers (Idempotency-Key) re-encrypted`);
    say(
      'Nothing in PostgreSQL is encrypted with a former key any more. ENCRYPTION_KEYS_OLD can be emptied once every process has the new key, and Temporal keeps no workflow that began under a former one (docs/encryption.md).',
    );
  } finally {
    await db.close();
  }
}
