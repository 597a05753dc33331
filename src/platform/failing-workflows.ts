import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import { CARRYING_WORKFLOWS, WORKFLOWS } from '../contracts/workflows';
import { openWorkflows, together } from './open-workflows';
import { failureText, msOf, openerOf } from './workflow-history';

/** Workflows that are asked about before the next are listed. */
const PAGE_SIZE = 500;
/** At most so many deliveries are asked about in one look, the newest first, and as many workflows of other types, which may live for weeks. */
const LOOKED_AT_MAX = 20_000;
const KINDS = [`WorkflowType != '${WORKFLOWS.delivery}'`, `WorkflowType = '${WORKFLOWS.delivery}'`];
/** The newest events of a history: those since a workflow was last carried on are among them, or very many wait. */
const EVENTS_READ = 200;

/** A workflow that is open and that no worker can carry on: Temporal tries its workflow task again and again. */
export interface FailingWorkflow {
  workflowId: string;
  type: string;
  /** How often the task was tried. */
  attempts: number;
  /** Since when; undefined when more events wait for it than were read. */
  since: Date | undefined;
  /** What the first failure said. */
  failure: string;
}

/**
 * The open workflows whose workflow task has failed for at least so long, and been completed never since: their code
 * throws, does not fit their history any more, or takes too long. Temporal calls them running. Visibility does not know of
 * tasks (servers before 1.30), so each workflow that has been open for as long is asked about, a few at a time.
 * @throws what Temporal's client throws in an outage.
 */
async function* failingWorkflows(client: Client, failingForMs: number): AsyncGenerator<FailingWorkflow> {
  const before = new Date(Date.now() - failingForMs);
  for (const kind of KINDS) {
    let page: Execution[] = [];
    let left = LOOKED_AT_MAX;
    for await (const { workflowId, runId, type } of client.workflow.list({
      query: `ExecutionStatus = 'Running' AND StartTime <= '${before.toISOString()}' AND ${kind}`,
      pageSize: PAGE_SIZE,
    })) {
      if (left-- === 0) break;
      page.push({ workflowId, runId, type });
      if (page.length < PAGE_SIZE) continue;
      yield* await failingOf(client, page, before);
      page = [];
    }
    yield* await failingOf(client, page, before);
  }
}

interface Execution {
  workflowId: string;
  runId: string;
  type: string;
}

async function failingOf(client: Client, executions: Execution[], before: Date): Promise<FailingWorkflow[]> {
  const failing: FailingWorkflow[] = [];
  await together(executions, async (execution) => {
    const attempts = await attemptsOf(client, execution);
    // A task that waits for a worker, however long, is in its first attempt.
    if (attempts < 2) return;
    const { since, failure } = await firstFailure(client, execution);
    if (since === undefined || since <= before)
      failing.push({ workflowId: execution.workflowId, type: execution.type, attempts, since, failure });
  });
  return failing;
}

/** Of the workflow task that is pending; 0 when none is, or the workflow has come to its end meanwhile. */
async function attemptsOf(client: Client, { workflowId, runId }: Execution): Promise<number> {
  try {
    const { raw } = await client.workflow.getHandle(workflowId, runId).describe();
    return raw.pendingWorkflowTask?.attempt ?? 0;
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return 0;
    throw error;
  }
}

/** The first failure since the workflow was last carried on. Only that one is in the history: the rest are counted. */
async function firstFailure(
  client: Client,
  { workflowId, runId }: Execution,
): Promise<{ since: Date | undefined; failure: string }> {
  const { history } = await client.workflowService.getWorkflowExecutionHistoryReverse({
    namespace: client.options.namespace,
    execution: { workflowId, runId },
    maximumPageSize: EVENTS_READ,
  });
  let first: { since: Date | undefined; failure: string } = { since: undefined, failure: 'no reason given' };
  for (const event of history?.events ?? []) {
    if (event.workflowTaskCompletedEventAttributes) break;
    const at = new Date(msOf(event.eventTime));
    if (event.workflowTaskFailedEventAttributes)
      first = {
        since: at,
        failure: failureText(event.workflowTaskFailedEventAttributes.failure, openerOf(client)),
      };
    else if (event.workflowTaskTimedOutEventAttributes)
      first = { since: at, failure: 'no worker answered in time' };
  }
  return first;
}

/** What reconciliation asks Temporal. */
export async function lookAtWorkflows(client: Client) {
  return {
    without: await openWorkflows(client, CARRYING_WORKFLOWS),
    failing: (forMs: number) => failingWorkflows(client, forMs),
  };
}
