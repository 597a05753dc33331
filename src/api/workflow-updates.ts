import { setTimeout as sleep } from 'node:timers/promises';
import {
  ActivityFailure,
  ApplicationFailure,
  WorkflowUpdateFailedError,
  type Client,
} from '@temporalio/client';
import { RemitError } from '../contracts/errors';
import { FAILURES } from '../contracts/workflows';
import { DataRefusedError } from '../domain/money-transaction';
import { checkTemporal } from '../platform/temporal';
import type { ApiDeps } from './routes/route';
import { callTemporal } from './temporal-call';

/** The run is about to continue in a new one, which takes the update. */
function isRunFull({ cause }: WorkflowUpdateFailedError): boolean {
  return cause instanceof ApplicationFailure && cause.type === FAILURES.runIsFull;
}

const ATTEMPTS = 3;
const RETRY_PAUSE_MS = 100;

/**
 * Sends an update to a workflow (`send`: one of platform/workflow-starts.ts) and waits for its answer. Once Temporal has
 * accepted it, it is carried out even when nobody waits for the answer any more. What the update does must be
 * idempotent: one that met a run at its very end is sent again.
 * @throws WorkflowUpdateFailedError when the workflow refuses it, DataRefusedError when the database does; RemitError
 * unavailable when Temporal can't be reached, or the workflow does not decide within API_REQUEST_TIMEOUT_MS.
 */
export async function updateWorkflow<Result>(
  { config, temporal, log }: Pick<ApiDeps, 'config' | 'temporal' | 'log'>,
  workflowId: string,
  send: (client: Client) => Promise<Result>,
): Promise<Result> {
  const deadline = Date.now() + config.API_REQUEST_TIMEOUT_MS;
  const attemptOnce = async (): Promise<Result> => {
    const client = await temporal();
    return await client.withDeadline(deadline, () => send(client));
  };
  // A workflow may take its time to decide. That Temporal is away, or hangs, is told from that beforehand.
  await callTemporal({ temporal, log }, workflowId, checkTemporal);
  for (let attempt = 1; ; attempt++) {
    try {
      return await attemptOnce();
    } catch (error) {
      if (error instanceof WorkflowUpdateFailedError && !isRunFull(error)) throw refusedData(error) ?? error;
      const pauseMs = RETRY_PAUSE_MS * attempt;
      if (attempt < ATTEMPTS && Date.now() + pauseMs < deadline) {
        await sleep(pauseMs);
        continue;
      }
      log.error({ err: error, workflowId }, 'an update could not be completed');
      throw new RemitError('unavailable', 'The request was not decided in time; ask again for its result.');
    }
  }
}

/** The refusal of the database that made an update fail, as it is when it comes from the database itself. */
function refusedData({ cause }: WorkflowUpdateFailedError): DataRefusedError | undefined {
  const failure = cause instanceof ActivityFailure ? cause.cause : cause;
  if (!(failure instanceof ApplicationFailure) || failure.type !== FAILURES.dataRefused) return undefined;
  const [, code = ''] = /SQLSTATE (\w{5})/.exec(failure.message) ?? [];
  return new DataRefusedError(code, failure.message, { cause: failure });
}
