import type { ReplayProgress, ReplayState, DeliveryRef } from '../contracts/workflows';
import {
  deliveriesStarted,
  listStrandedDeliveries,
  listStrandedReplays,
  recordReplay,
  replayStep,
  type StrandedReplay,
} from '../domain/replays';
import type { DeliveryRow } from '../domain/payments';
import type { Config } from '../platform/config';
import type { Database } from '../platform/postgres';

export interface ReplayDeps {
  db: Pick<Database, 'pool' | 'prisma'>;
  config: Pick<Config, 'WEBHOOK_REPLAY_BATCH_ROWS'>;
  /** Completes a delivery row with the retry policy that applies to it. */
  deliveryPolicy: (row: DeliveryRow, correlationId: string) => DeliveryRef;
}

export interface StepInput {
  replayId: string;
  correlationId: string;
  /** As far as it has come; null at the start. */
  progress: ReplayProgress | null;
}

export interface StepResult {
  deliveries: DeliveryRef[];
  progress: ReplayProgress;
  done: boolean;
  /** Why it can't go on; null while it can. */
  stopped: string | null;
}

export interface SweepPage {
  replays: StrandedReplay[];
  /** Where the next page begins; null on the last one. */
  next: { at: string; id: string } | null;
}

const START: ReplayProgress = {
  at: '1970-01-01T00:00:00Z',
  after: '',
  examined: 0,
  replayed: 0,
  paused: false,
};

/** Durable steps of the replay workflow. */
export function createReplayActivities({ db, config, deliveryPolicy }: ReplayDeps) {
  return {
    /** Opens the deliveries of the next rows and stores the progress. Idempotent by position. */
    async stepReplay({ replayId, correlationId, progress }: StepInput): Promise<StepResult> {
      const from = progress ?? START;
      const { deliveries, at, after, examined, done, stopped } = await replayStep(
        db,
        replayId,
        from,
        config.WEBHOOK_REPLAY_BATCH_ROWS,
      );
      const next = {
        ...from,
        at,
        after,
        examined: from.examined + examined,
        replayed: from.replayed + deliveries.length,
      };
      await recordReplay(db, replayId, { status: 'running', reason: null, ...next });
      return {
        deliveries: deliveries.map((row) => deliveryPolicy(row, correlationId)),
        progress: next,
        done,
        stopped,
      };
    },

    /** Replays that no workflow may have begun yet, a page at a time. Reads only. */
    async strandedReplays(after: SweepPage['next']): Promise<SweepPage> {
      return listStrandedReplays(db, { after, limit: config.WEBHOOK_REPLAY_BATCH_ROWS });
    },

    /**
     * Notes which deliveries have been started, and hands back the next ones that were sent again by hand and whose
     * workflow may not have been. Idempotent.
     */
    async strandedDeliveries(
      started: Pick<DeliveryRef, 'deliveryId' | 'generation'>[],
    ): Promise<DeliveryRef[]> {
      if (started.length > 0) await deliveriesStarted(db, started);
      const rows = await listStrandedDeliveries(db, config.WEBHOOK_REPLAY_BATCH_ROWS);
      return rows.map((row) => deliveryPolicy(row, row.deliveryId));
    },

    /** Stores the state of a replay. Idempotent. */
    async recordReplayState({ replayId, state }: { replayId: string; state: ReplayState }): Promise<void> {
      await recordReplay(db, replayId, state);
    },
  };
}

export type ReplayActivities = ReturnType<typeof createReplayActivities>;
