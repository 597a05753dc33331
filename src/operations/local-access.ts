import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { loadConfig, type Config } from '../platform/config';
import type { Endpoints } from '../roles/local-stack';
import { secretVariable } from '../providers/names';
import type { Provider, Sample } from '../providers/provider';
import { sendProviderWebhook, sendSample } from './send';
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
  transaction?: string;
  type: string;
  status: string;
  id?: string;
  user: string;
  amount?: string;
  currency: string;
  eventId?: string;
  url?: string;
  secret?: string;
  list: boolean;
}

const SEND_TIMEOUT_MS = 15_000;

/**
 * `remit send`: posts one signed provider webhook and prints the answer: a sample of any provider, or with --transaction an
 * event of DeCard's.
 * @returns the process's exit code.
 * @throws Error that says what is missing or unknown.
 */
export async function runSend(
  dataDir: string,
  [name, sampleName]: readonly (string | undefined)[],
  options: SendOptions,
  say: (line: string) => void,
): Promise<number> {
  if (options.list) {
    samplesOf(loadConfig(process.env, []).providers, name).forEach(([provider, sample, { title }]) =>
      say(`${provider}  ${sample}  ${title}`),
    );
    return 0;
  }
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const url = options.url ?? endpoints.api;
  if (!url) throw new Error(`no API is known: ${HOW_TO_START}`);
  const { amount } = options;
  if (amount === undefined) throw new Error('--amount is missing: in major units, 100 is 100.00');
  const access = { url, timeoutMs: SEND_TIMEOUT_MS };
  const unreachable = (error: unknown) => {
    throw new Error(`${url} does not answer (${String(error)}): ${HOW_TO_START}`, { cause: error });
  };
  if (name === undefined) {
    if (options.transaction === undefined)
      throw new Error('name a provider and a sample (remit send --list), or a --transaction of DeCard’s');
    const answer = await sendProviderWebhook({
      ...access,
      secret: options.secret ?? config.PROVIDER_SECRET_DECARD,
      provider: 'decard',
      transactionId: options.transaction,
      status: options.status,
      amount,
      currency: options.currency,
      type: options.type,
      id: options.eventId,
    }).catch(unreachable);
    say(`${answer.status}  webhook-id ${answer.id}  ${answer.body}`);
    return answer.status === 202 ? 0 : 1;
  }

  const { provider, sample } = findSample(config.providers, name, sampleName);
  const secret = options.secret ?? config[secretVariable(provider.name)];
  if (!secret) throw new Error(`${secretVariable(provider.name)} is not set: set it, or give --secret`);
  const id = options.id ?? options.transaction;
  if (id === undefined) throw new Error('--id is missing: of the payment, payout or order');
  const { eventId, user: userId, currency } = options;
  const answer = await sendSample({
    ...access,
    secret,
    provider,
    sample,
    subject: { id, userId, amount, currency, eventId },
  }).catch(unreachable);
  say(`${answer.status}  event ${answer.id}  ${answer.body}`);
  return answer.status === (provider.acknowledgement?.status ?? 202) ? 0 : 1;
}

function samplesOf(
  providers: readonly Provider[],
  name: string | undefined,
): [provider: string, sample: string, Sample][] {
  return providers
    .filter((provider) => name === undefined || provider.name === name)
    .flatMap((provider) =>
      Object.entries(provider.samples).map(([sample, each]): [string, string, Sample] => [
        provider.name,
        sample,
        each,
      ]),
    );
}

function findSample(
  providers: readonly Provider[],
  name: string,
  sampleName: string | undefined,
): { provider: Provider; sample: Sample } {
  const provider = providers.find((each) => each.name === name);
  if (!provider)
    throw new Error(
      `there is no provider ${name}; there are ${providers.map((each) => each.name).join(', ')}`,
    );
  const { samples } = provider;
  const sample =
    sampleName !== undefined && Object.hasOwn(samples, sampleName) ? samples[sampleName] : undefined;
  if (!sample)
    throw new Error(`${name} has no sample ${sampleName ?? ''}; it has ${Object.keys(samples).join(', ')}`);
  return { provider, sample };
}
