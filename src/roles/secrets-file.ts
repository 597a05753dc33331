import { randomBytes } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';

const Secrets = z.object({
  AUTH_JWT_SECRET: z.string(),
  PROVIDER_SECRET_DECARD: z.string(),
  ENCRYPTION_KEY: z.string(),
});
export type LocalSecrets = z.infer<typeof Secrets>;

/**
 * The secrets of a local installation: made at random on the first start, kept in `secrets.json` (mode 600) so that
 * tokens, signatures and encrypted data survive a restart. Production sets the variables instead.
 */
export async function localSecrets(dataDir: string): Promise<LocalSecrets> {
  const file = path.join(dataDir, 'secrets.json');
  try {
    return Secrets.parse(JSON.parse(await readFile(file, 'utf8')));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new Error(`${file} is not readable as secrets; mend it or run "npm run remit -- reset"`, {
        cause: error,
      });
  }
  const secrets: LocalSecrets = {
    AUTH_JWT_SECRET: randomBytes(32).toString('base64url'),
    PROVIDER_SECRET_DECARD: `whsec_${randomBytes(32).toString('base64')}`,
    ENCRYPTION_KEY: randomBytes(32).toString('base64'),
  };
  await mkdir(dataDir, { recursive: true, mode: 0o700 });
  await writeFile(file, `${JSON.stringify(secrets, null, 2)}\n`, { mode: 0o600 });
  return secrets;
}
