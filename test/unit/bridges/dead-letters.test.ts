import { deadLetter, deadLetterHeaders, sendDeadLetter } from '../../../src/bridges/dead-letters';
import { toSourceMessage } from '../../../src/bridges/message';
import { HEADERS } from '../../../src/contracts/messages';
import { loadConfig } from '../../../src/platform/config';
import type { OutgoingMessage } from '../../../src/platform/kafka';
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
