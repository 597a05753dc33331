import os from 'node:os';
import { Worker, type NativeConnection } from '@temporalio/worker';
import { createActivities } from '../activities';
import { TASK_QUEUES, type DeliveryRef, type TaskQueue } from '../contracts/workflows';
import { startConsumer } from '../bridges/consumer';
import { deadLetterRefused } from '../bridges/dead-letters';
import { EventPublisher } from '../domain/event-publisher';
import { EventSchemas } from '../domain/event-schemas';
import { eventDeliveryHandler, type EventDeliveryDeps } from '../bridges/event-deliveries';
import { deliveryPolicyOf } from '../webhooks/delivery-policy';
import type { Config } from '../platform/config';
import { workflowBundlePath } from '../platform/build-workflow-bundle';
import { lookAtWorkflows } from '../platform/failing-workflows';
import { kafkaReadiness } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import { MessageReader } from '../platform/message-reader';
import { addMetricsSource, metrics } from '../platform/metrics';
import { dataConverterOf } from '../platform/payload-encryption';
import { createKeyring } from '../platform/secrets';
import { TaskQueueBacklog } from '../platform/task-queue-backlog';
import { connectTemporalWorker } from '../platform/temporal';
import { installTemporalRuntime } from '../platform/temporal-runtime';
import { workerTracing } from '../platform/temporal-tracing';
import type { Database } from '../platform/postgres';
import { warnOfShortRetention } from '../platform/topic-retention';
import { becomeFirstVersion, buildIdOf, versioningOf } from '../platform/worker-versions';
import { createWebhookClient } from '../webhooks/client';
import { Attempts } from '../webhooks/attempts';
import { FirstAttempts } from '../webhooks/first-attempts';
import { cancelDeliveryWorkflows, startDeliveryWorkflows, wakeLanes } from '../webhooks/start-deliveries';
import type { RoleContext } from './context';
import { whenThere } from './when-there';

/** Task queues that a worker serves when `--queue` names none. */
export const ALL_QUEUES = Object.keys(TASK_QUEUES) as TaskQueue[];

/**
 * Runs workflows and activities of the given task queues. Stops by refusing new tasks and finishing those in flight.
 * A worker that fails ends the process: Temporal gives its tasks to another.
 * @param builtBundle the workflow code, when it is not what was built with this remit: tests run two versions.
 */
export async function startWorker(
  context: RoleContext,
  queues: readonly TaskQueue[] = ALL_QUEUES,
  builtBundle?: string,
): Promise<void> {
  const { config, log, lifecycle } = context;
  if (queues.every((queue) => queue === 'deliveries')) giveWay(log);
  await installTemporalRuntime(log);
  const db = context.database();
  const producer = await context.producer();
  const webhooks = createWebhookClient(config);
  lifecycle.onStop('close', 'webhook connections', () => webhooks.close());
  const keyring = createKeyring(config);
  const deliveryPolicy = deliveryPolicyOf(config);
  const attempts = new Attempts({ db, webhooks, log, config });
  const startDeliveries = async (deliveries: readonly DeliveryRef[]) =>
    startDeliveryWorkflows(await context.temporal(), deliveries, config.BRIDGE_START_TIMEOUT_MS);
  const toLanes = async (subscriptionIds: readonly string[]) =>
    wakeLanes(await context.temporal(), subscriptionIds, config.BRIDGE_START_TIMEOUT_MS);
  const firstAttempts = new FirstAttempts({ db, log, attempts, deliveryPolicy, wakeLanes: toLanes });
  const reader = new MessageReader(context.kafka, config.KAFKA_GROUP_PREFIX);
  lifecycle.onStop('flush', 'message reader', () => reader.stop());
  const activities = createActivities({
    db,
    log,
    producer,
    config,
    keyring,
    webhooks,
    attempts,
    startDeliveries,
    wakeLanes: toLanes,
    cancelDeliveries: async (workflowIds) =>
      cancelDeliveryWorkflows(await context.temporal(), workflowIds, config.BRIDGE_START_TIMEOUT_MS),
    unknownTransactionWaitMs: config.UNKNOWN_TRANSACTION_WAIT_MS,
    disputeEvidenceDueMs: config.DISPUTE_EVIDENCE_DUE_MS,
    showsUsers: !config.TEMPORAL_ENCRYPT_PAYLOADS,
    deadLetter: (message) => deadLetterRefused({ reader, producer, config, log }, message),
    deliveryPolicy,
    lookAtWorkflows: async () => lookAtWorkflows(await context.temporal()),
  });
  const codePath = builtBundle ?? (await workflowBundlePath());
  const buildId = await buildIdOf(codePath);

  await context.temporalThere();
  const connection = await whenThere(context, 'temporal', () => connectTemporalWorker(config));
  const running = await Promise.all(
    queues.map((queue) => startQueue(context, connection, queue, { codePath, buildId, activities })),
  );

  if (queues.includes('deliveries'))
    await startEventDeliveries(context, { db, keyring, firstAttempts, startDeliveries });

  // What the schedule of this queue is measured against (deploy/prometheus/alerts.yml).
  if (queues.includes('payments'))
    metrics.reconciliationInterval.set(config.RECONCILIATION_INTERVAL_MS / 1_000);
  const backlog = new TaskQueueBacklog(
    () => context.temporal(),
    queues.map((queue) => TASK_QUEUES[queue]),
  );
  lifecycle.onStop(
    'close',
    'metrics of task queues',
    addMetricsSource(() => backlog.measure()),
  );
  lifecycle.addCheck('postgres', () => db.check());
  lifecycle.addCheck('postgres money pool', () => db.checkMoney());
  // Dead letters go to Kafka.
  lifecycle.addCheck('kafka', kafkaReadiness(context.kafka, lifecycle));
  lifecycle.addCheck('temporal worker', async () => {
    const stopped = running.find(({ worker }) => worker.getState() !== 'RUNNING');
    if (stopped) throw new Error(`the worker of ${stopped.queue} is ${stopped.worker.getState()}`);
    await connection.workflowService.describeNamespace({ namespace: config.TEMPORAL_NAMESPACE });
  });
  lifecycle.onStop('drain', 'temporal workers', async () => {
    for (const { worker } of running) if (worker.getState() === 'RUNNING') worker.shutdown();
    await Promise.all(running.map(({ finished }) => finished));
    await connection.close();
  });
  if (config.TEMPORAL_WORKER_VERSIONING)
    void context.temporal().then((client) => becomeFirstVersion(client, buildId, log, lifecycle));
  void warnOfShortRetention(context.kafka, config, log);
  log.info({ queues, buildId }, 'worker is polling');
}

