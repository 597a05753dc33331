import path from 'node:path';
import { createLogger } from '../platform/logging';
import { openDatabase } from '../platform/postgres';
import { createKeyring } from '../platform/secrets';
import { reencryptSecrets } from '../domain/secret-rotation';
import { callApi } from './api-call';
import { listDlqs, purgeDlq, redriveDlq, showDlq, type DlqAccess, type ShowOptions } from './dlq';
import { explainingKafka, requireBrokers } from './kafka-access';
import { listen } from './listen';
import { localAccess } from './local-access';
import { mintToken } from './token';

type Say = (line: string) => void;

/** How `redrive` reaches the API, for deliveries. */
export interface ApiOptions {
  url?: string;
  token?: string;
}

/** The access to the DLQs of the environment, or of the local installation. */
async function dlqAccess(dataDir: string, say: Say, { url, token }: ApiOptions = {}): Promise<DlqAccess> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const withBrokers = { ...config, KAFKA_BROKERS: requireBrokers(config, endpoints.kafka) };
  return {
    config: withBrokers,
    log: createLogger({ ...withBrokers, LOG_LEVEL: 'silent' }, 'dlq'),
    say,
    async resendDelivery(id, tenant) {
      const api = url ?? endpoints.api;
      if (!api) throw new Error('no API is known: start remit first (npm start), or name it with --url');
      const mint = () =>
        mintToken(config, { subject: 'operator', tenant, scopes: ['read', 'write'], expiresInS: 60 });
      const access = { api, token: token === undefined ? mint : () => Promise.resolve(token) };
      // What has been delivered or sent again since is refused (409).
      await callApi(access, 'POST', `/api/v1/deliveries/${encodeURIComponent(id)}/resend`, {
        onlyIf: 'exhausted',
      });
    },
  };
}

export async function runDlqLs(dataDir: string, say: Say): Promise<void> {
  await atKafka(dlqAccess(dataDir, say), listDlqs);
}

export async function runDlqShow(dataDir: string, options: ShowOptions, say: Say): Promise<void> {
  await atKafka(dlqAccess(dataDir, say), (access) => showDlq(access, options));
}

export async function runDlqRedrive(
  dataDir: string,
  { topic, limit, ...api }: { topic: string; limit: number } & ApiOptions,
  say: Say,
): Promise<void> {
  const signal = untilStopped();
  await atKafka(dlqAccess(dataDir, say, api), (access) => redriveDlq(access, { topic, limit, signal }));
}

export async function runDlqPurge(
  dataDir: string,
  options: { topic: string; all: boolean; confirm: (question: string) => Promise<boolean> },
  say: Say,
): Promise<void> {
  await atKafka(dlqAccess(dataDir, say), (access) => purgeDlq(access, options));
}

async function atKafka(
  opening: Promise<DlqAccess>,
  run: (access: DlqAccess) => Promise<unknown>,
): Promise<void> {
  const access = await opening;
  await explainingKafka(access.config, () => run(access));
}

/** A Ctrl-C may arrive twice, from the terminal and from a launcher, milliseconds apart. */
const SAME_SIGNAL_MS = 700;

/** Aborted by the first SIGINT or SIGTERM; a second one ends the process at once. */
function untilStopped(): AbortSignal {
  const ending = new AbortController();
  const signals = ['SIGINT', 'SIGTERM'] as const;
  const stop = () => {
    if (ending.signal.aborted) return;
    ending.abort();
    setTimeout(() => {
      for (const signal of signals) process.removeListener(signal, stop);
    }, SAME_SIGNAL_MS).unref();
  };
  for (const signal of signals) process.on(signal, stop);
  return ending.signal;
}

const LISTEN_TOKEN_S = 300;

export interface ListenCommand extends ApiOptions {
  events: string[];
  forward?: string;
  port: number;
  publicUrl?: string;
}

/** `remit listen`: until SIGINT or SIGTERM. */
export async function runListen(dataDir: string, command: ListenCommand, say: Say): Promise<void> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const api = command.url ?? endpoints.api;
  if (!api) throw new Error('no API is known: start remit first (npm start), or name it with --url');
  const given = command.token;
  const token = () =>
    given === undefined
      ? mintToken(config, { subject: 'listen', scopes: ['read', 'write'], expiresInS: LISTEN_TOKEN_S })
      : Promise.resolve(given);
  const { events, forward, port, publicUrl } = command;
  await listen({ api, token, events, forward, port, publicUrl, say, signal: untilStopped() });
}

const REENCRYPT_BATCH_ROWS = 500;

/** `remit reencrypt`: brings every secret to the present ENCRYPTION_KEY. */
export async function runReencrypt(dataDir: string, say: Say): Promise<void> {
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
    say(`${examined} subscriptions examined, ${reencrypted} of their secrets encrypted anew`);
    say(`${answers} kept answers (Idempotency-Key) encrypted anew`);
    say(
      'Nothing is encrypted with a former key any more: ENCRYPTION_KEYS_OLD can be emptied once every process has the new key.',
    );
  } finally {
    await db.close();
  }
}
