import { PageQuery } from '../../contracts/http';
import { CreateOrderBody, Order, OrderPage, OrderParams } from '../../contracts/orders';
import { formatMinor, parseMajorAmount } from '../../contracts/money';
import { createOrder, getOrder, listOrders, type OrderView } from '../../domain/orders';
import { uuidOr404 } from './ids';
import { defineRoute, pageLimits, pageOf, type Route } from './route';

/** An order as the API shows it. */
export function orderOf({ amountMinor, createdAt, decidedAt, expiresAt, ...order }: OrderView) {
  return {
    ...order,
    amount: formatMinor(amountMinor, order.currency),
    createdAt: createdAt.toISOString(),
    decidedAt: decidedAt?.toISOString() ?? null,
    expiresAt: expiresAt?.toISOString() ?? null,
  };
}

/** The shop's orders: paths and shapes are those of its API gateway. */
export const orderRoutes: Route[] = [
  defineRoute({
    method: 'post',
    path: '/orders',
    operationId: 'createOrder',
    tag: 'Orders',
    summary: 'Place an order, to be paid from the user’s balance or by a provider',
    description:
      'Answers at once with status NEW; the order becomes FINISHED or CANCELLED when its payment is decided: with paymentMethod balance (the default) as soon as the balance was debited or lacks funds, with provider when the provider’s webhook says so, or when it expires unpaid.',
    access: 'user',
    body: CreateOrderBody,
    responses: { 201: { description: 'The order', schema: Order, headers: { Location: 'where it is' } } },
    async handle({ deps, caller, body, correlationId, operationId }) {
      const currency = body.currency ?? deps.config.DEFAULT_CURRENCY;
      const order = await createOrder(deps.database, {
        id: operationId,
        tenantId: caller.tenantId,
        userId: caller.id,
        amountMinor: parseMajorAmount(body.amount, currency),
        currency,
        description: body.description,
        paymentMethod: body.paymentMethod,
        expiresAfterMs: deps.config.PAYMENT_EXPIRES_AFTER_MS,
        correlationId,
      });
      return { status: 201, body: orderOf(order), headers: { Location: `/orders/${order.id}` } };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/orders',
    operationId: 'listOrders',
    tag: 'Orders',
    summary: 'List the user’s orders, newest first',
    access: 'user',
    query: PageQuery,
    responses: { 200: { description: 'A page of orders', schema: OrderPage } },
    async handle({ deps, caller, query }) {
      const page = await listOrders(deps.database, {
        tenantId: caller.tenantId,
        userId: caller.id,
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: pageOf(page, orderOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/orders/:orderId',
    operationId: 'getOrder',
    tag: 'Orders',
    summary: 'Read an order of the user',
    access: 'user',
    params: OrderParams,
    responses: { 200: { description: 'The order', schema: Order } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      const id = uuidOr404(params.orderId, 'order');
      const order = await getOrder(deps.database, { tenantId: caller.tenantId, userId: caller.id, id });
      return { status: 200, body: orderOf(order) };
    },
  }),
];
