import type { IncomingMessage } from '../../../src/bridges/message';
import { readProviderEvents } from '../../../src/bridges/provider-events';
import type { ProviderEvent } from '../../../src/contracts/workflows';
import { decard } from '../../../src/providers/decard';

/** A message as a stream hands it to its handler. */
export function message(
  given: Partial<Omit<IncomingMessage, 'key' | 'value'>> & {
    key?: string | Buffer | null;
    value?: unknown;
  } = {},
): IncomingMessage {
  const { key = 'k', value = {}, ...rest } = given;
  return {
    topic: 'payment.webhook.decard',
    partition: 2,
    offset: '41',
    headers: {},
    timestampMs: Date.UTC(2026, 10, 21),
    ...rest,
    key: typeof key === 'string' ? Buffer.from(key) : key,
    value: bytes(value),
  };
}

function bytes(value: unknown): Buffer | null {
  if (value === null || Buffer.isBuffer(value)) return value;
  return Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));
}

/** What the bridge makes of a message on DeCard's topic. */
export function decardEvent(given: IncomingMessage): ProviderEvent {
  const [read] = readProviderEvents(decard, given);
  if (read?.to !== 'payment') throw new Error(`it went to ${read?.to ?? 'nobody'}`);
  return read.event;
}
