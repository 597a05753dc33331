import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { FastForward, Square, Wrench } from 'lucide-react';
import { api, ok, proposed, type Schemas } from '../lib/api';
import { exact, readable, relative, shortDate } from '../lib/format';
import { useSession } from '../lib/session';
import { Code, Failure, Loading, Money, Note, Panel, Status, useNow, Workflow } from './basics';
import { useAct } from './dialogs';
import { PAGE_OF } from './places';
import { PlainTable } from './plain-table';

type Timeline = Schemas['Timeline'];
type Kind = Schemas['SubjectRef']['kind'];

/** A link to the page of a thing. */
export function Subject({ kind, id, children }: { kind: Kind; id: string; children?: React.ReactNode }) {
  return (
    <Link to={PAGE_OF[kind] as never} params={{ id } as never}>
      {children ?? (
        <>
          {kind} <span className="mono">{id.length > 20 ? `${id.slice(0, 8)}…` : id}</span>
        </>
      )}
    </Link>
  );
}

export const useTimeline = (id: string) =>
  useQuery({
    queryKey: ['timeline', id],
    queryFn: () => ok(api.GET('/api/v1/timeline/{id}', { params: { path: { id } } })),
    refetchInterval: 5_000,
  });

/** Why it is in its state, what will happen, and everything that happened. */
export function TimelineView({ id }: { id: string }) {
  const query = useTimeline(id);
  if (query.isPending)
    return (
      <Panel title="Timeline">
        <Loading />
      </Panel>
    );
  if (!query.data)
    return (
      <Panel title="Timeline">
        <Failure error={query.error} retry={() => void query.refetch()} />
      </Panel>
    );
  return <TimelinePanels timeline={query.data} />;
}

function TimelinePanels({ timeline }: { timeline: Timeline }) {
  const now = useNow();
  const happened = timeline.happened.toReversed();
  return (
    <>
      <Panel title="Why">
        <p className="why">{readable(timeline.why)}</p>
      </Panel>
      <section className="panel" aria-label="Timeline">
        <header>
          <h2 className="grow">Timeline</h2>
          <span className="muted">
            {timeline.willHappen.length === 0
              ? 'Nothing more will happen by itself'
              : `${timeline.willHappen.length} to come`}
          </span>
        </header>
        <ol className="line">
          {timeline.willHappen.toReversed().map((next, i) => (
            <Future key={i} next={next} now={now} page={timeline.subject.id} />
          ))}
          <li className="now">
            <span className="when">now</span>
            <span>
              {timeline.willHappen.length === 0
                ? 'Settled: nothing waits'
                : 'What is above has not happened yet'}
            </span>
          </li>
          {happened.map((entry, i) => (
            <Past
              key={i}
              entry={entry}
              now={now}
              page={timeline.subject.id}
              own={timeline.subject.workflowId}
            />
          ))}
        </ol>
      </section>
      {timeline.notes.length > 0 && (
        <Note tone="info">
          {timeline.notes.map((note) => (
            <p key={note}>{note}</p>
          ))}
        </Note>
      )}
    </>
  );
}

const EFFECTS = { hurry: FastForward, stop: Square, mend: Wrench };

function Future({ next, now, page }: { next: Timeline['willHappen'][number]; now: number; page: string }) {
  const { act, busy } = useAct();
  const { mayAct } = useSession();
  return (
    <li className="future">
      {next.at ? (
        <time dateTime={next.at} title={exact(next.at)}>
          {relative(next.at, now)}
        </time>
      ) : (
        <span className="when">waits</span>
      )}
      <div>
        <div className="what">
          <span>{readable(next.what)}</span>
        </div>
        <div className="sub">
          <span>waits for {next.waitsFor === 'time' ? 'its time' : `the ${next.waitsFor}`}</span>
          {next.subject.id !== page && <Subject {...next.subject} />}
          {next.at && <span>{shortDate(next.at)}</span>}
        </div>
        <div className="acts">
          {next.actions.map((action) => {
            const Icon = EFFECTS[action.effect];
            const { method, path } = action;
            return method !== null && method !== 'GET' && path !== null && !path.endsWith('/evidence') ? (
              <button
                key={action.label}
                type="button"
                className="btn small"
                disabled={busy || !mayAct}
                onClick={() =>
                  void act(
                    async () => {
                      await proposed(method, path, action.body);
                      return `${action.label}: done.`;
                    },
                    {
                      title: `${action.label}?`,
                      body: (
                        <>
                          <p>It changes this: {next.what}</p>
                          <p className="muted">
                            The same in a terminal: <code>{action.command ?? `${method} ${path}`}</code>
                          </p>
                        </>
                      ),
                      action: action.label,
                      danger: action.effect === 'stop',
                    },
                  )
                }
              >
                <Icon size={12} aria-hidden /> {action.label}
              </button>
            ) : (
              <span key={action.label} className="muted">
                {action.label}
                {action.command && (
                  <>
                    : <code>{action.command}</code>
                  </>
                )}
              </span>
            );
          })}
        </div>
      </div>
    </li>
  );
}

function Past({
  entry,
  now,
  page,
  own,
}: {
  entry: Timeline['happened'][number];
  now: number;
  page: string;
  own: string | null;
}) {
  const { details } = entry;
  // Temporal's events name their workflow first; its id is long, and stands below.
  const workflow =
    entry.source === 'workflow'
      ? (/^(?<id>\S+\/\S+): (?<what>.+)$/s.exec(entry.what)?.groups as
          { id: string; what: string } | undefined)
      : undefined;
  return (
    <li className={entry.level}>
      <time dateTime={entry.at} title={exact(entry.at)}>
        {relative(entry.at, now)}
      </time>
      <div>
        <div className="what">
          <span>{readable(workflow ? workflow.what : entry.what)}</span>
          <span className="tag">{entry.source.replace('_', ' ')}</span>
        </div>
        <div className="sub">
          <span>{shortDate(entry.at)}</span>
          {entry.subject && entry.subject.id !== page && <Subject {...entry.subject} />}
          {workflow && workflow.id !== own && <span className="mono">{workflow.id}</span>}
        </div>
        {Object.keys(details).length > 0 && (
          <details>
            <summary>Details</summary>
            <Code label={`Details of: ${entry.what}`}>{JSON.stringify(details, null, 2)}</Code>
          </details>
        )}
      </div>
    </li>
  );
}

/** What stands beside a timeline: facts of the subject, and what belongs to it. */
export function SubjectFacts({ id }: { id: string }) {
  const { data } = useTimeline(id);
  if (!data) return null;
  const { subject, related } = data;
  return (
    <>
      <Panel title="Workflow">
        <Workflow id={subject.workflowId} />
        {subject.amount !== null && (
          <p className="muted">
            <Money amount={subject.amount} currency={subject.currency} />
          </p>
        )}
      </Panel>
      {related.length > 0 && (
        <Panel title="Belongs to it" flush>
          <PlainTable
            rows={related}
            keyOf={({ kind, id, relation }) => `${kind} ${id} ${relation}`}
            columns={[
              [
                null,
                ({ kind, id, relation }) => (
                  <>
                    <Subject kind={kind} id={id} />
                    <div className="muted">{relation}</div>
                  </>
                ),
              ],
              [null, ({ status }) => status && <Status value={status} />, 'right'],
            ]}
          />
        </Panel>
      )}
    </>
  );
}
