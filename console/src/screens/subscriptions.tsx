import * as Tabs from '@radix-ui/react-tabs';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { FlaskConical, KeyRound, Link2, Pause, Play, Plus, Repeat2 } from 'lucide-react';
import { useState } from 'react';
import { useRouteParam } from '../ui/route-param';
import { api, ok, type Schemas } from '../lib/api';
import { count } from '../lib/format';
import { useSession } from '../lib/session';
import {
  Code,
  copy,
  Empty,
  Facts,
  Failure,
  Head,
  Id,
  Loading,
  Note,
  Panel,
  Status,
  Time,
  Unready,
} from '../ui/basics';
import { EventLink } from '../ui/delivery';
import { Modal, useAct } from '../ui/dialogs';
import { Filters, useFilters } from '../ui/filters';
import { AttemptHealth } from '../ui/health';
import { column, idColumn, List, usePages } from '../ui/table';
import { ReplayTable } from './replays';
import { PlainTable } from '../ui/plain-table';

type Subscription = Schemas['Subscription'];

const COLUMNS = [
  idColumn<Subscription>('/subscriptions/$id', 'minmax(120px, 0.8fr)'),
  column<Subscription>('state', 'State', ({ state }) => <Status value={state} />, { width: '98px' }),
  column<Subscription>('url', 'URL', ({ url }) => url, { width: 'minmax(120px, 1.4fr)' }),
  column<Subscription>('types', 'Types', ({ eventTypes }) => eventTypes.join(', '), { wide: true }),
  column<Subscription>('why', 'Why', ({ stateReason }) => stateReason ?? <span className="muted">–</span>, {
    width: '120px',
    wide: true,
  }),
  column<Subscription>('since', 'Since', ({ stateChangedAt }) => <Time at={stateChangedAt} />, {
    width: '90px',
    right: true,
    wide: true,
  }),
];

export function Subscriptions() {
  const [search] = useFilters();
  const { mayAct } = useSession();
  const [making, setMaking] = useState(false);
  const pages = usePages<Subscription>(
    ['subscriptions', search],
    (cursor) =>
      ok(
        api.GET('/api/v1/subscriptions', {
          params: {
            query: { limit: 100, cursor, state: search['state'] as Subscription['state'] | undefined },
          },
        }),
      ),
    5_000,
  );
  return (
    <div className="page fill">
      <Head
        title="Subscriptions"
        actions={
          <button type="button" className="btn primary" disabled={!mayAct} onClick={() => setMaking(true)}>
            <Plus size={14} aria-hidden /> Subscribe a URL
          </button>
        }
      />
      <Filters
        specs={[
          {
            name: 'state',
            label: 'State',
            kind: 'choice',
            options: ['active', 'failing', 'paused', 'disabled'],
          },
        ]}
      />
      <List
        label="subscriptions"
        pages={pages}
        columns={COLUMNS}
        keyOf={({ id }) => id}
        empty={
          <Empty title="No subscription fits">
            {search['state']
              ? 'Choose another state.'
              : 'Subscribe a URL, and it gets the events of the types that it names.'}
          </Empty>
        }
      />
      <NewSubscription open={making} onClose={() => setMaking(false)} />
    </div>
  );
}

function NewSubscription({ open, onClose }: { open: boolean; onClose: () => void }) {
  const { act, busy } = useAct();
  const [url, setUrl] = useState('');
  const [types, setTypes] = useState('*');
  const [secret, setSecret] = useState('');
  const close = () => {
    setSecret('');
    setUrl('');
    onClose();
  };
  return (
    <Modal open={open} onClose={close} title={secret ? 'Subscribed' : 'Subscribe a URL'}>
      {secret ? (
        <Secret value={secret} onClose={close} />
      ) : (
        <form
          className="field"
          style={{ gap: 12 }}
          onSubmit={(event) => {
            event.preventDefault();
            void act(async () => {
              const made = await ok(
                api.POST('/api/v1/subscriptions', {
                  body: {
                    url,
                    eventTypes: types.split(/[\s,]+/).filter(Boolean),
                    description: '',
                    uid: null,
                    labels: [],
                    metadata: {},
                    filter: [],
                    headers: {},
                    rateLimitPerSecond: null,
                    ordered: false,
                    paused: false,
                  },
                }),
              );
              setSecret(made.secret);
              return 'The URL is subscribed.';
            });
          }}
        >
          <label className="field">
            <span>URL</span>
            <input
              className="input"
              type="url"
              required
              placeholder="https://example.com/webhooks"
              value={url}
              onChange={(event) => setUrl(event.target.value)}
            />
          </label>
          <label className="field">
            <span>Event types</span>
            <input
              className="input"
              required
              value={types}
              onChange={(event) => setTypes(event.target.value)}
            />
            <small>
              Separated by commas; <code>payment.*</code> and <code>*</code> are allowed.
            </small>
          </label>
          <div className="foot">
            <button type="button" className="btn" onClick={close}>
              Back
            </button>
            <button type="submit" className="btn primary" disabled={busy}>
              Subscribe
            </button>
          </div>
        </form>
      )}
    </Modal>
  );
}

