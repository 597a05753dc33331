import type { IHeaders } from 'kafkajs';
import { deadLetter, deadLetterHeaders, sendDeadLetter } from '../../../src/bridges/dead-letters';
import { headersToBase64, messageBytes, toSourceMessage } from '../../../src/bridges/message';
import { HEADERS } from '../../../src/contracts/messages';
import { loadConfig } from '../../../src/platform/config';
import { soundHeaders, type OutgoingMessage } from '../../../src/platform/kafka';
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

it.each(['', '-3', 'many', '1e99', '0'])('starts to count anew when the header says %j', (given) => {
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

it('restores the value of a message that a workflow carried', () => {
  const value = Buffer.from([0xff, 0x00, 0x7b]);
  const carried = toSourceMessage(message({ value, headers: { a: Buffer.from('1') } }));
  const letter = deadLetter(
    JSON.parse(JSON.stringify(carried)) as typeof carried,
    'dlq',
    'unknown_transaction',
    '',
  );
  expect(letter.value).toEqual(value);
  expect(letter.headers).toMatchObject({ a: '1' });
});

it('restores key and headers of a message that a workflow carried, also repeated ones and those that are no text', () => {
  const odd = Buffer.from([0xff, 0x00, 0xfe]);
  const given = message({ key: odd, headers: { odd, plain: Buffer.from('é'), repeated: ['1', odd, '1'] } });
  const carried = JSON.parse(JSON.stringify(toSourceMessage(given))) as ReturnType<typeof toSourceMessage>;
  const letter = deadLetter(carried, 'dlq', 'unknown_transaction', '');
  expect(letter.key).toEqual(odd);
  expect(headersToBase64(letter.headers!).filter(([name]) => !name.startsWith('remit-'))).toEqual(
    headersToBase64(given.headers),
  );
});

it('carries text once: only what text would lose is there in base64 too', () => {
  const carried = toSourceMessage(message({ key: 'é', headers: { a: Buffer.from('1'), b: '2' } }));
  expect(carried).not.toHaveProperty('headersBase64');
  expect(carried).not.toHaveProperty('keyBase64');
  expect(carried).toMatchObject({ key: 'é', headers: { a: '1', b: '2' } });
});

it('restores what a workflow of before carried, which had text alone', () => {
  const before = {
    topic: 't',
    partition: 0,
    offset: '1',
    key: 'k',
    valueBase64: 'e30=',
    headers: { a: '1' },
  };
  expect(deadLetter(before, 'dlq', 'unknown_transaction', '')).toMatchObject({
    key: Buffer.from('k'),
    value: Buffer.from('{}'),
    headers: { a: '1' },
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
    expect(toSourceMessage(message({ headers: sound })).headers).toMatchObject({ none: '' });
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
