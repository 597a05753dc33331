import { z } from 'zod';
import { PROBLEM_STATUS, type ProblemCode } from './errors';
import { Currency, MajorAmount } from './money';
import { DisputeStatus, PaymentType } from './messages';
import { DeliveryStatus, EventTypePattern, SubscriptionFilter, SubscriptionHeaders } from './webhooks';

/**
 * What the HTTP API takes and answers. The OpenAPI document is generated from these schemas, so that it can't differ
 * from what the server checks. Requests are strict: an unknown field is a mistake and is named.
 */

/** No control characters: PostgreSQL stores no NUL, and the others have no place in a line of text. */
const NO_CONTROLS = /^[^\u0000-\u001f\u007f-\u009f]*$/;
/** Half a surrogate pair has no UTF-8 form. */
const isWellFormed = (text: string) => !/\p{Surrogate}/u.test(text);
export const cleanText = (maxLength: number) =>
  z
    .string()
    .max(maxLength)
    .regex(NO_CONTROLS, { error: 'must not contain control characters' })
    .refine(isWellFormed, { error: 'must not contain lone surrogates' });

/** A user's id as the gateway, the token or the caller names it: 1 to 128 printable ASCII characters. */
export const UserId = z
  .string()
  .regex(/^[\x21-\x7e](?:[\x20-\x7e]{0,126}[\x21-\x7e])?$/, {
    error: 'must be 1 to 128 printable ASCII characters without spaces around them',
  })
  .meta({ description: 'User id, 1 to 128 printable ASCII characters', example: 'user123' });

/** A tenant's name, as tokens carry it. */
export const TenantId = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/, { error: 'must be 1 to 64 of A-Z a-z 0-9 . _ -' });

/** What a caller may send as X-Correlation-Id. Anything else is replaced by an id of our own. */
export const CORRELATION_ID = /^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$/;

/** Providers whose webhooks are taken and whose payments can be created. */
export const ProviderName = z.enum(['decard']);

const Uuid = z.guid({ error: 'not a UUID' }).transform((value) => value.toLowerCase());
export const Instant = z.iso.datetime({ offset: true });
/** A moment that a caller names: in years that PostgreSQL, JavaScript and ISO 8601 write alike in every time zone. */
export const GivenInstant = z.iso
  .datetime({ offset: true, abort: true })
  .regex(/^(19[7-9]|2\d\d)\d-/, { error: 'must be of the years 1970 to 2999' });
const DecimalAmount = z
  .string()
  .regex(/^-?\d+(\.\d+)?$/)
  .meta({ description: 'Major units, with exactly the decimals of the currency', example: '100.00' });

// ---------------------------------------------------------------------------------------------------- pages

const PAGE_ROWS = 50;

export const PageQuery = z.strictObject({
  limit: z
    .string()
    .regex(/^[1-9]\d{0,5}$/, { error: 'must be a whole number from 1' })
    .default(String(PAGE_ROWS))
    .meta({
      // On the wire it is text; in the document it is what it means.
      type: 'integer',
      minimum: 1,
      maximum: 999_999,
      default: PAGE_ROWS,
      description: 'Rows on the page; more than the server allows is lowered to that',
    }),
  cursor: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,200}$/, { error: 'not a cursor that a list returned' })
    .optional()
    .meta({ description: 'nextCursor of the page before' }),
});

/** Lists that can be cut to a time. */
export const createdTime = {
  since: GivenInstant.optional().meta({ description: 'made from this moment on' }),
  until: GivenInstant.optional().meta({ description: 'made before this moment' }),
};

export const page = <T extends z.ZodType>(item: T, id: string) =>
  z
    .object({
      items: z.array(item),
      nextCursor: z
        .string()
        .nullable()
        .meta({ description: 'cursor of the next page; null on the last one' }),
    })
    .meta({ id });

// ---------------------------------------------------------------------------------------------------- problems

export const Problem = z
  .object({
    type: z
      .string()
      .meta({ description: 'urn:remit:error:<code>', example: 'urn:remit:error:invalid_request' }),
    title: z.string(),
    status: z.int().min(400).max(599),
    detail: z.string(),
    instance: z.string().meta({ description: 'path of the request' }),
    code: z.enum(Object.keys(PROBLEM_STATUS) as [ProblemCode, ...ProblemCode[]]),
    errors: z
      .array(z.object({ path: z.string(), message: z.string() }))
      .meta({ description: 'every field that is wrong, where fields are' }),
    correlationId: z.string(),
  })
  .meta({ id: 'Problem', description: 'RFC 9457 problem document' });
export type Problem = z.infer<typeof Problem>;

// ---------------------------------------------------------------------------------------------------- accounts

export const CreateAccountBody = z
  .strictObject({ currency: Currency.optional() })
  .meta({ id: 'CreateAccount', example: { currency: 'TRY' } });
export const TopUpBody = z
  .strictObject({ amount: MajorAmount, currency: Currency.optional() })
  .meta({ id: 'TopUp', example: { amount: '100.00' } });
export const BalanceQuery = z.strictObject({ currency: Currency.optional() });

