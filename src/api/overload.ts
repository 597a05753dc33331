import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { RequestHandler } from 'express';
import { RemitError } from '../contracts/errors';
import type { Lifecycle } from '../platform/lifecycle';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import { pathOf } from './context';

/**
 * Requests that a process works on at once. Its connections to the database work on 26; what waits behind a thousand
 * others gets its answer late or not at all, and every further one makes it later for all.
 */
export const IN_FLIGHT_MAX = 1_000;
/** The event loop is too late when it is late by this much on average, for two samples in a row. */
export const LOOP_DELAY_MAX_MS = 500;
const SAMPLE_MS = 1_000;
const RESOLUTION_MS = 20;
const LATE_SAMPLES = 2;

/** What orchestrators and load balancers ask: a process that is not answered to them is ended, or gets what others can't take. */
const ALWAYS_ANSWERED = new Set(['/healthz', '/readyz']);

/** Watches how late the event loop is. A single stall, however long, is over when it is seen: only a lasting one counts. */
export class LoopWatch {
  private readonly delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  private readonly timer: NodeJS.Timeout;
  private lateSamples = 0;

  constructor(private readonly log: Logger) {
    this.delay.enable();
    this.timer = setInterval(() => this.sample(), SAMPLE_MS).unref();
  }

  get isLate(): boolean {
    return this.lateSamples >= LATE_SAMPLES;
  }

  stop(): void {
    clearInterval(this.timer);
    this.delay.disable();
  }

  private sample(): void {
    // What it measures is the time between two ticks of the resolution; nothing at all when none came through.
    const meanMs = this.delay.count > 0 ? this.delay.mean / 1e6 - RESOLUTION_MS : SAMPLE_MS;
    this.delay.reset();
    const late = meanMs > LOOP_DELAY_MAX_MS;
    this.lateSamples = late ? this.lateSamples + 1 : 0;
    if (late)
      this.log.warn({ meanMs: Math.round(meanMs) }, 'the event loop is late: the process has too much to do');
  }
}

/**
 * Refuses new requests with 503 and Retry-After, before they are authenticated or read, while the process has more to do
 * than it can. What it has begun it finishes. Health is always answered.
 */
export function shedLoad({ log, lifecycle }: { log: Logger; lifecycle: Lifecycle }): RequestHandler {
  const loop = new LoopWatch(log);
  lifecycle.onStop('close', 'watch of the event loop', () => loop.stop());
  let inFlight = 0;
  return (request, response, next) => {
    if (ALWAYS_ANSWERED.has(pathOf(request.originalUrl))) return next();
    const reason = inFlight >= IN_FLIGHT_MAX ? 'in_flight' : loop.isLate ? 'event_loop' : undefined;
    if (reason !== undefined) {
      metrics.requestsShed.inc({ reason });
      throw new RemitError('unavailable', 'The server has more to do than it can at the moment; try again.');
    }
    inFlight += 1;
    response.once('close', () => (inFlight -= 1));
    next();
  };
}
