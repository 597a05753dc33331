import { setTimeout as sleep } from 'node:timers/promises';
import type { Config } from '../platform/config';
import type { Lifecycle } from '../platform/lifecycle';
import type { Logger } from '../platform/logging';
import { whyNoTemporal } from '../platform/temporal';

/** What a role can't begin without. */
export type Dependency = 'kafka' | 'temporal';

const PAUSE_MIN_MS = 250;
const PAUSE_MAX_MS = 5_000;
/** The same reason is said again this often. */
const SAY_AGAIN_MS = 30_000;

/** Thrown out of a start that waited for a server when the process was told to stop. */
export class StoppedWhileWaiting extends Error {}

/** Brokers that are there without the topics. */
export class MissingTopics extends Error {
  constructor(topics: readonly string[]) {
    super(`there are no topics ${topics.join(', ')}: run \`remit migrate\``);
  }
}

/**
 * Connects as soon as the server is there: a role that is started before its servers, or while one is away, waits. What
 * it waits for stands in the log and in `/readyz`. A mistake of configuration is said with what to correct, and waited for
 * too: the server may be the one that is wrong.
 * @throws StoppedWhileWaiting at once when the process is told to stop.
 */
export async function whenThere<T>(
  { lifecycle, log, config }: { lifecycle: Lifecycle; log: Logger; config: Config },
  dependency: Dependency,
  connect: () => Promise<T>,
): Promise<T> {
  const check = `${dependency} at the start`;
  let said: { reason: string; atMs: number } | undefined;
  lifecycle.addCheck(check, () => Promise.reject(new Error(said?.reason ?? 'connecting')));
  for (let pauseMs = PAUSE_MIN_MS; ; pauseMs = Math.min(pauseMs * 2, PAUSE_MAX_MS)) {
    try {
      const connected = await unlessStopped(lifecycle.stopped, connect());
      lifecycle.checks.delete(check);
      if (said) log.info({ dependency }, `${dependency} is there`);
      return connected;
    } catch (error) {
      if (lifecycle.isStopping) throw new StoppedWhileWaiting(`stopped while waiting for ${dependency}`);
      const reason = REASONS[dependency](error, config);
      if (said?.reason !== reason || Date.now() - said.atMs > SAY_AGAIN_MS) {
        said = { reason, atMs: Date.now() };
        log.warn({ dependency }, `waiting for ${dependency}: ${reason}`);
      }
    }
    await sleep(pauseMs, undefined, { signal: lifecycle.stopped }).catch(() => undefined);
  }
}

/** Connecting may take long and can’t be interrupted: the process ends without it. */
async function unlessStopped<T>(stopped: AbortSignal, connecting: Promise<T>): Promise<T> {
  stopped.throwIfAborted();
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_, reject) => {
    onAbort = () => reject(new StoppedWhileWaiting());
    stopped.addEventListener('abort', onAbort);
  });
  try {
    return await Promise.race([connecting, aborted]);
  } finally {
    stopped.removeEventListener('abort', onAbort);
  }
}

const REASONS: Record<Dependency, (error: unknown, config: Config) => string> = {
  kafka(error, { KAFKA_BROKERS }) {
    if (error instanceof MissingTopics) return error.message;
    const at = KAFKA_BROKERS.join(',');
    if (error instanceof Error && /SASL|Authorization/.test(error.name))
      return `${at} refuses KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD or KAFKA_SASL_MECHANISM (${error.message})`;
    return `no answer from ${at} (${messageOf(error)}): is it up, are KAFKA_BROKERS and KAFKA_TLS right?`;
  },
  temporal: whyNoTemporal,
};

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
