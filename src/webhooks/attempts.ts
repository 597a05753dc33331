import {
  claimAttempts,
  recordAttempts,
  type AsRead,
  type AttemptRecord,
  type HealthRules,
  type Recorded,
} from '../domain/attempt-records';
import { recordFirstAttempts, type FirstDelivery } from '../domain/fan-out';
import { Backoff } from '../platform/backoff';
import { Coalescer } from '../platform/coalescer';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';
import type { Database } from '../platform/postgres';
import { healthRules, makeAttempt, type AttemptPlan, type Deliverable, type MadeAttempt } from './attempt';
import { AttemptGate, type AttemptGateSettings, type Place } from './attempt-gate';
import type { WebhookClient } from './client';

/** Attempts that one statement stores or claims. */
const BATCH = 200;
/** Deliveries whose rows one statement writes; one event's may be more. */
const ROWS = 200;
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

/** The deliveries of one event that get their rows together. */
export interface FirstRows {
  deliveries: readonly FirstDelivery[];
  /** The event, when it is handed out with these. */
  handedOut: string | null;
}

/** Attempts of one process: whatever way they come, they share its places, and are stored in bulk. */
export class Attempts {
  readonly gate: AttemptGate;
  readonly rules: HealthRules;
  private readonly records: Coalescer<{ record: AttemptRecord; at: Date }, Recorded>;
  private readonly claims: Coalescer<AsRead, boolean>;
  /** The last rows could not be written: nothing is to be sent before its own are. */
  cannotWrite = false;
  private readonly rows: Coalescer<FirstRows, Map<string, string>>;

  constructor(private readonly deps: AttemptsDeps) {
    this.gate = new AttemptGate(deps.config);
    this.rules = healthRules(deps.config);
    this.records = new Coalescer({
      maxItems: BATCH,
      run: (attempts) => recordAttempts(deps.db, attempts, this.rules),
    });
    this.claims = new Coalescer({
      maxItems: BATCH,
      run: (deliveries) => claimAttempts(deps.db, deliveries),
    });
    this.rows = new Coalescer({
      maxItems: ROWS,
      sizeOf: ({ deliveries }) => Math.max(1, deliveries.length),
      run: async (events) => {
        const notAsGiven = await recordFirstAttempts(
          deps.db,
          events.flatMap(({ deliveries }) => deliveries),
          // In one order, so that two that share events wait for each other.
          events.flatMap(({ handedOut }) => handedOut ?? []).sort(),
        );
        return events.map(() => notAsGiven);
      },
    });
  }

  /** Attempts that may be under way at a time. */
  get places(): number {
    return this.deps.config.WEBHOOK_CONCURRENT_ATTEMPTS;
  }

  /**
   * Whether a delivery that was read a while ago may still be attempted, asked together with others: see claimAttempts. To
   * be asked right before the attempt, which counts as under way from then on.
   * @param place what it has been admitted to; given back when it may not.
   */
  async claim(delivery: AsRead, place: Place): Promise<boolean> {
    let claimed = false;
    try {
      claimed = await this.claims.add(delivery);
    } finally {
      if (!claimed) place.leave(undefined);
    }
    return claimed;
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
  async store({ startedAt: text, waitMs: _, ...made }: MadeAttempt, tries = RECORD_TRIES): Promise<Recorded> {
    const startedAt = new Date(text);
    const record = { ...made, startedAt };
    const at = new Date(startedAt.getTime() + made.durationMs);
    const recorded = await this.untilStored(tries, () => this.records.add({ record, at }));
    if (made.status !== 'pending' && recorded === 'decides')
      metrics.deliveriesFinished.inc({ status: made.status });
    return recorded;
  }

  /**
   * Writes the rows of an event's deliveries, together with those of others: see recordFirstAttempts. Idempotent.
   * @throws what the database throws when the last try fails.
   */
  async storeFirst(rows: FirstRows): Promise<Map<string, string>> {
    const notAsGiven = await this.untilStored(RECORD_TRIES, async () => {
      try {
        const answer = await this.rows.add(rows);
        this.cannotWrite = false;
        return answer;
      } catch (error) {
        this.cannotWrite = true;
        throw error;
      }
    });
    for (const { pending, attempt } of rows.deliveries)
      if (attempt && !notAsGiven.has(pending.delivery.id))
        metrics.deliveriesFinished.inc({ status: 'delivered' });
    return notAsGiven;
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
