import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  type RouteComponent,
} from '@tanstack/react-router';
import { Empty, Failure } from './ui/basics';
import type { Search } from './ui/filters';
import { ROUTER_OPTIONS } from './ui/router-options';
import { Shell } from './ui/shell';

const root = createRootRoute({
  component: Shell,
  validateSearch: (search): Search => search as Search,
  notFoundComponent: () => (
    <Empty title="There is no such page">The menu has all of them; ⌘K finds things by id.</Empty>
  ),
  errorComponent: ({ error, reset }) => <Failure error={error} retry={reset} />,
});

/** A screen, loaded when it is first opened. */
const screen = <const P extends string>(path: P, component: RouteComponent) =>
  createRoute({ getParentRoute: () => root, path, component });

const orders = () => import('./screens/orders');
const ledger = () => import('./screens/ledger');
const payments = () => import('./screens/payments');
const disputes = () => import('./screens/disputes');
const deliveries = () => import('./screens/deliveries');
const events = () => import('./screens/events');
const subscriptions = () => import('./screens/subscriptions');
const letters = () => import('./screens/dead-letters');
const reconciliation = () => import('./screens/reconciliation');
const catalogue = () => import('./screens/event-types');

const tree = root.addChildren([
  screen(
    '/',
    lazyRouteComponent(() => import('./screens/now'), 'Now'),
  ),
  screen('/payments', lazyRouteComponent(payments, 'Payments')),
  screen('/payments/$id', lazyRouteComponent(payments, 'Payment')),
  screen('/payouts', lazyRouteComponent(payments, 'Payouts')),
  screen('/payouts/$id', lazyRouteComponent(payments, 'Payment')),
  screen('/orders', lazyRouteComponent(orders, 'Orders')),
  screen('/orders/$id', lazyRouteComponent(orders, 'Order')),
  screen('/disputes', lazyRouteComponent(disputes, 'Disputes')),
  screen('/disputes/$id', lazyRouteComponent(disputes, 'Dispute')),
  screen('/ledger', lazyRouteComponent(ledger, 'Accounts')),
  screen('/ledger/$id', lazyRouteComponent(ledger, 'Account')),
  screen('/journal/$id', lazyRouteComponent(ledger, 'JournalTransaction')),
  screen('/users/$id', lazyRouteComponent(ledger, 'User')),
  screen('/reconciliation', lazyRouteComponent(reconciliation, 'Runs')),
  screen('/reconciliation/$id', lazyRouteComponent(reconciliation, 'Run')),
  screen('/events', lazyRouteComponent(events, 'Events')),
  screen('/events/$id', lazyRouteComponent(events, 'Event')),
  screen('/deliveries', lazyRouteComponent(deliveries, 'Deliveries')),
  screen('/deliveries/$id', lazyRouteComponent(deliveries, 'Delivery')),
  screen(
    '/attempts',
    lazyRouteComponent(() => import('./screens/attempts'), 'Attempts'),
  ),
  screen('/subscriptions', lazyRouteComponent(subscriptions, 'Subscriptions')),
  screen('/subscriptions/$id', lazyRouteComponent(subscriptions, 'Subscription')),
  screen(
    '/replays',
    lazyRouteComponent(() => import('./screens/replays'), 'Replays'),
  ),
  screen('/event-types', lazyRouteComponent(catalogue, 'EventTypes')),
  screen('/event-types/$name', lazyRouteComponent(catalogue, 'EventType')),
  screen('/dead-letters', lazyRouteComponent(letters, 'DeadLetterTopics')),
  screen('/dead-letters/$topic', lazyRouteComponent(letters, 'DeadLetters')),
  screen(
    '/purchases',
    lazyRouteComponent(() => import('./screens/purchases'), 'Purchases'),
  ),
  screen(
    '/audit',
    lazyRouteComponent(() => import('./screens/audit'), 'Audit'),
  ),
]);

export const router = createRouter({
  routeTree: tree,
  basepath: '/console',
  ...ROUTER_OPTIONS,
});

declare module '@tanstack/react-router' {
  interface Register {
    router: typeof router;
  }
}
