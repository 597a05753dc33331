import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { Pause, Play } from 'lucide-react';
import { useEffect, useRef, useState, type ReactNode } from 'react';
import { api, ok, type Schemas } from '../lib/api';
import { clock, count, duration, exact } from '../lib/format';
import { useSession } from '../lib/session';
import { Chip, Empty, Failure, Head, Loading, Panel, Status } from '../ui/basics';
import { filled, Plot } from '../ui/plot';
import { Subject } from '../ui/timeline';
import { PlainTable } from '../ui/plain-table';

const HOUR_MS = 3_600_000;
/** The last hour, by the minute; the same for a whole minute, so that it is one question. */
const lastHour = () => ({
  bucket: 'minute' as const,
  since: new Date(Math.floor((Date.now() - HOUR_MS) / 60_000) * 60_000).toISOString(),
});
const REFRESH_MS = 10_000;

export function Now() {
  const { maySeeInstallation } = useSession();
  return (
    <div className="page">
      <Head title="Now" />
      <Wrong />
      <Rates />
      <div className={maySeeInstallation ? 'cols' : ''}>
        <div>
          <Tail />
        </div>
        {maySeeInstallation && (
          <div>
            <Installation />
          </div>
        )}
      </div>
    </div>
  );
}

/** What is wrong, each with the way to where it is mended. */
function Wrong() {
  const { maySeeInstallation } = useSession();
  const failing = useQuery({
    queryKey: ['subscriptions', 'not-active'],
    queryFn: () =>
      Promise.all(
        (['failing', 'disabled', 'paused'] as const).map((state) =>
          ok(api.GET('/api/v1/subscriptions', { params: { query: { state, limit: 50 } } })),
        ),
      ),
    refetchInterval: REFRESH_MS,
  });
  const exhausted = useQuery({
    queryKey: ['deliveries', 'exhausted-today'],
    queryFn: () =>
      ok(
        api.GET('/api/v1/deliveries', {
          params: {
            query: {
              status: 'exhausted',
              limit: 200,
              since: new Date(Math.floor((Date.now() - 24 * HOUR_MS) / 60_000) * 60_000).toISOString(),
            },
          },
        }),
      ),
    refetchInterval: REFRESH_MS,
  });
  const due = useQuery({
    queryKey: ['disputes', 'due'],
    queryFn: () => ok(api.GET('/api/v1/disputes', { params: { query: { sort: 'due', limit: 50 } } })),
    refetchInterval: REFRESH_MS,
  });
  const system = useSystem(maySeeInstallation);
  const letters = useQuery({
    queryKey: ['dead-letters'],
    queryFn: () => ok(api.GET('/api/v1/dead-letters')),
    refetchInterval: REFRESH_MS,
    enabled: maySeeInstallation,
  });
  const lines: { key: string; tone: 'bad' | 'warn'; text: React.ReactNode; to: React.ReactNode }[] = [];
  const soon =
    due.data?.items.filter(({ evidenceDueAt }) => Date.parse(evidenceDueAt) - Date.now() < 72 * HOUR_MS) ??
    [];
  if (soon.length > 0)
    lines.push({
      key: 'disputes',
      tone: 'warn',
      text: `Evidence of ${soon.length === 1 ? 'one dispute' : `${soon.length} disputes`} is due within three days.`,
      to: (
        <Link to="/disputes/$id" params={{ id: soon[0]!.id }}>
          Submit the first
        </Link>
      ),
    });
  for (const page of failing.data ?? [])
    for (const subscription of page.items)
      lines.push({
        key: subscription.id,
        tone: subscription.state === 'disabled' ? 'bad' : 'warn',
        text: (
          <>
            Subscription {subscription.url} is {subscription.state}.
          </>
        ),
        to: (
          <Link to="/subscriptions/$id" params={{ id: subscription.id }}>
            See why
          </Link>
        ),
      });
  const failed = exhausted.data?.items.length ?? 0;
  if (failed > 0)
    lines.push({
      key: 'exhausted',
      tone: 'bad',
      text: `${failed}${exhausted.data?.nextCursor ? '+' : ''} ${failed === 1 ? 'delivery' : 'deliveries'} of the last 24 hours failed for good.`,
      to: (
        <Link to="/deliveries" search={{ status: 'exhausted', since: '24h' }}>
          Resend
        </Link>
      ),
    });
  for (const topic of letters.data?.items ?? [])
    if (topic.waiting > 0)
      lines.push({
        key: topic.topic,
        tone: 'bad',
        text: (
          <>
            {count(topic.waiting)} dead {topic.waiting === 1 ? 'letter waits' : 'letters wait'} in{' '}
            {topic.topic}:{' '}
            {topic.reasons
              .slice(0, 3)
              .map(({ code }) => code.replaceAll('_', ' '))
              .join(', ')}
            .
          </>
        ),
        to: (
          <Link to="/dead-letters/$topic" params={{ topic: topic.topic }}>
            Redrive
          </Link>
        ),
      });
  for (const problem of system.data?.problems ?? [])
    if (problem.where !== 'dead-letters')
      lines.push({
        key: problem.what,
        tone: problem.severity === 'error' ? 'bad' : 'warn',
        text: problem.what,
        to:
          problem.where === 'reconciliation' ? (
            <Link to="/reconciliation">Reconciliation</Link>
          ) : (
            <span className="muted">{problem.mend}</span>
          ),
      });
  const reading = failing.isPending || exhausted.isPending || due.isPending;
  return (
    <Panel
      title="What needs somebody"
      flush
      actions={
        lines.length > 0 ? (
          <Chip tone="warn">{lines.length}</Chip>
        ) : reading ? undefined : (
          <Chip tone="ok">nothing</Chip>
        )
      }
    >
      {failing.error && !failing.data ? (
        <Failure error={failing.error} retry={() => void failing.refetch()} />
      ) : lines.length === 0 ? (
        reading ? (
          <Loading rows={2} />
        ) : (
          <p className="body" style={{ padding: '12px 14px' }}>
            Nothing is stuck: no failed delivery, no silent subscription, no dead letter, no dispute that is
            due.
          </p>
        )
      ) : (
        <PlainTable
          stack
          rows={lines}
          keyOf={({ key }) => key}
          columns={[
            [
              null,
              ({ tone }) => <Chip tone={tone}>{tone === 'bad' ? 'failed' : 'attention'}</Chip>,
              'nowrap',
            ],
            [null, ({ text }) => text],
            [null, ({ to }) => to, 'right'],
          ]}
        />
      )}
    </Panel>
  );
}

