import { z } from 'zod';
import { AmountError, Currency, MajorAmount, parseMajorAmount } from './money';
import { timestamp } from './times';

/**
 * What crosses from Kafka into ClickHouse. A column is named as its field, because the bytes of a message go into the
 * table as they came.
 */

export const PURCHASE_STATUSES = ['pending', 'completed', 'failed', 'refunded'] as const;

/** Times that the table can hold and that a purchase can sensibly have. */
const PURCHASE_YEARS = { first: 2000, last: 2099 } as const;
/** Integer digits of the largest amount: with four decimals (ISO 4217 knows no more) it fits a Decimal(18, 4). */
export const PURCHASE_AMOUNT_MAX_DIGITS = 14;
export const PURCHASE_TEXT_MAX_BYTES = 64;
export const PURCHASE_PROVIDER_MAX_BYTES = 32;

const LONE_SURROGATE = /\p{Surrogate}/u;

const shortText = (maxBytes: number) =>
  z.string().refine(
    (value) => {
      const bytes = Buffer.byteLength(value);
      return bytes >= 1 && bytes <= maxBytes && !LONE_SURROGATE.test(value);
    },
    { error: `must have 1 to ${maxBytes} bytes of well-formed text` },
  );

const Time = timestamp(PURCHASE_YEARS);

/**
 * A purchase event on the topic `purchases` (seed 2). No other fields: one that nobody knows is a mistake of the
 * producer, and ClickHouse would drop it without a word.
 */
export const Purchase = z
  .strictObject({
    id: z.guid().meta({ description: 'id of this event; a repeated one is stored once', format: 'uuid' }),
    userId: shortText(PURCHASE_TEXT_MAX_BYTES),
    productId: shortText(PURCHASE_TEXT_MAX_BYTES),
    amount: MajorAmount,
    currency: Currency,
    status: z.enum(PURCHASE_STATUSES),
    provider: z
      .string()
      .regex(/^[a-z0-9_-]{1,32}$/, { error: 'must be 1 to 32 of a-z, 0-9, _ and -' })
      .meta({ description: 'payment provider', example: 'decard' }),
    createdAt: Time.meta({ description: 'when the user bought, RFC 3339, kept to milliseconds' }),
    processedAt: Time.meta({ description: 'when the provider answered, likewise' }),
  })
  .superRefine((purchase, context) => {
    const issue = (message: string) => context.addIssue({ code: 'custom', path: ['amount'], message });
    try {
      parseMajorAmount(purchase.amount, purchase.currency);
    } catch (error) {
      if (error instanceof AmountError) return issue(error.message);
      throw error;
    }
    const integerDigits = String(purchase.amount).split('.')[0]!.replace(/^0+/, '').length;
    if (integerDigits > PURCHASE_AMOUNT_MAX_DIGITS)
      issue(`amount has more than ${PURCHASE_AMOUNT_MAX_DIGITS} digits before the decimal point`);
  })
  .meta({ id: 'Purchase' });
export type Purchase = z.infer<typeof Purchase>;

/** Fields of a purchase, in the order in which remit writes them. */
export const PURCHASE_FIELDS = Object.keys(Purchase.shape) as readonly (keyof Purchase)[];
