import { randomUUID } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { Webhook } from 'standardwebhooks';
import { Pool } from 'undici';
import { createLogger } from '../../src/platform/logging';
import { openDatabase, type Database } from '../../src/platform/postgres';
import { createAccount } from '../../src/domain/accounts';
import { startLocalStack, withoutAddresses, type LocalStack } from '../../src/roles/local-stack';
import { migrate } from '../../src/roles/migrate';

/** A throw-away stack with migrations applied and no role running. */
export interface Stage extends LocalStack {
  db: Database;
  close(): Promise<void>;
}

export async function openStage(
  progress: (line: string) => void,
  env: NodeJS.ProcessEnv = {},
): Promise<Stage> {
  const dataDir = await mkdtemp(path.join(os.tmpdir(), 'remit-bench-'));
  const stack = await startLocalStack({
    env: { LOG_LEVEL: 'error', ...withoutAddresses(process.env), ...env },
    dataDir,
    ports: 'free',
    report: progress,
  });
  const log = createLogger(stack.config, 'bench');
  await migrate(stack.config, log);
  const db = openDatabase(stack.config, log);
  return {
    ...stack,
    db,
    async close() {
      await db.close();
      await stack.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = net.createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as net.AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

export interface SignedWebhook {
  transactionId: string;
  body: string;
  headers: Record<string, string>;
}

/** A DeCard success webhook of 100.00 TRY, signed now. */
export function signedWebhook(secret: string, transactionId: string): SignedWebhook {
  const body = JSON.stringify({
    provider: 'decard',
    transactionId,
    status: 'success',
    amount: 100,
    currency: 'TRY',
    type: 'payment',
  });
  const id = `msg_${randomUUID()}`;
  const now = new Date();
  return {
    transactionId,
    body,
    headers: {
      'content-type': 'application/json',
      'webhook-id': id,
      'webhook-timestamp': String(Math.floor(now.getTime() / 1_000)),
      'webhook-signature': new Webhook(secret).sign(id, now, body),
    },
  };
}

/** Pending payments of 100.00 TRY spread over `users` accounts. @returns their ids. */
export async function seedPayments(db: Database, count: number, users: number): Promise<string[]> {
  const run = randomUUID().slice(0, 8);
  const accounts = await Promise.all(
    Array.from({ length: users }, (_, i) =>
      createAccount(db, { tenantId: 'default', userId: `bench-${run}-${i}`, currency: 'TRY' }),
    ),
  );
  const ids = Array.from({ length: count }, () => randomUUID());
  await db.prisma.payment.createMany({
    data: ids.map((id, i) => {
      const account = accounts[i % users]!;
      return {
        id,
        tenantId: 'default',
        type: 'payment',
        provider: 'decard',
        accountId: account.id,
        userId: account.userId,
        amountMinor: 10_000n,
        currency: 'TRY',
        expiresAt: new Date(Date.now() + 86_400_000),
      };
    }),
  });
  return ids;
}

/** Posts each webhook once over `connections` keep-alive connections. @returns webhooks accepted per second. */
export async function postAll(
  origin: string,
  path: string,
  webhooks: readonly SignedWebhook[],
  connections: number,
): Promise<number> {
  const pool = new Pool(origin, { connections, pipelining: 1 });
  const startedAt = performance.now();
  let next = 0;
  const lane = async (): Promise<void> => {
    for (let webhook = webhooks[next++]; webhook; webhook = webhooks[next++]) {
      const { statusCode, body } = await pool.request({
        path,
        method: 'POST',
        headers: webhook.headers,
        body: webhook.body,
      });
      await body.dump();
      if (statusCode !== 202) throw new Error(`${origin}${path} answered ${statusCode}`);
    }
  };
  await Promise.all(Array.from({ length: connections }, lane));
  const seconds = (performance.now() - startedAt) / 1_000;
  await pool.close();
  return webhooks.length / seconds;
}
