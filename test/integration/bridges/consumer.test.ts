import { setTimeout as sleep } from 'node:timers/promises';
import { PoisonMessage, type IncomingMessage } from '../../../src/bridges/message';
import { registry } from '../../../src/platform/metrics';
import { eventually } from '../../support/harness';
import { headerTexts, StreamBench, type Stream } from './streams';

let bench: StreamBench;
beforeAll(async () => {
  bench = await StreamBench.open({ KAFKA_MESSAGE_MAX_BYTES: '100000' });
});
afterAll(() => bench.close());

const text = ({ value }: IncomingMessage) => String(value);
const numbered = (count: number, keys: number) =>
  Array.from({ length: count }, (_, index) => ({ key: `k${index % keys}`, value: String(index) }));

/** Everything on the topic, `total` messages, is settled and committed. */
async function allCommitted(stream: Stream, total: number): Promise<void> {
  await eventually(async () => {
    const [offsets, ends] = await Promise.all([
      bench.committed(stream),
      bench.admin((admin) => admin.fetchTopicOffsets(stream.topic)),
    ]);
    const high = ends.sort((a, b) => a.partition - b.partition).map((end) => Number(end.high));
    expect(offsets.map((offset) => Math.max(0, offset))).toEqual(high);
    expect(high.reduce((sum, each) => sum + each, 0)).toBe(total);
  });
}

describe('a poison message', () => {
  it('goes to the DLQ byte for byte with its headers, and the partition goes on', async () => {
    const stream = await bench.stream(1);
    const handled: string[] = [];
    await stream.member((message) => {
      if (message.value?.[0] === 0xff) throw new PoisonMessage('invalid_json', 'that is no JSON');
      handled.push(text(message));
      return Promise.resolve();
    });
    const poison = Buffer.from([0xff, 0x00, 0xfe, 0x0a]);
    await stream.sendOnce([
      { key: 'a', value: 'before' },
      { key: poison, value: poison, headers: { 'x-odd': poison, 'remit-correlation-id': 'c-1' } },
      { key: 'a', value: 'after' },
    ]);
    const [letter] = await bench.read(stream.dlq, 1);
    expect(letter?.value).toEqual(poison);
    expect(letter?.key).toEqual(poison);
    expect(letter?.headers?.['x-odd']).toEqual(poison);
    expect(headerTexts(letter?.headers)).toMatchObject({
      'remit-correlation-id': 'c-1',
      'remit-source-topic': stream.topic,
      'remit-source-partition': '0',
      'remit-source-offset': '1',
      'remit-error-code': 'invalid_json',
      'remit-error-message': 'that is no JSON',
      'remit-attempts': '1',
    });
    await allCommitted(stream, 3);
    expect(handled).toEqual(['before', 'after']);
  });

  it('may have neither key nor value', async () => {
    const stream = await bench.stream(1);
    await stream.member(() => Promise.reject(new PoisonMessage('invalid_json', 'empty')));
    await stream.sendOnce([{ key: null, value: null }]);
    const [letter] = await bench.read(stream.dlq, 1);
    expect([letter?.key, letter?.value]).toEqual([null, null]);
  });

  it('is also one that is larger than allowed, up to what the brokers take', async () => {
    const stream = await bench.stream(1);
    const handled: string[] = [];
    await stream.member((message) => Promise.resolve(void handled.push(text(message))));
    await stream.sendOnce([
      { key: 'a', value: Buffer.alloc(150_000, 1) },
      { key: 'a', value: 'small' },
    ]);
    const [letter] = await bench.read(stream.dlq, 1);
    expect(letter?.value).toHaveLength(150_000);
    expect(headerTexts(letter?.headers)['remit-error-code']).toBe('message_too_large');
    await allCommitted(stream, 2);
    expect(handled).toEqual(['small']);
  });
});

