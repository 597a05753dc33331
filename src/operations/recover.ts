import path from 'node:path';
import type { Client, Connection } from '@temporalio/client';
import { CARRYING_WORKFLOWS, WORKFLOWS } from '../contracts/workflows';
import { deliveryPolicyOf } from '../webhooks/delivery-policy';
import {
  announce,
  countPendingPayments,
  rewindExpiry,
  unfinishedWork,
  waitingEvents,
  waitingOrders,
  WORK_KINDS,
  type WorkKind,
} from '../domain/unfinished-work';
import type { Config } from '../platform/config';
import { createKafka } from '../platform/kafka';
import { createLogger } from '../platform/logging';
import { openWorkflows, terminateWorkflows, together } from '../platform/open-workflows';
import { openDatabase, type Database } from '../platform/postgres';
import { createTable } from '../platform/table';
import { connectTemporal } from '../platform/temporal';
import { bridgeGroups } from '../platform/topics';
import { explainingKafka, requireBrokers } from './kafka-access';
import { localAccess } from './local-access';
import { rewindGroups } from './recover-groups';
import { startWork } from './recover-workflows';

type Say = (line: string) => void;

/** How `remit recover` is called. */
export interface RecoverCommand {
  dryRun: boolean;
  /** PostgreSQL was restored to its state of this time. */
  restoredTo?: Date;
  /** Kafka's messages are handled once more from this time on. */
  replayFrom?: Date;
  /** Minutes before that time. */
  margin?: number;
  json: boolean;
  /** Asked before workflows are ended. */
  confirm: (question: string) => Promise<boolean>;
}

/** What was found and done of one kind of work. */
export interface Recovered {
  kind: 'order' | 'event' | WorkKind;
  /** Unfinished, by the database. */
  found: number;
  /** Sent or started again; in a dry run, what would be. */
  started: number;
}

export interface RecoverReport {
  dryRun: boolean;
  /** Workflows that were ended as they remember what the restored database does not. */
  ended: number;
  groups: { group: string; topic: string; messages: number; incomplete: boolean }[];
  work: Recovered[];
  /** Payments and payouts that wait for their provider; the schedule `expiry` expires them. */
  pendingPayments: number;
  /** Of these, how many the expiry job had passed, and looks at again. */
  passedOver: number;
}

/** In addition to the time that an early event may wait: what bridge and workers had read and not decided yet. */
const MARGIN_MS = 3_600_000;
/** Progress is told each time that so many were looked at. */
const TELL_EVERY = 1_000;

interface Access {
  config: Config;
  db: Database;
  temporal: Client;
}

/**
 * Finds unfinished work that nothing carries on and starts it again. Idempotent: what is running, or was decided, stays
 * as it is. Works in pages; Ctrl-C at any time, and repeat it.
 * @returns undefined when it was not confirmed.
 * @throws Error that says what to do, when a server is not known or does not answer, or when roles run that must not.
 */
export async function recover(
  { config, db, temporal }: Access,
  command: RecoverCommand,
  say: Say,
): Promise<RecoverReport | undefined> {
  const { dryRun, restoredTo, replayFrom, confirm } = command;
  const since = restoredTo ?? replayFrom;
  const report: RecoverReport = {
    dryRun,
    ended: 0,
    groups: [],
    work: [],
    pendingPayments: 0,
    passedOver: 0,
  };
  if (restoredTo && !dryRun) {
    const question =
      'End all running workflows? What they wait for is started again from database and Kafka.';
    if (!(await confirm(question))) return undefined;
  }
  if (since) {
    const marginMs =
      command.margin === undefined ? config.UNKNOWN_TRANSACTION_WAIT_MS + MARGIN_MS : command.margin * 60_000;
    const from = new Date(since.getTime() - marginMs);
    say(`Kafka: the bridge's groups ${dryRun ? 'would go' : 'go'} back to ${from.toISOString()}`);
    const rewound = await explainingKafka(config, () =>
      rewindGroups(
        createKafka(config, createLogger({ ...config, LOG_LEVEL: 'silent' }, 'recover')),
        bridgeGroups(config),
        from.getTime(),
        dryRun,
      ),
    );
    report.groups = rewound.map(({ messages, ...rest }) => ({ ...rest, messages: Number(messages) }));
  }
  if (restoredTo) {
    say(`Temporal: ${dryRun ? 'running workflows would be ended' : 'ending the running workflows'}`);
    if (!dryRun)
      report.ended = await terminateWorkflows(
        temporal,
        Object.values(WORKFLOWS),
        `PostgreSQL was restored to ${restoredTo.toISOString()}: what this run remembers has not happened`,
      );
  }
  report.passedOver = await rewindExpiry(db, dryRun);
  report.pendingPayments = await countPendingPayments(db);
  for (const [kind, waiting] of [
    ['order', waitingOrders],
    ['event', waitingEvents],
  ] as const)
    report.work.push(await announceAll(db, kind, waiting(db), command, say));
  // In a restored Temporal, or after the end of all, nothing runs that is not known.
  const withoutWorkflow =
    dryRun && !restoredTo ? await openWorkflows(temporal, CARRYING_WORKFLOWS) : undefined;
  for (const kind of WORK_KINDS)
    report.work.push(await startAll({ config, db, temporal }, kind, command, withoutWorkflow, say));
  return report;
}

