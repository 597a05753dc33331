import { setTimeout as sleep } from 'node:timers/promises';
import pino from 'pino';
import { Dispatcher, type DispatcherOptions } from '../../../src/bridges/dispatcher';
import { PoisonMessage } from '../../../src/bridges/message';
import { PartitionWork } from '../../../src/bridges/partition-work';
import { message } from './messages';

interface LogLine {
  level: number;
  msg: string;
}

function setUp(options: Partial<DispatcherOptions>) {
  const lines: LogLine[] = [];
  const dispatcher = new Dispatcher({
    log: pino({}, { write: (line: string) => lines.push(JSON.parse(line) as LogLine) }),
    concurrentKeys: 64,
    messageMaxBytes: 1_000,
    retryBaseMs: 10,
    retryCapMs: 40,
    handle: () => Promise.resolve(),
    deadLetter: () => Promise.resolve(),
    onSettled: () => undefined,
    ...options,
  });
  const partition = (number: number, keys: string[]) => {
    const work = new PartitionWork('t', number, { messages: 1_000, bytes: 1_000_000 });
    work.add(
      keys.map((key, offset) => message({ partition: number, offset: String(offset), key, value: key })),
      BigInt(keys.length - 1),
    );
    dispatcher.attach(work);
    return work;
  };
  return { dispatcher, partition, lines };
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries += 1) {
    if (tries > 1_000) throw new Error('never became true');
    await sleep(5);
  }
}

it('holds back only the key of a message that fails, and tries it until it gets through', async () => {
  const done: string[] = [];
  let outage = true;
  const { dispatcher, partition } = setUp({
    handle: ({ key, offset }) => {
      if (String(key) === 'a' && outage) return Promise.reject(new Error('Temporal is away'));
      done.push(`${String(key)}${offset}`);
      return Promise.resolve();
    },
  });
  const work = partition(0, ['a', 'a', 'b', 'c']);
  dispatcher.pump();
  await sleep(100);
  expect(done).toEqual(['b2', 'c3']);
  expect(work.committable).toBeUndefined();
  outage = false;
  await until(() => work.committable === 4n);
  expect(done).toEqual(['b2', 'c3', 'a0', 'a1']);
});

it('gives the places of failing messages to others while they pause', async () => {
  const done: string[] = [];
  const { dispatcher, partition } = setUp({
    concurrentKeys: 1,
    retryBaseMs: 100_000,
    retryCapMs: 100_000,
    handle: ({ key }) => {
      if (String(key) === 'bad') return Promise.reject(new Error('no'));
      done.push(String(key));
      return Promise.resolve();
    },
  });
  partition(0, ['bad', 'good']);
  dispatcher.pump();
  await until(() => done.length === 1);
  await dispatcher.stop();
});

it('logs an outage once and its end once, not every try', async () => {
  let outage = true;
  const { dispatcher, partition, lines } = setUp({
    handle: () => (outage ? Promise.reject(new Error('away')) : Promise.resolve()),
  });
  const work = partition(0, ['a', 'b', 'c', 'd']);
  dispatcher.pump();
  await sleep(150);
  outage = false;
  await until(() => work.committable === 4n);
  const told = lines.map((line) => line.msg).filter((msg) => msg !== 'message handed on');
  expect(told).toEqual([expect.stringContaining('trying again until it is'), 'messages are taken again']);
});

it('never runs more messages at a time than it may', async () => {
  let running = 0;
  let most = 0;
  const { dispatcher, partition } = setUp({
    concurrentKeys: 3,
    handle: async () => {
      most = Math.max(most, (running += 1));
      await sleep(5);
      running -= 1;
    },
  });
  const keys = Array.from({ length: 20 }, (_, index) => `k${index}`);
  const works = [partition(0, keys), partition(1, keys)];
  dispatcher.pump();
  await until(() => works.every((work) => work.committable === 20n));
  expect(most).toBe(3);
});