function useSystem(enabled: boolean) {
  return useQuery({
    queryKey: ['system'],
    queryFn: () => ok(api.GET('/api/v1/system')),
    refetchInterval: REFRESH_MS,
    enabled,
  });
}

function Rates() {
  const { maySeeInstallation } = useSession();
  const options = { refetchInterval: REFRESH_MS };
  const payments = useQuery({
    queryKey: ['statistics', 'now', 'payments'],
    queryFn: () =>
      ok(api.GET('/api/v1/statistics/payments', { params: { query: { ...lastHour(), by: 'none' } } })),
    ...options,
  });
  const orders = useQuery({
    queryKey: ['statistics', 'now', 'orders'],
    queryFn: () =>
      ok(api.GET('/api/v1/statistics/orders', { params: { query: { ...lastHour(), by: 'none' } } })),
    ...options,
  });
  const deliveries = useQuery({
    queryKey: ['statistics', 'now', 'attempts'],
    queryFn: () => ok(api.GET('/api/v1/statistics/attempts', { params: { query: lastHour() } })),
    ...options,
  });
  const purchases = useQuery({
    queryKey: ['statistics', 'now', 'purchases'],
    queryFn: () =>
      ok(
        api.GET('/api/v1/statistics/purchases', {
          params: { query: { ...lastHour(), by: 'none', products: 1 } },
        }),
      ),
    enabled: maySeeInstallation,
    ...options,
  });
  return (
    <div className="tiles">
      <Rate
        title="Payments"
        to="/payments"
        query={payments}
        read={({ count: n }) => n}
        bad={({ failed }) => failed}
      />
      <Rate
        title="Orders"
        to="/orders"
        query={orders}
        read={({ count: n }) => n}
        bad={({ failed }) => failed}
      />
      <Rate
        title="Delivery attempts"
        to="/deliveries"
        query={deliveries}
        read={({ attempts }) => attempts}
        bad={({ failed }) => failed}
      />
      {maySeeInstallation && (
        <Rate title="Purchases" to="/purchases" query={purchases} read={({ purchases: n }) => n} />
      )}
    </div>
  );
}

