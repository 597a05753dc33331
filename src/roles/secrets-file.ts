import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { z } from 'zod';
import { secretVariable } from '../providers/names';
import type { Provider } from '../providers/provider';

const webhookSecret = () => `whsec_${randomBytes(32).toString('base64')}`;

const secretsOf = (providers: readonly Provider[]) =>
  z
    .object({
      AUTH_JWT_SECRET: z.string(),
      // Files of before there was a provider have none of its.
      ...Object.fromEntries(
        providers.map(({ name, secret }) => [
          secretVariable(name),
          z.string().default(() => secret.generate()),
        ]),
      ),
      ORDER_WEBHOOK_SECRET: z.string().default(webhookSecret),
      ENCRYPTION_KEY: z.string(),
    })
    // Of providers whose file is not given this time: they may be there the next time.
    .catchall(z.string());
export type LocalSecrets = Record<string, string>;

/**
 * The secrets of a local installation: made at random on the first start, kept in `secrets.json` (mode 600) so that tokens,
 * signatures and encrypted data survive a restart. The folder has been claimed before. Production sets the variables instead.
 */
export async function localSecrets(dataDir: string, providers: readonly Provider[]): Promise<LocalSecrets> {
  const Secrets = secretsOf(providers);
  const file = path.join(dataDir, 'secrets.json');
  try {
    const given: unknown = JSON.parse(await readFile(file, 'utf8'));
    const secrets = Secrets.parse(given);
    if (Object.keys(secrets).some((name) => !(name in (given as object)))) await writeSecrets(file, secrets);
    return secrets;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT')
      throw new Error(`${file} is not readable as secrets; correct it or run "npm run remit -- reset"`, {
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
