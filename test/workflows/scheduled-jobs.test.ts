import { randomUUID } from 'node:crypto';
import type { AttemptInput, AttemptResult } from '../../src/activities/deliveries';
import { TASK_QUEUES, workflowId, WORKFLOWS } from '../../src/contracts/workflows';
import type { PurgePosition, PurgeStep } from '../../src/domain/event-retention';
import { readDeployment } from '../../src/platform/worker-versions';
import { deliveryRef } from '../support/deliveries';
import { eventually } from '../support/harness';
import { playedStage } from '../support/workflow-env';

const stage = playedStage([
  ...['attemptDelivery', 'finishDelivery', 'deadLetterDelivery'],
  ...['purgeEvents', 'strandedReplays', 'strandedDeliveries', 'stepReplay', 'recordReplayState'],
  'wakeForgottenLanes',
]);

it('a Temporal server that is too old for versions of workers is named as such', async () => {
  // The one of these tests knows none of them.
  await expect(readDeployment(stage.environment.client)).rejects.toThrow('1.28 or newer is needed');
});

describe('the retention of events', () => {
  it('goes on in another run when it has many steps, from where it was', async () => {
    const STEPS = 1_100;
    const seen: number[] = [];
    stage.play({
      purgeEvents: ({ after }: PurgePosition): Promise<PurgeStep> => {
        const n = after === '' ? 1 : Number(after) + 1;
        seen.push(n);
        const at = new Date(n).toISOString();
        return Promise.resolve({ at, after: String(n), examined: 10, purged: 3, done: n === STEPS });
      },
    });
    const result: unknown = await stage.environment.client.workflow.execute(WORKFLOWS.retention, {
      workflowId: `retention-${randomUUID()}`,
      taskQueue: TASK_QUEUES.events,
      args: [],
    });
    expect(result).toEqual({ purged: 3 * STEPS });
    expect(seen).toEqual(Array.from({ length: STEPS }, (_, n) => n + 1));
  }, 120_000);
});

describe('the recovery job', () => {
  const replays = Array.from({ length: 3 }, () => ({
    id: randomUUID(),
    subscriptionId: 'sub_1',
    ratePerSecond: 10,
  }));
  const recover = () =>
    stage.environment.client.workflow.execute(WORKFLOWS.recovery, {
      workflowId: `recovery-${randomUUID()}`,
      taskQueue: TASK_QUEUES.deliveries,
      args: [],
    }) as Promise<number>;

  it('starts what was never started, page by page, and leaves the others alone', async () => {
    const steps: string[] = [];
    stage.play({
      strandedReplays: (after: { at: string; id: string } | null) => {
        const from = after === null ? 0 : replays.findIndex(({ id }) => id === after.id) + 1;
        const some = replays.slice(from, from + 2);
        const next = some.length === 2 ? { at: '2026-01-01T00:00:00.000Z', id: some[1]!.id } : null;
        return Promise.resolve({ replays: some, next });
      },
      stepReplay: ({ replayId }: { replayId: string }) => {
        steps.push(replayId);
        const progress = { at: '', after: '', examined: 0, replayed: 0, paused: false };
        return Promise.resolve({ waitMs: 0, progress, done: true, stopped: null });
      },
      recordReplayState: () => Promise.resolve(),
      strandedDeliveries: () => Promise.resolve([]),
      wakeForgottenLanes: () => Promise.resolve(null),
    });
    expect(await recover()).toBe(3);
    for (const { id } of replays)
      expect(await stage.environment.client.workflow.getHandle(workflowId.replay(id)).result()).toBe('done');
    expect(await recover()).toBe(0);
    expect(steps.sort()).toEqual(replays.map(({ id }) => id).sort());
  });

  it('starts deliveries that were sent again and never started, until there are none, and asks for no other attempt', async () => {
    const waiting = Array.from({ length: 5 }, () => deliveryRef({ generation: 1, attemptsBefore: 3 }));
    const attempts: string[] = [];
    const asked: string[] = [];
    const noted: { deliveryId: string; generation: number }[] = [];
    stage.play({
      strandedReplays: () => Promise.resolve({ replays: [], next: null }),
      strandedDeliveries: (started: typeof noted) => {
        noted.push(...started);
        const left = waiting.filter(
          (each) => !noted.some(({ deliveryId }) => deliveryId === each.deliveryId),
        );
        return Promise.resolve(left.slice(0, 2));
      },
      wakeForgottenLanes: (after: string) => {
        asked.push(after);
        return Promise.resolve(after === '' ? 'sub_9' : null);
      },
      attemptDelivery: ({ deliveryId, attempt }: AttemptInput): Promise<AttemptResult> => {
        attempts.push(`${deliveryId}/${attempt}`);
        const delivered = { verdict: 'delivered', result: 'delivered', statusCode: 200 } as const;
        return Promise.resolve({ ...delivered, attempts: attempt, waitMs: 0 });
      },
    });
    await recover();
    expect(asked).toEqual(['', 'sub_9']);
    const ids = waiting.map(({ deliveryId }) => deliveryId).sort();
    expect(noted.map(({ deliveryId }) => deliveryId).sort()).toEqual(ids);
    expect(noted.every(({ generation }) => generation === 1)).toBe(true);
    await eventually(() => expect(attempts).toHaveLength(5), 60_000);
    noted.length = 0;
    await recover();
    expect(noted).toHaveLength(5);
    // One whose workflow had ended may be started again: it asks for the attempt that its row knows to be made.
    expect([...new Set(attempts)].sort()).toEqual(ids.map((id) => `${id}/4`));
  });
});
