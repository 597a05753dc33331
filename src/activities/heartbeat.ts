import { Context } from '@temporalio/activity';

/** Of one try of an activity: what the tries before it left, and what it leaves to the next one. */
export interface Handover<Details> {
  /** What was left by the last try that left anything; what is written here goes out with the next beat. */
  left: Details | undefined;
  /** Leaves `details` to the next try at once, as the last thing that a failing one does. */
  leave(details: Details): void;
}

const BEATS_A_TIMEOUT = 3;

/**
 * Does an activity's work with heartbeats, so that Temporal begins it anew within the activity's `heartbeatTimeout` when
 * its worker is killed, and not only after its `startToCloseTimeout`. Work that is over within a third of the heartbeat
 * timeout costs no heartbeat. Each beat carries what is left to the next try, because a beat replaces the one before it.
 */
export async function withHeartbeat<Details, Result>(
  work: (handover: Handover<Details>) => Promise<Result>,
): Promise<Result> {
  const context = Context.current();
  const handover: Handover<Details> = {
    left: (context.info.heartbeatDetails as Details | null | undefined) ?? undefined,
    leave(details) {
      handover.left = details;
      context.heartbeat(details);
    },
  };
  const { heartbeatTimeoutMs } = context.info;
  const beats =
    heartbeatTimeoutMs &&
    setInterval(() => context.heartbeat(handover.left), heartbeatTimeoutMs / BEATS_A_TIMEOUT);
  try {
    return await work(handover);
  } finally {
    if (beats) clearInterval(beats);
  }
}
