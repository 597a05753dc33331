import { IdleFetches } from '../../../src/platform/idle-fetches';

const asked = (...partitions: number[]) => ({
  maxWaitTime: 100,
  topics: [{ topic: 'events', partitions: partitions.map((partition) => ({ partition })) }],
});

describe('a fetch', () => {
  test('is answered soon while there is traffic, and held back for longer when nothing came for a while', () => {
    const idle = new IdleFetches();
    expect(idle.waitMs(asked(0, 1), 0)).toBe(100);
    expect(idle.waitMs(asked(1, 0), 1_900)).toBe(100);
    expect(idle.waitMs(asked(1, 0), 2_000)).toBe(500);
    expect(idle.waitMs(asked(1, 0), 19_900)).toBe(500);
    expect(idle.waitMs(asked(1, 0), 3_600_000)).toBe(1_000);
    idle.broughtSomething(asked(0, 1), 3_600_500);
    expect(idle.waitMs(asked(0, 1), 3_600_500)).toBe(100);
    expect(idle.waitMs(asked(0, 1), 3_602_500)).toBe(500);
  });

  test('is answered soon while other partitions of its topic bring something: one that was paused may be resumed', () => {
    const idle = new IdleFetches();
    idle.waitMs(asked(0), 0);
    expect(idle.waitMs(asked(0), 30_000)).toBe(1_000);
    idle.broughtSomething(asked(0, 1), 30_000);
    expect(idle.waitMs(asked(0), 31_000)).toBe(100);
    expect(idle.waitMs(asked(0), 60_000)).toBe(1_000);
  });

  test('of other partitions, because one was paused or resumed, is answered soon again', () => {
    const idle = new IdleFetches();
    idle.waitMs(asked(0, 1), 0);
    expect(idle.waitMs(asked(0, 1), 5_000)).toBe(500);
    expect(idle.waitMs(asked(0), 5_000)).toBe(100);
  });

  test('keeps a wait of its own that is longer, or none', () => {
    const idle = new IdleFetches();
    const patient = { ...asked(0), maxWaitTime: 5_000 };
    idle.waitMs(patient, 0);
    expect(idle.waitMs(patient, 9_000)).toBe(5_000);
    const { topics } = asked(0);
    expect(idle.waitMs({ topics }, 9_000)).toBeUndefined();
  });
});