type Buckets<T> = { since: string; until: string; bucket: 'minute' | 'hour' | 'day'; items: T[] };

function Rate<T extends { at: string }>({
  title,
  to,
  query,
  read,
  bad,
}: {
  title: string;
  to: '/payments' | '/orders' | '/deliveries' | '/purchases';
  query: { data?: Buckets<T> | undefined; error: Error | null; isPending: boolean };
  read: (item: T) => number;
  bad?: (item: T) => number;
}) {
  const { data } = query;
  if (!data)
    return (
      <Panel title={title}>
        {query.error ? <p className="bad-text">{query.error.message}</p> : <Loading rows={3} />}
      </Panel>
    );
  const { times, of } = filled(data);
  const values = of(read);
  const failed = bad ? of(bad) : undefined;
  const total = values.reduce((sum, value) => sum + value, 0);
  const lost = failed?.reduce((sum, value) => sum + value, 0) ?? 0;
  return (
    <section className="panel tile" aria-label={title}>
      <span className="name">
        <Link to={to}>{title}</Link>
        <span>last hour</span>
      </span>
      <b>{count(total)}</b>
      <span>
        {lost > 0 ? (
          <span className="bad-text">{count(lost)} failed</span>
        ) : bad ? (
          'none failed'
        ) : (
          `${(total / 60).toFixed(1)} a minute`
        )}
      </span>
      <Plot
        label={`${title} a minute`}
        times={times}
        format={count}
        height={110}
        lines={[
          { label: 'all', tone: 'accent', values },
          ...(failed && lost > 0 ? [{ label: 'failed', tone: 'bad' as const, values: failed }] : []),
        ]}
      />
    </section>
  );
}

function Installation() {
  const query = useSystem(true);
  if (query.isPending)
    return (
      <Panel title="Installation">
        <Loading />
      </Panel>
    );
  if (!query.data)
    return (
      <Panel title="Installation">
        <Failure error={query.error} retry={() => void query.refetch()} />
      </Panel>
    );
  const { dependencies, outbox, consumers, workers, temporal } = query.data;
  const oldest = outbox.waiting > 0 ? `, oldest ${duration(outbox.oldestSeconds * 1_000)}` : '';
  const pollers = (n: number) => (n === 0 ? 'no worker polls it' : `${n} ${n === 1 ? 'poller' : 'pollers'}`);
  const lags: { key: string; what: ReactNode; about: string; waiting: number | null; bad?: boolean }[] = [
    { key: 'outbox', what: 'Outbox', about: `waits for the relay${oldest}`, waiting: outbox.waiting },
    ...(outbox.refused > 0
      ? [
          {
            key: 'refused',
            what: 'Outbox, refused',
            about: 'Kafka did not take it',
            waiting: outbox.refused,
            bad: true,
          },
        ]
      : []),
    ...consumers.map(({ group, topic, lag, state }) => ({
      key: `${group} ${topic}`,
      what: <span className="mono">{topic}</span>,
      about: `${group} · ${state}`,
      waiting: lag,
    })),
    ...workers.map((worker) => ({
      key: worker.taskQueue,
      what: (
        <>
          Tasks of <span className="mono">{worker.taskQueue}</span>
        </>
      ),
      about: pollers(worker.pollers.length),
      waiting: worker.backlog,
      bad: worker.pollers.length === 0,
    })),
  ];
  return (
    <>
      <Panel
        title="Lag"
        flush
        actions={
          temporal.uiUrl && (
            <a href={temporal.uiUrl} target="_blank" rel="noreferrer">
              Temporal UI
            </a>
          )
        }
      >
        <PlainTable
          rows={lags}
          keyOf={({ key }) => key}
          columns={[
            [
              null,
              ({ what, about, bad }) => (
                <>
                  {what}
                  <div className={bad ? 'bad-text' : 'muted'}>{about}</div>
                </>
              ),
            ],
            [null, ({ waiting }) => (waiting === null ? '–' : count(waiting)), 'right'],
          ]}
        />
      </Panel>
      <Panel title="Servers" flush>
        <PlainTable
          rows={Object.entries(dependencies)}
          keyOf={([name]) => name}
          columns={[
            [
              null,
              ([name, state]) => (
                <>
                  {name}
                  {state !== 'ok' && <div className="bad-text">{state}</div>}
                </>
              ),
            ],
            [null, ([, state]) => <Status value={state === 'ok' ? 'ok' : 'error'} />, 'right'],
          ]}
        />
      </Panel>
    </>
  );
}