export const AccountBalance = z
  .object({
    userId: z.string(),
    currency: Currency,
    balance: DecimalAmount,
    available: DecimalAmount.meta({ description: 'balance without what is held for payouts' }),
    held: DecimalAmount,
  })
  .meta({ id: 'AccountBalance' });

export const Account = AccountBalance.extend({ id: z.string(), createdAt: Instant }).meta({ id: 'Account' });

export const AccountParams = z.strictObject({ id: z.string().max(200) });

export const StatementEntry = z
  .object({
    id: z.string(),
    journalId: z.string().meta({ description: 'the movement, whose entries sum to zero' }),
    kind: z.string().meta({ description: 'kind of movement', example: 'order' }),
    reference: z.string().meta({ description: 'names the movement; unique for ever' }),
    amount: DecimalAmount.meta({ description: 'positive: money came in' }),
    currency: Currency,
    balanceAfter: DecimalAmount,
    correlationId: z.string().nullable(),
    createdAt: Instant,
  })
  .meta({ id: 'StatementEntry' });
export const StatementPage = page(StatementEntry, 'StatementPage');

export const Reconciliation = z
  .object({
    clean: z.boolean(),
    at: Instant.meta({ description: 'when the snapshot was taken' }),
    tenant: z.string().nullable().meta({ description: 'null: all tenants' }),
    checks: z.array(
      z.object({
        name: z.string(),
        rule: z.string().meta({ description: 'what holds when nothing is found' }),
        found: z.int(),
        findings: z
          .array(z.object({ subject: z.string(), detail: z.string() }))
          .meta({ description: 'the first of them' }),
        durationMs: z.int(),
      }),
    ),
    dailyTotals: z
      .array(
        z.object({
          day: z.iso.date(),
          provider: z.string(),
          type: PaymentType,
          currency: Currency,
          succeeded: z.int(),
          failed: z.int(),
          expired: z.int(),
          succeededAmount: DecimalAmount,
        }),
      )
      .meta({ description: 'settled payments and payouts by provider and UTC day' }),
  })
  .meta({ id: 'Reconciliation' });

// ---------------------------------------------------------------------------------------------------- orders

