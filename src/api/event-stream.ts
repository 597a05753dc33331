import { setTimeout as sleep } from 'node:timers/promises';
import type { Response } from 'express';
import { RemitError } from '../contracts/errors';
import type { Happened } from '../contracts/stream';
import { happenings } from '../domain/happenings';
import type { ApiDeps } from './routes/route';

/** Streams of one process, and of one tenant in it: each asks the database about once a second. */
const STREAMS_MAX = 200;
const STREAMS_OF_TENANT_MAX = 20;
const POLL_MS = 1_000;
const HEARTBEAT_MS = 15_000;
/** Rows bear the time at which their transaction began: so long after it, what had committed late is looked for. */
const LATE_MS = 5_000;
/** How far back a stream is resumed. */
const RESUMED_MS = 3_600_000;
/** Of each kind, in one look; beyond that, the oldest are left out and said to be missed. */
const LOOK_MAX = 500;

const open = new Map<string, number>();
const all = () => [...open.values()].reduce((sum, count) => sum + count, 0);

/** @throws RemitError unavailable when there are too many streams; the returned function gives the place back. */
export function takeStream(tenantId: string): () => void {
  const mine = open.get(tenantId) ?? 0;
  if (mine >= STREAMS_OF_TENANT_MAX || all() >= STREAMS_MAX)
    throw new RemitError('unavailable', 'Too many streams are open; try again.');
  open.set(tenantId, mine + 1);
  return () => {
    const left = (open.get(tenantId) ?? 1) - 1;
    if (left > 0) open.set(tenantId, left);
    else open.delete(tenantId);
  };
}

const event = (type: string, data: unknown, id?: number): string =>
  `${id === undefined ? '' : `id: ${id}\n`}event: ${type}\ndata: ${JSON.stringify(data)}\n\n`;

/**
 * Writes what happens to a tenant's things as server-sent events, until the client goes, the time is over, or the process
 * stops. An id is the time up to which everything was sent: a client that comes again with it gets what was since then.
 */
export async function writeStream(
  { database, lifecycle, log }: Pick<ApiDeps, 'database' | 'lifecycle' | 'log'>,
  response: Response,
  {
    tenantId,
    kinds,
    lastEventId,
    seconds,
  }: {
    tenantId: string;
    kinds: ReadonlySet<Happened['kind']>;
    lastEventId: string | undefined;
    seconds: number;
  },
): Promise<void> {
  const startedAt = Date.now();
  const resumed = lastEventId === undefined ? startedAt : Number(lastEventId);
  const oldest = startedAt - RESUMED_MS;
  let after = Math.min(Math.max(resumed, oldest), startedAt);
  /** What was sent, with its time; forgotten when no look goes back so far. */
  const sent = new Map<string, number>();
  let quietSince = startedAt;
  const write = (text: string) => {
    quietSince = Date.now();
    return response.write(text);
  };
  response.flushHeaders();
  write(`retry: 2000\n\n`);
  if (resumed < oldest) write(event('missed', { since: new Date(resumed).toISOString() }));
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  while (!gone.signal.aborted && !lifecycle.isStopping && Date.now() - startedAt < seconds * 1_000) {
    const upTo = Date.now();
    try {
      const found = await happenings(database, {
        ...{ tenantId, kinds, limit: LOOK_MAX },
        after: new Date(after - LATE_MS),
        upTo: new Date(upTo),
      });
      if (found.length >= LOOK_MAX) write(event('missed', { since: new Date(after).toISOString() }));
      const fresh = found.filter(
        ({ id, at }) => !sent.has(id) && (lastEventId !== undefined || Date.parse(at) > startedAt),
      );
      for (const happened of fresh) {
        sent.set(happened.id, upTo);
        write(event('happened', happened, upTo));
      }
      for (const [id, at] of sent) if (at < after - LATE_MS) sent.delete(id);
      after = upTo;
    } catch (error) {
      log.debug({ err: error }, 'a stream could not look');
    }
    if (Date.now() - quietSince >= HEARTBEAT_MS) write(': still here\n\n');
    // A client that does not read is waited for, not written to.
    if (response.writableNeedDrain) await drained(response, gone.signal);
    await sleep(POLL_MS, undefined, { signal: gone.signal }).catch(() => undefined);
  }
  if (!gone.signal.aborted) response.end(event('end', {}, after));
}

/** Longest wait for a client that does not read. */
const DRAIN_MS = 30_000;

async function drained(response: Response, signal: AbortSignal): Promise<void> {
  await new Promise<void>((resolve) => {
    const timer = setTimeout(() => {
      response.destroy();
      resolve();
    }, DRAIN_MS);
    const done = () => {
      clearTimeout(timer);
      resolve();
    };
    response.once('drain', done);
    signal.addEventListener('abort', done, { once: true });
  });
}
