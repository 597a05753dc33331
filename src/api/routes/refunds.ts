import { RemitError } from '../../contracts/errors';
import { IdParams, PageQuery } from '../../contracts/http';
import { CreateRefundBody, Refund, RefundPage } from '../../contracts/orders';
import { formatMinor, parseMajorAmount } from '../../contracts/money';
import { workflowId, type RefundInput, type RefundResult } from '../../contracts/workflows';
import { getOrderMoney, getRefund, listRefunds, type RefundView } from '../../domain/refunds';
import { updateRefund } from '../../platform/workflow-starts';
import { updateWorkflow } from '../workflow-updates';
import { uuidOr404 } from './ids';
import { defineRoute, pageLimits, pageOf, type Route } from './route';

function refundOf({ amountMinor, createdAt, ...refund }: RefundView) {
  return {
    ...refund,
    amount: formatMinor(amountMinor, refund.currency),
    createdAt: createdAt.toISOString(),
  };
}

/** @throws RemitError for everything but a refund that was made. */
function refusal({ outcome, refundableMinor }: RefundResult, currency: string): RemitError {
  switch (outcome) {
    case 'not_paid':
      return new RemitError('conflict', 'The order is not paid, so there is nothing to refund.');
    case 'exceeds': {
      const left = formatMinor(BigInt(refundableMinor ?? 0), currency);
      return new RemitError('unprocessable', `Of this order, ${left} ${currency} can be refunded.`, [
        { path: 'amount', message: `must be at most ${left}` },
      ]);
    }
    default:
      return new RemitError('not_found', 'There is no such order.');
  }
}

export const refundRoutes: Route[] = [
  defineRoute({
    method: 'post',
    path: '/api/v1/orders/:id/refunds',
    operationId: 'createRefund',
    tag: 'Refunds',
    summary: 'Refund a paid order to its user’s balance, wholly or in part',
    description:
      'Without an amount, all that is left. What is refunded, disputed and charged back together never exceeds what was paid.',
    access: 'token',
    params: IdParams,
    body: CreateRefundBody,
    bodyOptional: true,
    responses: {
      201: { description: 'The refund', schema: Refund, headers: { Location: 'the order’s refunds' } },
    },
    problems: ['not_found', 'conflict', 'unprocessable'],
    async handle({ deps, caller, params, body, correlationId, operationId }) {
      const { tenantId, actor } = caller;
      const orderId = uuidOr404(params.id, 'order');
      const { currency } = await getOrderMoney(deps.database, { tenantId, orderId });
      const input: RefundInput = {
        refundId: operationId,
        tenantId,
        orderId,
        amountMinor: body.amount === undefined ? null : parseMajorAmount(body.amount, currency).toString(),
        reason: body.reason ?? null,
        actor,
        correlationId,
      };
      const result = await updateWorkflow(deps, workflowId.order(orderId), (client) =>
        updateRefund(client, { updateId: input.refundId, input }),
      );
      if (result.refundId === null) throw refusal(result, currency);
      const refund = await getRefund(deps.database, { tenantId, id: result.refundId });
      return {
        status: 201,
        body: refundOf(refund),
        headers: { Location: `/api/v1/orders/${orderId}/refunds` },
      };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/orders/:id/refunds',
    operationId: 'listRefunds',
    tag: 'Refunds',
    summary: 'List an order’s refunds, newest first, and what can still be refunded',
    access: 'token',
    params: IdParams,
    query: PageQuery,
    responses: { 200: { description: 'A page of refunds', schema: RefundPage } },
    problems: ['not_found'],
    async handle({ deps, caller, params, query }) {
      const key = { tenantId: caller.tenantId, orderId: uuidOr404(params.id, 'order') };
      const { currency, refundedMinor, refundableMinor } = await getOrderMoney(deps.database, key);
      const page = await listRefunds(deps.database, { ...key, ...pageLimits(query, deps.config, 'uuid') });
      return {
        status: 200,
        body: {
          ...pageOf(page, refundOf),
          refunded: formatMinor(refundedMinor, currency),
          refundable: formatMinor(refundableMinor, currency),
        },
      };
    },
  }),
];
