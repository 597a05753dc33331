import { Context } from '@temporalio/activity';

/** Of one try of an activity: what the tries before it left, and what it leaves to the next one. */
export interface Handover<Details> {
  left: Details | undefined;
}

const BEATS_A_TIMEOUT = 3;

/**
 * Does an activity's work with heartbeats, so that Temporal starts it again within the activity's `heartbeatTimeout` when
 * its worker is killed, and not only after its `startToCloseTimeout`. Work that is over within a third of the heartbeat
 * timeout costs no heartbeat. Each beat carries what is left to the next try, because a beat replaces the one before it;
 * so does the last one of a try that fails.
 */
export async function withHeartbeat<Details, Result>(
  work: (handover: Handover<Details>) => Promise<Result>,
): Promise<Result> {
  const context = Context.current();
  const { heartbeatTimeoutMs } = context.info;
  const handover: Handover<Details> = {
    left: (context.info.heartbeatDetails as Details | null | undefined) ?? undefined,
  };
  const beat = () => context.heartbeat(handover.left);
  const beats = heartbeatTimeoutMs && setInterval(beat, heartbeatTimeoutMs / BEATS_A_TIMEOUT);
  try {
    return await work(handover);
  } catch (error) {
    if (handover.left !== undefined) beat();
    throw error;
  } finally {
    if (beats) clearInterval(beats);
  }
}
