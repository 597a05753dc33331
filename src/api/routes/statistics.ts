import { RemitError } from '../../contracts/errors';
import {
  AttemptStatistics,
  AttemptStatisticsQuery,
  DeliveryStatistics,
  DeliveryStatisticsQuery,
  OrderStatistics,
  OrderStatisticsQuery,
  PaymentStatistics,
  PaymentStatisticsQuery,
  PurchaseStatistics,
  PurchaseStatisticsQuery,
} from '../../contracts/statistics';
import { formatMinor } from '../../contracts/money';
import {
  attemptFigures,
  deliveryFigures,
  orderFigures,
  paymentFigures,
  type Bucket,
  type MoneyFigures,
  type Span,
} from '../../domain/statistics';
import { purchaseFigures } from '../purchase-figures';
import { subscriptionIdFilter } from './ids';
import { defineRoute, type Route } from './route';

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const LONGEST_MS: Record<Bucket, number> = { minute: 6 * HOUR_MS, hour: 31 * DAY_MS, day: 366 * DAY_MS };
const USUAL_MS: Record<Bucket, number> = { minute: HOUR_MS, hour: DAY_MS, day: 30 * DAY_MS };

/** @throws RemitError invalid_request when the time is none, or too long for its buckets. */
function spanOf(
  tenantId: string,
  query: { since?: string | undefined; until?: string | undefined; bucket: Bucket },
): Span {
  const { bucket } = query;
  const until = query.until === undefined ? new Date() : new Date(query.until);
  const since =
    query.since === undefined ? new Date(until.getTime() - USUAL_MS[bucket]) : new Date(query.since);
  const lengthMs = until.getTime() - since.getTime();
  if (lengthMs <= 0 || lengthMs > LONGEST_MS[bucket])
    throw new RemitError('invalid_request', 'The time is not valid.', [
      {
        path: 'since',
        message: lengthMs <= 0 ? 'must be before until' : `too long for buckets of a ${bucket}`,
      },
    ]);
  return { tenantId, since, until, bucket };
}

const answered = ({ since, until, bucket }: Span) => ({
  since: since.toISOString(),
  until: until.toISOString(),
  bucket,
});

const atOf = <T extends { at: Date }>({ at, ...rest }: T) => ({ at: at.toISOString(), ...rest });

function moneyOf({ amountMinor, succeededMinor, ...figures }: MoneyFigures) {
  return {
    ...atOf(figures),
    amount: formatMinor(BigInt(amountMinor), figures.currency),
    succeededAmount: formatMinor(BigInt(succeededMinor), figures.currency),
  };
}

const common = { method: 'get', tag: 'Statistics', access: 'token' } as const;

/** Figures by time: of PostgreSQL by index, of purchases from ClickHouse. */
export const statisticsRoutes: Route[] = [
  defineRoute({
    ...common,
    path: '/api/v1/statistics/deliveries',
    operationId: 'deliveryStatistics',
    summary: 'Deliveries by time, and by event type or subscription',
    query: DeliveryStatisticsQuery,
    responses: { 200: { description: 'Figures of each bucket', schema: DeliveryStatistics } },
    async handle({ deps, caller, query }) {
      const span = spanOf(caller.tenantId, query);
      const { by, eventType } = query;
      const subscriptionId = await subscriptionIdFilter(deps, caller, query.subscriptionId);
      const items = await deliveryFigures(deps.database, { ...span, by, subscriptionId, eventType });
      return { status: 200, body: { ...answered(span), items: items.map(atOf) } };
    },
  }),
  defineRoute({
    ...common,
    path: '/api/v1/statistics/attempts',
    operationId: 'attemptStatistics',
    summary: 'Attempts by time: how many, their results, and how long they took',
    query: AttemptStatisticsQuery,
    responses: { 200: { description: 'Figures of each bucket', schema: AttemptStatistics } },
    async handle({ deps, caller, query }) {
      const span = spanOf(caller.tenantId, query);
      const subscriptionId = await subscriptionIdFilter(deps, caller, query.subscriptionId);
      const { items, complete } = await attemptFigures(deps.database, { ...span, subscriptionId });
      return { status: 200, body: { ...answered(span), items: items.map(atOf), complete } };
    },
  }),
  defineRoute({
    ...common,
    path: '/api/v1/statistics/payments',
    operationId: 'paymentStatistics',
    summary: 'Payments and payouts by time and currency, and by provider, type or status',
    query: PaymentStatisticsQuery,
    responses: { 200: { description: 'Figures of each bucket', schema: PaymentStatistics } },
    async handle({ deps, caller, query }) {
      const span = spanOf(caller.tenantId, query);
      const items = await paymentFigures(deps.database, { ...span, by: query.by, type: query.type });
      return { status: 200, body: { ...answered(span), items: items.map(moneyOf) } };
    },
  }),
  defineRoute({
    ...common,
    path: '/api/v1/statistics/orders',
    operationId: 'orderStatistics',
    summary: 'Orders by time and currency, and by payment method or status',
    query: OrderStatisticsQuery,
    responses: { 200: { description: 'Figures of each bucket', schema: OrderStatistics } },
    async handle({ deps, caller, query }) {
      const span = spanOf(caller.tenantId, query);
      const items = await orderFigures(deps.database, { ...span, by: query.by });
      return { status: 200, body: { ...answered(span), items: items.map(moneyOf) } };
    },
  }),
  defineRoute({
    ...common,
    scope: 'platform',
    path: '/api/v1/statistics/purchases',
    operationId: 'purchaseStatistics',
    summary: 'Purchases by time and currency, top products, and the lag of the ingest',
    description: 'Purchases belong to the installation and to no tenant.',
    query: PurchaseStatisticsQuery,
    responses: { 200: { description: 'Figures of each bucket', schema: PurchaseStatistics } },
    async handle({ deps, caller, query }) {
      const span = spanOf(caller.tenantId, query);
      const figures = await purchaseFigures(deps, {
        ...span,
        by: query.by,
        products: Number(query.products),
      });
      return { status: 200, body: { ...answered(span), ...figures } };
    },
  }),
];