function Secret({ value, until, onClose }: { value: string; until?: string | null; onClose: () => void }) {
  return (
    <>
      <Note tone="warn">
        This is shown now and never again. Give it to the subscriber, who verifies signatures with it.
      </Note>
      <Code label="Secret">{value}</Code>
      {until && (
        <p className="muted">
          The secret before signs beside it until <Time at={until} />.
        </p>
      )}
      <div className="foot">
        <button type="button" className="btn primary" onClick={onClose}>
          I have kept it
        </button>
      </div>
    </>
  );
}

const REASONS: Record<string, string> = {
  operator: 'An operator paused it.',
  gone: 'It answered 410 Gone, which means that nothing should be sent any more.',
  exhausted: 'For days, every delivery ended without success.',
};

export function Subscription() {
  const id = useRouteParam('id');
  const query = useQuery({
    queryKey: ['subscriptions', id],
    queryFn: () => ok(api.GET('/api/v1/subscriptions/{id}', { params: { path: { id } } })),
    refetchInterval: 4_000,
  });
  if (!query.data) return <Unready query={query} />;
  return <Page subscription={query.data} />;
}

function Page({ subscription }: { subscription: Subscription }) {
  const { id, state, stateReason } = subscription;
  const { act, busy } = useAct();
  const { mayAct } = useSession();
  const [secret, setSecret] = useState<Schemas['SecretRotated'] | undefined>();
  const [resuming, setResuming] = useState(false);
  const [replaying, setReplaying] = useState(false);
  const [showing, setShowing] = useState(false);
  const path = { path: { id } };
  const still = state === 'paused' || state === 'disabled';
  return (
    <div className="page">
      <nav className="crumb" aria-label="Where this is">
        <Link to="/subscriptions">Subscriptions</Link>
      </nav>
      <Head
        title={subscription.url}
        actions={
          <>
            <Status value={state} />
            <button
              type="button"
              className="btn"
              disabled={busy || !mayAct}
              onClick={() =>
                void act(async () => {
                  const event = await ok(api.POST('/api/v1/subscriptions/{id}/test', { params: path }));
                  return `The test event ${event.id} is on its way.`;
                })
              }
            >
              <FlaskConical size={14} aria-hidden /> Send a test event
            </button>
            <button
              type="button"
              className="btn"
              disabled={busy || !mayAct}
              onClick={() =>
                void act(
                  async () => {
                    setSecret(
                      await ok(
                        api.POST('/api/v1/subscriptions/{id}/rotate-secret', { params: path, body: {} }),
                      ),
                    );
                    return 'The secret was rotated.';
                  },
                  {
                    title: 'Give it a new secret?',
                    body: 'The new secret is shown once. For 24 hours both sign, so that the subscriber can change it without losing a webhook.',
                    action: 'Rotate the secret',
                  },
                )
              }
            >
              <KeyRound size={14} aria-hidden /> Rotate secret
            </button>
            <button
              type="button"
              className="btn"
              disabled={busy || !mayAct}
              onClick={() => setReplaying(true)}
            >
              <Repeat2 size={14} aria-hidden /> Replay
            </button>
            <button type="button" className="btn" disabled={busy || !mayAct} onClick={() => setShowing(true)}>
              <Link2 size={14} aria-hidden /> Portal link
            </button>
            {still ? (
              <button
                type="button"
                className="btn primary"
                disabled={busy || !mayAct}
                onClick={() => setResuming(true)}
              >
                <Play size={14} aria-hidden /> Resume
              </button>
            ) : (
              <button
                type="button"
                className="btn danger"
                disabled={busy || !mayAct}
                onClick={() =>
                  void act(
                    async () => {
                      await ok(api.POST('/api/v1/subscriptions/{id}/pause', { params: path }));
                      return 'It is paused.';
                    },
                    {
                      title: 'Pause this subscription?',
                      body: 'Nothing is sent to it until it is resumed. What it misses can be sent when you resume it.',
                      action: 'Pause',
                      danger: true,
                    },
                  )
                }
              >
                <Pause size={14} aria-hidden /> Pause
              </button>
            )}
          </>
        }
      />
      {state !== 'active' && (
        <Note tone={state === 'failing' ? 'warn' : 'bad'}>
          It is {state} <Time at={subscription.stateChangedAt} />:{' '}
          {REASONS[stateReason ?? ''] ?? `the last attempt met “${stateReason}”.`}{' '}
          <Link to="/deliveries" search={{ subscriptionId: id, status: 'exhausted' }}>
            See what failed
          </Link>
        </Note>
      )}
      <div className="cols">
        <div>
          <AttemptHealth id={id} />
          <Panel flush>
            <Tabs.Root defaultValue="changes">
              <Tabs.List className="tabs" aria-label="More of this subscription">
                <Tabs.Trigger value="changes">Who changed it</Tabs.Trigger>
                <Tabs.Trigger value="replays">Replays</Tabs.Trigger>
                <Tabs.Trigger value="filter">Filter tester</Tabs.Trigger>
              </Tabs.List>
              <Tabs.Content value="changes">
                <Changes id={id} />
              </Tabs.Content>
              <Tabs.Content value="replays">
                <ReplayTable subscriptionId={id} />
              </Tabs.Content>
              <Tabs.Content value="filter">
                <FilterTester subscription={subscription} />
              </Tabs.Content>
            </Tabs.Root>
          </Panel>
        </div>
        <div>
          <Panel title="Subscription">
            <Facts
              facts={[
                ['Id', <Id value={id} />],
                [
                  'Types',
                  subscription.eventTypes.map((type) => (
                    <span key={type}>
                      <span className="tag">{type}</span>{' '}
                    </span>
                  )),
                ],
                [
                  'Filter',
                  subscription.filter.length === 0 ? (
                    <span className="muted">none</span>
                  ) : (
                    <Code label="Filter">{JSON.stringify(subscription.filter, null, 1)}</Code>
                  ),
                ],
                ['Headers', subscription.headerNames.join(', ') || <span className="muted">none</span>],
                [
                  'Rate limit',
                  subscription.rateLimitPerSecond === null ? (
                    <span className="muted">none</span>
                  ) : (
                    `${subscription.rateLimitPerSecond}/s`
                  ),
                ],
                ['In order', subscription.ordered ? 'yes' : 'no'],
                ['Labels', subscription.labels.join(', ') || <span className="muted">none</span>],
                ['Description', subscription.description || <span className="muted">none</span>],
                ['Created', <Time at={subscription.createdAt} />],
              ]}
            />
          </Panel>
          <Panel title="Deliveries">
            <ul className="links">
              {(['exhausted', 'pending', 'held', 'delivered'] as const).map((status) => (
                <li key={status}>
                  <Link to="/deliveries" search={{ subscriptionId: id, status }}>
                    {status}
                  </Link>
                </li>
              ))}
            </ul>
          </Panel>
        </div>
      </div>
      <Modal open={secret !== undefined} onClose={() => setSecret(undefined)} title="The new secret">
        {secret && (
          <Secret
            value={secret.secret}
            until={secret.previousSecretValidUntil}
            onClose={() => setSecret(undefined)}
          />
        )}
      </Modal>
      <Modal open={resuming} onClose={() => setResuming(false)} title="Resume this subscription">
        <p>
          New events are sent to it again. What it has missed meanwhile can be sent too, by a replay whose
          progress is shown.
        </p>
        <div className="foot">
          <button type="button" className="btn" onClick={() => setResuming(false)}>
            Back
          </button>
          {[false, true].map((missed) => (
            <button
              key={String(missed)}
              type="button"
              className={missed ? 'btn primary' : 'btn'}
              disabled={busy}
              onClick={() =>
                void act(async () => {
                  const done = await ok(
                    api.POST('/api/v1/subscriptions/{id}/resume', { params: path, body: { missed } }),
                  );
                  return done.replay ? 'It is resumed; what it missed is being sent.' : 'It is resumed.';
                }).then((ok) => ok && setResuming(false))
              }
            >
              {missed ? 'Resume, and send what it missed' : 'Resume with new events only'}
            </button>
          ))}
        </div>
      </Modal>
      <ReplayForm id={id} open={replaying} onClose={() => setReplaying(false)} />
      <PortalLinkForm id={id} open={showing} onClose={() => setShowing(false)} />
    </div>
  );
}