/**
 * Deliveries give way to what shares their machine: in a burst, what is accepted, settled and ordered goes first, and what
 * is to be delivered waits in Kafka. In a container of its own, a process has nobody to give way to.
 */
function giveWay(log: Logger): void {
  try {
    os.setPriority(os.constants.priority.PRIORITY_BELOW_NORMAL);
  } catch (error) {
    log.info({ err: error }, 'the priority of deliveries stays as it is');
  }
}

/**
 * Where deliveries are made, published events come in as well: from Kafka straight to their first attempts. Only what
 * fails or has to wait becomes a workflow.
 */
async function startEventDeliveries(
  context: RoleContext,
  deps: Pick<EventDeliveryDeps, 'keyring' | 'firstAttempts' | 'startDeliveries'> & { db: Database },
): Promise<void> {
  const { config, kafka, lifecycle } = context;
  const producer = await context.producer();
  // Its threads are started with the first event that another producer puts on the topic.
  const schemas = new EventSchemas(config.EVENT_SCHEMA_CACHE_ENTRIES);
  lifecycle.onStop('close', 'schema threads', () => schemas.close());
  await startConsumer({
    kafka,
    producer,
    config,
    log: context.log.child({ stream: 'events' }),
    lifecycle,
    topics: [config.TOPIC_EVENTS],
    groupName: 'events',
    handle: eventDeliveryHandler({
      ...deps,
      publisher: new EventPublisher(deps.db, schemas, config.KAFKA_MESSAGE_MAX_BYTES),
      config,
    }),
  });
}

/** How a worker of remit polls and how much it takes on; the benchmarks measure their ceiling with the same. */
export function workerSettings(config: Config, queue: TaskQueue) {
  return {
    shutdownGraceTime: '10s' as const,
    maxCachedWorkflows: config.WORKER_CACHED_WORKFLOWS,
    maxConcurrentWorkflowTaskExecutions: config.WORKER_WORKFLOW_SLOTS,
    // A lane that sends is an activity too, and holds its slot while its attempts have their places.
    maxConcurrentActivityTaskExecutions:
      queue === 'deliveries' ? 2 * config.WEBHOOK_CONCURRENT_ATTEMPTS : config.WORKER_ACTIVITY_SLOTS,
    maxConcurrentLocalActivityExecutions: config.WORKER_ACTIVITY_SLOTS,
    // Short workflows live on the normal queue: most of their tasks are the first one.
    nonStickyToStickyPollRatio: 0.5,
  };
}

async function startQueue(
  { config, log, lifecycle }: RoleContext,
  connection: NativeConnection,
  queue: TaskQueue,
  { codePath, buildId, activities }: { codePath: string; buildId: string; activities: object },
) {
  const worker = await Worker.create({
    ...workerSettings(config, queue),
    connection,
    namespace: config.TEMPORAL_NAMESPACE,
    taskQueue: TASK_QUEUES[queue],
    activities,
    dataConverter: dataConverterOf(config),
    ...(await versioningOf(config, codePath, buildId)),
    ...workerTracing(),
  });
  const finished = worker.run().catch((error: unknown) => {
    if (lifecycle.isStopping) return;
    log.fatal({ err: error, queue }, 'the worker failed');
    lifecycle.crash();
  });
  return { queue, worker, finished };
}
