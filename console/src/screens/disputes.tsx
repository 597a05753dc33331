import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { FileUp, Plus, Trash2 } from 'lucide-react';
import { useState } from 'react';
import { useRouteParam } from '../ui/route-param';
import { api, ok, type Schemas } from '../lib/api';
import { useSession } from '../lib/session';
import { Code, Empty, Facts, Head, Id, Money, Panel, Status, Time, Unready } from '../ui/basics';
import { useAct } from '../ui/dialogs';
import { Filters, useFilters } from '../ui/filters';
import { column, idColumn, List, usePages } from '../ui/table';
import { Subject, SubjectFacts, TimelineView } from '../ui/timeline';

type Dispute = Schemas['Dispute'];

const COLUMNS = [
  idColumn<Dispute>('/disputes/$id', 'minmax(80px, 1fr)'),
  column<Dispute>('status', 'Status', ({ status }) => <Status value={status} />, { width: '122px' }),
  column<Dispute>(
    'due',
    'Evidence due',
    ({ evidenceDueAt, status }) =>
      status === 'opened' ? <Time at={evidenceDueAt} /> : <span className="muted">–</span>,
    { width: '108px' },
  ),
  column<Dispute>(
    'amount',
    'Amount',
    ({ amount, currency }) => <Money amount={amount} currency={currency} />,
    { width: 'minmax(100px, 140px)', right: true },
  ),
  column<Dispute>('user', 'User', ({ userId }) => userId, { wide: true }),
  column<Dispute>('reason', 'Reason', ({ reason }) => reason ?? <span className="muted">–</span>, {
    wide: true,
  }),
  column<Dispute>('opened', 'Opened', ({ openedAt }) => <Time at={openedAt} />, {
    width: '96px',
    right: true,
    wide: true,
  }),
];

export function Disputes() {
  const [search] = useFilters();
  const sort = search['sort'] === 'newest' || search['status'] ? 'newest' : 'due';
  const pages = usePages<Dispute>(
    ['disputes', search],
    (cursor) =>
      ok(
        api.GET('/api/v1/disputes', {
          params: {
            query: { limit: 100, cursor, sort, status: search['status'] as Dispute['status'] | undefined },
          },
        }),
      ),
    5_000,
  );
  return (
    <div className="page fill">
      <Head title="Disputes">
        {sort === 'due'
          ? 'Those that wait for evidence; the one that is due first is at the top.'
          : 'Newest first.'}
      </Head>
      <Filters
        specs={[
          { name: 'sort', label: 'Show', kind: 'choice', options: ['newest'] },
          {
            name: 'status',
            label: 'Status',
            kind: 'choice',
            options: ['opened', 'under_review', 'won', 'lost', 'expired'],
          },
        ]}
      />
      <List
        label="disputes"
        pages={pages}
        columns={COLUMNS}
        keyOf={({ id }) => id}
        empty={
          <Empty title={sort === 'due' ? 'No dispute waits for evidence' : 'No dispute fits'}>
            {sort === 'due' ? 'Choose “newest” to see all of them.' : 'Change or clear the filters.'}
          </Empty>
        }
      />
    </div>
  );
}

export function Dispute() {
  const id = useRouteParam('id');
  const query = useQuery({
    queryKey: ['disputes', id],
    queryFn: () => ok(api.GET('/api/v1/disputes/{id}', { params: { path: { id } } })),
    refetchInterval: 5_000,
  });
  if (!query.data) return <Unready query={query} />;
  const dispute = query.data;
  return (
    <div className="page">
      <nav className="crumb" aria-label="Where this is">
        <Link to="/disputes">Disputes</Link>
      </nav>
      <Head
        title={
          <>
            Dispute of <Money amount={dispute.amount} currency={dispute.currency} />
          </>
        }
        actions={<Status value={dispute.status} />}
      />
      <div className="cols">
        <div>
          {dispute.evidence ? (
            <Panel
              title="Evidence"
              actions={
                <span className="muted">
                  by {dispute.evidence.submittedBy}, <Time at={dispute.evidence.submittedAt} />
                </span>
              }
            >
              <Code label="Evidence">{dispute.evidence.text}</Code>
              <ul>
                {dispute.evidence.documents.map(({ name, url }) => (
                  <li key={url}>
                    <a href={url} rel="noreferrer" target="_blank">
                      {name}
                    </a>
                  </li>
                ))}
              </ul>
            </Panel>
          ) : dispute.status === 'opened' ? (
            <EvidenceForm id={id} due={dispute.evidenceDueAt} />
          ) : null}
          <TimelineView id={id} />
        </div>
        <div>
          <Panel title="Dispute">
            <Facts
              facts={[
                ['Id', <Id value={dispute.id} />],
                ['Order', <Subject kind="order" id={dispute.orderId} />],
                [
                  'User',
                  <Link to="/users/$id" params={{ id: dispute.userId }}>
                    {dispute.userId}
                  </Link>,
                ],
                ['Provider', dispute.provider],
                ['Reason', dispute.reason ?? <span className="muted">none</span>],
                ['Not covered', <Money amount={dispute.uncovered} currency={dispute.currency} />],
                ['Evidence due', <Time at={dispute.evidenceDueAt} />],
                ['Opened', <Time at={dispute.openedAt} />],
                ['Closed', <Time at={dispute.closedAt} />],
              ]}
            />
          </Panel>
          <SubjectFacts id={id} />
        </div>
      </div>
    </div>
  );
}

