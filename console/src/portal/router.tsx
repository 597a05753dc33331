import {
  createRootRoute,
  createRoute,
  createRouter,
  lazyRouteComponent,
  type RouteComponent,
} from '@tanstack/react-router';
import { Empty, Failure } from '../ui/basics';
import type { Search } from '../ui/filters';
import { ROUTER_OPTIONS } from '../ui/router-options';
import { Shell } from './shell';

const root = createRootRoute({
  component: Shell,
  validateSearch: (search): Search => search as Search,
  notFoundComponent: () => <Empty title="There is no such page" />,
  errorComponent: ({ error, reset }) => <Failure error={error} retry={reset} />,
});
const screen = <const P extends string>(path: P, component: RouteComponent) =>
  createRoute({ getParentRoute: () => root, path, component });

const subscriptions = () => import('./subscriptions');
const deliveries = () => import('./deliveries');
const events = () => import('./events');

export const router = createRouter({
  routeTree: root.addChildren([
    screen('/', lazyRouteComponent(subscriptions, 'Subscriptions')),
    screen('/subscriptions/$id', lazyRouteComponent(subscriptions, 'Subscription')),
    screen('/deliveries', lazyRouteComponent(deliveries, 'Deliveries')),
    screen('/events', lazyRouteComponent(events, 'Events')),
    screen('/events/$id', lazyRouteComponent(events, 'Event')),
  ]),
  basepath: '/portal',
  ...ROUTER_OPTIONS,
});
