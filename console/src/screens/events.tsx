import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useRouteParam } from '../ui/route-param';
import { api, ok, type Schemas } from '../lib/api';
import { Code, Empty, Facts, Head, Id, Panel, Status, Time, Unready } from '../ui/basics';
import { Filters, sinceOf, useFilters } from '../ui/filters';
import { column, idColumn, List, usePages } from '../ui/table';
import { SubjectFacts, TimelineView } from '../ui/timeline';
import { PlainTable } from '../ui/plain-table';

type Event = Schemas['Event'];

const COLUMNS = [
  idColumn<Event>('/events/$id', 'minmax(110px, 1.2fr)'),
  column<Event>('type', 'Type', ({ type }) => type, { width: 'minmax(110px, 1fr)' }),
  column<Event>('source', 'Source', ({ source }) => source, { width: '80px', wide: true }),
  column<Event>('client', 'Client’s id', ({ clientId }) => clientId ?? <span className="muted">–</span>, {
    wide: true,
  }),
  column<Event>('out', 'Handed out', ({ fannedOutAt }) => <Time at={fannedOutAt} />, {
    width: '100px',
    right: true,
    wide: true,
  }),
  column<Event>('created', 'Created', ({ createdAt }) => <Time at={createdAt} />, {
    width: '92px',
    right: true,
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
          params: {
            query: {
              limit: 100,
              cursor,
              since,
              type: search['type'] || undefined,
              source: search['source'] as Event['source'] | undefined,
            },
          },
        }),
      ),
    5_000,
  );
  return (
    <div className="page fill">
      <Head title="Events" />
      <Filters
        specs={[
          { name: 'type', label: 'Type', kind: 'text', placeholder: 'remit.order.finished' },
          { name: 'source', label: 'Source', kind: 'choice', options: ['remit', 'api'] },
          { name: 'since', label: 'Created', kind: 'time' },
        ]}
      />
      <List
        label="events"
        pages={pages}
        columns={COLUMNS}
        keyOf={({ id }) => id}
        empty={
          <Empty title="No event fits">Change or clear the filters. POST /api/v1/events publishes one.</Empty>
        }
      />
    </div>
  );
}

export function Event() {
  const id = useRouteParam('id');
  const query = useQuery({
    queryKey: ['events', id],
    queryFn: () => ok(api.GET('/api/v1/events/{id}', { params: { path: { id } } })),
    refetchInterval: 5_000,
  });
  if (!query.data) return <Unready query={query} />;
  const event = query.data;
  const counts = Object.entries(event.deliveryCounts).filter(([, n]) => n > 0);
  return (
    <div className="page">
      <nav className="crumb" aria-label="Where this is">
        <Link to="/events">Events</Link>
      </nav>
      <Head
        title={event.type}
        actions={
          <Link className="btn" to="/deliveries" search={{ eventId: id }}>
            Deliveries
          </Link>
        }
      />
      <div className="cols">
        <div>
          <Panel title="Data">
            <Code label="Data of the event">{JSON.stringify(event.data, null, 2)}</Code>
          </Panel>
          <Panel title="Deliveries" flush>
            {event.deliveries.length === 0 ? (
              <Empty title="No delivery">
                {event.fannedOutAt
                  ? 'No subscription wanted this event when it was handed out.'
                  : 'It has not been handed out yet.'}
              </Empty>
            ) : (
              <PlainTable
                rows={event.deliveries}
                keyOf={({ id }) => id}
                columns={[
                  ['Status', ({ status }) => <Status value={status} />],
                  [
                    'Subscription',
                    ({ id, subscriptionId }) => (
                      <Link to="/deliveries/$id" params={{ id }} className="mono">
                        {subscriptionId}
                      </Link>
                    ),
                  ],
                  ['Attempts', ({ attempts }) => attempts, 'right'],
                  [
                    'Last answer',
                    ({ lastStatusCode, lastError }) =>
                      lastStatusCode === null
                        ? (lastError ?? <span className="muted">–</span>)
                        : `HTTP ${lastStatusCode}`,
                  ],
                ]}
              />
            )}
          </Panel>
          <TimelineView id={id} />
        </div>
        <div>
          <Panel title="Event">
            <Facts
              facts={[
                ['Id', <Id value={event.id} />],
                ['Client’s id', event.clientId ?? <span className="muted">none</span>],
                ['Source', event.source],
                ['Time', <Time at={event.timestamp} />],
                ['Created', <Time at={event.createdAt} />],
                ['Handed out', <Time at={event.fannedOutAt} />],
                [
                  'Deliveries',
                  counts.length === 0 ? (
                    <span className="muted">none</span>
                  ) : (
                    counts.map(([status, n]) => `${n} ${status}`).join(', ')
                  ),
                ],
              ]}
            />
          </Panel>
          <SubjectFacts id={id} />
        </div>
      </div>
    </div>
  );
}
