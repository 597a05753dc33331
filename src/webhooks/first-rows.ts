import type { PendingDelivery } from '../domain/pending-deliveries';
import type { FirstDelivery } from '../domain/fan-out';
import type { MadeAttempt } from './attempt';
import type { FirstRows } from './attempts';

/** What has become of a delivery's row. */
export interface Written {
  /** Another than the delivery's own when a row was there already, and stays as it is. */
  id: string;
  /** The row holds the attempt. */
  withAttempt: boolean;
  /** The row waits in the lane. */
  inLane: boolean;
}

/**
 * The rows of an event's deliveries, which are written together: as soon as it is known of each what to write, or when the
 * time is over; the others are written as pending then.
 */
export class EventRows {
  private readonly rows: Map<string, FirstDelivery>;
  private readonly undecided: Set<string>;
  private readonly timer: NodeJS.Timeout;
  private begun = false;
  private stored = false;
  private begin!: () => void;
  /** Resolves when the rows are there: see recordFirstAttempts. */
  readonly written: Promise<Map<string, string>>;

  /**
   * @param handedOut the event, when it is handed out with these rows.
   * @param afterMs when they are written at the latest.
   */
  constructor(
    store: (rows: FirstRows) => Promise<Map<string, string>>,
    {
      fresh,
      handedOut,
      afterMs,
    }: { fresh: readonly PendingDelivery[]; handedOut: string | null; afterMs: number },
  ) {
    this.rows = new Map(
      fresh.map((pending) => [pending.delivery.id, { pending, laneAfterMs: null, attempt: null }]),
    );
    this.undecided = new Set(this.rows.keys());
    const begun = new Promise<void>((resolve) => (this.begin = resolve));
    this.timer = setTimeout(() => this.begin(), afterMs);
    this.written = begun.then(async () => {
      this.begun = true;
      clearTimeout(this.timer);
      const rows = { deliveries: [...this.rows.values()], handedOut };
      const written = await store(rows);
      this.stored = true;
      return written;
    });
    // Whoever waits for a row learns of it.
    this.written.catch(() => undefined);
    if (fresh.length === 0) this.begin();
  }

  get areStored(): boolean {
    return this.stored;
  }

  /** What is kept in order must not wait for the attempts of others. */
  writeNow(): void {
    this.begin();
  }

  /** Resolves when the row is there: as it is asked for, if that was said in time. */
  async write(
    id: string,
    { laneAfterMs = null, attempt }: { laneAfterMs?: number | null; attempt?: MadeAttempt },
  ): Promise<Written> {
    const row = this.rows.get(id)!;
    const inTime = !this.begun && this.undecided.delete(id);
    if (inTime) {
      this.rows.set(id, { ...row, laneAfterMs, attempt: attempt ?? null });
      if (this.undecided.size === 0) this.begin();
    }
    const storedId = (await this.written).get(id);
    if (storedId !== undefined && storedId !== id) return { id: storedId, withAttempt: true, inLane: true };
    const given = inTime && storedId === undefined;
    return { id, withAttempt: given && attempt !== undefined, inLane: given && laneAfterMs !== null };
  }
}
