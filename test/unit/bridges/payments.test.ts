import { PoisonMessage, type IncomingMessage } from '../../../src/bridges/message';
import { parsePaymentRequest } from '../../../src/bridges/payment-requests';
import { decardEvent, message } from './messages';

const ID = '7f0c1d1e-1111-4222-8333-abcdefabcdef';
const EVENT = {
  provider: 'decard',
  transactionId: ID,
  status: 'success',
  amount: 100,
  currency: 'TRY',
  type: 'payment',
};
const parse = (value: unknown, rest: Partial<IncomingMessage> = {}) =>
  decardEvent(message({ ...rest, value }));

function poison(action: () => unknown): string {
  try {
    action();
  } catch (error) {
    if (error instanceof PoisonMessage) return error.code;
    throw error;
  }
  return 'taken';
}

describe('a provider’s event', () => {
  it('is read into minor units, with the ids of the webhook that brought it', () => {
    const event = parse(EVENT, {
      headers: {
        'remit-correlation-id': 'corr-1',
        'remit-provider-event-id': 'msg_1',
        'remit-received-at': '2026-11-21T09:00:00.000Z',
      },
    });
    expect(event).toMatchObject({
      provider: 'decard',
      providerEventId: 'msg_1',
      transactionId: ID,
      amountMinor: '10000',
      currency: 'TRY',
      correlationId: 'corr-1',
      receivedAt: '2026-11-21T09:00:00.000Z',
    });
    expect(event.source).toMatchObject({
      topic: 'payment.webhook.decard',
      partition: 2,
      offset: '41',
      sha256: expect.stringMatching(/^[0-9a-f]{64}$/) as string,
    });
    // Where it lies, not what it says: the body stays out of Temporal.
    expect(Object.keys(event.source).sort()).toEqual([
      'offset',
      'partition',
      'sha256',
      'timestampMs',
      'topic',
    ]);
  });

  it('put on the topic by another producer gets ids from what it says', () => {
    const event = parse({ ...EVENT, transactionId: ID.toUpperCase() });
    expect(event.providerEventId).toBe(`${ID}:payment:success`);
    expect(event.correlationId).toMatch(/^[0-9a-f-]{36}$/);
    expect(event.receivedAt).toBe('2026-11-21T00:00:00.000Z'); // the time of the Kafka message
  });

  it('has the time of its Kafka message when the header is no time', () => {
    const headers = { 'remit-received-at': 'yesterday' };
    expect(parse(EVENT, { headers }).receivedAt).toBe('2026-11-21T00:00:00.000Z');
  });

  it.each(['2999-01-01T00:00:00Z', '+012026-01-01T00:00:00Z', '0000-01-01T00:00:00Z'])(
    'arrived now when the header says %s: a time to come would let it wait forever',
    (given) => {
      const { receivedAt } = parse(EVENT, { headers: { 'remit-received-at': given } });
      expect(Math.abs(Date.parse(receivedAt) - Date.now())).toBeLessThan(60_000);
    },
  );

  it('replaces a correlation id that could not be logged safely', () => {
    const { correlationId } = parse(EVENT, { headers: { 'remit-correlation-id': 'x\n{"level":"fatal"}' } });
    expect(correlationId).toMatch(/^[0-9a-f-]{36}$/);
  });

  it.each([
    ['an empty value', '', 'invalid_json'],
    ['no value', null, 'invalid_json'],
    ['half an object', '{"provider":', 'invalid_json'],
    ['bytes that are not UTF-8', Buffer.from([0x22, 0xff, 0x22]), 'invalid_json'],
    ['a number', '7', 'invalid_message'],
    ['null', 'null', 'invalid_message'],
    ['an array', '[]', 'invalid_message'],
    ['no status', { ...EVENT, status: undefined }, 'invalid_message'],
    ['a status nobody knows', { ...EVENT, status: 'refunded' }, 'invalid_message'],
    ['an id that is no UUID', { ...EVENT, transactionId: '42' }, 'invalid_message'],
    ['a currency that is none', { ...EVENT, currency: 'XXQ' }, 'invalid_message'],
    ['a negative amount', { ...EVENT, amount: -1 }, 'invalid_message'],
    ['an amount of zero', { ...EVENT, amount: '0.00' }, 'amount_invalid'],
    ['too many decimals', { ...EVENT, amount: '1.001' }, 'amount_invalid'],
    [
      'an amount that JSON rounds',
      `{"amount":100.00000000000000001,${JSON.stringify(EVENT).slice(1).replace('"amount":100,', '')}`,
      'amount_invalid',
    ],
    ['another provider', { ...EVENT, provider: 'other' }, 'unknown_provider'],
    ['no provider', { ...EVENT, provider: undefined }, 'invalid_message'],
  ])('with %s is poison', (_, value, code) => {
    expect(poison(() => parse(value))).toBe(code);
  });

  it.each(['', 'x'.repeat(257), 'a\u0000b', 'ä'])(
    'with the event id %j is poison, for it could hide a duplicate',
    (id) => {
      expect(poison(() => parse(EVENT, { headers: { 'remit-provider-event-id': id } }))).toBe(
        'invalid_message',
      );
    },
  );

  it('with nesting without end is poison, for whatever walks it could not', () => {
    const nested = `{"x":${'['.repeat(100_000)}${']'.repeat(100_000)},${JSON.stringify(EVENT).slice(1)}`;
    const headers = { 'remit-provider-event-id': 'msg_1' };
    expect(poison(() => parse(nested, { headers }))).toBe('invalid_json');
  });

  it('names every field that is wrong', () => {
    expect(() => parse({ ...EVENT, status: 'x', type: 'y' })).toThrow(/status: .*; type: /);
  });
});

