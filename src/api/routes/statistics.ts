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
import { defineRoute, type Route } from './route';

const later = () => Promise.reject(new RemitError('unavailable', 'not there yet'));

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
    handle: later,
  }),
  defineRoute({
    ...common,
    path: '/api/v1/statistics/attempts',
    operationId: 'attemptStatistics',
    summary: 'Attempts by time: how many, what they met, and how long they took',
    query: AttemptStatisticsQuery,
    responses: { 200: { description: 'Figures of each bucket', schema: AttemptStatistics } },
    handle: later,
  }),
  defineRoute({
    ...common,
    path: '/api/v1/statistics/payments',
    operationId: 'paymentStatistics',
    summary: 'Payments and payouts by time and currency, and by provider, type or status',
    query: PaymentStatisticsQuery,
    responses: { 200: { description: 'Figures of each bucket', schema: PaymentStatistics } },
    handle: later,
  }),
  defineRoute({
    ...common,
    path: '/api/v1/statistics/orders',
    operationId: 'orderStatistics',
    summary: 'Orders by time and currency, and by payment method or status',
    query: OrderStatisticsQuery,
    responses: { 200: { description: 'Figures of each bucket', schema: OrderStatistics } },
    handle: later,
  }),
  defineRoute({
    ...common,
    scope: 'platform',
    path: '/api/v1/statistics/purchases',
    operationId: 'purchaseStatistics',
    summary: 'Purchases by time and currency, top products, and the lag of the ingest',
    description: 'Purchases are of the installation and of no tenant.',
    query: PurchaseStatisticsQuery,
    responses: { 200: { description: 'Figures of each bucket', schema: PurchaseStatistics } },
    handle: later,
  }),
];
