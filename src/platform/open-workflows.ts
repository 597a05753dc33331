import { WorkflowNotFoundError, type Client } from '@temporalio/client';

/** Ids that are listed ahead; for those beyond, Temporal is asked one by one. */
const LISTED_MAX = 200_000;
const PAGE_SIZE = 1_000;
/** Questions to Temporal at a time. */
const TOGETHER = 32;

/** `WorkflowType = 'a' OR …` of what runs now. */
const runningOf = (types: readonly string[]): string =>
  `ExecutionStatus = 'Running' AND (${types.map((type) => `WorkflowType = '${type}'`).join(' OR ')})`;

/** Runs something for each item, a few at a time. */
export async function together<T>(items: readonly T[], run: (item: T) => Promise<unknown>): Promise<void> {
  const queue = items.values();
  const worker = async (): Promise<void> => {
    for (const item of queue) await run(item);
  };
  await Promise.all(Array.from({ length: Math.min(TOGETHER, items.length) }, worker));
}

/**
 * Which workflow ids have no running workflow. The running ones are listed once, which is cheap and a moment late; only of
 * those that are missing there Temporal is asked for certain.
 * @throws what Temporal's client throws in an outage.
 */
export async function openWorkflows(
  client: Client,
  types: readonly string[],
): Promise<(ids: readonly string[]) => Promise<ReadonlySet<string>>> {
  const listed = new Set<string>();
  for await (const { workflowId } of client.workflow.list({
    query: runningOf(types),
    pageSize: PAGE_SIZE,
  })) {
    listed.add(workflowId);
    if (listed.size >= LISTED_MAX) break;
  }
  return async (ids) => {
    const without = new Set<string>();
    await together(
      ids.filter((id) => !listed.has(id)),
      async (id) => {
        if (!(await isRunning(client, id))) without.add(id);
      },
    );
    return without;
  };
}

async function isRunning(client: Client, id: string): Promise<boolean> {
  try {
    return (await client.workflow.getHandle(id).describe()).status.name === 'RUNNING';
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) return false;
    throw error;
  }
}

/** Rounds of ending what runs, until none is listed: visibility is a moment late. */
const ENDING_ROUNDS = 60;
const ENDING_PAUSE_MS = 500;

/**
 * Terminates every running workflow of these types: they run no further step. Idempotent.
 * @returns how many were ended.
 * @throws Error when some go on appearing: somebody starts them.
 */
export async function terminateWorkflows(
  client: Client,
  types: readonly string[],
  reason: string,
): Promise<number> {
  const ended = new Set<string>();
  for (let round = 0; round < ENDING_ROUNDS; round++) {
    const found: { workflowId: string; runId: string }[] = [];
    for await (const { workflowId, runId } of client.workflow.list({
      query: runningOf(types),
      pageSize: PAGE_SIZE,
    })) {
      found.push({ workflowId, runId });
      if (found.length >= LISTED_MAX) break;
    }
    if (found.length === 0) return ended.size;
    await together(found, async ({ workflowId, runId }) => {
      await client.workflow
        .getHandle(workflowId, runId)
        .terminate(reason)
        .catch((error: unknown) => {
          // It has come to its end meanwhile.
          if (!(error instanceof WorkflowNotFoundError)) throw error;
        });
      ended.add(runId);
    });
    await new Promise((resolve) => setTimeout(resolve, ENDING_PAUSE_MS));
  }
  throw new Error('workflows go on running: is a bridge, a worker or the API still up? Stop all roles first');
}
