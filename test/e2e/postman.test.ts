import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { Webhook } from 'standardwebhooks';
import { SecretRotated } from '../../src/contracts/subscriptions';
import { migrateClickHouse } from '../../src/platform/clickhouse-migrations';
import { PROJECT_ROOT } from '../../src/platform/project';
import { mintToken } from '../../src/operations/token';
import { TestApi } from '../integration/api/support';
import { subscriber, type Subscriber } from '../support/subscriber';

const NEWMAN = path.join(PROJECT_ROOT, 'node_modules', 'newman', 'bin', 'newman.js');
const COLLECTION = path.join(PROJECT_ROOT, 'postman_collection.json');
const RUN_MS = 170_000;

let api: TestApi;
let hooks: Subscriber;
let folder: string;
beforeAll(async () => {
  [api, hooks, folder] = await Promise.all([
    TestApi.withWorkers(),
    subscriber((response) => response.end()),
    mkdtemp(path.join(os.tmpdir(), 'remit-postman-')),
  ]);
  await migrateClickHouse(api.space.config, api.space.log);
}, 180_000);
afterAll(async () => {
  await api?.stop();
  await hooks?.close();
  await rm(folder, { recursive: true, force: true });
});

/** What newman's JSON report says of a run. */
interface Report {
  run: {
    stats: Record<
      'requests' | 'assertions' | 'prerequestScripts' | 'testScripts',
      { total: number; failed: number }
    >;
    failures: { source?: { name: string }; error: { message: string } }[];
    executions: { item: { name: string }; response?: { code: number; stream: { data: number[] } } }[];
  };
}

/** Imports the collection again and runs it, or a folder of it, from top to bottom with what a user sets. */
async function runCollection(
  changes: Record<string, string> = {},
  options: string[] = [],
): Promise<Report['run']> {
  const { config } = api.space;
  const variables = {
    baseUrl: api.url,
    token: await mintToken(config, { subject: 'postman', scopes: ['admin', 'platform'], expiresInS: 600 }),
    secondToken: await mintToken(config, { subject: 'second', scopes: ['admin'], expiresInS: 600 }),
    decardSecret: config.PROVIDER_SECRET_DECARD,
    orderWebhookSecret: config.ORDER_WEBHOOK_SECRET,
    subscriberUrl: `${hooks.url}/hook`,
    ...changes,
  };
  const file = path.join(folder, 'report.json');
  const given = Object.entries(variables).flatMap(([key, value]) => ['--env-var', `${key}=${value}`]);
  const report = ['--reporters', 'json', '--reporter-json-export', file];
  const args = [NEWMAN, 'run', COLLECTION, ...given, ...options, ...report];
  // Its exit code says no more than the report.
  await promisify(execFile)(process.execPath, args, { timeout: RUN_MS }).catch(() => undefined);
  return (JSON.parse(await readFile(file, 'utf8')) as Report).run;
}

const failuresOf = ({ failures }: Report['run']) =>
  failures.map(({ source, error }) => `${source?.name ?? ''}: ${error.message}`);

describe('the Postman collection', () => {
  test.each(['first', 'second'])(
    'passes from top to bottom as it is imported, and its event arrives: the %s run',
    async () => {
      hooks.received.length = 0;
      const run = await runCollection();
      expect(failuresOf(run)).toEqual([]);
      expect(run.stats.assertions.total).toBeGreaterThan(65);
      const { testScripts, prerequestScripts } = run.stats;
      expect(testScripts.failed + prerequestScripts.failed).toBe(0);

      const rotation = run.executions.find(({ item }) =>
        item.name.startsWith('Give a subscription a new secret'),
      );
      const { secret } = SecretRotated.parse(
        JSON.parse(Buffer.from(rotation?.response?.stream.data ?? []).toString('utf8')),
      );
      const event = hooks.received.find(({ body }) => body.includes('"type":"invoice.paid'));
      expect(event?.headers['x-team']).toBe('accounting');
      const headers = event?.headers as Record<string, string>;
      expect(() => new Webhook(secret).verify(event?.body ?? '', headers)).not.toThrow();
    },
    RUN_MS,
  );

  test('says which secret is missing, and uses neither for the other', async () => {
    const run = await runCollection({ orderWebhookSecret: '' }, ['--folder', 'Provider webhooks']);
    const failures = failuresOf(run).filter((failure) => failure.includes('Set the variable'));
    expect(failures).toEqual([
      expect.stringMatching(/^Take a provider’s report on an order.*Set the variable orderWebhookSecret/),
    ]);
  });
});
