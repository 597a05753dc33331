import { z } from 'zod';
import { cleanText, DecimalAmount, Instant } from './http';
import { Currency } from './money';
import { Timestamp } from './times';

/** Figures by time. Buckets without anything are left out. */

const bucketed = {
  since: Timestamp.optional().meta({
    description: 'before until by an hour of minutes, a day of hours, 30 days of days when left out',
  }),
  until: Timestamp.optional().meta({ description: 'now when left out' }),
  bucket: z.enum(['minute', 'hour', 'day']).default('hour').meta({
    description: 'minutes of at most 6 hours, hours of at most 31 days, days of at most 366',
  }),
};

export const DeliveryStatisticsQuery = z.strictObject({
  ...bucketed,
  by: z.enum(['none', 'eventType', 'subscription']).default('none'),
  subscriptionId: cleanText(128).optional().meta({ description: 'its id or uid' }),
  eventType: cleanText(128).optional(),
});
const Count = z.int().min(0);
const common = { at: Instant.meta({ description: 'the beginning of the bucket' }), group: z.string() };
const answered = { since: Instant, until: Instant, bucket: z.enum(['minute', 'hour', 'day']) };

export const DeliveryStatistics = z
  .object({
    ...answered,
    items: z.array(
      z.object({
        ...common,
        created: Count.meta({
          description: 'deliveries of events of the bucket, by the state they are in now:',
        }),
        pending: Count,
        delivered: Count,
        exhausted: Count,
        cancelled: Count,
        held: Count,
        attempts: Count,
      }),
    ),
  })
  .meta({ id: 'DeliveryStatistics' });

export const AttemptStatisticsQuery = z.strictObject({
  ...bucketed,
  subscriptionId: cleanText(128).optional().meta({ description: 'its id or uid' }),
});
export const AttemptStatistics = z
  .object({
    ...answered,
    items: z.array(
      z.object({
        at: common.at,
        attempts: Count,
        delivered: Count,
        failed: Count,
        p50Ms: z.int(),
        p99Ms: z.int(),
        results: z
          .record(z.string(), Count)
          .meta({ description: 'by result: delivered, http_error, timeout, …' }),
      }),
    ),
    complete: z.boolean().meta({ description: 'false: only the newest 100,000 attempts were counted' }),
  })
  .meta({ id: 'AttemptStatistics' });

export const PaymentStatisticsQuery = z.strictObject({
  ...bucketed,
  type: z.enum(['payment', 'payout']).optional(),
  by: z.enum(['none', 'provider', 'type', 'status']).default('none'),
});
const money = z.object({
  ...common,
  currency: Currency,
  count: Count,
  succeeded: Count,
  failed: Count,
  open: Count,
  amount: DecimalAmount.meta({ description: 'of all of them' }),
  succeededAmount: DecimalAmount,
});
export const PaymentStatistics = z
  .object({ ...answered, items: z.array(money) })
  .meta({ id: 'PaymentStatistics' });
export const OrderStatisticsQuery = z.strictObject({
  ...bucketed,
  by: z.enum(['none', 'paymentMethod', 'status']).default('none'),
});
export const OrderStatistics = z
  .object({ ...answered, items: z.array(money) })
  .meta({ id: 'OrderStatistics' });

export const PurchaseStatisticsQuery = z.strictObject({
  ...bucketed,
  by: z.enum(['none', 'provider', 'status', 'product']).default('none'),
  products: z
    .string()
    .regex(/^[1-9]\d?$/, { error: 'must be a whole number from 1 to 99' })
    .default('10')
    .meta({ type: 'integer', minimum: 1, maximum: 99, default: 10, description: 'longest list of products' }),
});
export const PurchaseStatistics = z
  .object({
    ...answered,
    items: z.array(
      z.object({
        ...common,
        currency: z.string(),
        purchases: Count,
        completed: Count,
        amount: z.string().meta({ description: 'of the completed ones, in major units' }),
      }),
    ),
    products: z.array(
      z.object({ productId: z.string(), currency: z.string(), purchases: Count, amount: z.string() }),
    ),
    lag: z
      .array(z.object({ minute: Instant, rows: Count, meanSeconds: z.number(), maxSeconds: z.number() }))
      .meta({ description: 'from Kafka to the row, of the last hour' }),
    stored: Count.meta({ description: 'rows in the table' }),
  })
  .meta({ id: 'PurchaseStatistics' });