it('takes partitions in turn, so that a long batch of one does not delay a message of another', async () => {
  const order: number[] = [];
  const { dispatcher, partition } = setUp({
    concurrentKeys: 1,
    handle: async ({ partition: number }) => {
      order.push(number);
      await sleep(1);
    },
  });
  const long = partition(
    0,
    Array.from({ length: 50 }, (_, index) => `k${index}`),
  );
  dispatcher.pump();
  partition(1, ['x']);
  await until(() => long.committable === 50n);
  expect(order.indexOf(1)).toBeLessThan(3);
});

it('dead-letters what is poison or too large, and waits for the dead letter before it goes on', async () => {
  const letters: string[] = [];
  let handled = 0;
  let dlqIsAway = true;
  const { dispatcher, partition } = setUp({
    messageMaxBytes: 5,
    handle: () => {
      handled += 1;
      return Promise.reject(new PoisonMessage('invalid_json', 'no'));
    },
    deadLetter: ({ offset }, { code }) => {
      if (dlqIsAway) return Promise.reject(new Error('Kafka is away'));
      letters.push(`${offset} ${code}`);
      return Promise.resolve();
    },
  });
  const work = partition(0, ['a', 'longer than five']);
  dispatcher.pump();
  await sleep(60);
  expect(work.committable).toBeUndefined();
  dlqIsAway = false;
  await until(() => work.committable === 2n);
  expect(letters.sort()).toEqual(['0 invalid_json', '1 message_too_large']);
  expect(handled).toBe(1); // judged once; only its dead letter was tried again
});

it('waits on stop for what runs, and abandons what pauses', async () => {
  let finish = () => {};
  const { dispatcher, partition } = setUp({
    retryBaseMs: 100_000,
    retryCapMs: 100_000,
    handle: ({ key }) =>
      String(key) === 'slow'
        ? new Promise((resolve) => (finish = resolve))
        : Promise.reject(new Error('away')),
  });
  const work = partition(0, ['slow', 'failing']);
  dispatcher.pump();
  await sleep(10);
  let stopped = false;
  const stopping = dispatcher.stop().then(() => (stopped = true));
  await sleep(20);
  expect(stopped).toBe(false);
  finish();
  await stopping;
  expect(work.committable).toBe(1n);
});

it('lets others take the places of messages that only wait, up to a limit, and commits nothing past those', async () => {
  const handled: string[] = [];
  let answer = (): void => undefined;
  const answered = new Promise<void>((resolve) => (answer = resolve));
  const { dispatcher, partition } = setUp({
    concurrentKeys: 2,
    handle: async ({ key }, yieldPlace) => {
      handled.push(String(key));
      if (!String(key).startsWith('waits')) return;
      yieldPlace();
      yieldPlace();
      await answered;
    },
  });
  const keys = Array.from({ length: 40 }, (_, n) => `waits-${n}`);
  const work = partition(0, [...keys, 'quick']);
  dispatcher.pump();
  // 32 wait without a place, 2 with one; nothing else fits.
  await until(() => handled.length === 34);
  await sleep(50);
  expect(handled).toHaveLength(34);
  expect(work.committable).toBeUndefined();
  answer();
  await until(() => work.committable === 41n);
  expect(handled).toHaveLength(41);
  await dispatcher.stop();
});

it('handles one message after another while as many as it has places wait without them', async () => {
  const handled: string[] = [];
  const { dispatcher, partition } = setUp({
    concurrentKeys: 2,
    handle: ({ key }, yieldPlace) => {
      if (String(key).startsWith('waits')) {
        yieldPlace();
        return new Promise(() => undefined);
      }
      handled.push(String(key));
      return Promise.resolve();
    },
  });
  partition(0, ['waits-1', 'waits-2', 'waits-3', 'a', 'b', 'c']);
  dispatcher.pump();
  await until(() => handled.length === 3);
  expect(handled).toEqual(['a', 'b', 'c']);
});
