import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { Pause, Play, Square } from 'lucide-react';
import { api, ok, type Schemas } from '../lib/api';
import { count, shortDate } from '../lib/format';
import { useSession } from '../lib/session';
import { Empty, Failure, Head, Loading, Status, Time } from '../ui/basics';
import { useAct } from '../ui/dialogs';
import { Filters, useFilters } from '../ui/filters';

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
    <div className="tablewrap">
      <table className="plain">
        <thead>
          <tr>
            <th>Status</th>
            <th>What</th>
            <th>Subscription</th>
            <th>Of the time</th>
            <th className="right">Looked at</th>
            <th className="right">Sent again</th>
            <th>Started</th>
            <th>
              <span className="hidden">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {replays.map((replay) => {
            const span = Date.parse(replay.until) - Date.parse(replay.since);
            const share =
              replay.status === 'done'
                ? 1
                : replay.reachedAt && span > 0
                  ? Math.min(1, Math.max(0, (Date.parse(replay.reachedAt) - Date.parse(replay.since)) / span))
                  : 0;
            return (
              <tr key={replay.id}>
                <td>
                  <Status value={replay.status} />
                  {replay.statusReason && <div className="muted">{replay.statusReason}</div>}
                </td>
                <td>{replay.kind}</td>
                <td>
                  {replay.subscriptionId === null ? (
                    'all of the tenant'
                  ) : (
                    <Link to="/subscriptions/$id" params={{ id: replay.subscriptionId }} className="mono">
                      {replay.subscriptionId}
                    </Link>
                  )}
                </td>
                <td className="nowrap">
                  {shortDate(replay.since)} – {shortDate(replay.until)}
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
                </td>
                <td className="right">{count(replay.examined)}</td>
                <td className="right">{count(replay.replayed)}</td>
                <td>
                  <Time at={replay.createdAt} />
                </td>
                <td className="right nowrap">
                  {replay.status === 'running' && button(replay, 'pause', 'Pause', Pause)}{' '}
                  {replay.status === 'paused' && button(replay, 'resume', 'Resume', Play)}{' '}
                  {(replay.status === 'running' || replay.status === 'paused') &&
                    button(replay, 'cancel', 'Cancel', Square)}
                </td>
              </tr>
            );
          })}
        </tbody>
      </table>
    </div>
  );
}
