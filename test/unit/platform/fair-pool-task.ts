import type { FairTask } from '../../../src/platform/fair-pool';

/** What the pool's test has a thread do. */
export type Work =
  { what: 'spin'; ms: number } | { what: 'answer'; value: unknown } | { what: 'hoard' } | { what: 'fail' };

const kept: unknown[] = [];

export function work({ payload, state }: FairTask<Work>): unknown {
  Atomics.store(state, 0, process.hrtime.bigint());
  Atomics.store(state, 1, 7n);
  switch (payload.what) {
    case 'answer':
      return payload.value;
    case 'fail':
      throw new Error('failed on purpose');
    case 'hoard':
      for (;;) kept.push(new Array(100_000).fill(Math.random()));
    default: {
      const until = performance.now() + payload.ms;
      while (performance.now() < until);
      return payload.ms;
    }
  }
}
