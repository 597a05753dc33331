import type { IHeaders } from 'kafkajs';
import {
  deadLetter,
  deadLetterHeaders,
  deadLetterRefused,
  sendDeadLetter,
} from '../../../src/bridges/dead-letters';
import { messageBytes, toMessageRef } from '../../../src/bridges/message';
import { HEADERS } from '../../../src/contracts/messages';
import type { RefusedMessage } from '../../../src/contracts/workflows';
import { loadConfig } from '../../../src/platform/config';
import { headersToStrings, soundHeaders, type OutgoingMessage } from '../../../src/platform/kafka';
import { createLogger } from '../../../src/platform/logging';
import { message } from './messages';

const names = HEADERS.deadLetter;
const NOW = new Date('2026-11-21T10:00:00Z');

it('says where the message came from, why it is here and since when', () => {
  expect(deadLetterHeaders(message(), 'invalid_json', 'Unexpected token', NOW)).toEqual({
    'remit-source-topic': 'payment.webhook.decard',
    'remit-source-partition': '2',
    'remit-source-offset': '41',
    'remit-error-code': 'invalid_json',
    'remit-error-message': 'Unexpected token',
    'remit-first-failed-at': '2026-11-21T10:00:00.000Z',
    'remit-attempts': '1',
  });
});

it('keeps the first time and counts on when a redriven message fails again', () => {
  const first = deadLetterHeaders(message(), 'unknown_transaction', 'x', NOW);
  const again = deadLetterHeaders(message({ headers: first, offset: '99' }), 'amount_mismatch', 'y');
  expect(again).toMatchObject({
    [names.offset]: '99',
    [names.errorCode]: 'amount_mismatch',
    [names.firstFailedAt]: NOW.toISOString(),
    [names.attempts]: '2',
  });
});

it.each(['', '-3', 'many', '1e99', '0'])('starts to count again when the header says %j', (given) => {
  expect(
    deadLetterHeaders(message({ headers: { [names.attempts]: given } }), 'invalid_json', ''),
  ).toMatchObject({ [names.attempts]: '1' });
});

it('cuts an endless explanation', () => {
  const { [names.errorMessage]: text } = deadLetterHeaders(message(), 'invalid_message', 'x'.repeat(100_000));
  expect(text).toHaveLength(1_000);
});

it('keeps key, value and headers as bytes, also where they are not text', () => {
  const odd = Buffer.from([0xff, 0x00, 0xfe]);
  const source = message({ key: odd, value: odd, headers: { x: odd, repeated: ['1', '2'] } });
  const letter = deadLetter(source, 'dlq', 'invalid_json', 'no');
  expect(letter.key).toBe(odd);
  expect(letter.value).toBe(odd);
  expect(letter.headers).toMatchObject({ x: odd, repeated: ['1', '2'] });
});

it('keeps a missing key and a missing value missing', () => {
  expect(deadLetter(message({ key: null, value: null }), 'dlq', 'invalid_json', 'no')).toMatchObject({
    key: null,
    value: null,
  });
});

describe('of a message that a workflow refuses', () => {
  const original = message({ headers: { a: '1', [HEADERS.correlationId]: 'c' } });
  const refused: RefusedMessage = {
    source: toMessageRef(original),
    code: 'unknown_transaction',
    reason: 'there is none',
    key: 'tx',
    decided: { transactionId: 'tx', correlationId: 'c' },
  };
  const written = async (found: object) => {
    const sent: OutgoingMessage[] = [];
    await deadLetterRefused(
      {
        reader: { read: () => Promise.resolve(found as never) },
        producer: { send: (each: OutgoingMessage) => Promise.resolve(void sent.push(each)) },
        config: loadConfig({}, []),
        log: createLogger({ LOG_LEVEL: 'fatal', NODE_ENV: 'test' }, 'test'),
      },
      refused,
    );
    return sent[0];
  };

  it('is its message as it lies in Kafka', async () => {
    const { key, value } = original;
    expect(await written(original)).toMatchObject({ topic: 'payment.webhook.decard.dlq', key, value });
  });

  it('is what was read of it when it is lost, and says so', async () => {
    const letter = await written({ lost: 'the topic was created again' });
    expect(letter).toMatchObject({ topic: 'payment.webhook.decard.dlq', key: 'tx' });
    expect(JSON.parse(String(letter?.value))).toEqual({ ...refused.decided, source: refused.source });
    expect(letter?.headers).toMatchObject({
      [HEADERS.correlationId]: 'c',
      [names.errorCode]: 'unknown_transaction',
      [names.offset]: '41',
      [names.lost]: 'the topic was created again',
    });
  });
});

