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
import { PlainTable } from '../ui/plain-table';

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
          <PlainTable
            rows={runs.data.items}
            keyOf={({ id }) => id}
            columns={[
              [
                'When',
                (run) => (
                  <Link to="/reconciliation/$id" params={{ id: run.id }}>
                    <Time at={run.at} />
                  </Link>
                ),
              ],
              [
                'Result',
                ({ clean }) => (clean ? <Chip tone="ok">clean</Chip> : <Chip tone="bad">findings</Chip>),
              ],
              ['Findings', ({ found }) => count(found), 'right'],
              ['Started by', ({ startedBy }) => startedBy, 'mono'],
              ['Took', ({ durationMs }) => duration(durationMs), 'right'],
            ]}
          />
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
        <PlainTable
          rows={report.checks}
          keyOf={({ name }) => name}
          columns={[
            ['Check', ({ name }) => <b>{name.replaceAll('_', ' ')}</b>],
            [
              'What must hold',
              ({ rule, findings }) => (
                <>
                  {rule}
                  {findings.map(({ subject, detail }) => (
                    <div key={subject + detail} className="bad-text">
                      <span className="mono">{subject}</span> {detail}
                    </div>
                  ))}
                </>
              ),
            ],
            [
              'Found',
              ({ found }) => <span className={found === 0 ? 'muted' : 'bad-text'}>{count(found)}</span>,
              'right',
            ],
          ]}
        />
      </Panel>
      {!run.clean && <Corrections runId={id} />}
      <Panel title="Totals by provider and day" flush>
        {report.dailyTotals.length === 0 ? (
          <Empty title="Nothing was settled" />
        ) : (
          <PlainTable
            rows={report.dailyTotals}
            keyOf={({ day, provider, type, currency }) => `${day} ${provider} ${type} ${currency}`}
            columns={[
              ['Day', ({ day }) => day],
              ['Provider', ({ provider }) => provider],
              ['Kind', ({ type }) => type],
              ['Succeeded', ({ succeeded }) => count(succeeded), 'right'],
              ['Failed', ({ failed }) => count(failed), 'right'],
              ['Expired', ({ expired }) => count(expired), 'right'],
              [
                'Amount',
                ({ succeededAmount, currency }) => <Money amount={succeededAmount} currency={currency} />,
                'right',
              ],
            ]}
          />
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
        <PlainTable
          rows={items}
          keyOf={({ id }) => id}
          columns={[
            ['Status', ({ status }) => <Status value={status} />],
            [
              'User',
              ({ accountId, userId }) => (
                <Link to="/ledger/$id" params={{ id: accountId }}>
                  {userId}
                </Link>
              ),
            ],
            [
              'Amount',
              ({ direction, amount, currency }) => (
                <>
                  {direction === 'debit' && '−'}
                  <Money amount={amount} currency={currency} />
                </>
              ),
              'right',
            ],
            ['Reason', ({ reason }) => reason],
            ['Proposed by', ({ proposedBy }) => proposedBy, 'mono'],
            ['Decided by', ({ decidedBy }) => decidedBy ?? <span className="muted">–</span>, 'mono'],
            [
              <span className="hidden">Actions</span>,
              (correction) =>
                correction.status === 'proposed' &&
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
                )),
              'right nowrap',
            ],
          ]}
        />
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
