import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { Ban, FastForward, RotateCcw } from 'lucide-react';
import { useMemo, useState } from 'react';
import { useRouteParam } from '../ui/route-param';
import { api, ok, type Schemas } from '../lib/api';
import { count } from '../lib/format';
import { useSession } from '../lib/session';
import {
  Empty,
  Facts,
  Failure,
  Head,
  Id,
  Loading,
  Panel,
  Status,
  Time,
  Unready,
  Workflow,
} from '../ui/basics';
import { BodyAndAttempts, lastAnswer } from '../ui/attempt';
import {
  DELIVERY_STATUS_FILTER,
  deliveryEventColumn,
  deliveryStateColumns,
  EventLink,
  subscriptionColumn,
  SubscriptionLink,
} from '../ui/delivery';
import { Drawer, Modal, useAct } from '../ui/dialogs';
import { Filters, sinceOf, useFilters, type FilterSpec } from '../ui/filters';
import { column, List, usePages } from '../ui/table';
import { SubjectFacts, TimelineView, useTimeline } from '../ui/timeline';

type Delivery = Schemas['Delivery'];
type Verb = 'resend' | 'try-now' | 'cancel';

const FILTERS: FilterSpec[] = [
  DELIVERY_STATUS_FILTER,
  { name: 'subscriptionId', label: 'Subscription', kind: 'text', placeholder: 'sub_…' },
  { name: 'eventType', label: 'Type', kind: 'text', placeholder: 'remit.order.finished' },
  { name: 'eventId', label: 'Event', kind: 'text', placeholder: 'evt_…' },
  { name: 'since', label: 'Created', kind: 'time' },
];

const VERBS: Record<
  Verb,
  {
    title: string;
    icon: typeof Ban;
    from: readonly Delivery['status'][];
    what: (n: string) => string;
    done: string;
  }
> = {
  resend: {
    title: 'Resend',
    icon: RotateCcw,
    from: ['exhausted', 'delivered', 'cancelled', 'held'],
    done: 'will be sent again',
    what: (n) =>
      `${n} will be sent again, each with a whole schedule of attempts before it. Subscribers see the same webhook-id as before.`,
  },
  'try-now': {
    title: 'Try now',
    icon: FastForward,
    from: ['pending'],
    done: 'is attempted now',
    what: (n) =>
      `${n} will be attempted now instead of at the next time of the schedule. It uses one attempt of it.`,
  },
  cancel: {
    title: 'Cancel',
    icon: Ban,
    from: ['pending'],
    done: 'was cancelled',
    what: (n) => `${n} will end without another attempt. They can be resent later.`,
  },
};

const operate = (verb: Verb, id: string, onlyIf?: Delivery['status']) =>
  verb === 'resend'
    ? ok(
        api.POST('/api/v1/deliveries/{id}/resend', {
          params: { path: { id } },
          body: onlyIf && onlyIf !== 'pending' ? { onlyIf } : {},
        }),
      )
    : ok(
        verb === 'cancel'
          ? api.POST('/api/v1/deliveries/{id}/cancel', { params: { path: { id } } })
          : api.POST('/api/v1/deliveries/{id}/try-now', { params: { path: { id } } }),
      );

function useDeliveryFilter() {
  const [search] = useFilters();
  const since = sinceOf(search['since']);
  const query = {
    since,
    status: search['status'] as Delivery['status'] | undefined,
    subscriptionId: search['subscriptionId'] || undefined,
    eventType: search['eventType'] || undefined,
    eventId: search['eventId'] || undefined,
  };
  return { search, query };
}

