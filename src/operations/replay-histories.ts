import type { Client } from '@temporalio/client';
import type { Payload, PayloadCodec } from '@temporalio/common';
import type { temporal } from '@temporalio/proto';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { TASK_QUEUES, WORKFLOWS } from '../contracts/workflows';
import { workflowBundlePath } from '../platform/build-workflow-bundle';
import {
  payloadEncryption,
  type PayloadConfig,
  type PayloadEncryption,
} from '../platform/payload-encryption';
import { buildIdOf } from '../platform/worker-versions';
import { isNotFound } from '../platform/temporal';
import { printable } from '../platform/terminal';

/** How `remit replay` is called. */
export interface ReplayCommand {
  /** Of Temporal's visibility; what runs, and what ended in the last day, when left out. */
  query?: string;
  /** Histories at most. */
  limit: number;
  json?: boolean;
}

interface FailedReplay {
  workflowId: string;
  runId: string;
  reason: string;
}

export interface ReplayReport {
  buildId: string;
  passed: number;
  failed: FailedReplay[];
  /** Their payloads can't be decrypted here: whether they replay is not known. */
  unreadable: FailedReplay[];
  /** There are more than the limit. */
  cut: boolean;
}

/** Histories that are fetched ahead. */
const CONCURRENCY = 5;
const DAY_MS = 86_400_000;
const FAILURES_SHOWN = 20;
/** Kinds of payloads that can't be decrypted: one for each missing key, and one for what was altered. */
const PROBLEMS_MAX = 100;
const PROGRESS_MS = 10_000;

/**
 * What these workers would get. By task queue and not by type: a type that the new code has no more is what workflows would
 * stand still on.
 */
const OURS = Object.values(TASK_QUEUES)
  .map((queue) => `TaskQueue = '${queue}'`)
  .join(' OR ');

/** What is worth replaying by default: what has to go on, and what shows how it goes on. */
const recent = (nowMs: number): string =>
  `ExecutionStatus = 'Running' OR CloseTime > '${new Date(nowMs - DAY_MS).toISOString()}'`;

/**
 * Replays histories of the namespace on the workflow code of this remit, before its workers get any of them. Changes nothing.
 * @param codePath the bundle; that of this remit when left out.
 * @param onReplayed is told how many were replayed so far.
 * @throws what the client throws when Temporal does not answer, or does not understand the query.
 */
export async function replayHistories(
  client: Client,
  config: PayloadConfig,
  { query, limit }: ReplayCommand,
  codePath?: string,
  onReplayed: (count: number) => void = () => undefined,
): Promise<ReplayReport> {
  const bundle = codePath ?? (await workflowBundlePath());
  const report: ReplayReport = {
    buildId: await buildIdOf(bundle),
    passed: 0,
    failed: [],
    unreadable: [],
    cut: false,
  };
  const listed = client.workflow.list({ query: `(${query ?? recent(Date.now())}) AND (${OURS})` });
  const codec = new NotedDecryption(payloadEncryption(config));
  const options = {
    workflowBundle: { codePath: bundle },
    dataConverter: { payloadCodecs: [codec] },
    replayName: 'remit-replay',
  };
  const some = historiesOf(
    client,
    atMost(listed, limit, () => (report.cut = true)),
  );
  // The replayer passes a history in which no task was ever completed, whatever its type is.
  const histories = ofKnownTypes(some, (failed) => report.failed.push(failed));
  let count = 0;
  for await (const { workflowId, runId, error } of Worker.runReplayHistories(options, histories)) {
    const unreadable = error && codec.problems.find((problem) => error.message.includes(problem));
    if (!error) report.passed += 1;
    else if (unreadable) report.unreadable.push({ workflowId, runId, reason: unreadable });
    else report.failed.push({ workflowId, runId, reason: error.message });
    onReplayed(++count);
  }
  return report;
}

/** Decrypts, and keeps why it could not: the replayer tells that no otherwise than a history that does not fit. */
class NotedDecryption implements PayloadCodec {
  readonly problems: string[] = [];

  constructor(private readonly encryption: PayloadEncryption) {}

  encode = (payloads: Payload[]): Promise<Payload[]> => this.encryption.encode(payloads);

  async decode(payloads: Payload[]): Promise<Payload[]> {
    try {
      return await this.encryption.decode(payloads);
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      if (!this.problems.includes(problem) && this.problems.length < PROBLEMS_MAX)
        this.problems.push(problem);
      throw error;
    }
  }
}