const TEXT_FILE_MAX_BYTES = 20_000;

function EvidenceForm({ id, due }: { id: string; due: string }) {
  const { act, busy } = useAct();
  const { mayAct } = useSession();
  const [text, setText] = useState('');
  const [documents, setDocuments] = useState<{ name: string; url: string }[]>([]);
  const [problem, setProblem] = useState('');
  const change = (at: number, part: Partial<{ name: string; url: string }>) =>
    setDocuments((before) => before.map((each, i) => (i === at ? { ...each, ...part } : each)));
  return (
    <Panel
      title="Submit evidence"
      actions={
        <span className="muted">
          due <Time at={due} />
        </span>
      }
    >
      <form
        className="field"
        style={{ gap: 10 }}
        onSubmit={(event) => {
          event.preventDefault();
          void act(
            async () => {
              await ok(
                api.POST('/api/v1/disputes/{id}/evidence', {
                  params: { path: { id } },
                  body: { text, documents },
                }),
              );
              return 'The evidence was submitted; the dispute is under review.';
            },
            {
              title: 'Submit this evidence?',
              body: 'It can be submitted once and not changed afterwards. The dispute goes under review.',
              action: 'Submit evidence',
            },
          );
        }}
      >
        <label className="field">
          <span>What happened</span>
          <textarea
            className="input"
            rows={6}
            required
            value={text}
            onChange={(event) => setText(event.target.value)}
          />
        </label>
        {documents.map((document, i) => (
          <div key={i} className="filters">
            <label>
              Name{' '}
              <input
                className="input"
                required
                value={document.name}
                onChange={(event) => change(i, { name: event.target.value })}
              />
            </label>
            <label>
              Address{' '}
              <input
                className="input"
                required
                type="url"
                placeholder="https://…"
                value={document.url}
                onChange={(event) => change(i, { url: event.target.value })}
              />
            </label>
            <button
              type="button"
              className="btn plain icon"
              aria-label={`Remove document ${i + 1}`}
              onClick={() => setDocuments((before) => before.filter((_, at) => at !== i))}
            >
              <Trash2 size={14} />
            </button>
          </div>
        ))}
        {problem && (
          <p className="bad-text" role="alert">
            {problem}
          </p>
        )}
        <div className="filters">
          <button
            type="button"
            className="btn"
            disabled={documents.length >= 10}
            onClick={() => setDocuments((before) => [...before, { name: '', url: '' }])}
          >
            <Plus size={14} aria-hidden /> Link a document
          </button>
          <label className="btn">
            <FileUp size={14} aria-hidden /> Take text from a file
            <input
              type="file"
              accept=".txt,.md,.csv,.json,text/*"
              className="hidden"
              onChange={(event) => {
                const file = event.target.files?.[0];
                if (!file) return;
                if (file.size > TEXT_FILE_MAX_BYTES)
                  return setProblem('The file is larger than 20,000 bytes; link it as a document instead.');
                setProblem('');
                return void file
                  .text()
                  .then((content) => setText((before) => (before ? `${before}\n\n${content}` : content)));
              }}
            />
          </label>
          <span className="grow" />
          <button type="submit" className="btn primary" disabled={busy || !mayAct}>
            Submit evidence
          </button>
        </div>
      </form>
    </Panel>
  );
}