export function Deliveries() {
  const { search, query } = useDeliveryFilter();
  const [, set] = useFilters();
  const { mayAct } = useSession();
  const [chosen, setChosen] = useState<ReadonlySet<string>>(new Set());
  const [verb, setVerb] = useState<Verb | undefined>();
  const { open: opened, ...filter } = search;
  const pages = usePages<Delivery>(
    ['deliveries', filter, query.since],
    (cursor) => ok(api.GET('/api/v1/deliveries', { params: { query: { ...query, limit: 100, cursor } } })),
    5_000,
  );
  const toggle = (id: string) =>
    setChosen((before) => {
      const next = new Set(before);
      if (!next.delete(id)) next.add(id);
      return next;
    });
  const columns = useMemo(
    () => [
      column<Delivery>(
        'pick',
        <span className="hidden">Choose</span>,
        ({ id }) => (
          <input
            type="checkbox"
            aria-label={`Choose ${id}`}
            checked={chosen.has(id)}
            onChange={() => toggle(id)}
          />
        ),
        { width: '52px' },
      ),
      column<Delivery>('status', 'Status', ({ status }) => <Status value={status} />, { width: '106px' }),
      deliveryEventColumn,
      subscriptionColumn<Delivery>(),
      ...deliveryStateColumns,
    ],
    [chosen],
  );
  return (
    <div className="page fill">
      <Head
        title="Deliveries"
        actions={(Object.keys(VERBS) as Verb[]).map((each) => {
          const { title, icon: Icon } = VERBS[each];
          return (
            <button
              key={each}
              type="button"
              className={each === 'cancel' ? 'btn danger' : 'btn'}
              disabled={!mayAct}
              onClick={() => setVerb(each)}
            >
              <Icon size={14} aria-hidden /> {title}
              {chosen.size > 0 ? ` ${chosen.size}` : ' all that fit'}
            </button>
          );
        })}
      />
      <Filters specs={FILTERS} />
      <List
        label="deliveries"
        pages={pages}
        columns={columns}
        keyOf={({ id }) => id}
        empty={
          <Empty title="No delivery fits">
            {Object.keys(filter).length > 0
              ? 'Change or clear the filters.'
              : 'Deliveries come from events that a subscription wants. Make a subscription and publish an event.'}
          </Empty>
        }
        foot={
          chosen.size > 0 ? (
            <button type="button" className="btn small plain" onClick={() => setChosen(new Set())}>
              Choose none of the {chosen.size}
            </button>
          ) : (
            'Actions take all that fit the filters, or those that are chosen.'
          )
        }
      />
      {opened && <DeliveryDrawer id={opened} onClose={() => set({ open: undefined })} />}
      {verb && (
        <BulkDialog
          verb={verb}
          chosen={[...chosen]}
          query={query}
          onClose={() => {
            setVerb(undefined);
            setChosen(new Set());
          }}
        />
      )}
    </div>
  );
}

const SIDE_BY_SIDE = 4;
const PROGRESS_MS = 500;

type DeliveryQuery = ReturnType<typeof useDeliveryFilter>['query'];

/** Asks the server for the same of all that fit a filter; `dryRun` only counts. */
function operateAll(verb: Verb, { status, eventType, ...query }: DeliveryQuery, dryRun: boolean) {
  const body = { ...query, eventTypes: eventType === undefined ? [] : [eventType], dryRun };
  if (verb === 'cancel') return ok(api.POST('/api/v1/deliveries/cancel', { body }));
  // Without a status that was asked for, resending means what failed.
  const statuses: Delivery['status'][] = [verb === 'try-now' ? 'pending' : (status ?? 'exhausted')];
  return ok(api.POST('/api/v1/deliveries/retry', { body: { ...body, statuses } }));
}

/** What a bulk action is for, and how it is done: by the server for a filter, one by one for those that were chosen. */
interface Bulk {
  matched: number;
  run: (onDone: (done: number) => void) => Promise<{ done: number; left: number }>;
}

async function ofChosen(verb: Verb, chosen: readonly string[]): Promise<Bulk> {
  const all = await Promise.all(
    chosen.map((id) => ok(api.GET('/api/v1/deliveries/{id}', { params: { path: { id } } }))),
  );
  const found = all.filter(({ status }) => VERBS[verb].from.includes(status));
  return {
    matched: found.length,
    async run(onDone) {
      let left = 0;
      let done = 0;
      const rest = [...found];
      await Promise.all(
        Array.from({ length: SIDE_BY_SIDE }, async () => {
          for (let next = rest.pop(); next; next = rest.pop()) {
            await operate(verb, next.id, next.status).catch(() => left++);
            onDone(++done);
          }
        }),
      );
      return { done: found.length - left, left };
    },
  };
}

