import { pauseAfterSilence } from '../../../src/bridges/relay';

describe('a relay that finds nothing', () => {
  it('looks less often the longer it was silent, and what comes waits for a fiftieth of the silence at most', () => {
    const pauses = [0, 500, 1_250, 2_000, 5_000, 10_000].map((silenceMs) => pauseAfterSilence(silenceMs, 25));
    expect(pauses).toEqual([25, 25, 25, 40, 100, 200]);
  });

  it('lets no row wait for more than 250 ms, however long it was silent', () => {
    expect([20_000, 3_600_000].map((silenceMs) => pauseAfterSilence(silenceMs, 25))).toEqual([250, 250]);
  });
});
