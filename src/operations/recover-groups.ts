import type { Admin, Kafka } from 'kafkajs';
import { withAdmin } from '../platform/topic-reader';

/** What a group will read once more, or would. */
export interface Rewound {
  group: string;
  topic: string;
  /** Messages between where it is moved to and where it was. */
  messages: bigint;
  /** The topic no longer has all messages since that time. */
  incomplete: boolean;
}

/** Somebody still reads. */
export class GroupsInUse extends Error {}

interface Target {
  group: string;
  topic: string;
}

/**
 * Moves consumer groups back to the first message at or after a time; none is ever moved forward, so repeating it changes
 * nothing. A group that has committed nothing begins at the beginning by itself. No member of them may be running.
 * @throws Error that says which group has members, before any is moved.
 */
export async function rewindGroups(
  kafka: Kafka,
  targets: readonly Target[],
  sinceMs: number,
  dryRun: boolean,
): Promise<Rewound[]> {
  return withAdmin(kafka, async (admin) => {
    if (!dryRun) await requireNoMembers(admin, targets);
    const result: Rewound[] = [];
    for (const target of targets) result.push(await rewind(admin, target, sinceMs, dryRun));
    return result;
  });
}

async function requireNoMembers(admin: Admin, targets: readonly Target[]): Promise<void> {
  const { groups } = await admin.describeGroups(targets.map(({ group }) => group));
  const busy = groups.filter(({ members }) => members.length > 0).map(({ groupId }) => groupId);
  if (busy.length > 0)
    throw new GroupsInUse(
      `still being read by a bridge or a worker: ${busy.join(', ')}. Stop all roles, then repeat this (one that was killed is counted for KAFKA_SESSION_TIMEOUT_MS). Nothing was changed.`,
    );
}

async function rewind(
  admin: Admin,
  { group, topic }: Target,
  sinceMs: number,
  dryRun: boolean,
): Promise<Rewound> {
  const [held, since, committed] = await Promise.all([
    admin.fetchTopicOffsets(topic),
    admin.fetchTopicOffsetsByTimestamp(topic, sinceMs),
    admin.fetchOffsets({ groupId: group, topics: [topic] }),
  ]);
  const wanted = new Map(since.map(({ partition, offset }) => [partition, BigInt(offset)]));
  const low = new Map(held.map((range) => [range.partition, BigInt(range.low)]));
  const moves: { partition: number; offset: string }[] = [];
  let messages = 0n;
  let incomplete = false;
  for (const { partition, offset } of committed[0]?.partitions ?? []) {
    const [at, to, first] = [BigInt(offset), wanted.get(partition), low.get(partition)];
    if (at < 0n || to === undefined || first === undefined) continue;
    // Something was deleted, and what is left begins at or after the time: it may have reached further back.
    if (first > 0n && to === first) incomplete = true;
    if (to >= at) continue;
    moves.push({ partition, offset: String(to) });
    messages += at - to;
  }
  if (moves.length > 0 && !dryRun) await admin.setOffsets({ groupId: group, topic, partitions: moves });
  return { group, topic, messages, incomplete };
}
