import { recordAttempts, type AttemptRecord, type HealthRules } from '../domain/deliveries';
import { Backoff } from '../platform/backoff';
import { Coalescer } from '../platform/coalescer';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import { isDatabaseUnavailable } from '../platform/postgres-errors';
import { healthRules, makeAttempt, type AttemptPlan, type Deliverable, type MadeAttempt } from './attempt';
import { AttemptGate, type AttemptGateSettings } from './attempt-gate';
import type { WebhookClient } from './client';

/** Attempts that one statement stores. One at a time: few large ones cost the database less than many. */
const RECORD_BATCH = 200;
const RECORD_CALLS = 1;
/** While the database is away an attempt that was made is kept in memory for so long; then it may be made again. */
const RECORD_TRIES = 8;
const RECORD_RETRY_BASE_MS = 250;
const RECORD_RETRY_CAP_MS = 32_000;

export interface AttemptsDeps {
  db: Pick<Database, 'pool'>;
  webhooks: Pick<WebhookClient, 'postWebhook'>;
  log: Logger;
  config: AttemptGateSettings & Parameters<typeof healthRules>[0];
}

/** Attempts of one process: whatever way they come, they share its places, and are stored in bulk. */
export class Attempts {
  readonly gate: AttemptGate;
  readonly rules: HealthRules;
  private readonly records: Coalescer<{ record: AttemptRecord; at: Date }, { repeated: boolean }>;

  constructor(private readonly deps: AttemptsDeps) {
    this.gate = new AttemptGate(deps.config);
    this.rules = healthRules(deps.config);
    this.records = new Coalescer({
      maxItems: RECORD_BATCH,
      maxCalls: RECORD_CALLS,
      mayBeOneItems: (error) => !isDatabaseUnavailable(error),
      run: (attempts) => recordAttempts(deps.db, attempts, this.rules),
    });
  }

  /** See makeAttempt. The caller has a place. */
  make(plan: AttemptPlan, delivery: Deliverable, at: Date): Promise<MadeAttempt> {
    return makeAttempt(this.deps, plan, delivery, at);
  }

  /**
   * Stores an attempt, together with others that were made meanwhile. Idempotent.
   * @param tries how often; as often as is worth while nobody else will, which takes about a minute.
   * @throws what the database throws when the last of them fails.
   */
  async store(
    { startedAt: text, waitMs: _, ...made }: MadeAttempt,
    tries = RECORD_TRIES,
  ): Promise<{ repeated: boolean }> {
    const startedAt = new Date(text);
    const record = { ...made, startedAt };
    const at = new Date(startedAt.getTime() + made.durationMs);
    const after = await this.untilStored(tries, () => this.records.add({ record, at }));
    if (made.status !== 'pending' && !after.repeated) metrics.deliveriesFinished.inc({ status: made.status });
    return after;
  }

  private async untilStored<T>(maxTries: number, store: () => Promise<T>): Promise<T> {
    const backoff = new Backoff(RECORD_RETRY_BASE_MS, RECORD_RETRY_CAP_MS);
    for (let tries = 1; ; tries += 1) {
      try {
        return await store();
      } catch (error) {
        if (tries === maxTries) throw error;
        this.deps.log.warn({ err: error, tries }, 'attempts could not be stored; trying again');
        await backoff.pause();
      }
    }
  }
}
