import { RemitError } from '../../contracts/errors';
import { IdParams } from '../../contracts/http';
import { newPaymentBodies, Payment, PaymentPage, PaymentsQuery } from '../../contracts/payments';
import type { PaymentType } from '../../contracts/messages';
import { formatMinor, parseMajorAmount } from '../../contracts/money';
import { createPayment, getPayment, listPayments, type PaymentView } from '../../domain/payments';
import { ProviderName } from '../../providers/names';
import { uuidOr404 } from './ids';
import { defineRoute, pageLimits, pageOf, timeOf, type Answer, type Call, type Route } from './route';

export const { CreatePaymentBody, CreatePayoutBody } = newPaymentBodies(ProviderName.default('decard'));

function paymentOf({ amountMinor, createdAt, expiresAt, settledAt, ...payment }: PaymentView) {
  return {
    ...payment,
    amount: formatMinor(amountMinor, payment.currency),
    createdAt: createdAt.toISOString(),
    expiresAt: expiresAt.toISOString(),
    settledAt: settledAt?.toISOString() ?? null,
  };
}

interface NewPayment {
  userId: string;
  amount: number | string;
  currency: string;
  provider: string;
  reserve?: boolean;
}

async function create(
  type: PaymentType,
  { deps, caller, body, correlationId, operationId }: Call<undefined, undefined, NewPayment>,
): Promise<Answer> {
  if (!deps.config.providers.some(({ name }) => name === body.provider))
    throw new RemitError('invalid_request', 'There is no such provider.', [
      {
        path: 'provider',
        message: `must be one of ${deps.config.providers.map(({ name }) => name).join(', ')}`,
      },
    ]);
  const payment = await createPayment(deps.database, {
    id: operationId,
    tenantId: caller.tenantId,
    type,
    provider: body.provider,
    userId: body.userId,
    amountMinor: parseMajorAmount(body.amount, body.currency),
    currency: body.currency,
    reserve: body.reserve ?? false,
    expiresAfterMs: deps.config.PAYMENT_EXPIRES_AFTER_MS,
    correlationId,
    actor: caller.actor,
  });
  return {
    status: 201,
    body: paymentOf(payment),
    headers: { Location: `/api/v1/${type}s/${payment.id}` },
  };
}

const created = { schema: Payment, headers: { Location: 'where it is' } };

/** Listing and reading are the same for payments and payouts, each below its own path. */
function readRoutes(type: PaymentType, tag: string): Route[] {
  const plural = `${type}s`;
  const name = type === 'payment' ? 'Payment' : 'Payout';
  return [
    defineRoute({
      method: 'get',
      path: `/api/v1/${plural}`,
      operationId: `list${name}s`,
      tag,
      summary: `List ${plural}, newest first`,
      access: 'token',
      query: PaymentsQuery,
      responses: { 200: { description: `A page of ${plural}`, schema: PaymentPage } },
      async handle({ deps, caller, query }) {
        const page = await listPayments(deps.database, {
          tenantId: caller.tenantId,
          type,
          userId: query.userId,
          status: query.status,
          provider: query.provider,
          ...timeOf(query),
          ...pageLimits(query, deps.config, 'uuid'),
        });
        return { status: 200, body: pageOf(page, paymentOf) };
      },
    }),
    defineRoute({
      method: 'get',
      path: `/api/v1/${plural}/:id`,
      operationId: `get${name}`,
      tag,
      summary: `Read a ${type}`,
      access: 'token',
      params: IdParams,
      responses: { 200: { description: `The ${type}`, schema: Payment } },
      problems: ['not_found'],
      async handle({ deps, caller, params }) {
        const id = uuidOr404(params.id, type);
        const payment = await getPayment(deps.database, { tenantId: caller.tenantId, id, type });
        return { status: 200, body: paymentOf(payment) };
      },
    }),
  ];
}

/** The transactions that providers report on. */
export const paymentRoutes: Route[] = [
  defineRoute({
    method: 'post',
    path: '/api/v1/payments',
    operationId: 'createPayment',
    tag: 'Payments',
    summary: 'Create a payment (money in) that a provider will report on',
    access: 'token',
    body: CreatePaymentBody,
    responses: { 201: { description: 'The payment; its id is the provider’s transactionId', ...created } },
    problems: ['account_missing'],
    handle: (call) => create('payment', call),
  }),
  ...readRoutes('payment', 'Payments'),
  defineRoute({
    method: 'post',
    path: '/api/v1/payouts',
    operationId: 'createPayout',
    tag: 'Payouts',
    summary: 'Create a payout (money out) that a provider will report on',
    access: 'token',
    body: CreatePayoutBody,
    responses: {
      201: {
        description:
          'The payout; its id is the provider’s transactionId. Without funds to reserve, its status is failed and its failureCode insufficient_funds.',
        ...created,
      },
    },
    problems: ['account_missing'],
    handle: (call) => create('payout', call),
  }),
  ...readRoutes('payout', 'Payouts'),
];