async function* atMost<T>(all: AsyncIterable<T>, limit: number, onMore: () => void): AsyncIterable<T> {
  let count = 0;
  for await (const each of all) {
    if (count++ >= limit) return onMore();
    yield each;
  }
}

/**
 * Fetches histories, a few ahead. One that is gone meanwhile is left out: the namespace's retention goes on while others are
 * replayed for minutes.
 */
export async function* historiesOf(
  client: Client,
  listed: AsyncIterable<{ workflowId: string; runId: string }>,
): AsyncIterable<FoundHistory> {
  const fetchOne = async ({ workflowId, runId }: { workflowId: string; runId: string }) => {
    try {
      return { workflowId, history: await client.workflow.getHandle(workflowId, runId).fetchHistory() };
    } catch (error) {
      if (isNotFound(error)) return undefined;
      throw error;
    }
  };
  const ahead: Promise<FoundHistory | undefined>[] = [];
  for await (const each of listed) {
    const fetching = fetchOne(each);
    // It is awaited in its turn.
    fetching.catch(() => undefined);
    ahead.push(fetching);
    if (ahead.length < CONCURRENCY) continue;
    const found = await ahead.shift();
    if (found) yield found;
  }
  for (const fetching of ahead) {
    const found = await fetching;
    if (found) yield found;
  }
}

/** As the client hands it to the replayer. */
interface FoundHistory {
  workflowId: string;
  history: temporal.api.history.v1.IHistory;
}

const KNOWN: readonly string[] = Object.values(WORKFLOWS);

async function* ofKnownTypes(
  all: AsyncIterable<FoundHistory>,
  onUnknown: (failed: FailedReplay) => void,
): AsyncIterable<FoundHistory> {
  for await (const each of all) {
    const started = each.history.events?.[0]?.workflowExecutionStartedEventAttributes;
    const type = started?.workflowType?.name ?? 'unnamed';
    if (KNOWN.includes(type)) yield each;
    else
      onUnknown({
        workflowId: each.workflowId,
        runId: started?.originalExecutionRunId ?? '',
        reason: `the workflow code has no ${type}`,
      });
  }
}

/** `remit replay`. @returns the exit code: 1 when a history does not replay, or can't be read. */
export async function runReplay(
  client: Client,
  config: PayloadConfig,
  command: ReplayCommand,
  say: (line: string) => void,
): Promise<number> {
  // The SDK tells each failed replay at length; so does the report. Its native side would write into the output.
  Runtime.install({
    logger: new DefaultLogger('ERROR', () => undefined),
    telemetryOptions: { logging: { filter: 'OFF', forward: {} } },
    shutdownSignals: [],
  });
  const report = await replayHistories(client, config, command, undefined, progress());
  if (command.json) say(JSON.stringify(report));
  else for (const line of describe(report, command)) say(line);
  return report.failed.length + report.unreadable.length > 0 ? 1 : 0;
}

/** Thousands of histories take minutes: how far it is, beside what is asked for. */
function progress(): (count: number) => void {
  let saidAt = performance.now();
  return (count) => {
    if (performance.now() - saidAt < PROGRESS_MS) return;
    saidAt = performance.now();
    process.stderr.write(`${count} histories replayed so far\n`);
  };
}

function* describe(
  { buildId, passed, failed, unreadable, cut }: ReplayReport,
  { query, limit }: ReplayCommand,
): Iterable<string> {
  const all = passed + failed.length + unreadable.length;
  if (all === 0 && query !== undefined)
    yield 'The query matches no workflow on remit’s task queues: nothing was replayed';
  yield `${passed} of ${all} histories replay on ${buildId}, the workflow code of this remit`;
  if (cut) yield `There are more: these are the latest ${limit} (--limit)`;
  yield* list(failed);
  if (failed.length > 0)
    yield 'Workers of this version would stand still on them: do not ramp it. What is changed needs `patched` (docs/rollouts.md).';
  yield* list(unreadable);
  if (unreadable.length > 0)
    yield `Whether ${unreadable.length} replay is not known: give this command the workers’ ENCRYPTION_KEY and ENCRYPTION_KEYS_OLD (docs/encryption.md).`;
}

function* list(failed: readonly FailedReplay[]): Iterable<string> {
  for (const { workflowId, runId, reason } of failed.slice(0, FAILURES_SHOWN))
    yield `✗ ${printable(workflowId)} (${runId}): ${printable(reason.slice(0, 500))}`;
  if (failed.length > FAILURES_SHOWN) yield `and ${failed.length - FAILURES_SHOWN} more`;
}
