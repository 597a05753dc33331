import {
  REPLAY_START,
  workflowId,
  type DeliveryRef,
  type ReplayProgress,
  type ReplayState,
} from '../contracts/workflows';
import {
  cancelledInWorkflows,
  listStrandedReplays,
  recordReplay,
  replaySlice,
  type StrandedReplay,
} from '../domain/replays';
import { deliveriesStarted, listStrandedDeliveries } from '../domain/resends';
import { forgottenLanes, wakeSleepingLanes } from '../domain/lanes';
import type { DeliveryRow } from '../domain/pending-deliveries';
import type { Config } from '../platform/config';
import type { Database } from '../platform/postgres';

export interface ReplayDeps {
  db: Pick<Database, 'pool' | 'prisma'>;
  config: Pick<Config, 'WEBHOOK_REPLAY_BATCH_ROWS'>;
  /** Completes a delivery row with the retry policy that applies to it. */
  deliveryPolicy: (row: DeliveryRow, correlationId: string) => DeliveryRef;
  /** Resolves when the workflow of each lane is there and has been told to look. Idempotent. */
  wakeLanes: (subscriptionIds: readonly string[]) => Promise<void>;
  /** Tells the delivery workflows of these ids, where they run, that their deliveries are cancelled. Idempotent. */
  cancelDeliveries: (workflowIds: readonly string[]) => Promise<void>;
}

export interface StepInput {
  replayId: string;
  correlationId: string;
  /** As far as it has come; null at the start. */
  progress: ReplayProgress | null;
  /** It puts no more into the lanes than the rate allows in this time, and one in any case. */
  sliceMs: number;
}

export interface StepResult {
  /** When the next slice is due, in milliseconds. */
  waitMs: number;
  progress: ReplayProgress;
  done: boolean;
  /** Why it can't go on; null while it can. */
  stopped: string | null;
}

export interface TellInput {
  replayId: string;
  /** As far as it has come. */
  told: { at: string; after: string };
  /** Workflows that are told in a second, at most. */
  perSecond: number;
  sliceMs: number;
}

export interface TellResult {
  told: { at: string; after: string };
  done: boolean;
  /** Until the rate allows more, in milliseconds. */
  waitMs: number;
}

export interface StrandedReplayPage {
  replays: StrandedReplay[];
  /** Where the next page begins; null on the last one. */
  next: { at: string; id: string } | null;
}

/** A slice is put into the lanes before the one before it is through, so that the rate is even. */
const LEAD_MS = 200;
/** Rows that a cancellation ends in one statement. */
const CANCELLED_AT_ONCE = 1_000;
/** Lanes that are woken in one step of the recovery job. */
const LANES_A_STEP = 500;

/** Durable steps of the replay workflow. */
export function createReplayActivities({
  db,
  config,
  deliveryPolicy,
  wakeLanes,
  cancelDeliveries,
}: ReplayDeps) {
  return {
    /**
     * Puts the deliveries of the next rows into their lanes and stores the progress; or cancels them, as many as it gets to in
     * the time of the slice. Idempotent by position.
     */
    async stepReplay({ replayId, progress, sliceMs }: StepInput): Promise<StepResult> {
      const until = performance.now() + sliceMs;
      let next = progress ?? REPLAY_START;
      for (;;) {
        const slice = await replaySlice(db, replayId, next, {
          sliceMs,
          rows: next.cancels ? CANCELLED_AT_ONCE : config.WEBHOOK_REPLAY_BATCH_ROWS,
        });
        if (slice.subscriptions.length > 0) await wakeSleepingLanes(db, wakeLanes, slice.subscriptions, true);
        next = {
          ...next,
          at: slice.at,
          after: slice.after,
          examined: next.examined + slice.examined,
          replayed: next.replayed + slice.opened,
          nextAt: slice.until,
          ...(slice.cancels && { cancels: true }),
        };
        const { done, stopped } = slice;
        if (slice.cancels && !done && performance.now() < until) continue;
        await recordReplay(db, replayId, { status: 'running', reason: null, ...next });
        // A little before it: its own step takes time too.
        const waitMs = Math.max(0, Date.parse(slice.until) - Date.now() - LEAD_MS);
        return { progress: next, waitMs, done, stopped };
      }
    },

    /**
     * Tells workflows of deliveries that were cancelled in bulk not to wait any longer, as many as the rate allows in the time of
     * a slice: what they would do next is find that out, so that nothing depends on it. Idempotent.
     */
    async tellCancelled({ replayId, told, perSecond, sliceMs }: TellInput): Promise<TellResult> {
      const limit = Math.max(1, Math.floor((perSecond * sliceMs) / 1_000));
      const startedAt = performance.now();
      const found = await cancelledInWorkflows(db, replayId, told, limit);
      await cancelDeliveries(
        found.map(({ eventId, subscriptionId, generation }) =>
          workflowId.delivery(eventId, subscriptionId, generation),
        ),
      );
      const last = found.at(-1);
      return {
        told: last === undefined ? told : { at: last.createdAt.toISOString(), after: last.id },
        done: found.length < limit,
        waitMs: Math.max(0, Math.ceil(sliceMs - (performance.now() - startedAt))),
      };
    },

    /** Replays that no workflow may have begun yet, a page at a time. Reads only. */
    async strandedReplays(after: StrandedReplayPage['next']): Promise<StrandedReplayPage> {
      return listStrandedReplays(db, { after, limit: config.WEBHOOK_REPLAY_BATCH_ROWS });
    },

    /**
     * Notes which deliveries have been started, and returns the next ones that were sent again by hand and whose
     * workflow may not have been. Idempotent.
     */
    async strandedDeliveries(
      started: Pick<DeliveryRef, 'deliveryId' | 'generation'>[],
    ): Promise<DeliveryRef[]> {
      if (started.length > 0) await deliveriesStarted(db, started);
      const rows = await listStrandedDeliveries(db, config.WEBHOOK_REPLAY_BATCH_ROWS);
      return rows.map((row) => deliveryPolicy(row, row.deliveryId));
    },

    /** Wakes lanes from which nothing was seen though something is due. @returns where to go on; null at the end. */
    async wakeForgottenLanes(after: string): Promise<string | null> {
      const found = await forgottenLanes(db, after, LANES_A_STEP);
      await wakeLanes(found);
      return found.length < LANES_A_STEP ? null : found.at(-1)!;
    },

    /** Stores the state of a replay. Idempotent. */
    async recordReplayState({ replayId, state }: { replayId: string; state: ReplayState }): Promise<void> {
      await recordReplay(db, replayId, state);
    },
  };
}

export type ReplayActivities = ReturnType<typeof createReplayActivities>;
