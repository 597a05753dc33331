import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { api, ok, type Schemas } from '../lib/api';
import { Code, Empty, Facts, Head, Id, Panel, Status, Time, Unready } from '../ui/basics';
import { Filters, sinceOf, useFilters } from '../ui/filters';
import { PlainTable } from '../ui/plain-table';
import { useRouteParam } from '../ui/route-param';
import { column, idColumn, List, usePages } from '../ui/table';
import { useSubscriptions } from './subscriptions';

type Event = Schemas['Event'];

const COLUMNS = [
  idColumn<Event>('/events/$id', 'minmax(110px, 1.2fr)'),
  column<Event>('type', 'Type', ({ type }) => type, { width: 'minmax(110px, 1fr)' }),
  column<Event>('created', 'Created', ({ createdAt }) => <Time at={createdAt} />, {
    ...{ width: '92px', right: true },
  }),
];

export function Events() {
  const [search] = useFilters();
  const since = sinceOf(search['since']);
  const pages = usePages<Event>(
    ['events', search, since],
    (cursor) =>
      ok(
        api.GET('/api/v1/events', {
          params: { query: { limit: 100, cursor, since, type: search['type'] || undefined } },
        }),
      ),
    5_000,
  );
  return (
    <div className="page fill">
      <Head title="Events" />
      <Filters
        specs={[
          { name: 'type', label: 'Type', kind: 'text', placeholder: 'invoice.paid' },
          { name: 'since', label: 'Delivered since', kind: 'time' },
        ]}
      />
      <List
        label="events"
        pages={pages}
        columns={COLUMNS}
        keyOf={({ id }) => id}
        empty={<Empty title="No event fits">Change or clear the filters.</Empty>}
      />
    </div>
  );
}

export function Event() {
  const id = useRouteParam('id');
  const all = useSubscriptions().data?.items ?? [];
  const query = useQuery({
    queryKey: ['events', id],
    queryFn: () => ok(api.GET('/api/v1/events/{id}', { params: { path: { id } } })),
    refetchInterval: 5_000,
  });
  if (!query.data) return <Unready query={query} />;
  const event = query.data;
  return (
    <div className="page">
      <nav className="crumb" aria-label="Where this is">
        <Link to="/events">Events</Link>
      </nav>
      <Head title={event.type} />
      <div className="cols">
        <div>
          <Panel title="Data">
            <Code label="Data of the event">{JSON.stringify(event.data, null, 2)}</Code>
          </Panel>
          <Panel title="Deliveries" flush>
            <PlainTable
              rows={event.deliveries}
              keyOf={({ id }) => id}
              columns={[
                ['Status', ({ status }) => <Status value={status} />],
                [
                  'Subscription',
                  (delivery) => (
                    <Link to="/deliveries" search={{ open: delivery.id }}>
                      {all.find(({ id }) => id === delivery.subscriptionId)?.url ?? delivery.subscriptionId}
                    </Link>
                  ),
                ],
                ['Attempts', ({ attempts }) => attempts, 'right'],
              ]}
            />
          </Panel>
        </div>
        <div>
          <Panel title="Event">
            <Facts
              facts={[
                ['Id', <Id value={event.id} />],
                ['Time', <Time at={event.timestamp} />],
                ['Created', <Time at={event.createdAt} />],
              ]}
            />
          </Panel>
        </div>
      </div>
    </div>
  );
}