describe('the hash of an event', () => {
  const hash = (value: unknown) => parse(value).payloadHash;

  it('is the same however the same event is written', () => {
    const reordered = Object.fromEntries(Object.entries(EVENT).reverse());
    expect(hash(EVENT)).toMatch(/^[0-9a-f]{64}$/);
    expect(hash(reordered)).toBe(hash(EVENT));
    expect(hash(JSON.stringify(EVENT, null, 4))).toBe(hash(EVENT));
    expect(hash({ ...EVENT, amount: '100.00' })).toBe(hash(EVENT));
    expect(hash({ ...EVENT, transactionId: ID.toUpperCase() })).toBe(hash(EVENT));
  });

  it.each([{ amount: 100.01 }, { status: 'failed' }, { currency: 'USD' }, { type: 'payout' }])(
    'differs when the event says something else: %j',
    (change) => expect(hash({ ...EVENT, ...change })).not.toBe(hash(EVENT)),
  );
});

describe('what a provider adds to an event', () => {
  const hashes = (headers: Record<string, string>) =>
    [EVENT, { ...EVENT, attempt: 2 }].map((value) => parse(value, { headers }).payloadHash);

  it('makes it another event under an id of the provider’s own', () => {
    const [first, second] = hashes({ 'remit-provider-event-id': 'msg_1' });
    expect(second).not.toBe(first);
  });

  it('means nothing where the event has no id: a repetition is a repetition', () => {
    const [first, second] = hashes({});
    expect(second).toBe(first);
  });
});

describe('a payment request', () => {
  const REQUEST = {
    event: 'payment-request',
    orderId: ID,
    userId: 'user123',
    amount: '50.00',
    currency: 'TRY',
    requestedAt: '2026-11-21T09:00:00.000Z',
  };
  const read = (value: unknown) => parsePaymentRequest(message({ topic: 'payment-request', value }));

  it('is read into the input of its order’s workflow', () => {
    expect(read(REQUEST)).toMatchObject({
      orderId: ID,
      userId: 'user123',
      amountMinor: '5000',
      currency: 'TRY',
    });
  });

  it.each([
    ['{', 'invalid_json'],
    [{ ...REQUEST, event: 'payment-status' }, 'invalid_message'],
    [{ ...REQUEST, userId: '' }, 'invalid_message'],
    [{ ...REQUEST, amount: '-50.00' }, 'amount_invalid'],
  ])('such as %j is poison', (value, code) => expect(poison(() => read(value))).toBe(code));
});
