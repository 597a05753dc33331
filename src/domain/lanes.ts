import type { Database } from '../platform/postgres';
import type { SubscriptionState } from './subscriptions';

/**
 * A subscription's lane: deliveries that wait for it as rows, in the order in which they are to be attempted. What keeps a
 * place in a lane, and which lanes are awake, stands in the database; its workflow (docs/adr/0024) only comes and looks.
 */

type Db = Pick<Database, 'pool'>;

/** For what somebody asked for: before all others, and without waiting for the subscriber's rest. */
export const AT_ONCE = new Date(0);

/** Puts pending deliveries into their lanes, each to be attempted from its time on. Idempotent. */
export async function parkDeliveries(
  db: Db,
  parked: readonly { deliveryId: string; at: Date }[],
): Promise<void> {
  await db.pool.query({
    name: 'park_deliveries',
    text: 'SELECT park_deliveries($1, $2)',
    values: [parked.map(({ deliveryId }) => deliveryId), parked.map(({ at }) => at)],
  });
}

/**
 * Which of these lanes have to be woken after something was put into them. They count as awake from then on.
 * @param any also those that wait for a rest, or for the delivery at their head: what was put in may go before that.
 */
export async function lanesToWake(
  db: Db,
  subscriptionIds: readonly string[],
  any = false,
): Promise<string[]> {
  const { rows } = await db.pool.query<{ id: string }>({
    name: 'lanes_to_wake',
    text: 'SELECT id FROM lanes_to_wake($1, $2) AS id',
    values: [[...new Set(subscriptionIds)], any],
  });
  return rows.map(({ id }) => id);
}

/** What there is to do in a lane. */
export interface LaneLook {
  state: SubscriptionState;
  /** The subscriber is left alone for a while; `nextMs` says until when. */
  resting: boolean;
  /** It did not answer well lately: one attempt at a time. */
  throttled: boolean;
  /** The lane alone sends to it: it keeps the order, or a rate. */
  kept: boolean;
  ratePerSecond: number | null;
  /** In order; those of one key one after another. */
  due: { id: string; key: string }[];
  /** Attempted and failed: their delivery workflows have their next attempts. */
  over: string[];
  /** Given up, their dead letters not written. */
  ended: string[];
  /** Until something else is due; null for never. */
  nextMs: number | null;
}

/** @param skip deliveries that are under way. */
export async function lookIntoLane(
  db: Db,
  { subscriptionId, skip, limit }: { subscriptionId: string; skip: readonly string[]; limit: number },
): Promise<LaneLook> {
  const { rows } = await db.pool.query<{ look: LaneLook }>({
    name: 'lane_look',
    text: 'SELECT lane_look($1, $2::uuid[], $3) AS look',
    values: [subscriptionId, skip, limit],
  });
  return rows[0]!.look;
}

/** Records that the lane is being worked on: others need not wake it. */
export async function laneIsAwake(db: Db, subscriptionId: string): Promise<void> {
  await db.pool.query({ name: 'lane_is_awake', text: 'SELECT lane_is_awake($1)', values: [subscriptionId] });
}

/**
 * Wakes those lanes that have to be woken after something was put into them. When they can't be, they count as asleep again, so
 * that whoever repeats this finds them.
 * @throws what `wake` throws.
 */
export async function wakeSleepingLanes(
  db: Db,
  wake: (subscriptionIds: readonly string[]) => Promise<void>,
  subscriptionIds: readonly string[],
  any = false,
): Promise<void> {
  const asleep = await lanesToWake(db, subscriptionIds, any);
  try {
    await wake(asleep);
  } catch (error) {
    await db.pool
      .query(
        `UPDATE subscription_lanes SET looks_at = 'infinity', heeds_work = true WHERE subscription_id = ANY($1)`,
        [asleep],
      )
      // Then the recovery job finds them.
      .catch(() => undefined);
    throw error;
  }
}

/** The last look before the lane's workflow sleeps: what is put in later wakes it. */
export async function sleepLane(db: Db, subscriptionId: string): Promise<LaneLook & { todo: boolean }> {
  const { rows } = await db.pool.query<{ look: LaneLook & { todo: boolean } }>({
    name: 'lane_sleep',
    text: 'SELECT lane_sleep($1) AS look',
    values: [subscriptionId],
  });
  return rows[0]!.look;
}

/** Takes deliveries out of their lane, whose workflows have them now. Idempotent. */
export async function leaveLane(db: Db, deliveryIds: readonly string[]): Promise<void> {
  await db.pool.query({
    name: 'leave_lane',
    text: 'UPDATE deliveries SET in_lane = false WHERE id = ANY($1::uuid[]) AND in_lane',
    values: [deliveryIds],
  });
}

/**
 * Has a delivery that waits in its lane attempted at once, whatever the subscriber's rest.
 * @returns whether it waits in its lane.
 */
export async function hurryInLane(db: Db, deliveryId: string): Promise<boolean> {
  const { rowCount } = await db.pool.query({
    name: 'hurry_in_lane',
    text: `UPDATE deliveries SET next_attempt_at = $2 WHERE id = $1 AND in_lane AND status = 'pending'`,
    values: [deliveryId, AT_ONCE],
  });
  return (rowCount ?? 0) > 0;
}

/** Deliveries are counted up to this. */
const COUNTED_MAX = 10_000;

/** How many deliveries wait in a lane. */
export async function countWaiting(db: Db, subscriptionId: string): Promise<number> {
  const { rows } = await db.pool.query<{ count: number }>({
    name: 'count_waiting',
    text: `SELECT count(*)::integer AS count FROM (
             SELECT FROM deliveries WHERE subscription_id = $1 AND in_lane AND status = 'pending' LIMIT $2) AS waiting`,
    values: [subscriptionId, COUNTED_MAX],
  });
  return rows[0]?.count ?? 0;
}

/**
 * Ends what waits in the lane of a subscription that gets nothing: held, or cancelled.
 * @param skip deliveries that are under way: what they come to is recorded.
 * @returns how many, at most `limit`.
 */
export async function holdLane(
  db: Db,
  subscriptionId: string,
  { skip, limit }: { skip: readonly string[]; limit: number },
): Promise<number> {
  const { rows } = await db.pool.query<{ count: number }>({
    name: 'hold_lane',
    text: 'SELECT hold_lane($1, $2::uuid[], $3) AS count',
    values: [subscriptionId, skip, limit],
  });
  return rows[0]?.count ?? 0;
}

/** Lanes in which something is due and that nobody has looked into for a minute, in the order of their ids. Reads only. */
export async function forgottenLanes(db: Db, after: string, limit: number): Promise<string[]> {
  const { rows } = await db.pool.query<{ id: string }>({
    name: 'forgotten_lanes',
    text: 'SELECT id FROM forgotten_lanes($1, $2) AS id',
    values: [after, limit],
  });
  return rows.map(({ id }) => id);
}
