import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { secretVariable } from '../providers/names';
import { BUILT_IN_PROVIDERS } from '../providers/registry';

const webhookSecret = () => `whsec_${randomBytes(32).toString('base64')}`;

const Secrets = z.object({
  AUTH_JWT_SECRET: z.string(),
  // Files of before there was a provider have none of its.
  ...Object.fromEntries(
    BUILT_IN_PROVIDERS.map(({ name, secret }) => [
      secretVariable(name),
      z.string().default(() => secret.generate()),
    ]),
  ),
  PROVIDER_SECRET_PAYMENTS: z.string().default(webhookSecret),
  ENCRYPTION_KEY: z.string(),
});
export type LocalSecrets = Record<string, string>;

/**
 * The secrets of a local installation: made at random on the first start, kept in `secrets.json` (mode 600) so that
 * tokens, signatures and encrypted data survive a restart. The folder has been claimed before. Production sets the variables instead.
 */
export async function localSecrets(dataDir: string): Promise<LocalSecrets> {
  const file = path.join(dataDir, 'secrets.json');
  try {
    const given: unknown = JSON.parse(await readFile(file, 'utf8'));
    const secrets = Secrets.parse(given);
    if (Object.keys(secrets).some((name) => !(name in (given as object)))) await writeSecrets(file, secrets);
    return secrets;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new Error(`${file} is not readable as secrets; mend it or run "npm run remit -- reset"`, {
        cause: error,
      });
  }
  const secrets: LocalSecrets = Secrets.parse({
    AUTH_JWT_SECRET: randomBytes(32).toString('base64url'),
    ENCRYPTION_KEY: randomBytes(32).toString('base64'),
  });
  await writeSecrets(file, secrets);
  return secrets;
}

function writeSecrets(file: string, secrets: LocalSecrets): Promise<void> {
  return writeFile(file, `${JSON.stringify(secrets, null, 2)}\n`, { mode: 0o600 });
}
