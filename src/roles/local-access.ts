import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { loadConfig, type Config } from '../platform/config';
import type { Endpoints } from './local-stack';
import { sendProviderWebhook } from './send';
import { mintToken } from './token';

/** How the CLI reaches a remit: what the environment says, completed by the files of a local installation. */
export interface Access {
  endpoints: Endpoints;
  config: Config;
}

/** Reads a JSON file of the data folder; an empty object when there is none. */
async function readOptional(file: string): Promise<Record<string, string>> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Record<string, string>;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new Error(`${file} is not readable: ${String(error)}`, { cause: error });
  }
}

/** Endpoints and secrets of the installation whose endpoints file this is; variables that are set win. */
export async function localAccess(endpointsFile: string): Promise<Access> {
  const folder = path.dirname(endpointsFile);
  const [endpoints, secrets] = await Promise.all([
    readOptional(endpointsFile),
    readOptional(path.join(folder, 'secrets.json')),
  ]);
  const env = { ...secrets, ...process.env };
  return { endpoints: endpoints as unknown as Endpoints, config: loadConfig(env, []) };
}

const HOW_TO_START = 'start remit first (npm start), or name the API with --url';

/** `remit token`: a bearer token, signed with the key in the environment or of the local installation. */
export async function runToken(
  dataDir: string,
  options: { subject: string; tenant?: string; scope: string[]; expiresS: number },
): Promise<string> {
  const { config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const { subject, tenant, scope, expiresS } = options;
  return mintToken(config, { subject, tenant, scopes: scope, expiresInS: expiresS });
}

export interface SendOptions {
  transaction: string;
  type: string;
  status: string;
  amount: string;
  currency: string;
  eventId?: string;
  url?: string;
  secret?: string;
}

const SEND_TIMEOUT_MS = 15_000;

/** `remit send`: posts one signed provider webhook and prints the answer. @returns the process's exit code. */
export async function runSend(
  dataDir: string,
  options: SendOptions,
  say: (line: string) => void,
): Promise<number> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const url = options.url ?? endpoints.api;
  if (!url) throw new Error(`no API is known: ${HOW_TO_START}`);
  const answer = await sendProviderWebhook({
    url,
    secret: options.secret ?? config.PROVIDER_SECRET_DECARD,
    provider: 'decard',
    transactionId: options.transaction,
    status: options.status,
    amount: options.amount,
    currency: options.currency,
    type: options.type,
    id: options.eventId,
    timeoutMs: SEND_TIMEOUT_MS,
  }).catch((error: unknown) => {
    throw new Error(`${url} does not answer (${String(error)}): ${HOW_TO_START}`, { cause: error });
  });
  say(`${answer.status}  webhook-id ${answer.id}  ${answer.body}`);
  return answer.status === 202 ? 0 : 1;
}
