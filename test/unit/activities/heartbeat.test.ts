import { setTimeout as sleep } from 'node:timers/promises';
import { MockActivityEnvironment } from '@temporalio/testing';
import { withHeartbeat } from '../../../src/activities/heartbeat';

/** An activity's tries, and the details of every heartbeat that they sent. */
function environment(info: { heartbeatTimeoutMs?: number; heartbeatDetails?: unknown } = {}) {
  const activity = new MockActivityEnvironment(info);
  const beats: unknown[] = [];
  activity.on('heartbeat', (details: unknown) => beats.push(details));
  return { activity, beats };
}

const until = async (reached: () => boolean) => {
  while (!reached()) await sleep(5);
};

describe('an activity with heartbeats', () => {
  it('beats while it works, with what it would leave behind, and no longer', async () => {
    const { activity, beats } = environment({ heartbeatTimeoutMs: 30 });
    await activity.run(() =>
      withHeartbeat<string, void>(async (handover) => {
        await until(() => beats.length > 1);
        expect(new Set(beats)).toEqual(new Set([undefined]));
        handover.left = 'an answer';
        await until(() => beats.at(-1) === 'an answer');
      }),
    );
    const sent = beats.length;
    await sleep(60);
    expect(beats).toHaveLength(sent);
  });

  it('has what the try before it left, and leaves it to the next one', async () => {
    const { activity, beats } = environment({ heartbeatTimeoutMs: 30, heartbeatDetails: 'an answer' });
    await activity.run(() =>
      withHeartbeat<string, void>(async ({ left }) => {
        expect(left).toBe('an answer');
        await until(() => beats.length > 0);
        expect(beats[0]).toBe('an answer');
      }),
    );
  });

  it('leaves something at once when it fails, and beats only then where it has no heartbeat timeout', async () => {
    const { activity, beats } = environment();
    const failing = activity.run(() =>
      withHeartbeat<string, void>(async (handover) => {
        await sleep(30);
        handover.left = 'an answer';
        throw new Error('the database is away');
      }),
    );
    await expect(failing).rejects.toThrow('away');
    expect(beats).toEqual(['an answer']);
  });
});
