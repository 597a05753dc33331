import { z } from 'zod';
import { cleanText, createdTime, DecimalAmount, Instant, page, PageQuery, UserId } from './http';
import { PaymentType } from './messages';
import { Currency, MajorAmount } from './money';

const PAYMENT_EXAMPLE = { userId: 'user123', amount: '100.00', currency: 'TRY', provider: 'decard' };

/** What payments and payouts are created with. @param providerName a name of the providers that there are. */
export function newPaymentBodies<Name extends z.ZodType<string>>(providerName: Name) {
  const newPayment = { userId: UserId, amount: MajorAmount, currency: Currency, provider: providerName };
  return {
    CreatePaymentBody: z.strictObject(newPayment).meta({ id: 'CreatePayment', example: PAYMENT_EXAMPLE }),
    CreatePayoutBody: z
      .strictObject({
        ...newPayment,
        reserve: z.boolean().default(true).meta({
          description: 'hold the amount now; without it, funds are checked when the provider reports success',
        }),
      })
      .meta({ id: 'CreatePayout', example: { ...PAYMENT_EXAMPLE, amount: '50.00', reserve: true } }),
  };
}

const PaymentStatus = z.enum(['pending', 'succeeded', 'failed', 'expired']);
export const PaymentsQuery = PageQuery.extend({
  userId: UserId.optional(),
  status: PaymentStatus.optional(),
  provider: cleanText(64).optional(),
  ...createdTime,
});

export const Payment = z
  .object({
    id: z.string().meta({ description: 'the transactionId that the provider reports on' }),
    type: PaymentType,
    provider: z.string(),
    userId: z.string(),
    amount: DecimalAmount,
    currency: Currency,
    status: PaymentStatus,
    failureCode: z.string().nullable(),
    createdAt: Instant,
    expiresAt: Instant,
    settledAt: Instant.nullable(),
  })
  .meta({ id: 'Payment' });
export const PaymentPage = page(Payment, 'PaymentPage');
export type Payment = z.infer<typeof Payment>;
