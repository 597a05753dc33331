import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Player, type Row } from './player';
import { readSamples } from './samples';
import { WebhookReceiver } from './receiver';
import { Lifecycle } from '../platform/lifecycle';
import { createLogger } from '../platform/logging';
import { callerPath, PROJECT_ROOT } from '../platform/project';
import { createTable } from '../platform/table';
import { loadConfig, type Config } from '../platform/config';
import { createRoleContext } from '../roles/context';
import { localAccess } from '../operations/local-access';
import { withoutAddresses, type Endpoints } from '../roles/local-stack';

interface Target {
  endpoints: Endpoints;
  config: Config;
  stop(): Promise<void>;
}

/**
 * `remit demo`: plays `samples/` and prints what came out of each.
 * @returns the exit code: 0 when every row is as its sample expects.
 */
export async function runDemo(
  options: { endpoints?: string; receiverHost: string; keep?: boolean },
  say: (line: string) => void,
): Promise<number> {
  // Exit handlers stop the parts; a signal's default would not run them.
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));
  const target = options.endpoints
    ? await runningTarget(callerPath(options.endpoints))
    : await throwAwayTarget(say);
  try {
    const rows = await playAll(target, options.receiverHost, say);
    say(table(rows, target));
    const wrong = rows.filter(({ mistakes }) => mistakes.length > 0);
    for (const { title, mistakes } of wrong) say(`WRONG  ${title}\n  ${mistakes.join('\n  ')}`);
    say(
      wrong.length === 0
        ? `All ${rows.length} samples came out as they should.`
        : `${wrong.length} of ${rows.length} samples are wrong.`,
    );
    if (options.keep) await untilInterrupted(target, say);
    return wrong.length === 0 ? 0 : 1;
  } finally {
    await target.stop();
  }
}

async function throwAwayTarget(say: (line: string) => void): Promise<Target> {
  const { startLocalRemit } = await import('../roles/start.js');
  const dataDir = await mkdtemp(path.join(os.tmpdir(), 'remit-demo-'));
  say('starting a throw-away remit');
  const remit = await startLocalRemit({
    // A throw-away remit has throw-away parts: what the environment names may be someone's production.
    env: { LOG_LEVEL: 'error', ...withoutAddresses(process.env) },
    dataDir,
    ports: 'free',
    report: (line) => say(`  ${line}`),
  });
  return {
    endpoints: remit.endpoints,
    config: remit.config,
    async stop() {
      await remit.stop();
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

async function runningTarget(file: string): Promise<Target> {
  const { endpoints, config } = await localAccess(file);
  if (!endpoints.api) throw new Error(`${file} names no API: start remit first (npm start)`);
  const merged = loadConfig(
    { ...process.env, ...pickSecrets(config), KAFKA_BROKERS: endpoints.kafka, LOG_LEVEL: 'error' },
    ['KAFKA_BROKERS'],
  );
  return { endpoints, config: merged, stop: () => Promise.resolve() };
}

function pickSecrets({ AUTH_JWT_SECRET, PROVIDER_SECRET_DECARD }: Config): NodeJS.ProcessEnv {
  return { AUTH_JWT_SECRET, PROVIDER_SECRET_DECARD };
}

async function playAll(
  { endpoints, config }: Target,
  receiverHost: string,
  say: (line: string) => void,
): Promise<Row[]> {
  const samples = await readSamples(path.join(PROJECT_ROOT, 'samples'));
  const log = createLogger(config, 'demo');
  const lifecycle = new Lifecycle(log, config.SHUTDOWN_TIMEOUT_MS);
  const context = createRoleContext(config, log, lifecycle);
  const receiver = new WebhookReceiver();
  lifecycle.onStop('intake', 'receiver', () => receiver.close());
  try {
    const url = await receiver.listen(receiverHost);
    const run = randomBytes(3).toString('hex');
    const stage = {
      api: endpoints.api,
      config,
      kafka: context.kafka,
      producer: await context.producer(),
      receiver,
      run,
    };
    const player = new Player(stage);
    const subscription = (
      await player.call('POST', '/api/v1/subscriptions', 'demo', {
        url,
        eventTypes: ['*'],
        description: 'the demo',
      })
    ).body as { id: string; secret: string };
    receiver.verifyWith(subscription.secret);
    const rows: Row[] = [];
    for (const [index, sample] of samples.entries()) {
      say(`  playing ${sample.title}`);
      rows.push(await player.play(sample, index));
    }
    await player.call('DELETE', `/api/v1/subscriptions/${subscription.id}`, 'demo').catch(() => undefined);
    return rows;
  } finally {
    await lifecycle.stop();
  }
}

function table(rows: Row[], { endpoints, config }: Target): string {
  const columns = ['sample', 'answer', 'status', 'balance', 'webhooks received', ''];
  const grid = createTable(columns);
  for (const row of rows) {
    grid.push([
      row.title,
      row.answers.join(', '),
      row.status ?? (row.deadLetter ? `dead letter: ${row.deadLetter}` : ''),
      row.balance,
      row.webhooks
        .map(({ type, verified }) => `${type} ${verified ? '(verified)' : '(BAD SIGNATURE)'}`)
        .join('\n'),
      row.mistakes.length === 0 ? 'ok' : 'WRONG',
    ]);
    if (row.workflowId) {
      const link = `${endpoints.temporalUi}/namespaces/${config.TEMPORAL_NAMESPACE}/workflows/${encodeURIComponent(row.workflowId)}`;
      grid.push([{ colSpan: columns.length, content: `  ${row.workflowId}\n  ${link}` }]);
    }
  }
  return grid.toString();
}

async function untilInterrupted({ endpoints }: Target, say: (line: string) => void): Promise<void> {
  say(`The stack stays up. Temporal UI: ${endpoints.temporalUi}  API: ${endpoints.api}  Ctrl-C ends it.`);
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      process.removeAllListeners(signal);
      process.once(signal, () => resolve());
    }
  });
}
