import { z } from 'zod';
import { cleanText, DecimalAmount, Instant, isWellFormed, NO_CONTROLS, page, PageQuery, Uuid } from './http';
import { DisputeStatus, PaymentMethod } from './messages';
import { Currency, MajorAmount } from './money';

export const CreateOrderBody = z
  .strictObject({
    amount: MajorAmount,
    description: cleanText(1_000).default(''),
    currency: Currency.optional(),
    paymentMethod: PaymentMethod.default('balance').meta({
      description:
        'balance: debited from the user’s balance at once. provider: nothing is debited; the order waits for its provider’s webhook (POST /webhooks/payments/orders)',
    }),
  })
  .meta({ id: 'CreateOrder', example: { amount: '50.00', description: 'Test order' } });
export const OrderParams = z.strictObject({ orderId: z.string().max(200) });

export const Order = z
  .object({
    id: z.string(),
    userId: z.string(),
    amount: DecimalAmount,
    currency: Currency,
    description: z.string(),
    paymentMethod: PaymentMethod,
    status: z.enum(['NEW', 'FINISHED', 'CANCELLED', 'CHARGED_BACK']),
    failureCode: z.string().nullable(),
    createdAt: Instant,
    decidedAt: Instant.nullable(),
    expiresAt: Instant.nullable().meta({
      description: 'when an order that a provider pays is cancelled unless it was paid; null for balance',
    }),
  })
  .meta({ id: 'Order' });
export const OrderPage = page(Order, 'OrderPage');

// ---------------------------------------------------------------------------------------------------- refunds and disputes

export const CreateRefundBody = z
  .strictObject({
    amount: MajorAmount.optional().meta({ description: 'All that can be refunded when left out' }),
    reason: cleanText(500).optional(),
  })
  .meta({ id: 'CreateRefund', example: { amount: '10.00', reason: 'one item came back' } });

export const Refund = z
  .object({
    id: z.string(),
    orderId: z.string(),
    amount: DecimalAmount,
    currency: Currency,
    reason: z.string().nullable(),
    createdAt: Instant,
  })
  .meta({ id: 'Refund' });
export const RefundPage = page(Refund, 'RefundPage')
  .extend({
    refunded: DecimalAmount.meta({ description: 'the sum of all refunds of the order' }),
    refundable: DecimalAmount.meta({ description: 'neither refunded nor disputed nor charged back' }),
  })
  .meta({ id: 'RefundPage' });

export const DisputesQuery = PageQuery.extend({
  orderId: Uuid.optional(),
  status: DisputeStatus.optional(),
  sort: z.enum(['newest', 'due']).default('newest').meta({
    description: 'due: those that wait for evidence (status opened), the one that is due first at the top',
  }),
});

/** Text of several lines: tabs and line ends, but no other control characters. */
const multilineText = (maxLength: number) =>
  z
    .string()
    .min(1)
    .max(maxLength)
    .regex(/^[^\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]*$/, {
      error: 'must not contain control characters',
    })
    .refine(isWellFormed, { error: 'must not contain lone surrogates' });

export const SubmitEvidenceBody = z
  .strictObject({
    text: multilineText(20_000),
    documents: z
      .array(
        z.strictObject({
          name: cleanText(200).min(1),
          url: z
            .url({ protocol: /^https$/, error: 'must be an https URL' })
            .max(2_048)
            .regex(NO_CONTROLS),
        }),
      )
      .max(20)
      .default([]),
  })
  .meta({
    id: 'SubmitEvidence',
    example: {
      text: 'Delivered on 3 March and signed for.',
      documents: [{ name: 'receipt.pdf', url: 'https://example.com/receipt.pdf' }],
    },
  });

export const Dispute = z
  .object({
    id: z.string(),
    orderId: z.string(),
    userId: z.string(),
    provider: z.string(),
    amount: DecimalAmount,
    uncovered: DecimalAmount.meta({
      description: 'what was refunded or disputed already when it was opened: a loss unless it is won',
    }),
    currency: Currency,
    status: DisputeStatus,
    reason: z.string().nullable(),
    evidenceDueAt: Instant,
    openedAt: Instant,
    closedAt: Instant.nullable(),
  })
  .meta({ id: 'Dispute' });
export const DisputePage = page(Dispute, 'DisputePage');
export const DisputeWithEvidence = Dispute.extend({
  evidence: z
    .object({ text: z.string(), documents: z.array(z.object({ name: z.string(), url: z.string() })) })
    .extend({ submittedBy: z.string(), submittedAt: Instant })
    .nullable(),
}).meta({ id: 'DisputeWithEvidence' });
