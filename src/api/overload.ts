import { monitorEventLoopDelay } from 'node:perf_hooks';
import type { RequestHandler } from 'express';
import { RemitError } from '../contracts/errors';
import type { Config } from '../platform/config';
import type { Lifecycle } from '../platform/lifecycle';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import { pathOf } from './context';

const SAMPLE_MS = 1_000;
/** Each look is a wake-up of an idle process; what counts as late is twenty times this. */
const RESOLUTION_MS = 100;
/** Samples in a row: a single stall, however long, is over when it is seen. */
const LATE_SAMPLES = 2;

/** What orchestrators and load balancers ask: who is not answered is ended, or taken out, and the others get its load. */
const ALWAYS_ANSWERED = new Set(['/healthz', '/readyz']);

/** Watches how late the event loop is, on average of a second or of as long as its turns take. */
class LoopWatch {
  private readonly delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS });
  private readonly timer: NodeJS.Timeout;
  private sampledAt = performance.now();
  private lateSamples = 0;

  constructor(
    private readonly maxDelayMs: number,
    private readonly log: Logger,
  ) {
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
    const now = performance.now();
    // Node counts the ticks that came, but for the first one after a reset.
    const delayMs = (now - this.sampledAt) / (this.delay.count + 1) - RESOLUTION_MS;
    this.sampledAt = now;
    this.delay.reset();
    this.lateSamples = delayMs > this.maxDelayMs ? this.lateSamples + 1 : 0;
    if (this.lateSamples === LATE_SAMPLES)
      this.log.warn({ delayMs: Math.round(delayMs) }, 'the event loop is late: new requests are refused');
  }
}

interface Deps {
  config: Pick<Config, 'API_REQUESTS_IN_FLIGHT_MAX' | 'API_EVENT_LOOP_DELAY_MAX_MS'>;
  log: Logger;
  lifecycle: Lifecycle;
}

/**
 * Refuses new requests with 503 and Retry-After, before they are authenticated or read, while the process has more to do
 * than it can. What it has begun it finishes. Health is always answered.
 */
export function shedLoad({ config, log, lifecycle }: Deps): RequestHandler {
  const loop = new LoopWatch(config.API_EVENT_LOOP_DELAY_MAX_MS, log);
  lifecycle.onStop('close', 'watch of the event loop', () => loop.stop());
  let inFlight = 0;
  return (request, response, next) => {
    if (ALWAYS_ANSWERED.has(pathOf(request.originalUrl))) return next();
    const full = inFlight >= config.API_REQUESTS_IN_FLIGHT_MAX;
    if (full || loop.isLate) {
      metrics.requestsShed.inc({ reason: full ? 'in_flight' : 'event_loop' });
      throw new RemitError('unavailable', 'The server has more to do than it can at the moment; try again.');
    }
    inFlight += 1;
    response.once('close', () => (inFlight -= 1));
    next();
  };
}
