import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { RotateCcw, Trash2 } from 'lucide-react';
import { useState } from 'react';
import { useRouteParam } from '../ui/route-param';
import { api, ok, type Schemas } from '../lib/api';
import { bytes, count, fromBase64, hexDump, pretty } from '../lib/format';
import { Code, Empty, Facts, Failure, Head, Loading, Note, Panel, Status, Time } from '../ui/basics';
import { Drawer, useAct } from '../ui/dialogs';
import { Filters, useFilters } from '../ui/filters';
import { column, List, usePages } from '../ui/table';
import { PlainTable } from '../ui/plain-table';

type Letter = Schemas['DeadLetter'];

export function DeadLetterTopics() {
  const query = useQuery({
    queryKey: ['dead-letters'],
    queryFn: () => ok(api.GET('/api/v1/dead-letters')),
    refetchInterval: 5_000,
  });
  return (
    <div className="page">
      <Head title="Dead letters">
        Messages that could not be handled, by topic and reason. Redriving one twice changes nothing twice.
      </Head>
      <Panel flush>
        {query.isPending ? (
          <Loading />
        ) : !query.data ? (
          <Failure error={query.error} retry={() => void query.refetch()} />
        ) : (
          <PlainTable
            rows={query.data.items.toSorted((a, b) => b.waiting - a.waiting)}
            keyOf={({ topic }) => topic}
            columns={[
              [
                'Topic',
                ({ topic, exists }) => (
                  <>
                    <Link to="/dead-letters/$topic" params={{ topic }} className="mono">
                      {topic}
                    </Link>
                    {!exists && <div className="bad-text">does not exist: run remit migrate</div>}
                  </>
                ),
              ],
              ['Waiting', ({ waiting }) => count(waiting), 'right'],
              [
                'Reasons',
                ({ topic, reasons }) =>
                  reasons.length === 0 ? (
                    <span className="muted">none</span>
                  ) : (
                    reasons.map(({ code, waiting }) => (
                      <div key={code}>
                        <Link to="/dead-letters/$topic" params={{ topic }} search={{ code }}>
                          {code.replaceAll('_', ' ')}
                        </Link>{' '}
                        <span className="muted">{count(waiting)}</span>
                      </div>
                    ))
                  ),
              ],
              ['All', ({ messages }) => count(messages), 'right'],
            ]}
          />
        )}
      </Panel>
    </div>
  );
}

const COLUMNS = (open: (id: string) => void) => [
  column<Letter>(
    'id',
    'Letter',
    ({ id }) => (
      <a
        href={`?open=${id}`}
        className="open mono"
        onClick={(event) => {
          event.preventDefault();
          open(id);
        }}
      >
        {id}
      </a>
    ),
    { width: '84px' },
  ),
  column<Letter>('code', 'Reason', ({ code }) => code?.replaceAll('_', ' ') ?? 'none given', {
    width: 'minmax(110px, 170px)',
  }),
  column<Letter>('why', 'Detail', ({ reason }) => reason ?? <span className="muted">–</span>, { wide: true }),
  column<Letter>('key', 'Key', ({ key }) => <span className="mono">{key ?? '–'}</span>, {
    width: 'minmax(80px, 1fr)',
  }),
  column<Letter>('size', 'Size', ({ valueBytes }) => (valueBytes === null ? '–' : bytes(valueBytes)), {
    width: '80px',
    right: true,
    wide: true,
  }),
  column<Letter>('state', 'State', ({ state }) => <Status value={state} />, { width: '92px', wide: true }),
  column<Letter>('at', 'Came', ({ at }) => <Time at={at} />, { width: '92px', right: true }),
];

/** Those that a page of the API may redrive at once. */
const REDRIVE_MAX = 1_000;

export function DeadLetters() {
  const topic = useRouteParam('topic');
  const [search, set] = useFilters();
  const [became, setBecame] = useState<Schemas['DeadLettersRedriven'] | undefined>();
  const { act, busy } = useAct();
  const code = search['code'];
  const state = (search['state'] ?? 'waiting') as 'waiting' | 'done' | 'any';
  const summary = useQuery({
    queryKey: ['dead-letters'],
    queryFn: () => ok(api.GET('/api/v1/dead-letters')),
  });
  const reasons = summary.data?.items.find((each) => each.topic === topic)?.reasons ?? [];
  const waiting = reasons
    .filter((reason) => !code || reason.code === code)
    .reduce((sum, reason) => sum + reason.waiting, 0);
  const pages = usePages<Letter>(
    ['letters', topic, code, state],
    (cursor) =>
      ok(
        api.GET('/api/v1/dead-letters/{topic}/letters', {
          params: { path: { topic }, query: { limit: 50, cursor, state, code: code || undefined } },
        }),
      ),
    5_000,
  );
  const redrive = (limit: number) =>
    act(
      async () => {
        const result = await ok(
          api.POST('/api/v1/dead-letters/{topic}/redrive', {
            params: { path: { topic } },
            body: { limit, ...(code ? { code } : {}) },
          }),
        );
        setBecame(result);
        return `${count(result.redriven)} were redriven.`;
      },
      {
        title: `Redrive ${limit >= waiting ? 'all' : limit} ${code ? `of “${code.replaceAll('_', ' ')}”` : ''}?`,
        body: (
          <p>
            {count(Math.min(limit, waiting))}{' '}
            {Math.min(limit, waiting) === 1 ? 'message goes' : 'messages go'} back to where{' '}
            {Math.min(limit, waiting) === 1 ? 'it' : 'they'} came from and{' '}
            {Math.min(limit, waiting) === 1 ? 'is' : 'are'} handled again. What is still wrong comes back
            here.
          </p>
        ),
        action: 'Redrive',
      },
    );
  return (
    <div className="page fill">
      <nav className="crumb" aria-label="Where this is">
        <Link to="/dead-letters">Dead letters</Link>
      </nav>
      <Head
        title={topic}
        actions={
          <>
            {[1, 10].map((n) => (
              <button
                key={n}
                type="button"
                className="btn"
                disabled={busy || waiting === 0}
                onClick={() => void redrive(n)}
              >
                Redrive {n}
              </button>
            ))}
            <button
              type="button"
              className="btn primary"
              disabled={busy || waiting === 0}
              onClick={() => void redrive(REDRIVE_MAX)}
            >
              <RotateCcw size={14} aria-hidden /> Redrive all ({count(waiting)})
            </button>
          </>
        }
      />
      <Filters
        specs={[
          { name: 'code', label: 'Reason', kind: 'choice', options: reasons.map((reason) => reason.code) },
          { name: 'state', label: 'State', kind: 'choice', options: ['waiting', 'done', 'any'] },
        ]}
      />
      {became && (
        <Note tone={became.passedOver.length > 0 ? 'warn' : 'info'}>
          <b>
            {count(became.redriven)} redriven, {count(became.waiting)} wait.
          </b>
          {became.passedOver.map(({ id, why }) => (
            <p key={id}>
              <span className="mono">{id}</span> {why}
            </p>
          ))}
        </Note>
      )}
      <List
        label="dead letters"
        pages={pages}
        columns={COLUMNS((id) => set({ open: id }))}
        keyOf={({ id }) => id}
        empty={
          <Empty title={state === 'waiting' ? 'No letter waits here' : 'No letter fits'}>
            {state === 'waiting'
              ? 'Everything that came here was redriven or purged.'
              : 'Change or clear the filters.'}
          </Empty>
        }
      />
      {search['open'] && (
        <LetterDrawer
          topic={topic}
          id={search['open']}
          onClose={() => set({ open: undefined })}
          onRedriven={setBecame}
        />
      )}
    </div>
  );
}