function Changes({ id }: { id: string }) {
  const { mayAdminister } = useSession();
  const query = useQuery({
    queryKey: ['audit', id],
    queryFn: () =>
      ok(api.GET('/api/v1/audit', { params: { query: { cause: `subscription:${id}`, limit: 30 } } })),
    enabled: mayAdminister,
  });
  if (!mayAdminister)
    return (
      <Empty title="The audit log is for administrators">
        Ask somebody with the role admin who changed it.
      </Empty>
    );
  if (query.isPending) return <Loading rows={3} />;
  if (!query.data) return <Failure error={query.error} />;
  if (query.data.items.length === 0) return <Empty title="Nobody has changed it" />;
  return (
    <PlainTable
      rows={query.data.items}
      keyOf={({ id }) => id}
      columns={[
        ['When', ({ at }) => <Time at={at} />],
        ['Who', ({ actor }) => actor, 'mono'],
        ['What', ({ action }) => action],
      ]}
    />
  );
}

/** A link that shows the subscriber this subscription, and nothing else. */
function PortalLinkForm({ id, open, onClose }: { id: string; open: boolean; onClose: () => void }) {
  const { act, busy } = useAct();
  const [name, setName] = useState('');
  const [readOnly, setReadOnly] = useState(true);
  const [url, setUrl] = useState('');
  const close = () => {
    setUrl('');
    onClose();
  };
  return (
    <Modal open={open} onClose={close} title="A link for the subscriber">
      {url ? (
        <>
          <Note tone="warn">
            It opens once, within 15 minutes, and is shown only now. Whoever opens it sees this subscription
            for an hour.
          </Note>
          <Code label="Link">{url}</Code>
          <div className="foot">
            <button type="button" className="btn" onClick={() => void copy(url)}>
              Copy
            </button>
            <button type="button" className="btn primary" onClick={close}>
              Done
            </button>
          </div>
        </>
      ) : (
        <form
          className="field"
          style={{ gap: 12 }}
          onSubmit={(event) => {
            event.preventDefault();
            void act(async () => {
              const made = await ok(
                api.POST('/api/v1/portal-links', {
                  body: {
                    subscriptionIds: [id],
                    expiresInS: 900,
                    sessionS: 3_600,
                    readOnly,
                    brand: { name: name.trim() || null, color: null },
                  },
                }),
              );
              setUrl(made.url);
              return 'The link is made.';
            });
          }}
        >
          <p>
            It shows the events, deliveries and health of this subscription, and nothing else of the tenant.
          </p>
          <label className="field">
            <span>Your name, as the subscriber knows it</span>
            <input
              className="input"
              maxLength={60}
              value={name}
              onChange={(event) => setName(event.target.value)}
            />
          </label>
          <label className="check">
            <input
              type="checkbox"
              checked={readOnly}
              onChange={(event) => setReadOnly(event.target.checked)}
            />
            <span>Read-only: without resending, test events and secrets</span>
          </label>
          <div className="foot">
            <button type="button" className="btn" onClick={close}>
              Back
            </button>
            <button type="submit" className="btn primary" disabled={busy}>
              Make the link
            </button>
          </div>
        </form>
      )}
    </Modal>
  );
}