describe('offsets', () => {
  it('are committed for the contiguous prefix of what is durable, and no further', async () => {
    const stream = await bench.stream(1);
    let release = () => {};
    const handled: string[] = [];
    await stream.member(async (message) => {
      if (text(message) === '2') await new Promise<void>((resolve) => (release = resolve));
      handled.push(text(message));
    });
    await stream.sendOnce(numbered(6, 6));
    await eventually(() => expect(handled).toHaveLength(5));
    await sleep(300);
    expect(await bench.committed(stream)).toEqual([2]);
    release();
    await allCommitted(stream, 6);
  });
});

describe('while a handler fails', () => {
  it('only its key waits, nothing is skipped, and the order of each key is kept', async () => {
    const stream = await bench.stream();
    const handled: IncomingMessage[] = [];
    let outage = true;
    const member = await stream.member((message) => {
      if (outage && String(message.key) === 'k3') return Promise.reject(new Error('unavailable'));
      handled.push(message);
      return Promise.resolve();
    });
    await stream.sendOnce(numbered(100, 10));
    await eventually(() => expect(handled).toHaveLength(90));
    await member.check(); // waiting is not a fault of the consumer
    outage = false;
    await allCommitted(stream, 100);
    expect(handled.filter(({ key }) => String(key) === 'k3').map(text)).toEqual(
      Array.from({ length: 10 }, (_, index) => String(index * 10 + 3)),
    );
    expect(new Set(handled.map(text)).size).toBe(100);
  });

  it('stays in the group for longer than a session and reads other partitions meanwhile', async () => {
    const stream = await bench.stream(2);
    const handled: string[] = [];
    let release = () => {};
    const stuck = new Promise<void>((resolve) => (release = resolve));
    const config = { ...bench.space.config, KAFKA_SESSION_TIMEOUT_MS: 6_000 };
    const member = await stream.member(
      async (message) => {
        if (text(message) === 'stuck') await stuck;
        handled.push(text(message));
      },
      { config },
    );
    await stream.sendOnce([{ key: 'a', value: 'stuck' }]);
    for (let round = 0; round < 8; round += 1) {
      await sleep(1_000);
      await stream.sendOnce(numbered(10, 10));
      await eventually(() => expect(handled).toHaveLength((round + 1) * 10), 5_000, 10);
    }
    await member.check();
    release();
    await allCommitted(stream, 81);
    expect(handled.filter((value) => value === 'stuck')).toHaveLength(1); // never expelled, never repeated
  });

  it('pauses a partition that would hold too much in memory, and goes on afterwards', async () => {
    const stream = await bench.stream(1);
    const config = { ...bench.space.config, BRIDGE_BUFFER_MESSAGES: 20 };
    let outage = true;
    const handled: string[] = [];
    await stream.member(
      (message) => {
        if (outage) return Promise.reject(new Error('unavailable'));
        handled.push(text(message));
        return Promise.resolve();
      },
      { config },
    );
    for (let round = 0; round < 10; round += 1) {
      await stream.sendOnce(numbered(20, 20));
      await sleep(50);
    }
    outage = false;
    await allCommitted(stream, 200);
    expect(handled).toHaveLength(200);
  });
});

