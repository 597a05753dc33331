import { readFileSync } from 'node:fs';
import path from 'node:path';
import { PROJECT_ROOT } from '../../../src/platform/project';
import { eventually } from '../../support/harness';
import { startOpsServer } from '../../../src/platform/ops-server';
import { newUser, TestApi } from '../api/support';
import { SDK_METRICS } from '../../unit/deploy/known-metrics';

let api: TestApi;
let url: string;
beforeAll(async () => {
  api = await TestApi.withWorkers();
  url = await startOpsServer(api.space.config, api.running.lifecycle);
}, 180_000);
afterAll(() => api?.stop(), 60_000);

interface Sample {
  name: string;
  labels: Record<string, string>;
  value: number;
}

const METRIC = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const LABEL = String.raw`([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"`;
const LINE = new RegExp(
  String.raw`^(${METRIC})(?:\{((?:${LABEL}(?:,|(?=\})))*)\})? (-?[0-9.eE+-]+|[Nn]a[Nn]|[+-]Inf)(?: \d+)?$`,
);

/**
 * Reads Prometheus' text (version 0.0.4) as strictly as `promtool check metrics` does.
 * @throws Error at the first line that is not valid.
 */
function parseMetrics(text: string): { types: Map<string, string>; samples: Sample[] } {
  const types = new Map<string, string>();
  const helps = new Set<string>();
  const closed = new Set<string>();
  const seen = new Set<string>();
  const samples: Sample[] = [];
  let family = '';
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  const enter = (name: string) => {
    if (name === family) return;
    if (family !== '') closed.add(family);
    if (closed.has(name)) throw new Error(`${name} comes in two places`);
    family = name;
  };
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const [, kind, subject = '', rest = ''] = /^# (HELP|TYPE) (\S+) ?(.*)$/.exec(line) ?? [];
    if (kind === 'HELP') {
      if (helps.has(subject)) throw new Error(`${subject} has two HELP lines`);
      helps.add(subject);
      enter(subject);
    } else if (kind === 'TYPE') {
      if (types.has(subject)) throw new Error(`${subject} has two TYPE lines`);
      if (!['counter', 'gauge', 'histogram', 'summary', 'untyped'].includes(rest))
        throw new Error(`${subject} is of no type: ${rest}`);
      types.set(subject, rest);
      enter(subject);
    } else if (!line.startsWith('#')) {
      const [, name = '', inner = '', , , value = ''] = LINE.exec(line) ?? [];
      if (name === '') throw new Error(`not a sample: ${line}`);
      const base = name.replace(/_(bucket|sum|count)$/, '');
      enter(types.get(base) === 'histogram' || types.get(base) === 'summary' ? base : name);
      const labels = Object.fromEntries(
        [...inner.matchAll(new RegExp(LABEL, 'g'))].map(([, key, text]) => [key!, text!]),
      );
      const id = `${name}${JSON.stringify(Object.entries(labels).sort())}`;
      if (seen.has(id)) throw new Error(`twice: ${line}`);
      seen.add(id);
      samples.push({ name, labels, value: Number(value.replace('Inf', 'Infinity')) });
    }
  }
  for (const [name, type] of types)
    if (type === 'counter' && samples.some((each) => each.name === name && !(each.value >= 0)))
      throw new Error(`the counter ${name} is negative`);
  return { types, samples };
}

const RARE = /_(failed|failure|hit|miss)_total$|activity_schedule_to_start/;
const CORE = 'node_modules/@temporalio/core-bridge/sdk-core/crates';
const sdkSource = [
  'sdk-core/src/telemetry/metrics.rs',
  'common/src/telemetry/metrics.rs',
  'client/src/metrics.rs',
]
  .map((file) => readFileSync(path.join(PROJECT_ROOT, CORE, file), 'utf8'))
  .join();

const metrics = async () => {
  const response = await fetch(`${url}/metrics`);
  expect(response.headers.get('content-type')).toContain('version=0.0.4');
  return parseMetrics(await response.text());
};

describe('the metrics of a worker', () => {
  it('are one valid text: remit’s own and those of Temporal’s SDK', async () => {
    const userId = newUser();
    await api.fund(userId, '10.00');
    const { body } = await api.asUser(userId, 'POST', '/orders', { amount: '1.00' });
    const { id } = body as { id: string };
    await eventually(async () => {
      const order = await api.asUser(userId, 'GET', `/orders/${id}`);
      expect(order.body).toMatchObject({ status: 'FINISHED' });
    });
    // Histograms appear with their first value; a workflow's end is counted after its last task.
    await eventually(async () => {
      const { types, samples } = await metrics();
      expect(types.get('remit_http_request_seconds')).toBe('histogram');
      expect(types.get('temporal_workflow_task_schedule_to_start_latency_seconds')).toBe('histogram');
      const ended = samples.find(
        ({ name, labels }) =>
          name === 'temporal_workflow_completed_total' && labels['workflow_type'] === 'orderWorkflow',
      );
      expect(ended?.value).toBeGreaterThanOrEqual(1);
    });
  });

  it('have the names and labels that alerts and dashboards ask for', async () => {
    const { types, samples } = await metrics();
    for (const [name, labels] of Object.entries(SDK_METRICS)) {
      // What has not happened has no series yet; its name is in the SDK's own source.
      if (!types.has(name) && RARE.test(name)) {
        expect(sdkSource).toContain(`"${name.replace(/^temporal_|_total$|_seconds$/g, '')}"`);
        continue;
      }
      expect([...types.keys()]).toContain(name);
      const found = samples.find((each) => each.name.startsWith(name));
      expect({ name, labels: Object.keys(found?.labels ?? {}) }).toEqual({
        name,
        labels: expect.arrayContaining([...labels]) as string[],
      });
    }
  });

  it('tell what waits in each task queue', async () => {
    const { samples } = await metrics();
    for (const name of ['remit_task_queue_backlog_tasks', 'remit_task_queue_backlog_age_seconds']) {
      const queues = samples
        .filter((each) => each.name === name)
        .map(({ labels }) => `${labels['task_queue']} ${labels['kind']}`);
      expect(queues.sort()).toEqual(
        ['deliveries', 'events', 'orders', 'payments'].flatMap((queue) => [
          `${queue} activity`,
          `${queue} workflow`,
        ]),
      );
    }
  });
});