const KINDS = ['payment', 'payout', 'order', 'dispute', 'event', 'delivery', 'attempt'] as const;
/** The data of an event of the stream, as src/contracts/stream.ts has it: OpenAPI describes no events. */
interface Happened {
  id: string;
  at: string;
  kind: (typeof KINDS)[number];
  title: string;
  type: string;
  subject: Schemas['SubjectRef'];
  status: string | null;
  userId: string | null;
}
const TAIL_ROWS = 200;

/** What happens now, newest first. While it is paused, what comes is kept back. */
function Tail() {
  const [rows, setRows] = useState<Happened[]>([]);
  const [paused, setPaused] = useState(false);
  const [kind, setKind] = useState('');
  const [text, setText] = useState('');
  const [state, setState] = useState<'connecting' | 'live' | 'lost'>('connecting');
  const waiting = useRef<Happened[]>([]);
  const held = useRef(false);
  const [kept, setKept] = useState(0);
  held.current = paused;
  useEffect(() => {
    const source = new EventSource(`/api/v1/stream${kind ? `?kinds=${kind}` : ''}`);
    const seen = new Set<string>();
    setRows([]);
    source.onopen = () => setState('live');
    source.onerror = () => setState('lost');
    source.addEventListener('happened', ({ data }: MessageEvent<string>) => {
      const happened = JSON.parse(data) as Happened;
      // After a resumption some come twice.
      if (seen.has(happened.id)) return;
      if (seen.size > 5_000) seen.clear();
      seen.add(happened.id);
      waiting.current = [happened, ...waiting.current].slice(0, TAIL_ROWS);
    });
    const timer = setInterval(() => {
      setKept(held.current ? waiting.current.length : 0);
      if (held.current || waiting.current.length === 0) return;
      const come = waiting.current;
      waiting.current = [];
      setRows((before) => [...come, ...before].slice(0, TAIL_ROWS));
    }, 300);
    return () => {
      clearInterval(timer);
      source.close();
    };
  }, [kind]);
  const wanted = text.trim().toLowerCase();
  const shown = rows.filter(
    (row) =>
      !wanted ||
      `${row.type} ${row.title} ${row.subject.id} ${row.userId ?? ''} ${row.status ?? ''}`
        .toLowerCase()
        .includes(wanted),
  );
  return (
    <Panel
      title="Live"
      flush
      actions={
        <div className="filters">
          <Chip tone={paused ? 'warn' : state === 'live' ? 'ok' : state === 'lost' ? 'bad' : 'off'}>
            {paused ? `paused${kept > 0 ? `, ${kept} came` : ''}` : state}
          </Chip>
          <select
            className="input"
            aria-label="Kind"
            value={kind}
            onChange={(event) => setKind(event.target.value)}
          >
            <option value="">everything</option>
            {KINDS.map((each) => (
              <option key={each} value={each}>
                {each}
              </option>
            ))}
          </select>
          <input
            className="input"
            aria-label="Only what contains"
            placeholder="contains"
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
          <button
            type="button"
            className="btn small"
            aria-pressed={paused}
            onClick={() => setPaused(!paused)}
          >
            {paused ? <Play size={12} aria-hidden /> : <Pause size={12} aria-hidden />}{' '}
            {paused ? 'Go on' : 'Pause'}
          </button>
        </div>
      }
    >
      {shown.length === 0 ? (
        <Empty
          title={rows.length > 0 ? 'Nothing that came contains this' : 'Nothing has happened since you came'}
        >
          {rows.length > 0
            ? 'Clear the text.'
            : 'What happens from now on is shown here: npm run demo -- --endpoints .remit/endpoints.json makes something happen.'}
        </Empty>
      ) : (
        <ul className="tail" tabIndex={0} aria-label="What happened, newest first">
          {shown.map((row) => (
            <li key={row.id}>
              <time className="muted" dateTime={row.at} title={exact(row.at)}>
                {clock(row.at)}
              </time>
              <span className="tag">{row.kind}</span>
              <span className="clip">
                <Subject {...row.subject}>{row.title}</Subject>
                {row.userId && <span className="muted"> · {row.userId}</span>}
              </span>
              {row.status ? <Status value={row.status} /> : <span />}
            </li>
          ))}
        </ul>
      )}
    </Panel>
  );
}