async function announceAll(
  db: Database,
  kind: 'order' | 'event',
  waiting: ReturnType<typeof waitingOrders>,
  { dryRun }: RecoverCommand,
  say: Say,
): Promise<Recovered> {
  const counts = counter(kind, say);
  for await (const page of waiting) counts.add(page.length, dryRun ? page.length : await announce(db, page));
  return counts.done();
}

async function startAll(
  { config, db, temporal }: Access,
  kind: WorkKind,
  { dryRun }: RecoverCommand,
  withoutWorkflow: Awaited<ReturnType<typeof openWorkflows>> | undefined,
  say: Say,
): Promise<Recovered> {
  const counts = counter(kind, say);
  const policy = deliveryPolicyOf(config);
  for await (const page of unfinishedWork(db, kind)) {
    let started = 0;
    if (!dryRun)
      await together(page, async (work) => {
        if (await startWork(temporal, policy, work)) started += 1;
      });
    else
      started = withoutWorkflow
        ? (await withoutWorkflow(page.map((work) => work.workflowId))).size
        : page.length;
    counts.add(page.length, started);
  }
  return counts.done();
}

function counter(kind: Recovered['kind'], say: Say) {
  const counts: Recovered = { kind, found: 0, started: 0 };
  let told = 0;
  return {
    add(found: number, started: number): void {
      counts.found += found;
      counts.started += started;
      if (counts.found - told < TELL_EVERY) return;
      told = counts.found;
      say(`${kind}: ${counts.found} looked at, ${counts.started} started`);
    },
    done: (): Recovered => counts,
  };
}

/** `remit recover`. @returns the process's exit code: 0 when everything that was found is on its way. */
export async function runRecover(dataDir: string, command: RecoverCommand, say: Say): Promise<number> {
  const { endpoints, config: given } = await localAccess(path.join(dataDir, 'endpoints.json'));
  const config: Config = {
    ...given,
    DATABASE_URL: required('PostgreSQL', 'DATABASE_URL', given.DATABASE_URL ?? endpoints.postgres),
    TEMPORAL_ADDRESS: required('Temporal', 'TEMPORAL_ADDRESS', given.TEMPORAL_ADDRESS ?? endpoints.temporal),
    KAFKA_BROKERS: requireBrokers(given, endpoints.kafka),
  };
  const progress = command.json ? () => undefined : say;
  const db = openDatabase(config, createLogger({ ...config, LOG_LEVEL: 'error' }, 'recover'));
  let temporal: Client | undefined;
  try {
    temporal = await connectTemporal(config).catch((error: unknown) => {
      throw new Error(`Temporal at ${config.TEMPORAL_ADDRESS} does not answer (${String(error)})`, {
        cause: error,
      });
    });
    const report = await recover({ config, db, temporal }, command, progress);
    if (report === undefined) say('Nothing was changed.');
    else if (command.json) say(JSON.stringify(report));
    else for (const line of describe(report)) say(line);
    return 0;
  } finally {
    await db.close();
    await (temporal?.connection as Connection | undefined)?.close();
  }
}

function required(what: string, variable: string, value: string | undefined): string {
  if (!value) throw new Error(`no ${what} is known: start remit first (npm start), or set ${variable}`);
  return value;
}

const NAMES: Record<Recovered['kind'], string> = {
  order: 'orders without a decision',
  event: 'events not handed out',
  dispute: 'open disputes',
  replay: 'replays not at their end',
  delivery: 'pending deliveries',
  lane: 'lanes in which deliveries wait',
};

function* describe(report: RecoverReport): Iterable<string> {
  const { dryRun, ended, groups, work, pendingPayments, passedOver } = report;
  if (groups.length > 0) {
    const table = createTable([
      'consumer group',
      'topic',
      `messages ${dryRun ? 'it would read' : 'it reads'} again`,
    ]);
    for (const { group, topic, messages } of groups) table.push([group, topic, messages]);
    yield table.toString();
    for (const { topic, incomplete } of groups)
      if (incomplete)
        yield `${topic}: the oldest messages of that time are no longer kept; ask whoever sent them to send them again`;
  }
  if (ended > 0) yield `${ended} workflows ended`;
  const table = createTable(['', 'found', dryRun ? 'would be started' : 'started again']);
  for (const { kind, found, started } of work) table.push([NAMES[kind], found, started]);
  yield table.toString();
  yield `${pendingPayments} payments and payouts wait for their provider; the schedule expiry expires those that hear nothing in time.`;
  if (passedOver > 0)
    yield `${passedOver} of them were overdue and passed over; it ${dryRun ? 'would look' : 'looks'} at them again.`;
  yield dryRun
    ? 'Nothing was changed.'
    : 'What was started needs the roles: start them, wait until consumer lag and outbox are empty, then remit reconcile.';
}