async function ofFilter(verb: Verb, query: DeliveryQuery): Promise<Bulk> {
  if (query.status !== undefined && !VERBS[verb].from.includes(query.status))
    return { matched: 0, run: () => Promise.resolve({ done: 0, left: 0 }) };
  const { matched } = await operateAll(verb, query, true);
  return {
    matched,
    async run(onDone) {
      const begun = await operateAll(verb, query, false);
      for (let replay = begun.replay; ;) {
        if (replay === null) throw new Error('The server did not begin.');
        onDone(replay.replayed);
        if (replay.statusReason !== null && replay.status === 'stopped') throw new Error(replay.statusReason);
        if (replay.status !== 'running')
          return { done: replay.replayed, left: Math.max(0, matched - replay.replayed) };
        await new Promise((resolve) => setTimeout(resolve, PROGRESS_MS));
        replay = await ok(api.GET('/api/v1/replays/{id}', { params: { path: { id: replay.id } } }));
      }
    },
  };
}

/** As far as a dry run counts. */
const COUNTED_MAX = 100_000;

function BulkDialog({
  verb,
  chosen,
  query,
  onClose,
}: {
  verb: Verb;
  chosen: string[];
  query: DeliveryQuery;
  onClose: () => void;
}) {
  const { title, what } = VERBS[verb];
  const { act, busy } = useAct();
  const [done, setDone] = useState(0);
  const preview = useQuery({
    queryKey: ['bulk', verb, chosen, query],
    queryFn: () => (chosen.length > 0 ? ofChosen(verb, chosen) : ofFilter(verb, query)),
    staleTime: 0,
    refetchOnWindowFocus: false,
  });
  const matched = preview.data?.matched ?? 0;
  const run = async () => {
    const result = await preview.data!.run(setDone);
    return `${title}: ${count(result.done)} done${result.left > 0 ? `, ${count(result.left)} had changed in the meantime and were left` : ''}.`;
  };
  const n = `${count(matched)}${matched >= COUNTED_MAX ? ' or more' : ''} ${matched === 1 ? 'delivery' : 'deliveries'}`;
  return (
    <Modal open onClose={onClose} title={`${title} deliveries`}>
      {preview.isPending ? (
        <p role="status">Counting what fits…</p>
      ) : preview.error ? (
        <Failure error={preview.error} retry={() => void preview.refetch()} />
      ) : matched === 0 ? (
        <p>
          Nothing that fits can be {verb === 'resend' ? 'resent' : verb === 'cancel' ? 'cancelled' : 'tried'}:
          it takes deliveries that are {VERBS[verb].from.join(', ')}.
        </p>
      ) : (
        <>
          <p>
            <b data-testid="bulk-count">{n}</b>
            {chosen.length === 0 && verb === 'resend' && !query.status
              ? ' that failed (exhausted)'
              : ''}. {what(n)}
          </p>
          {chosen.length === 0 && (
            <p className="muted">
              The server does it, {verb === 'cancel' ? 'in seconds' : 'no faster than it is configured to'},
              also when this page is closed: <Link to="/replays">Replays</Link> shows how far it is, and can
              pause or end it.
            </p>
          )}
          {busy && (
            <div
              className="progress"
              role="progressbar"
              aria-label={title}
              aria-valuenow={done}
              aria-valuemax={matched}
            >
              <i style={{ width: `${Math.min(100, (100 * done) / matched)}%` }} />
            </div>
          )}
        </>
      )}
      <div className="foot">
        <button type="button" className="btn" onClick={onClose}>
          {busy ? 'Close' : 'Back'}
        </button>
        {matched > 0 && (
          <button
            type="button"
            className={verb === 'cancel' ? 'btn primary danger' : 'btn primary'}
            disabled={busy}
            onClick={() => void act(run).then(onClose)}
          >
            {title} {n}
          </button>
        )}
      </div>
    </Modal>
  );
}

function useDelivery(id: string) {
  return useQuery({
    queryKey: ['delivery', id],
    queryFn: () => ok(api.GET('/api/v1/deliveries/{id}', { params: { path: { id } } })),
    refetchInterval: 4_000,
  });
}

