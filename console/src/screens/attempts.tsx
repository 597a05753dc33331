import { useMemo } from 'react';
import { api, ok, type Schemas } from '../lib/api';
import { duration } from '../lib/format';
import { Empty, Head, Status, Time } from '../ui/basics';
import { eventColumn, subscriptionColumn } from '../ui/delivery';
import { Filters, sinceOf, useFilters, type FilterSpec } from '../ui/filters';
import { column, List, usePages } from '../ui/table';
import { DeliveryDrawer } from './deliveries';

type Attempt = Schemas['FoundAttempt'];

const FILTERS: FilterSpec[] = [
  { name: 'outcome', label: 'Outcome', kind: 'choice', options: ['delivered', 'failed'] },
  {
    name: 'result',
    label: 'Result',
    kind: 'choice',
    options: ['http_error', 'timeout', 'refused_address', 'dns_error', 'tls_error', 'network_error'],
  },
  { name: 'subscriptionId', label: 'Subscription', kind: 'text', placeholder: 'sub_…' },
  { name: 'eventType', label: 'Type', kind: 'text', placeholder: 'remit.order.finished' },
  { name: 'since', label: 'Begun', kind: 'time' },
];

const answerOf = ({ statusCode, error, result }: Attempt) =>
  statusCode === null ? (error ?? result.replaceAll('_', ' ')) : `HTTP ${statusCode}`;

/** Every request to every subscriber, whatever became of its delivery. */
export function Attempts() {
  const [search, set] = useFilters();
  const { open: opened, ...filter } = search;
  const query = {
    since: sinceOf(search['since']),
    outcome: search['outcome'] as 'delivered' | 'failed' | undefined,
    result: search['result'] as Attempt['result'] | undefined,
    subscriptionId: search['subscriptionId'] || undefined,
    eventType: search['eventType'] || undefined,
  };
  const pages = usePages<Attempt>(
    ['attempts of all', filter, query.since],
    (cursor) => ok(api.GET('/api/v1/attempts', { params: { query: { ...query, limit: 100, cursor } } })),
    5_000,
  );
  const columns = useMemo(
    () => [
      column<Attempt>('at', 'Begun', ({ startedAt }) => <Time at={startedAt} />, { width: '92px' }),
      column<Attempt>(
        'outcome',
        'Outcome',
        ({ result }) => <Status value={result === 'delivered' ? 'delivered' : 'failed'} />,
        { width: '100px' },
      ),
      eventColumn<Attempt>(({ deliveryId, attempt, eventType }) => ({
        id: deliveryId,
        label: `${eventType}, attempt ${attempt} of delivery ${deliveryId}`,
      })),
      subscriptionColumn<Attempt>(),
      column<Attempt>('n', 'Attempt', ({ attempt }) => attempt, { width: '72px', right: true, wide: true }),
      column<Attempt>(
        'answer',
        'Answer',
        (row) => <span className={row.result === 'delivered' ? '' : 'bad-text'}>{answerOf(row)}</span>,
        { width: 'minmax(80px, 1fr)' },
      ),
      column<Attempt>('took', 'Took', ({ durationMs }) => duration(durationMs), {
        width: '80px',
        right: true,
        wide: true,
      }),
    ],
    [],
  );
  return (
    <div className="page fill">
      <Head title="Attempts">
        Every request to every subscriber, the newest first. Opened, it shows its delivery with what was sent
        and answered.
      </Head>
      <Filters specs={FILTERS} />
      <List
        label="attempts"
        pages={pages}
        columns={columns}
        keyOf={({ deliveryId, attempt }) => `${deliveryId}-${attempt}`}
        empty={
          <Empty title="No attempt fits">
            {Object.keys(filter).length > 0
              ? 'Change or clear the filters.'
              : 'Attempts come with the first delivery.'}
          </Empty>
        }
      />
      {opened && <DeliveryDrawer id={opened} onClose={() => set({ open: undefined })} />}
    </div>
  );
}