const KINDS = {
  failed: 'what failed (exhausted deliveries)',
  missed: 'what it never got, and what was held',
  all: 'every event again',
} as const;

function ReplayForm({ id, open, onClose }: { id: string; open: boolean; onClose: () => void }) {
  const { act, busy } = useAct();
  const noon = new Date();
  noon.setHours(12, 0, 0, 0);
  if (noon.getTime() > Date.now()) noon.setDate(noon.getDate() - 1);
  const local = (at: Date) =>
    new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
  const [kind, setKind] = useState<keyof typeof KINDS>('failed');
  const [since, setSince] = useState(local(noon));
  const preview = useQuery({
    queryKey: ['replay-preview', id, kind, since],
    queryFn: () =>
      ok(
        api.GET('/api/v1/deliveries', {
          params: {
            query: {
              subscriptionId: id,
              limit: 200,
              since: new Date(since).toISOString(),
              ...(kind === 'failed' ? { status: 'exhausted' as const } : {}),
            },
          },
        }),
      ),
    enabled: open && kind !== 'missed' && since !== '',
  });
  return (
    <Modal open={open} onClose={onClose} title="Replay">
      <form
        className="field"
        style={{ gap: 12 }}
        onSubmit={(event) => {
          event.preventDefault();
          void act(async () => {
            await ok(
              api.POST('/api/v1/replays', {
                body: { subscriptionId: id, kind, since: new Date(since).toISOString(), eventTypes: [] },
              }),
            );
            return 'The replay is running.';
          }).then((done) => done && onClose());
        }}
      >
        <label className="field">
          <span>Send again</span>
          <select
            className="input"
            value={kind}
            onChange={(event) => setKind(event.target.value as keyof typeof KINDS)}
          >
            {Object.entries(KINDS).map(([value, text]) => (
              <option key={value} value={value}>
                {text}
              </option>
            ))}
          </select>
        </label>
        <label className="field">
          <span>Since</span>
          <input
            className="input"
            type="datetime-local"
            required
            value={since}
            onChange={(event) => setSince(event.target.value)}
          />
        </label>
        <p role="status">
          {kind === 'missed'
            ? 'How many it missed is counted while the replay runs.'
            : preview.data
              ? `${count(preview.data.items.length)}${preview.data.nextCursor ? ' and more' : ''} deliveries of this time fit.`
              : 'Counting…'}
        </p>
        <div className="foot">
          <button type="button" className="btn" onClick={onClose}>
            Back
          </button>
          <button type="submit" className="btn primary" disabled={busy}>
            Start the replay
          </button>
        </div>
      </form>
    </Modal>
  );
}