function Actions({ delivery }: { delivery: Delivery }) {
  const { act, busy } = useAct();
  const { mayAct } = useSession();
  return (Object.keys(VERBS) as Verb[])
    .filter((verb) => VERBS[verb].from.includes(delivery.status))
    .map((verb) => {
      const { title, icon: Icon, what, done } = VERBS[verb];
      return (
        <button
          key={verb}
          type="button"
          className={verb === 'cancel' ? 'btn danger' : 'btn'}
          disabled={busy || !mayAct}
          onClick={() =>
            void act(
              async () => {
                await operate(verb, delivery.id, delivery.status);
                return `The delivery ${done}.`;
              },
              {
                title: `${title} this delivery?`,
                body: what('The delivery'),
                action: title,
                danger: verb === 'cancel',
              },
            )
          }
        >
          <Icon size={14} aria-hidden /> {title}
        </button>
      );
    });
}

/** A delivery beside the list that it was opened from. */
export function DeliveryDrawer({ id, onClose }: { id: string; onClose: () => void }) {
  const query = useDelivery(id);
  return (
    <Drawer
      open
      onClose={onClose}
      title={query.data ? query.data.eventType : 'Delivery'}
      actions={
        <Link className="btn small" to="/deliveries/$id" params={{ id }}>
          Timeline
        </Link>
      }
    >
      {query.data ? (
        <Attempts delivery={query.data} />
      ) : query.error ? (
        <Failure error={query.error} />
      ) : (
        <Loading />
      )}
    </Drawer>
  );
}

/** Everything of a delivery: what was sent, what was answered, and when it is tried again. */
function Attempts({ delivery }: { delivery: Delivery }) {
  const { id } = delivery;
  const timeline = useTimeline(id);
  const next = timeline.data?.willHappen.find(({ at }) => at !== null);
  return (
    <>
      <div className="filters">
        <Status value={delivery.status} />
        <span className="grow" />
        <Actions delivery={delivery} />
      </div>
      <Facts
        facts={[
          ['Delivery', <Id value={id} />],
          ['Event', <EventLink id={delivery.eventId} />],
          ['Subscription', <SubscriptionLink id={delivery.subscriptionId} />],
          [
            'Next attempt',
            next ? (
              <>
                <Time at={next.at} /> <span className="muted">{next.what}</span>
              </>
            ) : (
              <span className="muted">none is planned</span>
            ),
          ],
          [
            'Workflow',
            <Workflow
              id={
                timeline.data?.subject.workflowId ?? `delivery/${delivery.eventId}/${delivery.subscriptionId}`
              }
            />,
          ],
          ['Created', <Time at={delivery.createdAt} />],
        ]}
      />
      <BodyAndAttempts delivery={delivery} />
    </>
  );
}

export function Delivery() {
  const id = useRouteParam('id');
  const query = useDelivery(id);
  const [showing, setShowing] = useState(false);
  if (!query.data) return <Unready query={query} />;
  const delivery = query.data;
  return (
    <div className="page">
      <nav className="crumb" aria-label="Where this is">
        <Link to="/deliveries">Deliveries</Link>
      </nav>
      <Head
        title={`Delivery of ${delivery.eventType}`}
        actions={
          <>
            <Status value={delivery.status} />
            <Actions delivery={delivery} />
            <button type="button" className="btn" onClick={() => setShowing(true)}>
              Attempts ({delivery.attempts})
            </button>
          </>
        }
      />
      <div className="cols">
        <div>
          <TimelineView id={id} />
        </div>
        <div>
          <Panel title="Delivery">
            <Facts
              facts={[
                ['Id', <Id value={id} />],
                ['Event', <EventLink id={delivery.eventId} />],
                ['Subscription', <SubscriptionLink id={delivery.subscriptionId} />],
                ['Attempts', delivery.attempts],
                ['Last answer', lastAnswer(delivery)],
                ['Created', <Time at={delivery.createdAt} />],
                ['Finished', <Time at={delivery.finishedAt} />],
              ]}
            />
          </Panel>
          <SubjectFacts id={id} />
        </div>
      </div>
      {showing && (
        <Drawer open onClose={() => setShowing(false)} title={delivery.eventType}>
          <Attempts delivery={delivery} />
        </Drawer>
      )}
    </div>
  );
}
