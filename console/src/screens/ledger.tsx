import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { Download } from 'lucide-react';
import { useMemo, useState } from 'react';
import { useRouteParam } from '../ui/route-param';
import { api, ok, type Schemas } from '../lib/api';
import { exact } from '../lib/format';
import { Empty, Facts, Failure, Head, Id, Loading, Money, Panel, Time, Unready } from '../ui/basics';
import { Filters, sinceOf, useFilters } from '../ui/filters';
import { Plot } from '../ui/plot';
import { column, List, usePages } from '../ui/table';
import { TimelineView } from '../ui/timeline';
import { PlainTable } from '../ui/plain-table';

type Account = Schemas['Account'];
type Entry = Schemas['StatementEntry'];

const ACCOUNTS = [
  column<Account>(
    'user',
    'User',
    ({ id, userId }) => (
      <Link to="/ledger/$id" params={{ id }} className="open">
        {userId}
      </Link>
    ),
    { width: 'minmax(110px, 1.2fr)' },
  ),
  column<Account>(
    'balance',
    'Balance',
    ({ balance, currency }) => <Money amount={balance} currency={currency} />,
    { width: 'minmax(120px, 170px)', right: true },
  ),
  column<Account>('held', 'Held', ({ held, currency }) => <Money amount={held} currency={currency} />, {
    width: '140px',
    right: true,
    wide: true,
  }),
  column<Account>(
    'free',
    'Available',
    ({ available, currency }) => <Money amount={available} currency={currency} />,
    { width: '150px', right: true, wide: true },
  ),
  column<Account>('id', 'Account', ({ id }) => <span className="mono">{id}</span>, { wide: true }),
  column<Account>('opened', 'Opened', ({ createdAt }) => <Time at={createdAt} />, {
    width: '96px',
    right: true,
    wide: true,
  }),
];

export function Accounts() {
  const [search] = useFilters();
  const pages = usePages<Account>(
    ['accounts', search],
    (cursor) =>
      ok(
        api.GET('/api/v1/accounts', {
          params: {
            query: {
              limit: 100,
              cursor,
              userId: search['userId'] || undefined,
              currency: search['currency']?.toUpperCase() || undefined,
            },
          },
        }),
      ),
    5_000,
  );
  return (
    <div className="page fill">
      <Head title="Ledger" />
      <Filters
        specs={[
          { name: 'userId', label: 'User', kind: 'text' },
          { name: 'currency', label: 'Currency', kind: 'text', placeholder: 'TRY' },
        ]}
      />
      <List
        label="accounts"
        pages={pages}
        columns={ACCOUNTS}
        keyOf={({ id }) => id}
        empty={
          <Empty title="No account fits">
            Change or clear the filters. An account is opened by POST /accounts, or by its user’s first
            payment.
          </Empty>
        }
      />
    </div>
  );
}

const ENTRIES = [
  column<Entry>('at', 'When', ({ createdAt }) => <Time at={createdAt} />, { width: '92px' }),
  column<Entry>(
    'kind',
    'Movement',
    ({ kind, journalId }) => (
      <Link to="/journal/$id" params={{ id: journalId }} className="open">
        {kind.replaceAll('_', ' ')}
      </Link>
    ),
    { width: 'minmax(90px, 140px)' },
  ),
  column<Entry>('reference', 'Reference', ({ reference }) => <span className="mono">{reference}</span>, {
    wide: true,
  }),
  column<Entry>('amount', 'Amount', ({ amount, currency }) => <Money amount={amount} currency={currency} />, {
    width: 'minmax(90px, 140px)',
    right: true,
  }),
  column<Entry>(
    'after',
    'Balance after',
    ({ balanceAfter, currency }) => <Money amount={balanceAfter} currency={currency} />,
    { width: 'minmax(96px, 150px)', right: true },
  ),
];