function FilterTester({ subscription }: { subscription: Subscription }) {
  const [text, setText] = useState(JSON.stringify(subscription.filter, null, 2));
  const [asked, setAsked] = useState<unknown>(undefined);
  const [problem, setProblem] = useState('');
  const query = useQuery({
    queryKey: ['filter-test', subscription.id, asked],
    queryFn: () =>
      ok(
        api.POST('/api/v1/subscriptions/{id}/filter-test', {
          params: { path: { id: subscription.id } },
          body: { filter: asked as Schemas['TestFilter']['filter'], limit: 20 },
        }),
      ),
    enabled: asked !== undefined,
    retry: false,
  });
  return (
    <div className="body" style={{ padding: 14, display: 'flex', flexDirection: 'column', gap: 10 }}>
      <label className="field">
        <span>Filter</span>
        <textarea
          className="input mono"
          rows={5}
          spellCheck={false}
          value={text}
          onChange={(event) => setText(event.target.value)}
        />
        <small>It is tried on the newest events of the subscription’s types; nothing is sent or kept.</small>
      </label>
      <div className="foot">
        <button
          type="button"
          className="btn"
          onClick={() => {
            try {
              setAsked(JSON.parse(text));
              setProblem('');
            } catch {
              setProblem('This is not JSON.');
            }
          }}
        >
          Try the filter
        </button>
      </div>
      {problem && (
        <p className="bad-text" role="alert">
          {problem}
        </p>
      )}
      {query.error && (
        <p className="bad-text" role="alert">
          {query.error.message}
        </p>
      )}
      {query.data &&
        (query.data.items.length === 0 ? (
          <p>There is no event of these types yet.</p>
        ) : (
          <PlainTable
            rows={query.data.items}
            keyOf={({ id }) => id}
            columns={[
              ['Event', ({ id }) => <EventLink id={id} />],
              ['Type', ({ type }) => type],
              ['Wanted', ({ matches }) => (matches ? 'yes' : 'no')],
            ]}
          />
        ))}
    </div>
  );
}
