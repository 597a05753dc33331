import { randomUUID } from 'node:crypto';
import {
  QUERIES,
  SIGNALS,
  TASK_QUEUES,
  workflowId,
  WORKFLOWS,
  type LaneStep,
} from '../../src/contracts/workflows';
import { eventually } from '../support/harness';
import { playedStage } from '../support/workflow-env';

const HOUR = 3_600_000;
const stage = playedStage(['sendLane']);

/** Plays what is due: each time of sending answers with the next step, then nothing waits any more. */
function played(steps: (Partial<LaneStep> | Error)[]) {
  const sentAtMs: number[] = [];
  stage.play({
    sendLane: async (): Promise<LaneStep> => {
      sentAtMs.push(await stage.environment.currentTimeMs());
      const step = steps.shift() ?? {};
      if (step instanceof Error) throw step;
      return { waitMs: null, waitsFor: null, delivered: 1, failed: 0, ...step };
    },
  });
  return sentAtMs;
}

async function begin() {
  const subscriptionId = `sub_${randomUUID()}`;
  const handle = await stage.environment.client.workflow.signalWithStart(WORKFLOWS.lane, {
    ...{ workflowId: workflowId.lane(subscriptionId), taskQueue: TASK_QUEUES.deliveries },
    ...{ args: [{ subscriptionId }], signal: SIGNALS.wake },
  });
  return stage.track(handle);
}

describe('a lane', () => {
  it('sends what is due, sleeps until something is due next, and ends when nothing waits', async () => {
    const at = played([
      { waitMs: 0, waitsFor: 'work' },
      { waitMs: 3 * HOUR, waitsFor: 'time', failed: 1 },
    ]);
    expect(await (await begin()).result()).toEqual({ delivered: 3, failed: 1 });
    expect(at).toHaveLength(3);
    expect(at[2]! - at[1]!).toBeGreaterThanOrEqual(3 * HOUR);
  });

  it('shows what it waits for and until when, and looks at once when it is woken', async () => {
    const at = played([{ waitMs: 24 * HOUR, waitsFor: 'rest' }]);
    const handle = await begin();
    const state = await eventually(async () => {
      const found = await handle.query(QUERIES.lane);
      expect(found).toMatchObject({ status: 'waiting', waitsFor: 'rest' });
      return found;
    });
    expect(Date.parse(state.nextLookAt!) - at[0]!).toBeGreaterThan(23 * HOUR);
    await handle.signal(SIGNALS.wake);
    await handle.result();
    expect(at[1]! - at[0]!).toBeLessThan(HOUR);
  });

  it('for which there is no place comes again after longer and longer pauses, half a minute at most', async () => {
    const at = played(Array.from({ length: 8 }, () => ({ waitMs: 1_000, waitsFor: 'places' as const })));
    await (await begin()).result();
    const gaps = at.slice(1).map((ms, n) => Math.round((ms - at[n]!) / 1_000));
    expect(gaps[0]).toBeGreaterThanOrEqual(1);
    expect(gaps.at(-1)).toBeGreaterThanOrEqual(30);
    expect(gaps.at(-1)).toBeLessThan(45);
  });

  it('goes on when a worker is lost or the database is away', async () => {
    const at = played([new Error('connect ECONNREFUSED'), new Error('connect ECONNREFUSED'), {}]);
    expect(await (await begin()).result()).toMatchObject({ delivered: 1 });
    expect(at).toHaveLength(3);
  });

  it('that never runs empty starts its history again', async () => {
    const at = played(Array.from({ length: 800 }, () => ({ waitMs: 0, waitsFor: 'work' as const })));
    const handle = await begin();
    await handle.result();
    expect(at).toHaveLength(801);
    const { historyLength } = await stage.environment.client.workflow.getHandle(handle.workflowId).describe();
    expect(historyLength).toBeLessThan(5_000);
  });
});
