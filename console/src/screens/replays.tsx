import { useQuery } from '@tanstack/react-query';
import { Pause, Play, Square } from 'lucide-react';
import { api, ok, type Schemas } from '../lib/api';
import { count, shortDate } from '../lib/format';
import { useSession } from '../lib/session';
import { Empty, Failure, Head, Loading, Status, Time } from '../ui/basics';
import { SubscriptionLink } from '../ui/delivery';
import { useAct } from '../ui/dialogs';
import { Filters, useFilters } from '../ui/filters';
import { PlainTable } from '../ui/plain-table';

type Replay = NonNullable<Schemas['Replay']>;

export function Replays() {
  const [search] = useFilters();
  return (
    <div className="page">
      <Head title="Replays">
        What is sent again to a subscription. One is started on the subscription’s page.
      </Head>
      <Filters
        specs={[
          {
            name: 'status',
            label: 'Status',
            kind: 'choice',
            options: ['running', 'paused', 'done', 'cancelled', 'stopped'],
          },
          { name: 'subscriptionId', label: 'Subscription', kind: 'text', placeholder: 'sub_…' },
        ]}
      />
      <section className="panel">
        <ReplayTable
          subscriptionId={search['subscriptionId']}
          status={search['status'] as Replay['status'] | undefined}
        />
      </section>
    </div>
  );
}

/** How far in its time it has come. */
function Progress({ replay: { since, until, reachedAt, status } }: { replay: Replay }) {
  const span = Date.parse(until) - Date.parse(since);
  const share =
    status === 'done'
      ? 1
      : reachedAt && span > 0
        ? Math.min(1, Math.max(0, (Date.parse(reachedAt) - Date.parse(since)) / span))
        : 0;
  return (
    <>
      {shortDate(since)} – {shortDate(until)}
      <div
        className="progress"
        role="progressbar"
        aria-label="Progress"
        aria-valuenow={Math.round(share * 100)}
        aria-valuemin={0}
        aria-valuemax={100}
      >
        <i style={{ width: `${share * 100}%` }} />
      </div>
    </>
  );
}

export function ReplayTable({
  subscriptionId,
  status,
}: {
  subscriptionId?: string | undefined;
  status?: Replay['status'] | undefined;
}) {
  const query = useQuery({
    queryKey: ['replays', subscriptionId, status],
    queryFn: () =>
      ok(api.GET('/api/v1/replays', { params: { query: { limit: 100, subscriptionId, status } } })),
    refetchInterval: 2_500,
  });
  const { act, busy } = useAct();
  const { mayAct } = useSession();
  if (query.isPending) return <Loading rows={3} />;
  if (!query.data) return <Failure error={query.error} retry={() => void query.refetch()} />;
  const replays = query.data.items.filter((replay) => replay !== null);
  if (replays.length === 0)
    return <Empty title="No replay">Start one on a subscription’s page: “Replay”.</Empty>;
  const button = (replay: Replay, verb: 'pause' | 'resume' | 'cancel', title: string, Icon: typeof Pause) => (
    <button
      type="button"
      className="btn small"
      disabled={busy || !mayAct}
      aria-label={`${title} replay ${replay.id}`}
      onClick={() =>
        void act(
          async () => {
            await ok(api.POST(`/api/v1/replays/{id}/${verb}`, { params: { path: { id: replay.id } } }));
            return `${title}: done.`;
          },
          verb === 'cancel'
            ? {
                title: 'Cancel this replay?',
                body: 'It ends where it is. What it has sent again stays sent.',
                action: 'Cancel the replay',
                danger: true,
              }
            : undefined,
        )
      }
    >
      <Icon size={12} aria-hidden /> {title}
    </button>
  );
  return (
    <PlainTable
      rows={replays}
      keyOf={({ id }) => id}
      columns={[
        [
          'Status',
          ({ status: now, statusReason }) => (
            <>
              <Status value={now} />
              {statusReason && <div className="muted">{statusReason}</div>}
            </>
          ),
        ],
        ['What', ({ kind }) => kind],
        [
          'Subscription',
          ({ subscriptionId: id }) => (id === null ? 'all of the tenant' : <SubscriptionLink id={id} />),
        ],
        ['Of the time', (replay) => <Progress replay={replay} />, 'nowrap'],
        ['Looked at', ({ examined }) => count(examined), 'right'],
        ['Sent again', ({ replayed }) => count(replayed), 'right'],
        ['Started', ({ createdAt }) => <Time at={createdAt} />],
        [
          <span className="hidden">Actions</span>,
          (replay) => (
            <>
              {replay.status === 'running' && button(replay, 'pause', 'Pause', Pause)}{' '}
              {replay.status === 'paused' && button(replay, 'resume', 'Resume', Play)}{' '}
              {(replay.status === 'running' || replay.status === 'paused') &&
                button(replay, 'cancel', 'Cancel', Square)}
            </>
          ),
          'right nowrap',
        ],
      ]}
    />
  );
}