describe('members of a group', () => {
  it('handle every message at least once when one dies in the middle of its work', async () => {
    const stream = await bench.stream(1);
    const handled: string[] = [];
    let dead = false;
    let release = () => {};
    const forEver = new Promise<void>((resolve) => (release = resolve));
    const first = await stream.member(async (message) => {
      // What a killed process leaves: some handled and committed, some handled only, some neither.
      if (dead) return forEver;
      handled.push(text(message));
      await sleep(2);
    });
    await stream.sendOnce(numbered(300, 50));
    await eventually(() => expect(handled.length).toBeGreaterThan(100), 10_000, 1);
    dead = true;
    // Without waiting for its work, and without a last commit: the connection just goes.
    const { consumer } = first as unknown as { consumer: { consumer: { disconnect(): Promise<void> } } };
    await consumer.consumer.disconnect();
    await stream.member((message) => Promise.resolve(void handled.push(text(message))));
    await allCommitted(stream, 300);
    expect(new Set(handled).size).toBe(300);
    release();
  });

  it('lose nothing, and keep each key in order, while others join and leave', async () => {
    const stream = await bench.stream(6);
    const handled: { member: number; key: string; value: number }[] = [];
    const handler = (member: number) => async (message: IncomingMessage) => {
      await sleep(Math.random() * 10);
      handled.push({ member, key: String(message.key), value: Number(text(message)) });
    };
    const first = await stream.member(handler(1));
    const total = 3_000;
    const messages = numbered(total, 60);
    const sending = (async () => {
      for (let at = 0; at < total; at += 25) {
        await stream.sendOnce(messages.slice(at, at + 25));
        await sleep(40);
      }
    })();
    const handledBy = (member: number) => handled.filter((each) => each.member === member).length;
    const works = (member: number) => eventually(() => expect(handledBy(member)).toBeGreaterThan(50));
    await works(1);
    const second = await stream.member(handler(2));
    await works(2);
    await first.stop();
    await stream.member(handler(3));
    await works(3);
    await sending;
    await allCommitted(stream, total);
    await second.stop();

    expect(new Set(handled.map(({ value }) => value)).size).toBe(total);
    for (let key = 0; key < 60; key += 1) {
      // Repetitions are allowed; what is new of a key must come in order.
      const seen = handled.filter((each) => each.key === `k${key}`).map(({ value }) => value);
      const firsts = seen.filter((value, index) => seen.indexOf(value) === index);
      expect(firsts).toEqual([...firsts].sort((a, b) => a - b));
    }
    const repeated = handled.length - total;
    expect(repeated).toBeLessThan(total / 10);
  });

  it('finish what is in flight when they stop, commit it, and take nothing more', async () => {
    const stream = await bench.stream(1);
    const finished: string[] = [];
    const started: string[] = [];
    const config = { ...bench.space.config, BRIDGE_CONCURRENT_KEYS: 5 };
    const member = await stream.member(
      async (message) => {
        started.push(text(message));
        await sleep(300);
        finished.push(text(message));
      },
      { config },
    );
    await stream.sendOnce(numbered(50, 50));
    await eventually(() => expect(started).toHaveLength(5), 5_000, 5);
    await member.stop();
    expect(finished).toHaveLength(5);
    expect(started).toHaveLength(5);
    expect(await bench.committed(stream)).toEqual([5]);
    await expect(member.check()).rejects.toThrow();
  });
});

describe('what operators see', () => {
  it('is the lag of every partition, also of messages that nobody gets through', async () => {
    const stream = await bench.stream(2);
    let outage = true;
    await stream.member(() => (outage ? Promise.reject(new Error('unavailable')) : Promise.resolve()));
    await stream.sendOnce(numbered(40, 40));
    const lag = async () => {
      const all = await registry.getSingleMetric('remit_consumer_lag_messages')!.get();
      return all.values.filter(({ labels }) => labels['group'] === stream.group);
    };
    const sum = async () => (await lag()).reduce((total, { value }) => total + value, 0);
    await eventually(async () => expect(await sum()).toBe(40));
    expect(await lag()).toHaveLength(2);
    outage = false;
    await eventually(async () => expect(await sum()).toBe(0));
  });

  it('is readiness once the group is joined', async () => {
    const stream = await bench.stream();
    const member = await stream.member(() => Promise.resolve());
    await eventually(() => member.check());
  });

  it('is what to do when a topic is not there', async () => {
    const stream = await bench.stream();
    const starting = stream.member(() => Promise.resolve(), { topics: [`${stream.topic}.missing`] });
    await expect(starting).rejects.toThrow('remit migrate');
  });
});