describe('what a workflow carries of a message', () => {
  const digest = (given: Parameters<typeof message>[0]) => toMessageRef(message(given)).sha256;

  it('is the same for the same key, value and headers, and another for every other', () => {
    const odd = Buffer.from([0xff, 0x00, 0xfe]);
    const variants: Parameters<typeof message>[0][] = [
      {},
      { key: null },
      { key: '' },
      { key: odd },
      { value: null },
      { value: '' },
      { value: odd },
      { key: 'k{', value: '}' },
      { headers: { a: '1' } },
      { headers: { a: ['1', '1'] } },
      { headers: { a: '1', b: '1' } },
      { headers: { a: odd } },
    ];
    expect(new Set(variants.map(digest)).size).toBe(variants.length);
    expect(variants.map(digest)).toEqual(variants.map(digest));
    expect(digest({ headers: { a: Buffer.from('1') } })).toBe(digest({ headers: { a: '1' } }));
  });

  it('says where it lies', () => {
    expect(toMessageRef(message())).toMatchObject({
      topic: 'payment.webhook.decard',
      partition: 2,
      offset: '41',
      timestampMs: Date.UTC(2026, 10, 21),
    });
  });
});

describe('headers as kafkajs reads them', () => {
  const read = (given: object) => soundHeaders(given as IHeaders);

  it('stay as they are when they are sound', () => {
    const given = { a: Buffer.from('1'), list: [Buffer.from('1'), Buffer.from('2')] };
    expect(read(given)).toEqual(given);
    expect(read({})).toEqual({});
    expect(soundHeaders(undefined)).toEqual({});
  });

  it('lose what every object inherits, and a missing value becomes an empty one', () => {
    const value = Buffer.from('x');
    // What kafkajs makes of headers that are named so.
    const given = Object.fromEntries([
      ['constructor', [Object, value]],
      ['__proto__', [Object.prototype, value]],
      ['none', null],
      ['some', [null, value]],
    ]);
    const sound = read(given);
    expect(Object.entries(sound)).toEqual([
      ['constructor', value],
      ['__proto__', value],
      ['none', Buffer.alloc(0)],
      ['some', [Buffer.alloc(0), value]],
    ]);
    expect(messageBytes(message({ headers: sound }))).toBeGreaterThan(0);
    expect(headersToStrings(sound)).toMatchObject({ none: '' });
  });
});

it('goes to the topic’s DLQ, or where it is told', async () => {
  const sent: OutgoingMessage[] = [];
  const producer = { send: (each: OutgoingMessage) => Promise.resolve(void sent.push(each)) };
  const config = loadConfig({}, []);
  await sendDeadLetter(producer, config, message(), 'invalid_json', 'no');
  await sendDeadLetter(producer, config, message({ topic: config.TOPIC_PURCHASES }), 'invalid_json', 'no');
  await sendDeadLetter(producer, config, message(), 'delivery_exhausted', 'no', { topic: 'elsewhere' });
  expect(sent.map(({ topic }) => topic)).toEqual([
    'payment.webhook.decard.dlq',
    'purchases.dlq',
    'elsewhere',
  ]);
});
