import type { Client } from '@temporalio/client';
import { DefaultLogger, Runtime, Worker } from '@temporalio/worker';
import { WORKFLOWS } from '../contracts/workflows';
import { workflowBundlePath } from '../platform/build-workflow-bundle';
import { payloadEncryption, type PayloadConfig } from '../platform/payload-encryption';
import { buildIdOf } from '../platform/worker-versions';
import { printable } from '../platform/terminal';

/** How `remit replay` is called. */
export interface ReplayCommand {
  /** Of Temporal's visibility; what runs, and what ended in the last day, when left out. */
  query?: string;
  /** Histories at most. */
  limit: number;
  json?: boolean;
}

export interface ReplayReport {
  buildId: string;
  passed: number;
  failed: { workflowId: string; runId: string; reason: string }[];
  /** There are more than the limit. */
  cut: boolean;
}

/** Histories that are fetched ahead. */
const CONCURRENCY = 5;
const DAY_MS = 86_400_000;
const FAILURES_SHOWN = 20;

const OURS = Object.values(WORKFLOWS)
  .map((type) => `WorkflowType = '${type}'`)
  .join(' OR ');

/** What is worth replaying by default: what has to go on, and what shows how it goes on. */
const recent = (nowMs: number): string =>
  `ExecutionStatus = 'Running' OR CloseTime > '${new Date(nowMs - DAY_MS).toISOString()}'`;

/**
 * Replays histories of the namespace on the workflow code of this remit, before its workers get any of them. Changes nothing.
 * @param codePath the bundle; that of this remit when left out.
 * @throws what the client throws when Temporal does not answer, or does not understand the query.
 */
export async function replayHistories(
  client: Client,
  config: PayloadConfig,
  { query, limit }: ReplayCommand,
  codePath?: string,
): Promise<ReplayReport> {
  const bundle = codePath ?? (await workflowBundlePath());
  const report: ReplayReport = { buildId: await buildIdOf(bundle), passed: 0, failed: [], cut: false };
  const listed = client.workflow.list({ query: `(${query ?? recent(Date.now())}) AND (${OURS})` });
  const options = {
    workflowBundle: { codePath: bundle },
    dataConverter: { payloadCodecs: [payloadEncryption(config)] },
    replayName: 'remit-replay',
  };
  const histories = atMost(
    listed.intoHistories({ concurrency: CONCURRENCY }),
    limit,
    () => (report.cut = true),
  );
  for await (const { workflowId, runId, error } of Worker.runReplayHistories(options, histories)) {
    if (error) report.failed.push({ workflowId, runId, reason: error.message });
    else report.passed += 1;
  }
  return report;
}

async function* atMost<T>(all: AsyncIterable<T>, limit: number, onMore: () => void): AsyncIterable<T> {
  let count = 0;
  for await (const each of all) {
    if (count++ >= limit) return onMore();
    yield each;
  }
}

/** `remit replay`. @returns the exit code: 1 when a history does not replay. */
export async function runReplay(
  client: Client,
  config: PayloadConfig,
  command: ReplayCommand,
  say: (line: string) => void,
): Promise<number> {
  // The SDK tells each failed replay at length; so does the report.
  Runtime.install({ logger: new DefaultLogger('ERROR', () => undefined), shutdownSignals: [] });
  const report = await replayHistories(client, config, command);
  if (command.json) say(JSON.stringify(report));
  else for (const line of describe(report, command)) say(line);
  return report.failed.length > 0 ? 1 : 0;
}

function* describe(
  { buildId, passed, failed, cut }: ReplayReport,
  { limit }: ReplayCommand,
): Iterable<string> {
  yield `${passed} of ${passed + failed.length} histories replay on ${buildId}, the workflow code of this remit`;
  if (cut) yield `There are more: these are the latest ${limit} (--limit)`;
  for (const { workflowId, runId, reason } of failed.slice(0, FAILURES_SHOWN))
    yield `✗ ${printable(workflowId)} (${runId}): ${printable(reason.slice(0, 500))}`;
  if (failed.length > FAILURES_SHOWN) yield `and ${failed.length - FAILURES_SHOWN} more`;
  if (failed.length > 0)
    yield 'Workers of this version would stand still on them: do not ramp it. What is changed needs `patched` (docs/rollouts.md).';
}
