import { useQuery } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { Play, Plus } from 'lucide-react';
import { useState } from 'react';
import { useRouteParam } from '../ui/route-param';
import { api, ok, type Schemas } from '../lib/api';
import { count, duration } from '../lib/format';
import { useSession } from '../lib/session';
import { Chip, Empty, Failure, Head, Loading, Money, Panel, Status, Time, Unready } from '../ui/basics';
import { Modal, useAct } from '../ui/dialogs';

export function Runs() {
  const runs = useQuery({
    queryKey: ['runs'],
    queryFn: () => ok(api.GET('/api/v1/reconciliation-runs', { params: { query: { limit: 50 } } })),
    refetchInterval: 10_000,
  });
  const { act, busy } = useAct();
  const { mayAct } = useSession();
  const navigate = useNavigate();
  return (
    <div className="page">
      <Head
        title="Reconciliation"
        actions={
          <button
            type="button"
            className="btn primary"
            disabled={busy || !mayAct}
            onClick={() =>
              void act(async () => {
                const run = await ok(api.POST('/api/v1/reconciliation-runs', {}));
                void navigate({ to: '/reconciliation/$id', params: { id: run.id } });
                return run.clean ? 'Everything agrees.' : `${run.found} findings.`;
              })
            }
          >
            <Play size={14} aria-hidden /> Run it now
          </button>
        }
      >
        Balances, entries, holds, orders and providers’ totals, proved against each other.
      </Head>
      <Panel title="Runs" flush>
        {runs.isPending ? (
          <Loading />
        ) : !runs.data ? (
          <Failure error={runs.error} retry={() => void runs.refetch()} />
        ) : runs.data.items.length === 0 ? (
          <Empty title="It has not run yet">Run it now; the schedule runs it each day.</Empty>
        ) : (
          <div className="tablewrap">
            <table className="plain">
              <thead>
                <tr>
                  <th>When</th>
                  <th>Result</th>
                  <th className="right">Findings</th>
                  <th>Started by</th>
                  <th className="right">Took</th>
                </tr>
              </thead>
              <tbody>
                {runs.data.items.map((run) => (
                  <tr key={run.id}>
                    <td>
                      <Link to="/reconciliation/$id" params={{ id: run.id }}>
                        <Time at={run.at} />
                      </Link>
                    </td>
                    <td>{run.clean ? <Chip tone="ok">clean</Chip> : <Chip tone="bad">findings</Chip>}</td>
                    <td className="right">{count(run.found)}</td>
                    <td className="mono">{run.startedBy}</td>
                    <td className="right">{duration(run.durationMs)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Panel>
      <Corrections />
    </div>
  );
}

export function Run() {
  const id = useRouteParam('id');
  const query = useQuery({
    queryKey: ['runs', id],
    queryFn: () => ok(api.GET('/api/v1/reconciliation-runs/{id}', { params: { path: { id } } })),
  });
  if (!query.data) return <Unready query={query} />;
  const { report, ...run } = query.data;
  return (
    <div className="page">
      <nav className="crumb" aria-label="Where this is">
        <Link to="/reconciliation">Reconciliation</Link>
      </nav>
      <Head
        title={run.clean ? 'Everything agrees' : `${count(run.found)} findings`}
        actions={run.clean ? <Chip tone="ok">clean</Chip> : <Chip tone="bad">findings</Chip>}
      >
        Run <Time at={run.at} /> by {run.startedBy}, in {duration(run.durationMs)}.
      </Head>
      <Panel title="Checks" flush>
        <div className="tablewrap">
          <table className="plain">
            <thead>
              <tr>
                <th>Check</th>
                <th>What must hold</th>
                <th className="right">Found</th>
              </tr>
            </thead>
            <tbody>
              {report.checks.map((check) => (
                <tr key={check.name}>
                  <td>
                    <b>{check.name.replaceAll('_', ' ')}</b>
                  </td>
                  <td>
                    {check.rule}
                    {check.findings.map((finding) => (
                      <div key={finding.subject + finding.detail} className="bad-text">
                        <span className="mono">{finding.subject}</span> {finding.detail}
                      </div>
                    ))}
                  </td>
                  <td className="right">
                    {check.found === 0 ? (
                      <span className="muted">0</span>
                    ) : (
                      <span className="bad-text">{count(check.found)}</span>
                    )}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </Panel>
      {!run.clean && <Corrections runId={id} />}
      <Panel title="Totals by provider and day" flush>
        {report.dailyTotals.length === 0 ? (
          <Empty title="Nothing was settled" />
        ) : (
          <div className="tablewrap">
            <table className="plain">
              <thead>
                <tr>
                  <th>Day</th>
                  <th>Provider</th>
                  <th>Kind</th>
                  <th className="right">Succeeded</th>
                  <th className="right">Failed</th>
                  <th className="right">Expired</th>
                  <th className="right">Amount</th>
                </tr>
              </thead>
              <tbody>
                {report.dailyTotals.map((day) => (
                  <tr key={`${day.day} ${day.provider} ${day.type} ${day.currency}`}>
                    <td>{day.day}</td>
                    <td>{day.provider}</td>
                    <td>{day.type}</td>
                    <td className="right">{count(day.succeeded)}</td>
                    <td className="right">{count(day.failed)}</td>
                    <td className="right">{count(day.expired)}</td>
                    <td className="right">
                      <Money amount={day.succeededAmount} currency={day.currency} />
                    </td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </Panel>
    </div>
  );
}

function Corrections({ runId }: { runId?: string }) {
  const query = useQuery({
    queryKey: ['corrections'],
    queryFn: () => ok(api.GET('/api/v1/corrections', { params: { query: { limit: 50 } } })),
    refetchInterval: 10_000,
  });
  const { act, busy } = useAct();
  const { mayAdminister, session } = useSession();
  const [proposing, setProposing] = useState(false);
  const items = query.data?.items.filter((each) => runId === undefined || each.runId === runId) ?? [];
  const own = (correction: Schemas['Correction']) =>
    correction.proposedBy.replace(/^(console|token):/, '') === session.subject;
  const decide = (correction: Schemas['Correction'], verb: 'approve' | 'reject') =>
    act(
      async () => {
        const call =
          verb === 'approve'
            ? api.POST('/api/v1/corrections/{id}/approve', {
                params: { path: { id: correction.id } },
                body: { comment: '' },
              })
            : api.POST('/api/v1/corrections/{id}/reject', {
                params: { path: { id: correction.id } },
                body: { comment: '' },
              });
        const done = await ok(call);
        return `The correction is ${done.status}.`;
      },
      {
        title: verb === 'approve' ? 'Post this correction?' : 'Reject this correction?',
        body: (
          <p>
            {correction.direction === 'credit' ? 'Credits' : 'Debits'}{' '}
            <Money amount={correction.amount} currency={correction.currency} />{' '}
            {correction.direction === 'credit' ? 'to' : 'from'} {correction.userId}: {correction.reason}.{' '}
            {verb === 'approve' ? 'The money moves at once, under your name.' : 'No money moves.'}
          </p>
        ),
        action: verb === 'approve' ? 'Post it' : 'Reject it',
        danger: verb === 'reject',
      },
    );
  return (
    <Panel
      title="Corrections"
      flush
      actions={
        <button
          type="button"
          className="btn small"
          disabled={!mayAdminister}
          onClick={() => setProposing(true)}
        >
          <Plus size={13} aria-hidden /> Propose one
        </button>
      }
    >
      {query.isPending ? (
        <Loading rows={2} />
      ) : query.error && !query.data ? (
        <Failure error={query.error} />
      ) : items.length === 0 ? (
        <Empty title="No correction">
          A movement that corrects a finding is proposed by one administrator and posted by another.
        </Empty>
      ) : (
        <div className="tablewrap">
          <table className="plain">
            <thead>
              <tr>
                <th>Status</th>
                <th>User</th>
                <th className="right">Amount</th>
                <th>Reason</th>
                <th>Proposed by</th>
                <th>Decided by</th>
                <th>
                  <span className="hidden">Actions</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {items.map((correction) => (
                <tr key={correction.id}>
                  <td>
                    <Status value={correction.status} />
                  </td>
                  <td>
                    <Link to="/ledger/$id" params={{ id: correction.accountId }}>
                      {correction.userId}
                    </Link>
                  </td>
                  <td className="right">
                    {correction.direction === 'debit' && '−'}
                    <Money amount={correction.amount} currency={correction.currency} />
                  </td>
                  <td>{correction.reason}</td>
                  <td className="mono">{correction.proposedBy}</td>
                  <td className="mono">{correction.decidedBy ?? <span className="muted">–</span>}</td>
                  <td className="right nowrap">
                    {correction.status === 'proposed' &&
                      (own(correction) ? (
                        <span className="muted">waits for another administrator</span>
                      ) : (
                        <>
                          <button
                            type="button"
                            className="btn small"
                            disabled={busy || !mayAdminister}
                            onClick={() => void decide(correction, 'approve')}
                          >
                            Approve
                          </button>{' '}
                          <button
                            type="button"
                            className="btn small"
                            disabled={busy || !mayAdminister}
                            onClick={() => void decide(correction, 'reject')}
                          >
                            Reject
                          </button>
                        </>
                      ))}
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
      <Propose open={proposing} onClose={() => setProposing(false)} {...(runId ? { runId } : {})} />
    </Panel>
  );
}

function Propose({ open, onClose, runId }: { open: boolean; onClose: () => void; runId?: string }) {
  const { act, busy } = useAct();
  const [form, setForm] = useState({
    accountId: '',
    direction: 'credit' as 'credit' | 'debit',
    amount: '',
    reason: '',
  });
  return (
    <Modal open={open} onClose={onClose} title="Propose a correction">
      <p>Nothing moves until another administrator approves it.</p>
      <form
        className="field"
        style={{ gap: 12 }}
        onSubmit={(event) => {
          event.preventDefault();
          void act(async () => {
            await ok(api.POST('/api/v1/corrections', { body: { ...form, ...(runId ? { runId } : {}) } }));
            return 'The correction is proposed.';
          }).then((done) => done && onClose());
        }}
      >
        <label className="field">
          <span>Account</span>
          <input
            className="input mono"
            required
            value={form.accountId}
            onChange={(event) => setForm({ ...form, accountId: event.target.value.trim() })}
          />
          <small>Its id, from the ledger.</small>
        </label>
        <label className="field">
          <span>Direction</span>
          <select
            className="input"
            value={form.direction}
            onChange={(event) => setForm({ ...form, direction: event.target.value as 'credit' | 'debit' })}
          >
            <option value="credit">credit: the user gets the amount</option>
            <option value="debit">debit: the user gives the amount</option>
          </select>
        </label>
        <label className="field">
          <span>Amount</span>
          <input
            className="input"
            inputMode="decimal"
            required
            value={form.amount}
            onChange={(event) => setForm({ ...form, amount: event.target.value })}
          />
        </label>
        <label className="field">
          <span>Reason</span>
          <input
            className="input"
            required
            value={form.reason}
            onChange={(event) => setForm({ ...form, reason: event.target.value })}
          />
        </label>
        <div className="foot">
          <button type="button" className="btn" onClick={onClose}>
            Back
          </button>
          <button type="submit" className="btn primary" disabled={busy}>
            Propose
          </button>
        </div>
      </form>
    </Modal>
  );
}
