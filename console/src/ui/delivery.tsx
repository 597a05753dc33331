import { Link } from '@tanstack/react-router';
import type { Schemas } from '../lib/api';
import { lastAnswer } from './attempt';
import { Time } from './basics';
import { useFilters, type FilterSpec } from './filters';
import { column, type Column } from './table';

/** What lists and pages of deliveries and attempts show alike, in the console and in the portal. */

type Delivery = Schemas['Delivery'];

export const DELIVERY_STATUS_FILTER: FilterSpec = {
  name: 'status',
  label: 'Status',
  kind: 'choice',
  options: ['pending', 'delivered', 'exhausted', 'cancelled', 'held'],
};

export const EventLink = ({ id }: { id: string }) => (
  <Link to="/events/$id" params={{ id }} className="mono">
    {id}
  </Link>
);

export const SubscriptionLink = ({ id }: { id: string }) => (
  <Link to="/subscriptions/$id" params={{ id }} className="mono">
    {id}
  </Link>
);

/** A link to the same list with a delivery open beside it. */
function OpenDelivery({ id, label, type }: { id: string; label: string; type: string }) {
  const [search, set] = useFilters();
  return (
    <a
      href={`?${new URLSearchParams({ ...search, open: id }).toString()}`}
      className="open"
      aria-label={label}
      onClick={(event) => {
        event.preventDefault();
        set({ open: id });
      }}
    >
      {type}
    </a>
  );
}

/** The type of an event, which opens its delivery. @param of which delivery it is, and how a row is read out. */
export const eventColumn = <T extends { eventType: string }>(
  of: (row: T) => { id: string; label: string },
): Column<T> =>
  column<T>('type', 'Event', (row) => <OpenDelivery {...of(row)} type={row.eventType} />, {
    width: 'minmax(120px, 1.2fr)',
  });

export const subscriptionColumn = <T extends { subscriptionId: string }>(): Column<T> =>
  column<T>('sub', 'Subscription', ({ subscriptionId }) => <SubscriptionLink id={subscriptionId} />, {
    ...{ wide: true, width: 'minmax(150px, 1fr)' },
  });

export const deliveryEventColumn = eventColumn<Delivery>(({ id, eventType }) => ({
  id,
  label: `${eventType}, delivery ${id}`,
}));

/** How a delivery stands: attempts, the last answer, and since when it is there. */
export const deliveryStateColumns: Column<Delivery>[] = [
  column<Delivery>('tries', 'Attempts', ({ attempts }) => attempts, {
    ...{ width: '76px', right: true, wide: true },
  }),
  column<Delivery>(
    'answer',
    'Last answer',
    (row) => (
      <span className={row.lastError !== null || (row.lastStatusCode ?? 200) >= 300 ? 'bad-text' : ''}>
        {lastAnswer(row)}
      </span>
    ),
    { width: 'minmax(90px, 1fr)' },
  ),
  column<Delivery>('created', 'Created', ({ createdAt }) => <Time at={createdAt} />, {
    ...{ width: '96px', right: true, wide: true },
  }),
];
