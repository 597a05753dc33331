import path from 'node:path';
import { createLogger } from '../platform/logging';
import { openDatabase } from '../platform/postgres';
import { createKeyring } from '../platform/secrets';
import { reencryptSecrets } from '../domain/secret-rotation';
import { listDlqs, purgeDlq, redriveDlq, showDlq, type DlqAccess } from './dlq';
import { callApi, listen } from './listen';
import { localAccess } from './local-access';
import { mintToken } from './token';

type Say = (line: string) => void;

/** The access to the DLQs of the environment, or of the local installation. */
async function dlqAccess(dataDir: string, say: Say): Promise<DlqAccess> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const brokers = config.KAFKA_BROKERS ?? (endpoints.kafka ? [endpoints.kafka] : undefined);
  if (!brokers) throw new Error('no Kafka is known: start remit first (npm start), or set KAFKA_BROKERS');
  const withBrokers = { ...config, KAFKA_BROKERS: brokers };
  return {
    config: withBrokers,
    log: createLogger({ ...withBrokers, LOG_LEVEL: 'error' }, 'dlq'),
    say,
    async resendDelivery(id, tenant) {
      const token = await mintToken(config, {
        subject: 'operator',
        tenant,
        scopes: ['read', 'write'],
        expiresInS: 60,
      });
      const api = process.env['REMIT_API_URL'] ?? endpoints.api;
      if (!api) throw new Error('no API is known: start remit first (npm start), or set REMIT_API_URL');
      await callApi({ api, token }, 'POST', `/api/v1/deliveries/${id}/resend`);
    },
  };
}

export async function runDlqLs(dataDir: string, say: Say): Promise<void> {
  await listDlqs(await dlqAccess(dataDir, say));
}

export async function runDlqShow(
  dataDir: string,
  options: { topic: string; limit: number; values: boolean },
  say: Say,
): Promise<void> {
  await showDlq(await dlqAccess(dataDir, say), options);
}

export async function runDlqRedrive(
  dataDir: string,
  options: { topic: string; limit: number },
  say: Say,
): Promise<void> {
  await redriveDlq(await dlqAccess(dataDir, say), options);
}

export async function runDlqPurge(
  dataDir: string,
  options: { topic: string; all: boolean },
  say: Say,
): Promise<void> {
  await purgeDlq(await dlqAccess(dataDir, say), options);
}

const LISTEN_TOKEN_S = 24 * 3_600;

export interface ListenCommand {
  events: string[];
  forward?: string;
  port: number;
  url?: string;
  token?: string;
  publicUrl?: string;
}

/** `remit listen`: until SIGINT or SIGTERM. */
export async function runListen(dataDir: string, command: ListenCommand, say: Say): Promise<void> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const api = command.url ?? endpoints.api;
  if (!api) throw new Error('no API is known: start remit first (npm start), or name it with --url');
  const token =
    command.token ??
    (await mintToken(config, { subject: 'listen', scopes: ['read', 'write'], expiresInS: LISTEN_TOKEN_S }));
  const ending = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => ending.abort());
  const { events, forward, port, publicUrl } = command;
  await listen({ api, token, events, forward, port, publicUrl, say, signal: ending.signal });
}

const REENCRYPT_BATCH_ROWS = 500;

/** `remit reencrypt`: brings every secret to the present ENCRYPTION_KEY. */
export async function runReencrypt(dataDir: string, say: Say): Promise<void> {
  const { endpoints, config } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const db = openDatabase(
    { ...config, DATABASE_URL: config.DATABASE_URL ?? endpoints.postgres },
    createLogger({ ...config, LOG_LEVEL: 'error' }, 'reencrypt'),
  );
  try {
    const { examined, reencrypted } = await reencryptSecrets(db, createKeyring(config), REENCRYPT_BATCH_ROWS);
    say(`${examined} subscriptions examined, ${reencrypted} secrets encrypted anew`);
  } finally {
    await db.close();
  }
}
