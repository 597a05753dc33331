import { useQuery } from '@tanstack/react-query';
import { api, ok } from '../lib/api';
import { count, duration } from '../lib/format';
import { Failure, Loading, Panel } from './basics';
import { filled, Plot } from './plot';

/** How attempts to a subscription went in the last day, and how long they took. */
export function AttemptHealth({ id }: { id: string }) {
  const query = useQuery({
    queryKey: ['statistics', 'attempts', id],
    queryFn: () =>
      ok(
        api.GET('/api/v1/statistics/attempts', { params: { query: { subscriptionId: id, bucket: 'hour' } } }),
      ),
    refetchInterval: 15_000,
  });
  if (query.isPending)
    return (
      <Panel title="Attempts, last 24 hours">
        <Loading rows={3} />
      </Panel>
    );
  if (!query.data)
    return (
      <Panel title="Attempts, last 24 hours">
        <Failure error={query.error} retry={() => void query.refetch()} />
      </Panel>
    );
  const { data } = query;
  const { times, of } = filled(data);
  const empty = (values: number[]) => values.map((value) => (value === 0 ? null : value));
  const total = data.items.reduce((sum, { attempts }) => sum + attempts, 0);
  const failed = data.items.reduce((sum, item) => sum + item.failed, 0);
  const last = data.items.at(-1);
  return (
    <div className="tiles">
      <Panel
        title="Attempts, last 24 hours"
        actions={
          <span className="muted">
            {count(total)}, {count(failed)} failed
          </span>
        }
      >
        <Plot
          label="Attempts an hour"
          times={times}
          lines={[
            { label: 'delivered', tone: 'ok', values: of((item) => item.delivered) },
            { label: 'failed', tone: 'bad', values: of((item) => item.failed) },
          ]}
        />
      </Panel>
      <Panel
        title="How long they take"
        actions={
          <span className="muted">
            {last ? `p50 ${duration(last.p50Ms)}, p99 ${duration(last.p99Ms)} of late` : 'p50 and p99'}
          </span>
        }
      >
        <Plot
          label="Duration of attempts"
          times={times}
          format={duration}
          lines={[
            { label: 'p50', tone: 'accent', values: empty(of((item) => item.p50Ms)) },
            { label: 'p99', tone: 'warn', values: empty(of((item) => item.p99Ms)) },
          ]}
        />
      </Panel>
    </div>
  );
}
