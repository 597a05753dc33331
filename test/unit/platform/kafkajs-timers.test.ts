import RequestQueue from 'kafkajs/src/network/requestQueue';
import { installQuietTimers } from '../../../src/platform/kafkajs-timers';

installQuietTimers();

let connected = true;
let sent: number[] = [];
let correlationId = 0;
let queue: RequestQueue;

const newQueue = () =>
  new RequestQueue({
    maxInFlightRequests: null,
    requestTimeout: 30_000,
    enforceRequestTimeout: true,
    clientId: 'test',
    broker: 'test',
    logger: { debug: () => undefined, warn: () => undefined },
    isConnected: () => connected,
  });

beforeEach(() => {
  jest.useFakeTimers();
  [connected, sent, correlationId] = [true, [], 0];
  queue = newQueue();
});
afterEach(() => {
  queue.destroy();
  jest.useRealTimers();
});

/** Its outcome is told when there is one. */
function send({ requestTimeout = 0, apiName = 'Produce' } = {}) {
  const id = correlationId++;
  const outcome: { value?: 'answered' | 'refused' } = {};
  queue.push({
    entry: {
      ...{ correlationId: id, apiKey: 0, apiName, apiVersion: 2 },
      resolve: () => (outcome.value = 'answered'),
      reject: () => (outcome.value = 'refused'),
    },
    expectResponse: true,
    requestTimeout,
    sendRequest: () => sent.push(id),
  });
  return {
    outcome,
    answer: () => queue.fulfillRequest({ correlationId: id, payload: Buffer.alloc(0), size: 0 }),
  };
}

describe('a connection to a broker', () => {
  it('has one timer, which all connections share, whatever was asked and answered', () => {
    queue.scheduleRequestTimeoutCheck();
    const other = newQueue();
    other.scheduleRequestTimeoutCheck();
    const { outcome, answer } = send();
    answer();
    expect(outcome.value).toBe('answered');
    expect(jest.getTimerCount()).toBe(1);
    queue.destroy();
    expect(jest.getTimerCount()).toBe(1);
    other.destroy();
    expect(jest.getTimerCount()).toBe(0);
  });

  it('sends what a throttling broker let wait when its time has come, in order', () => {
    queue.maybeThrottle(5_000);
    send();
    send();
    expect(sent).toEqual([]);
    jest.advanceTimersByTime(4_900);
    expect(sent).toEqual([]);
    jest.advanceTimersByTime(200);
    expect(sent).toEqual([0, 1]);
    expect(jest.getTimerCount()).toBe(0);
  });

  it('refuses a request that got no answer in its time, and leaves the others', () => {
    queue.scheduleRequestTimeoutCheck();
    const late = send();
    const patient = send({ requestTimeout: 60_000 });
    jest.advanceTimersByTime(29_000);
    expect(late.outcome.value).toBeUndefined();
    jest.advanceTimersByTime(3_000);
    expect(late.outcome.value).toBe('refused');
    expect(patient.outcome.value).toBeUndefined();
    patient.answer();
    expect(patient.outcome.value).toBe('answered');
  });

  it('refuses after five seconds what a broker that is there answers from memory', () => {
    queue.scheduleRequestTimeoutCheck();
    const asked = send({ apiName: 'Metadata' });
    jest.advanceTimersByTime(4_900);
    expect(asked.outcome.value).toBeUndefined();
    jest.advanceTimersByTime(1_200);
    expect(asked.outcome.value).toBe('refused');
  });

  it('gives a broker that is busy with a batch those five seconds from when it has stored it', () => {
    queue.scheduleRequestTimeoutCheck();
    const batch = send();
    jest.advanceTimersByTime(1_000);
    const asked = send({ apiName: 'Metadata' });
    jest.advanceTimersByTime(9_000);
    batch.answer();
    jest.advanceTimersByTime(4_000);
    expect(asked.outcome.value).toBeUndefined();
    jest.advanceTimersByTime(3_000);
    expect(asked.outcome.value).toBe('refused');
  });

  it('has none when it is lost', () => {
    queue.scheduleRequestTimeoutCheck();
    connected = false;
    jest.advanceTimersByTime(2_000);
    expect(jest.getTimerCount()).toBe(0);
  });
});
