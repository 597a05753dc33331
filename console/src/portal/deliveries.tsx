import { useQuery } from '@tanstack/react-query';
import { FastForward, RotateCcw } from 'lucide-react';
import { useMemo } from 'react';
import { api, ok, type Schemas } from '../lib/api';
import { BodyAndAttempts } from '../ui/attempt';
import { DELIVERY_STATUS_FILTER, deliveryEventColumn, deliveryStateColumns, EventLink } from '../ui/delivery';
import { Empty, Facts, Failure, Head, Id, Loading, Status, Time } from '../ui/basics';
import { Drawer, useAct } from '../ui/dialogs';
import { Filters, sinceOf, useFilters, type FilterSpec } from '../ui/filters';
import { column, List, usePages } from '../ui/table';
import { usePortal } from './session';
import { useSubscriptions } from './subscriptions';

type Delivery = Schemas['Delivery'];

export function Deliveries() {
  const [search, set] = useFilters();
  const { open: opened, ...filter } = search;
  const since = sinceOf(search['since']);
  const all = useSubscriptions().data?.items ?? [];
  const urls = useMemo(() => Object.fromEntries(all.map(({ id, url }) => [id, url])), [all]);
  const pages = usePages<Delivery>(
    ['deliveries', filter, since],
    (cursor) =>
      ok(
        api.GET('/api/v1/deliveries', {
          params: {
            query: {
              ...{ limit: 100, cursor, since },
              status: search['status'] as Delivery['status'] | undefined,
              subscriptionId: search['subscriptionId'] || undefined,
              eventType: search['eventType'] || undefined,
            },
          },
        }),
      ),
    5_000,
  );
  const columns = useMemo(
    () => [
      column<Delivery>('status', 'Status', ({ status }) => <Status value={status} />, { width: '112px' }),
      deliveryEventColumn,
      ...(all.length > 1
        ? [
            column<Delivery>('sub', 'Subscription', ({ subscriptionId }) => urls[subscriptionId] ?? '–', {
              wide: true,
              width: 'minmax(150px, 1fr)',
            }),
          ]
        : []),
      ...deliveryStateColumns,
    ],
    [urls],
  );
  const specs: FilterSpec[] = [
    DELIVERY_STATUS_FILTER,
    ...(all.length > 1
      ? [
          {
            name: 'subscriptionId',
            label: 'Subscription',
            kind: 'choice',
            options: all.map(({ id }) => id),
            names: urls,
          } as const,
        ]
      : []),
    { name: 'eventType', label: 'Type', kind: 'text', placeholder: 'invoice.paid' },
    { name: 'since', label: 'Created', kind: 'time' },
  ];
  return (
    <div className="page fill">
      <Head title="Deliveries" />
      <Filters specs={specs} />
      <List
        label="deliveries"
        pages={pages}
        columns={columns}
        keyOf={({ id }) => id}
        empty={
          <Empty title="No delivery fits">
            {Object.keys(filter).length > 0
              ? 'Change or clear the filters.'
              : 'There will be one for each event of the subscription’s types.'}
          </Empty>
        }
      />
      {opened && <DeliveryDrawer id={opened} onClose={() => set({ open: undefined })} />}
    </div>
  );
}

function DeliveryDrawer({ id, onClose }: { id: string; onClose: () => void }) {
  const query = useQuery({
    queryKey: ['delivery', id],
    queryFn: () => ok(api.GET('/api/v1/deliveries/{id}', { params: { path: { id } } })),
    refetchInterval: 4_000,
  });
  return (
    <Drawer open onClose={onClose} title={query.data?.eventType ?? 'Delivery'}>
      {query.data ? (
        <Details delivery={query.data} />
      ) : query.error ? (
        <Failure error={query.error} />
      ) : (
        <Loading />
      )}
    </Drawer>
  );
}

/** What was sent, what was answered, and when it is tried again. */
function Details({ delivery }: { delivery: Delivery }) {
  const { id, status, eventId } = delivery;
  const { act, busy } = useAct();
  const { readOnly } = usePortal();
  const path = { path: { id } };
  return (
    <>
      <div className="filters">
        <Status value={status} />
        <span className="grow" />
        {readOnly ? null : status === 'pending' ? (
          <button
            type="button"
            className="btn"
            disabled={busy}
            onClick={() =>
              void act(
                async () => {
                  await ok(api.POST('/api/v1/deliveries/{id}/try-now', { params: path }));
                  return 'The delivery is attempted now.';
                },
                {
                  title: 'Try this delivery now?',
                  body: 'It is attempted now instead of at its next time. It uses one attempt of its schedule.',
                  action: 'Try now',
                },
              )
            }
          >
            <FastForward size={14} aria-hidden /> Try now
          </button>
        ) : (
          <button
            type="button"
            className="btn"
            disabled={busy}
            onClick={() =>
              void act(
                async () => {
                  await ok(
                    api.POST('/api/v1/deliveries/{id}/resend', { params: path, body: { onlyIf: status } }),
                  );
                  return 'The delivery will be sent again.';
                },
                {
                  title: 'Resend this delivery?',
                  body: 'It is sent again under the same webhook-id, with a whole schedule of attempts before it.',
                  action: 'Resend',
                },
              )
            }
          >
            <RotateCcw size={14} aria-hidden /> Resend
          </button>
        )}
      </div>
      <Facts
        facts={[
          ['Delivery', <Id value={id} />],
          ['Event', <EventLink id={eventId} />],
          [
            'Next attempt',
            delivery.nextAttemptAt ? (
              <Time at={delivery.nextAttemptAt} />
            ) : (
              <span className="muted">none is planned</span>
            ),
          ],
          ['Created', <Time at={delivery.createdAt} />],
          ['Finished', <Time at={delivery.finishedAt} />],
        ]}
      />
      <BodyAndAttempts delivery={delivery} />
    </>
  );
}
