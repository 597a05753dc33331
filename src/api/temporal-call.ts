import { WorkflowExecutionAlreadyStartedError, WorkflowNotFoundError, type Client } from '@temporalio/client';
import { RemitError } from '../contracts/errors';
import type { ApiDeps } from './routes/route';

/** A start or a signal takes milliseconds; Temporal that takes longer than this hangs, or is away. */
const TEMPORAL_ANSWER_MS = 8_000;

/**
 * Calls Temporal, for at most TEMPORAL_ANSWER_MS, after connecting first when there is no connection yet. The call may have been
 * carried out when it fails: it must be idempotent.
 * @throws RemitError unavailable when it does not answer; what it says of a workflow that is not there, or there already.
 */
export async function callTemporal<T>(
  { temporal, log }: Pick<ApiDeps, 'temporal' | 'log'>,
  workflowId: string,
  run: (client: Client) => Promise<T>,
): Promise<T> {
  try {
    const client = await temporal();
    return await client.withDeadline(Date.now() + TEMPORAL_ANSWER_MS, () => run(client));
  } catch (error) {
    if (error instanceof WorkflowNotFoundError || error instanceof WorkflowExecutionAlreadyStartedError)
      throw error;
    log.error({ err: error, workflowId }, 'Temporal did not take a request');
    throw new RemitError('unavailable', 'Temporal could not be reached in time; try again.');
  }
}
