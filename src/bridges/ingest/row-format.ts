import { stringify } from 'lossless-json';
import { z } from 'zod';
import { decodeJson, JsonError, parseExactly } from '../../contracts/json';
import { DomainEvent } from '../../contracts/messages';
import { Purchase, PURCHASE_FIELDS } from '../../contracts/purchases';
import { PoisonMessage } from '../message';
import { isPlainPurchase, isPlausiblePurchase } from './purchase-scanner';

/** How a message becomes a row. */
export interface RowFormat {
  /**
   * Whether the message's own bytes can go into the batch: one JSON object on one line that begins with its brace. May
   * say no to a right message, never yes to what would become more or less than one row, or spoil its neighbours.
   */
  takesBytes(value: Buffer): boolean;
  /**
   * One JSON object on one line for a message whose bytes can't be taken.
   * @throws PoisonMessage when it is none, or breaks a rule that this format checks.
   */
  rewrite(value: Buffer): string;
  /** Called when ClickHouse refused what this format had let through unchecked. */
  distrust?(): void;
}

/** @throws PoisonMessage invalid_json unless the bytes are UTF-8 and one JSON object. */
function parseObject(value: Buffer): Record<string, unknown> {
  let json: unknown;
  try {
    json = parseExactly(decodeJson(value));
  } catch (error) {
    if (error instanceof JsonError) throw new PoisonMessage('invalid_json', `the message ${error.message}`);
    throw error;
  }
  if (typeof json !== 'object' || json === null || Array.isArray(json))
    throw new PoisonMessage('invalid_json', 'the message is not a JSON object');
  return json as Record<string, unknown>;
}

/** @throws PoisonMessage that names every field that is wrong; `amount_invalid` when it is the amount alone. */
function parseSchema<T extends z.ZodType>(schema: T, value: Buffer): z.output<T> {
  const parsed = schema.safeParse(parseObject(value));
  if (parsed.success) return parsed.data;
  const { issues } = parsed.error;
  const onlyAmount = issues.every(({ path }) => path[0] === 'amount');
  throw new PoisonMessage(
    onlyAmount ? 'amount_invalid' : 'invalid_message',
    issues.map((issue) => `${issue.path.join('.') || 'message'}: ${issue.message}`).join('; '),
  );
}

/**
 * Every purchase is checked: plain ones by reading their bytes, all others by the schema, which then also writes them
 * again, so that what was checked is what is stored.
 */
export const checkedPurchases: RowFormat = {
  takesBytes: isPlainPurchase,
  rewrite(value) {
    const purchase = parseSchema(Purchase, value);
    return JSON.stringify(Object.fromEntries(PURCHASE_FIELDS.map((name) => [name, purchase[name]])));
  },
};

/**
 * For producers that are trusted: what stands in texts is left to the table (see `isPlausiblePurchase`), and what is not
 * in the plain form is checked.
 *
 * After a refusal every message is checked for `distrustMs`: refusals are found by repeating inserts, which a producer
 * that often errs would make slower than checking.
 */
export function trustedPurchases(distrustMs: number): RowFormat {
  let distrusted: NodeJS.Timeout | undefined;
  return {
    takesBytes: (value) => (distrusted ? isPlainPurchase(value) : isPlausiblePurchase(value)),
    rewrite: (value) => checkedPurchases.rewrite(value),
    distrust() {
      clearTimeout(distrusted);
      distrusted = setTimeout(() => (distrusted = undefined), distrustMs).unref();
    },
  };
}

const StoredEvent = DomainEvent.extend({
  id: z.string().min(1).max(200),
  occurredAt: z.iso.datetime({ offset: true }).refine((at) => /^20\d\d-/.test(at), {
    error: 'year must be 2000 to 2099',
  }),
});

/** Domain events, rarely more than one a payment: always parsed; `data` is stored as the JSON that it is. */
export const domainEvents: RowFormat = {
  takesBytes: () => false,
  rewrite(value) {
    const { data, occurredAt, ...event } = parseSchema(StoredEvent, value);
    return JSON.stringify({
      ...event,
      occurredAt: new Date(occurredAt).toISOString(),
      data: stringify(data),
    });
  },
};
