import { useQuery } from '@tanstack/react-query';
import { api, ok } from '../lib/api';
import { count, duration } from '../lib/format';
import { Empty, Head, Money, Panel, Status, Unready } from '../ui/basics';
import { filled, Plot } from '../ui/plot';
import { PlainTable } from '../ui/plain-table';

/** Rows that came later than this are worth a look, in seconds. */
const LATE_S = 30;

export function Purchases() {
  const query = useQuery({
    queryKey: ['statistics', 'purchases'],
    queryFn: () =>
      ok(
        api.GET('/api/v1/statistics/purchases', {
          params: { query: { bucket: 'hour', by: 'none', products: 10 } },
        }),
      ),
    refetchInterval: 10_000,
  });
  const system = useQuery({
    queryKey: ['system'],
    queryFn: () => ok(api.GET('/api/v1/system')),
    refetchInterval: 10_000,
  });
  if (!query.data) return <Unready query={query} />;
  const { data } = query;
  const { times, of } = filled(data);
  const currencies = [...new Set(data.items.map(({ currency }) => currency))];
  const slowest = Math.max(0, ...data.lag.map(({ maxSeconds }) => maxSeconds));
  const groups = system.data?.consumers.filter(({ topic }) => topic.includes('purchases')) ?? [];
  const unread = groups.reduce((sum, { lag }) => sum + lag, 0);
  return (
    <div className="page" tabIndex={0}>
      <Head
        title="Purchases"
        actions={groups.length > 0 && <Status value={unread > 0 || slowest > LATE_S ? 'warning' : 'ok'} />}
      >
        From Kafka into ClickHouse, of all tenants; the last 24 hours.
      </Head>
      <div className="tiles">
        <div className="panel tile">
          <span>Messages not stored yet</span>
          <b data-testid="purchase-lag">{groups.length === 0 ? '–' : count(unread)}</b>
          <span className="muted">
            {groups.length === 0 ? 'no consumer is known' : unread === 0 ? 'it keeps up' : 'it lags'}
          </span>
        </div>
        <div className="panel tile">
          <span>From Kafka to the row, last hour</span>
          <b>{data.lag.length === 0 ? '–' : duration(slowest * 1_000)}</b>
          <span className="muted">
            the slowest of {count(data.lag.reduce((sum, { rows }) => sum + rows, 0))} rows
          </span>
        </div>
        <div className="panel tile">
          <span>Rows in the table</span>
          <b>{count(data.stored)}</b>
          <span className="muted">
            {count(data.items.reduce((sum, { purchases }) => sum + purchases, 0))} of the last 24 hours
          </span>
        </div>
      </div>
      <div className="tiles">
        <Panel title="Purchases an hour">
          <Plot
            label="Purchases an hour"
            times={times}
            format={count}
            lines={[{ label: 'purchases', tone: 'accent', values: of(({ purchases }) => purchases) }]}
          />
        </Panel>
        {currencies.slice(0, 3).map((currency) => (
          <Panel key={currency} title={`Revenue, ${currency}`}>
            <Plot
              label={`Revenue an hour in ${currency}`}
              times={times}
              format={count}
              lines={[
                {
                  label: 'revenue',
                  tone: 'ok',
                  values: of((item) => (item.currency === currency ? Number(item.amount) : 0)),
                },
              ]}
            />
          </Panel>
        ))}
      </div>
      <Panel title="Top products" flush>
        {data.products.length === 0 ? (
          <Empty title="No purchase in this time">npm run remit -- produce --count 1000 makes some.</Empty>
        ) : (
          <PlainTable
            rows={data.products}
            keyOf={({ productId, currency }) => `${productId} ${currency}`}
            columns={[
              ['Product', ({ productId }) => <span className="mono">{productId}</span>],
              ['Purchases', ({ purchases }) => count(purchases), 'right'],
              ['Revenue', ({ amount, currency }) => <Money amount={amount} currency={currency} />, 'right'],
            ]}
          />
        )}
      </Panel>
    </div>
  );
}