export const CreateOrderBody = z
  .strictObject({
    amount: MajorAmount,
    description: cleanText(1_000).default(''),
    currency: Currency.optional(),
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
    status: z.enum(['NEW', 'FINISHED', 'CANCELLED', 'CHARGED_BACK']),
    failureCode: z.string().nullable(),
    createdAt: Instant,
    decidedAt: Instant.nullable(),
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

// ---------------------------------------------------------------------------------------------------- payments and payouts

const newPayment = {
  userId: UserId,
  amount: MajorAmount,
  currency: Currency,
  provider: ProviderName.default('decard'),
};
const PAYMENT_EXAMPLE = { userId: 'user123', amount: '100.00', currency: 'TRY', provider: 'decard' };
export const CreatePaymentBody = z
  .strictObject(newPayment)
  .meta({ id: 'CreatePayment', example: PAYMENT_EXAMPLE });
export const CreatePayoutBody = z
  .strictObject({
    ...newPayment,
    reserve: z.boolean().default(true).meta({
      description: 'hold the amount now; without it, funds are checked when the provider reports success',
    }),
  })
  .meta({ id: 'CreatePayout', example: { ...PAYMENT_EXAMPLE, amount: '50.00', reserve: true } });

const PaymentStatus = z.enum(['pending', 'succeeded', 'failed', 'expired']);
export const PaymentsQuery = PageQuery.extend({
  userId: UserId.optional(),
  status: PaymentStatus.optional(),
});
export const IdParams = z.strictObject({ id: z.string().max(200) });

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

// ---------------------------------------------------------------------------------------------------- webhooks out

const subscriptionFields = {
  url: z
    .url({ protocol: /^https?$/, error: 'must be an http or https URL' })
    .max(2_048)
    .regex(NO_CONTROLS, { error: 'must not contain control characters' })
    .refine(isWellFormed, { error: 'must not contain lone surrogates' })
    .meta({ example: 'https://example.com/webhooks' }),
  eventTypes: z.array(EventTypePattern).min(1).max(50),
  description: cleanText(500),
  filter: SubscriptionFilter,
  headers: SubscriptionHeaders,
  rateLimitPerSecond: z
    .int()
    .min(1)
    .max(10_000)
    .nullable()
    .meta({ description: 'most attempts a second to this subscriber; null: no limit of its own' }),
  ordered: z.boolean().meta({
    description:
      'deliver in the order of the events, one at a time: an event waits until the one before is finished',
  }),
};
export const CreateSubscriptionBody = z
  .strictObject({
    url: subscriptionFields.url,
    eventTypes: subscriptionFields.eventTypes,
    description: subscriptionFields.description.default(''),
    filter: subscriptionFields.filter.default([]),
    headers: subscriptionFields.headers.default({}),
    rateLimitPerSecond: subscriptionFields.rateLimitPerSecond.default(null),
    ordered: subscriptionFields.ordered.default(false),
    paused: z.boolean().default(false).meta({
      description: 'make it paused: it gets nothing until it is resumed, which can bring it all since then',
    }),
  })
  .meta({
    id: 'CreateSubscription',
    example: {
      url: 'https://example.com/webhooks',
      eventTypes: ['payment.*', 'order.finished'],
      description: 'Accounting',
      filter: [{ path: 'currency', op: 'eq', value: 'TRY' }],
      headers: { 'x-team': 'accounting' },
    },
  });
export const UpdateSubscriptionBody = z
  .strictObject(subscriptionFields)
  .partial()
  .meta({
    id: 'UpdateSubscription',
    example: { eventTypes: ['payment.*'], rateLimitPerSecond: 20, ordered: true },
  });

const SubscriptionState = z.enum(['active', 'failing', 'paused', 'disabled']);
export const SubscriptionsQuery = PageQuery.extend({ state: SubscriptionState.optional() });

export const Subscription = z
  .object({
    id: z.string(),
    url: z.string(),
    eventTypes: z.array(z.string()),
    description: z.string(),
    filter: SubscriptionFilter,
    headerNames: z
      .array(z.string())
      .meta({ description: 'names of the custom headers; their values are not shown' }),
    rateLimitPerSecond: z.int().nullable(),
    ordered: z.boolean(),
    state: SubscriptionState,
    stateReason: z.string().nullable().meta({
      description:
        'why it is in this state: operator, gone (410), exhausted, or what the last attempt met; null while it is active',
    }),
    stateChangedAt: Instant,
    version: z.int(),
    createdAt: Instant,
    updatedAt: Instant,
  })
  .meta({ id: 'Subscription' });
const shownOnce = z
  .string()
  .meta({ description: 'signs the webhooks (Standard Webhooks, whsec_...); shown only here' });
export const SubscriptionCreated = Subscription.extend({ secret: shownOnce }).meta({
  id: 'SubscriptionCreated',
});
export const RotateSecretBody = z
  .strictObject({
    overlapS: z
      .int()
      .min(0)
      .max(7 * 86_400)
      .optional()
      .meta({
        description:
          'seconds for which the old secret signs beside the new one; 0 when it leaked. As the server is configured when left out, 24 hours by default. A secret from an earlier rotation ends at once',
      }),
  })
  .meta({ id: 'RotateSecret', example: { overlapS: 3600 } });
export const SecretRotated = z
  .object({ secret: shownOnce, previousSecretValidUntil: Instant.nullable() })
  .meta({ id: 'SecretRotated' });
export const SubscriptionPage = page(Subscription, 'SubscriptionPage');

export const DeliveriesQuery = PageQuery.extend({
  subscriptionId: cleanText(64).optional(),
  eventId: cleanText(128).optional(),
  eventType: cleanText(128).optional(),
  status: DeliveryStatus.optional(),
  ...createdTime,
});

export const Delivery = z
  .object({
    id: z.string(),
    eventId: z.string().meta({ description: 'the webhook-id header' }),
    subscriptionId: z.string(),
    eventType: z.string(),
    status: DeliveryStatus,
    attempts: z.int(),
    lastStatusCode: z.int().nullable(),
    lastError: z.string().nullable(),
    createdAt: Instant,
    finishedAt: Instant.nullable(),
  })
  .meta({ id: 'Delivery' });
export const DeliveryPage = page(Delivery, 'DeliveryPage');

export const DeliveryAttempt = z
  .object({
    attempt: z.int(),
    startedAt: Instant,
    durationMs: z.int(),
    result: z.string(),
    statusCode: z.int().nullable(),
    error: z.string().nullable(),
    responseBody: z.string().nullable(),
  })
  .meta({ id: 'DeliveryAttempt' });
export const DeliveryAttempts = page(DeliveryAttempt, 'DeliveryAttempts');

// ---------------------------------------------------------------------------------------------------- provider webhooks, health

export const Accepted = z
  .object({ accepted: z.literal(true), correlationId: z.string() })
  .meta({ id: 'Accepted', description: 'Kafka has the event on all in-sync replicas' });

export const Alive = z.object({ alive: z.literal(true) }).meta({ id: 'Alive' });
export const Readiness = z
  .object({ ready: z.boolean(), dependencies: z.record(z.string(), z.string()) })
  .meta({ id: 'Readiness', description: 'each dependency: ok, or what is wrong with it' });

/** A UUID in a path, in lower case; undefined when it is none, which a route answers like an id that does not exist. */
export function uuidOrUndefined(text: string): string | undefined {
  const parsed = Uuid.safeParse(text);
  return parsed.success ? parsed.data : undefined;
}

const AMOUNT_AS_LONG_NUMBER = /"amount"\s*:\s*-?[\d.eE+-]{17,}/;

/**
 * Whether a JSON text gives an amount as a number with more digits than a double holds exactly: JSON.parse would have
 * rounded it before parseMajorAmount could refuse it. Such an amount has to be sent as a string.
 */
export function hasRoundedAmount(json: string): boolean {
  return AMOUNT_AS_LONG_NUMBER.test(json);
}
