import { AccountQueues, type MoneyCall } from '../../../src/domain/account-queues';
import { ConflictsExhaustedError } from '../../../src/domain/conflicts';

const LIMITS = {
  maxAttempts: 3,
  baseMs: 1,
  capMs: 1,
  deadlineMs: 60_000,
  queueCalls: 100,
  batchCalls: 16,
};
const failed = (code: string | undefined) => Object.assign(new Error('failed'), { code });

/** Queues over a played database, with what it was asked: the inputs of each transaction. */
function queuesOver(answer: (inputs: string[]) => Promise<unknown[]>, limits = LIMITS) {
  const transactions: string[][] = [];
  const queues = new AccountQueues(limits, (batch: readonly MoneyCall[]) => {
    const inputs = batch.map(({ input }) => input);
    transactions.push(inputs);
    return answer(inputs);
  });
  const run = (input: string) => queues.run('account', { fn: 'top_up', input });
  return { transactions, run };
}

/** The first call goes alone; the others gather meanwhile and share the next transaction. */
const gathered = (run: (input: string) => Promise<unknown>) =>
  Promise.allSettled(['first', 'a', 'b', 'c'].map(run));

describe('a batch that fails', () => {
  it.each(['22003', '23514', 'P0001'])(
    'with SQLSTATE %s, the fault of one call, is run again call by call',
    async (code) => {
      const { transactions, run } = queuesOver((inputs) =>
        inputs.includes('b') ? Promise.reject(failed(code)) : Promise.resolve(inputs),
      );
      const results = await gathered(run);
      expect(results.map(({ status }) => status)).toEqual([
        'fulfilled',
        'fulfilled',
        'rejected',
        'fulfilled',
      ]);
      expect(transactions).toEqual([['first'], ['a', 'b', 'c'], ['a'], ['b'], ['c']]);
    },
  );

  it.each([
    ['a lost connection', '08006'],
    ['too few resources', '53300'],
    ['a server that shuts down', '57P01'],
    ['a statement that took too long', '57014'],
    ['a broken pipe', 'EPIPE'],
    ['a time-out without a code', undefined],
  ])('by %s fails all of its calls, and asks no more', async (_what, code) => {
    const { transactions, run } = queuesOver((inputs) =>
      inputs.length > 1 ? Promise.reject(failed(code)) : Promise.resolve(inputs),
    );
    const results = await gathered(run);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected', 'rejected']);
    expect(transactions).toEqual([['first'], ['a', 'b', 'c']]);
  });

  it('call by call, and then by an outage, fails what is left', async () => {
    const { transactions, run } = queuesOver((inputs) =>
      inputs.length > 1
        ? Promise.reject(failed('22003'))
        : inputs[0] === 'b'
          ? Promise.reject(failed('57P01'))
          : Promise.resolve(inputs),
    );
    const results = await gathered(run);
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'rejected']);
    expect(transactions).toEqual([['first'], ['a', 'b', 'c'], ['a'], ['b']]);
  });
});

it('who waits for a turn gives up after the deadline, and the next one is served', async () => {
  let release: (answer: unknown[]) => void = () => undefined;
  const hanging = new Promise<unknown[]>((resolve) => (release = resolve));
  const { transactions, run } = queuesOver(
    (inputs) => (inputs[0] === 'first' ? hanging : Promise.resolve(inputs)),
    { ...LIMITS, deadlineMs: 20 },
  );
  const first = run('first');
  await expect(run('waits')).rejects.toThrow(ConflictsExhaustedError);
  const next = run('next');
  release(['done']);
  expect(await Promise.all([first, next])).toEqual(['done', 'next']);
  expect(transactions).toEqual([['first'], ['next']]);
});