export function Account() {
  const id = useRouteParam('id');
  const [search, set] = useFilters();
  const at =
    search['at'] && !Number.isNaN(Date.parse(search['at']))
      ? new Date(search['at']).toISOString()
      : undefined;
  const since = sinceOf(search['since']);
  const account = useQuery({
    queryKey: ['accounts', id, at],
    queryFn: () => ok(api.GET('/api/v1/accounts/{id}', { params: { path: { id }, query: { at } } })),
    refetchInterval: at ? false : 5_000,
  });
  const pages = usePages<Entry>(
    ['entries', id, at, since],
    (cursor) =>
      ok(
        api.GET('/api/v1/accounts/{id}/entries', {
          params: { path: { id }, query: { limit: 100, cursor, since, until: at } },
        }),
      ),
    5_000,
  );
  const points = useMemo(() => [...pages.rows].reverse(), [pages.rows]);
  if (!account.data) return <Unready query={account} />;
  const { data } = account;
  const midnight = new Date();
  midnight.setHours(0, 0, 0, 0);
  const local = (time: Date) =>
    new Date(time.getTime() - time.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  const csv = new URLSearchParams({ ...(since ? { since } : {}), ...(at ? { until: at } : {}) }).toString();
  return (
    <div className="page fill">
      <nav className="crumb" aria-label="Where this is">
        <Link to="/ledger">Ledger</Link>
      </nav>
      <Head
        title={data.userId}
        actions={
          <a className="btn" href={`/api/v1/accounts/${id}/entries.csv${csv ? `?${csv}` : ''}`} download>
            <Download size={14} aria-hidden /> CSV
          </a>
        }
      />
      <div className="filters">
        <label>
          Balance as of{' '}
          <input
            className="input"
            type="datetime-local"
            value={search['at'] ?? ''}
            onChange={(event) => set({ at: event.target.value })}
          />
        </label>
        <button type="button" className="btn small" onClick={() => set({ at: local(midnight) })}>
          At midnight
        </button>
        {at && (
          <button type="button" className="btn small plain" onClick={() => set({ at: undefined })}>
            Now
          </button>
        )}
      </div>
      <div className="tiles">
        <div className="panel tile">
          <span>Balance {at ? <>on {exact(at).split(' · ')[0]}</> : 'now'}</span>
          <b data-testid="balance">
            <Money amount={data.balance} currency={data.currency} />
          </b>
          <span className="muted">
            {data.provedBy ? (
              <>
                proved by audit record {data.provedBy.auditId}: {data.provedBy.action},{' '}
                <Time at={data.provedBy.at} />
              </>
            ) : (
              'nothing had moved yet'
            )}
          </span>
        </div>
        <div className="panel tile">
          <span>Available, held</span>
          <b>
            <Money amount={data.available} currency={data.currency} />
          </b>
          <span className="muted">
            <Money amount={data.held} currency={data.currency} /> held for payouts and disputes
          </span>
        </div>
        <div className="panel" style={{ padding: '8px 12px' }}>
          <Plot
            label="Balance after each movement that is loaded"
            height={84}
            times={points.map(({ createdAt }) => Date.parse(createdAt) / 1_000)}
            lines={[
              {
                label: 'balance',
                tone: 'accent',
                values: points.map(({ balanceAfter }) => Number(balanceAfter)),
              },
            ]}
          />
        </div>
      </div>
      <List
        label="entries"
        pages={pages}
        columns={ENTRIES}
        keyOf={({ id: entry }) => entry}
        empty={<Empty title="Nothing has moved here" />}
        foot={<Id value={data.id} />}
      />
    </div>
  );
}

export function JournalTransaction() {
  const id = useRouteParam('id');
  const query = useQuery({
    queryKey: ['journal', id],
    queryFn: () => ok(api.GET('/api/v1/journal-transactions/{id}', { params: { path: { id } } })),
  });
  if (!query.data) return <Unready query={query} />;
  const { data } = query;
  return (
    <div className="page">
      <nav className="crumb" aria-label="Where this is">
        <Link to="/ledger">Ledger</Link>
      </nav>
      <Head title={`Movement: ${data.kind.replaceAll('_', ' ')}`}>
        All its lines; they sum to zero in each currency.
      </Head>
      <Panel title="Movement">
        <Facts
          facts={[
            ['Id', <Id value={data.id} />],
            ['Reference', <Id value={data.reference} />],
            [
              'Correlation',
              data.correlationId ? <Id value={data.correlationId} /> : <span className="muted">none</span>,
            ],
            ['When', <>{exact(data.createdAt)}</>],
          ]}
        />
      </Panel>
      <Panel title="Lines" flush>
        <PlainTable
          rows={data.entries}
          keyOf={({ id }) => id}
          columns={[
            [
              'Account',
              ({ accountId, userId, systemAccount }) =>
                accountId ? (
                  <Link to="/ledger/$id" params={{ id: accountId }}>
                    {userId}
                  </Link>
                ) : (
                  <span className="mono">{systemAccount}</span>
                ),
            ],
            [
              'Debit',
              ({ amount, currency }) =>
                amount.startsWith('-') && <Money amount={amount.slice(1)} currency={currency} />,
              'right',
            ],
            [
              'Credit',
              ({ amount, currency }) =>
                !amount.startsWith('-') && <Money amount={amount} currency={currency} />,
              'right',
            ],
            [
              'Balance after',
              ({ balanceAfter, currency }) =>
                balanceAfter === null ? (
                  <span className="muted">–</span>
                ) : (
                  <Money amount={balanceAfter} currency={currency} />
                ),
              'right',
            ],
          ]}
        />
      </Panel>
    </div>
  );
}

const HERE = ['payments', 'payouts', 'orders'] as const;

export function User() {
  const id = useRouteParam('id');
  const accounts = useQuery({
    queryKey: ['accounts', 'of', id],
    queryFn: () => ok(api.GET('/api/v1/accounts', { params: { query: { userId: id, limit: 50 } } })),
    refetchInterval: 5_000,
  });
  const [all, setAll] = useState(false);
  return (
    <div className="page">
      <Head
        title={`User ${id}`}
        actions={HERE.map((kind) => (
          <Link key={kind} className="btn" to={`/${kind}`} search={{ userId: id }}>
            {kind[0]!.toUpperCase() + kind.slice(1)}
          </Link>
        ))}
      />
      <Panel title="Accounts" flush>
        {accounts.data ? (
          accounts.data.items.length === 0 ? (
            <Empty title="This user has no account" />
          ) : (
            <PlainTable
              rows={accounts.data.items}
              keyOf={({ id }) => id}
              columns={[
                [
                  'Account',
                  ({ id, currency }) => (
                    <Link to="/ledger/$id" params={{ id }} className="mono">
                      {currency}
                    </Link>
                  ),
                ],
                ...(['balance', 'held', 'available'] as const).map(
                  (what) =>
                    [
                      what[0]!.toUpperCase() + what.slice(1),
                      (account: Account) => <Money amount={account[what]} currency={account.currency} />,
                      'right',
                    ] as const,
                ),
              ]}
            />
          )
        ) : accounts.error ? (
          <Failure error={accounts.error} />
        ) : (
          <Loading rows={2} />
        )}
      </Panel>
      {all || accounts.data ? (
        <TimelineView id={id} />
      ) : (
        <button type="button" className="btn" onClick={() => setAll(true)}>
          Timeline
        </button>
      )}
    </div>
  );
}
