import { isGrpcServiceError, ServiceError, type Client } from '@temporalio/client';
import { PoisonMessage } from './message';

/** Status codes of gRPC, by their numbers on the wire. */
const GRPC: Record<'INVALID_ARGUMENT' | 'RESOURCE_EXHAUSTED' | 'OUT_OF_RANGE', number> = {
  INVALID_ARGUMENT: 3,
  RESOURCE_EXHAUSTED: 8,
  OUT_OF_RANGE: 11,
};

/**
 * Temporal refuses these for the deployment, not for the message: with an attribute that nobody registered every
 * message would end on the DLQ. They are tried again until `remit migrate` has run.
 */
const DEPLOYMENT_FAULT =
  /search attribute .*(is not defined|not found|no mapping)|no mapping defined for search attribute/i;
/** A run takes so many signals (10,000 by default) and no more; it soon continues as a new one, which takes them again. */
const RUN_IS_FULL = /exceeded workflow execution limit/i;
/** A payload over the server's limit, or a request over gRPC's. */
const TOO_LARGE = { [GRPC.INVALID_ARGUMENT]: /blob ?size/i, [GRPC.RESOURCE_EXHAUSTED]: /larger than max/i };

/**
 * Whether Temporal will never take this message, whatever happens, and why. Undefined for everything that may pass:
 * unreachable, overloaded, out of time, not permitted, namespace not there (yet).
 */
export function lastingRefusal(error: unknown): PoisonMessage | undefined {
  const cause = error instanceof ServiceError ? error.cause : error;
  if (!isGrpcServiceError(cause)) return undefined;
  const { details } = cause;
  const code = Number(cause.code);
  if (TOO_LARGE[code]?.test(details))
    return new PoisonMessage('message_too_large', `Temporal refuses it: ${details}`);
  const lasting = code === GRPC.INVALID_ARGUMENT || code === GRPC.OUT_OF_RANGE;
  if (!lasting || DEPLOYMENT_FAULT.test(details) || RUN_IS_FULL.test(details)) return undefined;
  return new PoisonMessage('invalid_message', `Temporal refuses it: ${details}`);
}

/**
 * Calls Temporal with a limit of time. Resolves when the server has stored what it was given.
 * @throws PoisonMessage when it will never take this; anything else may be tried again.
 */
export async function takenByTemporal(
  client: Client,
  timeoutMs: number,
  call: () => Promise<unknown>,
): Promise<void> {
  try {
    await client.withDeadline(Date.now() + timeoutMs, call);
  } catch (error) {
    throw lastingRefusal(error) ?? error;
  }
}
