import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useRouteParam } from '../ui/route-param';
import { api, ok, type Schemas } from '../lib/api';
import { Code, Empty, Facts, Head, Panel, Time, Unready } from '../ui/basics';
import { column, List, usePages } from '../ui/table';

type EventType = Schemas['EventType'];

const COLUMNS = [
  column<EventType>(
    'name',
    'Type',
    ({ name }) => (
      <Link to="/event-types/$name" params={{ name }} className="open">
        {name}
      </Link>
    ),
    { width: 'minmax(140px, 1fr)' },
  ),
  column<EventType>(
    'what',
    'Description',
    ({ description }) => description || <span className="muted">–</span>,
    { width: 'minmax(0, 2fr)' },
  ),
  column<EventType>(
    'schema',
    'Schema',
    ({ schema }) => (schema ? 'yes' : <span className="muted">any object</span>),
    { width: '100px', wide: true },
  ),
  column<EventType>('changed', 'Changed', ({ updatedAt }) => <Time at={updatedAt} />, {
    width: '96px',
    right: true,
    wide: true,
  }),
];

export function EventTypes() {
  const pages = usePages<EventType>(['event-types'], (cursor) =>
    ok(api.GET('/api/v1/event-types', { params: { query: { limit: 100, cursor } } })),
  );
  return (
    <div className="page fill">
      <Head title="Event catalogue">The types of events that this tenant publishes, beside remit’s own.</Head>
      <List
        label="event types"
        pages={pages}
        columns={COLUMNS}
        keyOf={({ name }) => name}
        empty={
          <Empty title="No type is defined">
            POST /api/v1/event-types defines one, with the JSON Schema of its data.
          </Empty>
        }
      />
    </div>
  );
}

export function EventType() {
  const name = useRouteParam('name');
  const query = useQuery({
    queryKey: ['event-types', name],
    queryFn: () => ok(api.GET('/api/v1/event-types/{name}', { params: { path: { name } } })),
  });
  const config = useQuery({
    queryKey: ['event-configs', name],
    queryFn: () => ok(api.GET('/api/v1/event-configs', { params: { query: { limit: 200 } } })),
  });
  if (!query.data) return <Unready query={query} />;
  const type = query.data;
  const own = config.data?.items.find(({ eventType }) => eventType === name);
  return (
    <div className="page">
      <nav className="crumb" aria-label="Where this is">
        <Link to="/event-types">Event catalogue</Link>
      </nav>
      <Head
        title={type.name}
        actions={
          <Link className="btn" to="/events" search={{ type: name }}>
            Events of this type
          </Link>
        }
      >
        {type.description}
      </Head>
      <div className="cols">
        <div>
          <Panel title="Example">
            <Code label="Example">{type.example ? JSON.stringify(type.example, null, 2) : 'none'}</Code>
          </Panel>
          <Panel title="JSON Schema of its data">
            <Code label="Schema">{type.schema ? JSON.stringify(type.schema, null, 2) : 'any object'}</Code>
          </Panel>
        </div>
        <div>
          <Panel title="Delivery">
            <Facts
              facts={
                own
                  ? [
                      ['Delivered', own.enabled ? 'yes' : 'no: kept only'],
                      ['Attempts', own.scheduleMs?.length ?? 'as configured'],
                      ['Timeout', own.timeoutMs ? `${own.timeoutMs} ms` : 'as configured'],
                      ['Kept', own.retentionDays ? `${own.retentionDays} days` : 'as configured'],
                      ['In order', own.ordered ? 'yes' : 'no'],
                    ]
                  : [['Settings', 'as the server is configured']]
              }
            />
          </Panel>
          <Panel title="Type">
            <Facts
              facts={[
                ['Version', type.version],
                ['Created', <Time at={type.createdAt} />],
                ['Changed', <Time at={type.updatedAt} />],
              ]}
            />
          </Panel>
        </div>
      </div>
    </div>
  );
}
