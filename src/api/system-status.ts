import type { Client } from '@temporalio/client';
import type { Admin, Kafka } from 'kafkajs';
import type { SystemStatus } from '../contracts/system';
import { TASK_QUEUES } from '../contracts/workflows';
import { checkClickHouse, createClickHouse } from '../platform/clickhouse';
import type { Config } from '../platform/config';
import { checkTemporal } from '../platform/temporal';
import { withAdmin } from '../platform/topic-reader';
import { bridgeGroups } from '../platform/topics';
import type { ApiDeps } from './routes/route';
import { callTemporal } from './temporal-call';

type Deps = Pick<ApiDeps, 'config' | 'database' | 'kafka' | 'log' | 'temporal'>;
type Problem = SystemStatus['problems'][number];

/** Longest wait for one part of the answer. */
const PART_MS = 5_000;
const OUTBOX_COUNTED_MAX = 10_000;
/** Beyond these it is worth a look. */
const LAG_WARNING = 1_000;
const OUTBOX_WARNING_S = 30;

async function within<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${PART_MS} ms`)), PART_MS);
  });
  work.catch(() => undefined);
  try {
    return await Promise.race([work, late]);
  } finally {
    clearTimeout(timer);
  }
}

const reasonOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** What a part says, or `otherwise` and why it says nothing. */
async function ask<T>(work: () => Promise<T>, otherwise: T): Promise<{ value: T; state: string }> {
  try {
    return { value: await within(work()), state: 'ok' };
  } catch (error) {
    return { value: otherwise, state: reasonOf(error) };
  }
}

/** Measures the installation; what does not answer within seconds is named and left out. */
export async function systemStatus(deps: Deps): Promise<SystemStatus> {
  const { config, database, kafka } = deps;
  const nothing = { waiting: 0, oldestSeconds: 0, refused: 0 };
  const [postgres, consumers, workers, temporal, clickhouse] = await Promise.all([
    ask(() => outboxOf(database), nothing),
    ask(() => consumersOf(kafka, config), []),
    ask(() => workersOf(deps), []),
    ask(() => callTemporal(deps, 'system', checkTemporal), undefined),
    ask(() => pingClickHouse(config), undefined),
  ]);
  const dependencies = {
    postgres: postgres.state,
    kafka: consumers.state,
    temporal: temporal.state,
    clickhouse: clickhouse.state,
  };
  const status = {
    at: new Date().toISOString(),
    dependencies,
    outbox: postgres.value,
    consumers: consumers.value,
    workers: workers.value,
    temporal: { namespace: config.TEMPORAL_NAMESPACE, uiUrl: config.TEMPORAL_UI_URL ?? null },
  };
  return { ...status, problems: problemsOf(status) };
}

async function outboxOf({ pool }: Deps['database']): Promise<SystemStatus['outbox']> {
  const { rows } = await pool.query<SystemStatus['outbox']>(
    `SELECT (SELECT count(*) FROM (SELECT FROM outbox LIMIT ${OUTBOX_COUNTED_MAX}) AS counted)::int AS waiting,
            coalesce(extract(epoch FROM now() - (SELECT created_at FROM outbox ORDER BY id LIMIT 1)), 0)::float AS "oldestSeconds",
            (SELECT count(*) FROM (SELECT FROM outbox_refused LIMIT ${OUTBOX_COUNTED_MAX}) AS counted)::int AS refused`,
  );
  return rows[0]!;
}

async function pingClickHouse(config: Config): Promise<void> {
  const client = createClickHouse(config, false);
  try {
    await checkClickHouse(client);
  } finally {
    await client.close();
  }
}

async function consumersOf(kafka: Kafka, config: Config): Promise<SystemStatus['consumers']> {
  const groups = [
    ...bridgeGroups(config),
    { group: `${config.KAFKA_GROUP_PREFIX}.ingest.purchases`, topic: config.TOPIC_PURCHASES },
    { group: `${config.KAFKA_GROUP_PREFIX}.ingest.domain-events`, topic: config.TOPIC_DOMAIN_EVENTS },
  ];
  return withAdmin(kafka, async (admin) => {
    const existing = new Set(await admin.listTopics());
    const described = await admin.describeGroups([...new Set(groups.map(({ group }) => group))]);
    const byId = new Map(described.groups.map((each) => [each.groupId, each]));
    return Promise.all(
      groups
        .filter(({ topic }) => existing.has(topic))
        .map(async ({ group, topic }) => {
          const partitions = await lagOf(admin, group, topic);
          const found = byId.get(group);
          return {
            ...{ group, topic, partitions },
            state: found?.state ?? 'unknown',
            members: found?.members.length ?? 0,
            lag: partitions.reduce((sum, { lag }) => sum + lag, 0),
          };
        }),
    );
  });
}

async function lagOf(admin: Admin, groupId: string, topic: string) {
  const [[committed], ends] = await Promise.all([
    admin.fetchOffsets({ groupId, topics: [topic] }),
    admin.fetchTopicOffsets(topic),
  ]);
  const offsets = new Map((committed?.partitions ?? []).map((each) => [each.partition, BigInt(each.offset)]));
  return ends
    .map(({ partition, high, low }) => {
      const at = offsets.get(partition) ?? -1n;
      // Without a committed offset the group starts at the beginning of the partition.
      const from = at < BigInt(low) ? BigInt(low) : at;
      return { partition, lag: Math.max(0, Number(BigInt(high) - from)) };
    })
    .sort((a, b) => a.partition - b.partition);
}

/** Of a task queue, what polls workflow tasks. */
const WORKFLOW_TASKS = 1;

async function workersOf(deps: Deps): Promise<SystemStatus['workers']> {
  return callTemporal(deps, 'task queues', (client: Client) =>
    Promise.all(
      Object.values(TASK_QUEUES).map(async (taskQueue) => {
        const { pollers, stats } = await client.workflowService.describeTaskQueue({
          namespace: client.options.namespace,
          taskQueue: { name: taskQueue },
          taskQueueType: WORKFLOW_TASKS,
          reportStats: true,
        });
        return {
          taskQueue,
          pollers: (pollers ?? []).map(({ identity, lastAccessTime }) => ({
            identity: identity ?? '',
            lastSeenAt: new Date(Number(lastAccessTime?.seconds ?? 0) * 1_000).toISOString(),
          })),
          backlog:
            stats?.approximateBacklogCount === undefined ? null : Number(stats.approximateBacklogCount),
        };
      }),
    ),
  );
}

function problemsOf({ dependencies, outbox, consumers, workers }: Omit<SystemStatus, 'problems'>): Problem[] {
  const problems: Problem[] = Object.entries(dependencies)
    .filter(([, state]) => state !== 'ok')
    .map(([name, state]) => ({
      severity: 'error',
      where: 'dependencies',
      what: `${name}: ${state}`,
      mend: `bring ${name} back; what waits for it goes on by itself`,
    }));
  if (outbox.refused > 0)
    problems.push({
      severity: 'error',
      where: 'outbox',
      what: `${outbox.refused} messages were refused by Kafka`,
      mend: 'look at their reasons, fix them, and retry or discard them',
    });
  if (outbox.oldestSeconds > OUTBOX_WARNING_S)
    problems.push({
      severity: 'warning',
      where: 'outbox',
      what: `the oldest message waits for ${Math.round(outbox.oldestSeconds)} s`,
      mend: 'is a relay running? remit relay',
    });
  for (const { group, topic, members, lag } of consumers)
    if (lag > 0 && members === 0)
      problems.push({
        severity: 'error',
        where: 'consumers',
        what: `nobody reads ${topic} for ${group}: ${lag} messages wait`,
        mend: 'start the role that reads it: bridge or ingest',
      });
    else if (lag > LAG_WARNING)
      problems.push({
        severity: 'warning',
        where: 'consumers',
        what: `${group} is ${lag} messages behind on ${topic}`,
        mend: 'add replicas, or find out what slows it down',
      });
  for (const { taskQueue, pollers } of workers)
    if (pollers.length === 0)
      problems.push({
        severity: 'error',
        where: 'workers',
        what: `no worker polls the task queue ${taskQueue}`,
        mend: `start one: remit worker --queue ${taskQueue}`,
      });
  return problems;
}
