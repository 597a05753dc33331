import fc from 'fast-check';
import { PartitionWork, type Task } from '../../../src/bridges/partition-work';
import { message } from './messages';

const LIMITS = { messages: 100, bytes: 1_000_000 };
const work = (limits = LIMITS) => new PartitionWork('t', 0, limits);
const at = (offset: number, key: string | null = `k${offset}`) => message({ offset: String(offset), key });

function take(from: PartitionWork): Task {
  const task = from.take();
  if (!task) throw new Error('nothing may run');
  return task;
}

describe('what may be committed', () => {
  it('is the contiguous prefix of settled messages, however they finish', () => {
    const part = work();
    part.add([at(10), at(11), at(12)], 12n);
    const [first, second, third] = [take(part), take(part), take(part)];
    part.settle(third);
    expect(part.committable).toBeUndefined();
    part.settle(first);
    expect(part.committable).toBe(11n);
    part.settle(second);
    expect(part.committable).toBe(13n);
  });

  it('steps over offsets that hold no message, and over control records at the end of a batch', () => {
    const part = work();
    part.add([at(5), at(9)], 11n);
    part.settle(take(part));
    expect(part.committable).toBe(6n);
    part.settle(take(part));
    expect(part.committable).toBe(12n);
  });

  it('still moves for messages in flight when the partition is closed, and starts none', () => {
    const part = work();
    part.add([at(0, 'a'), at(1, 'a'), at(2, 'b')], 2n);
    const running = take(part);
    part.close();
    part.settle(running);
    expect(part.committable).toBe(1n);
    expect(part.take()).toBeUndefined();
  });
});

describe('what may run', () => {
  it('is one message of a key at a time, in order, and other keys beside it', () => {
    const part = work();
    part.add([at(0, 'a'), at(1, 'a'), at(2, 'b')], 2n);
    const first = take(part);
    const other = take(part);
    expect([first.message.offset, other.message.offset]).toEqual(['0', '2']);
    expect(part.take()).toBeUndefined();
    part.settle(first);
    expect(take(part).message.offset).toBe('1');
  });

  it('is everything at once for messages without a key', () => {
    const part = work();
    part.add([at(0, null), at(1, null)], 1n);
    expect([take(part), take(part)].map((task) => task.message.offset)).toEqual(['0', '1']);
  });

  it('is not the next of a key whose message failed, until that message is through', () => {
    const part = work();
    part.add([at(0, 'a'), at(1, 'a')], 1n);
    const task = take(part);
    part.giveBack(task);
    expect(part.take()).toBeUndefined();
    part.retry(task);
    expect(take(part)).toBe(task);
    expect(task.failures).toBe(1);
    part.settle(task);
    expect(take(part).message.offset).toBe('1');
  });

  it('tells keys apart by their bytes, also where they are not UTF-8', () => {
    const part = work();
    const keys = [Buffer.from([0xff, 0x01]), Buffer.from([0xfe, 0x01])];
    part.add(
      keys.map((key, index) => message({ offset: String(index), key })),
      1n,
    );
    expect([take(part), take(part)]).toHaveLength(2);
  });

  it('ignores what it has already when Kafka sends it again after a rebalance', () => {
    const part = work();
    part.add([at(0), at(1)], 1n);
    const [first, second] = [take(part), take(part)];
    part.add([at(0), at(1), at(2)], 2n);
    expect(take(part).message.offset).toBe('2');
    expect(part.take()).toBeUndefined();
    part.settle(first);
    part.settle(second);
    expect(part.committable).toBe(2n);
  });

  it('waits while messages of a predecessor are in flight', () => {
    const part = work();
    part.blocked = true;
    part.add([at(0)], 0n);
    expect(part.take()).toBeUndefined();
    part.blocked = false;
    expect(take(part).message.offset).toBe('0');
  });
});

describe('how much it holds', () => {
  it('is full at the limit of messages or bytes and has room again at half of it, settled in order', () => {
    const part = work({ messages: 4, bytes: 1_000_000 });
    part.add([at(0), at(1), at(2), at(3)], 3n);
    expect(part.isFull).toBe(true);
    const tasks = [take(part), take(part), take(part), take(part)];
    tasks.slice(1).forEach((task) => part.settle(task));
    expect(part.hasRoom).toBe(false); // the first holds all of them in memory
    part.settle(tasks[0]!);
    expect(part.hasRoom).toBe(true);

    const small = work({ messages: 100, bytes: 10 });
    small.add([message({ value: 'x'.repeat(20) })], 41n);
    expect(small.isFull).toBe(true);
  });
});

it('keeps every key in order and commits only what is settled, in any interleaving', () => {
  const step = fc.record({ pick: fc.nat(1_000), fails: fc.boolean() });
  fc.assert(
    fc.property(fc.array(fc.nat(3), { maxLength: 30 }), fc.array(step, { maxLength: 200 }), (keys, steps) => {
      const part = work();
      part.add(
        keys.map((key, offset) => at(offset, `k${key}`)),
        BigInt(keys.length - 1),
      );
      const running: Task[] = [];
      const settled = new Set<number>();
      const last = new Map<string, number>();
      const settle = (task: Task) => {
        const offset = Number(task.message.offset);
        expect(offset).toBeGreaterThan(last.get(task.key!) ?? -1);
        last.set(task.key!, offset);
        settled.add(offset);
        part.settle(task);
        const prefix = keys.findIndex((_, index) => !settled.has(index));
        const expected = prefix < 0 ? keys.length : prefix;
        expect(part.committable ?? 0n).toBe(BigInt(expected));
      };
      const fill = () => {
        for (let task = part.take(); task; task = part.take()) running.push(task);
      };
      for (const { pick, fails } of steps) {
        fill();
        const [task] = running.splice(pick % Math.max(1, running.length), 1);
        if (!task) break;
        if (!fails) settle(task);
        else {
          part.giveBack(task);
          part.retry(task);
        }
      }
      for (fill(); running.length > 0; fill()) settle(running.shift()!);
      expect(settled.size).toBe(keys.length);
    }),
  );
});