function LetterDrawer({
  topic,
  id,
  onClose,
  onRedriven,
}: {
  topic: string;
  id: string;
  onClose: () => void;
  onRedriven: (became: Schemas['DeadLettersRedriven']) => void;
}) {
  const path = { topic, id };
  const query = useQuery({
    queryKey: ['letters', topic, id],
    queryFn: () => ok(api.GET('/api/v1/dead-letters/{topic}/letters/{id}', { params: { path } })),
  });
  const { act, busy } = useAct();
  const letter = query.data;
  return (
    <Drawer open onClose={onClose} title={`Letter ${id}`}>
      {!letter ? (
        query.error ? (
          <Failure error={query.error} />
        ) : (
          <Loading />
        )
      ) : (
        <>
          <div className="filters">
            <Status value={letter.state} />
            <span className="grow" />
            <button
              type="button"
              className="btn primary"
              disabled={busy || letter.state === 'done'}
              onClick={() =>
                void act(
                  async () => {
                    const result = await ok(
                      api.POST('/api/v1/dead-letters/{topic}/redrive', {
                        params: { path: { topic } },
                        body: { letters: [id], limit: 1 },
                      }),
                    );
                    onRedriven(result);
                    return result.redriven === 1
                      ? 'It was redriven.'
                      : `It stays: ${result.passedOver[0]?.why ?? 'it was redriven before'}.`;
                  },
                  {
                    title: 'Redrive this letter?',
                    body: 'It goes back to the topic it came from and is handled again. If it is still wrong, it comes back.',
                    action: 'Redrive',
                  },
                )
              }
            >
              <RotateCcw size={14} aria-hidden /> Redrive
            </button>
            <button
              type="button"
              className="btn danger"
              disabled={busy || letter.state === 'done'}
              onClick={() =>
                void act(
                  async () => {
                    await ok(
                      api.POST('/api/v1/dead-letters/{topic}/purge', {
                        params: { path: { topic } },
                        body: { letters: [id], done: false, limit: 1 },
                      }),
                    );
                    return 'It was purged.';
                  },
                  {
                    title: 'Purge this letter?',
                    body: 'It does not wait any more, and Kafka deletes it. What it said is lost.',
                    action: 'Purge',
                    danger: true,
                    type: id,
                  },
                )
              }
            >
              <Trash2 size={14} aria-hidden /> Purge
            </button>
          </div>
          <Facts
            facts={[
              ['Reason', letter.code?.replaceAll('_', ' ') ?? 'none given'],
              ['Detail', letter.reason ?? <span className="muted">none</span>],
              ['Attempts', letter.attempts ?? <span className="muted">unknown</span>],
              [
                'Came from',
                letter.source ? (
                  <span className="mono">
                    {letter.source.topic} {letter.source.partition}:{letter.source.offset}
                  </span>
                ) : (
                  <span className="muted">unknown</span>
                ),
              ],
              ['Came', <Time at={letter.at} />],
              ['Key', <span className="mono">{letter.key ?? '–'}</span>],
            ]}
          />
          <h2>Headers</h2>
          <Code label="Headers">
            {letter.headersBase64
              .map(([name, value]) => `${name ?? ''}: ${new TextDecoder().decode(fromBase64(value ?? ''))}`)
              .join('\n') || 'none'}
          </Code>
          <h2>Value as text</h2>
          <Code label="Value as text">
            {letter.valueBase64 === null
              ? 'null'
              : pretty(new TextDecoder().decode(fromBase64(letter.valueBase64)))}
          </Code>
          <h2>Value as bytes</h2>
          <Code label="Value in hexadecimal" hex>
            {letter.valueBase64 === null ? 'null' : hexDump(fromBase64(letter.valueBase64))}
          </Code>
        </>
      )}
    </Drawer>
  );
}
