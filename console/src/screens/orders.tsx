import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { Undo2 } from 'lucide-react';
import { useState } from 'react';
import { useRouteParam } from '../ui/route-param';
import { api, ok, type Schemas } from '../lib/api';
import { useSession } from '../lib/session';
import { Empty, Facts, Head, Id, Money, Panel, Status, Time, Unready } from '../ui/basics';
import { Modal, useAct } from '../ui/dialogs';
import { Filters, sinceOf, useFilters } from '../ui/filters';
import { column, idColumn, List, usePages } from '../ui/table';
import { SubjectFacts, TimelineView } from '../ui/timeline';

type Order = Schemas['Order'];

const COLUMNS = [
  idColumn<Order>('/orders/$id', 'minmax(96px, 1.2fr)'),
  column<Order>('status', 'Status', ({ status }) => <Status value={status} />, { width: '112px' }),
  column<Order>('amount', 'Amount', ({ amount, currency }) => <Money amount={amount} currency={currency} />, {
    width: 'minmax(110px, 140px)',
    right: true,
  }),
  column<Order>('user', 'User', ({ userId }) => userId, { wide: true }),
  column<Order>('paid', 'Paid by', ({ paymentMethod }) => paymentMethod, { width: '90px', wide: true }),
  column<Order>('what', 'Description', ({ description }) => description || <span className="muted">–</span>, {
    wide: true,
  }),
  column<Order>('created', 'Created', ({ createdAt }) => <Time at={createdAt} />, {
    width: '96px',
    right: true,
    wide: true,
  }),
];

export function Orders() {
  const [search] = useFilters();
  const since = sinceOf(search['since']);
  const pages = usePages<Order>(
    ['orders', search, since],
    (cursor) =>
      ok(
        api.GET('/api/v1/orders', {
          params: {
            query: {
              limit: 100,
              cursor,
              since,
              userId: search['userId'] || undefined,
              status: search['status'] as Order['status'] | undefined,
              paymentMethod: search['paymentMethod'] as Order['paymentMethod'] | undefined,
            },
          },
        }),
      ),
    5_000,
  );
  return (
    <div className="page fill">
      <Head title="Orders" />
      <Filters
        specs={[
          {
            name: 'status',
            label: 'Status',
            kind: 'choice',
            options: ['NEW', 'FINISHED', 'CANCELLED', 'CHARGED_BACK'],
          },
          { name: 'userId', label: 'User', kind: 'text' },
          { name: 'paymentMethod', label: 'Paid by', kind: 'choice', options: ['balance', 'provider'] },
          { name: 'since', label: 'Created', kind: 'time' },
        ]}
      />
      <List
        label="orders"
        pages={pages}
        columns={COLUMNS}
        keyOf={({ id }) => id}
        empty={
          <Empty title="No order fits">Change or clear the filters. Orders are placed by POST /orders.</Empty>
        }
      />
    </div>
  );
}

export function Order() {
  const id = useRouteParam('id');
  const query = useQuery({
    queryKey: ['orders', id],
    queryFn: () => ok(api.GET('/api/v1/orders/{id}', { params: { path: { id } } })),
    refetchInterval: 5_000,
  });
  const { mayAct } = useSession();
  const [refunding, setRefunding] = useState(false);
  if (!query.data) return <Unready query={query} />;
  const order = query.data;
  const { currency } = order;
  return (
    <div className="page">
      <nav className="crumb" aria-label="Where this is">
        <Link to="/orders">Orders</Link>
      </nav>
      <Head
        title={
          <>
            Order of <Money amount={order.amount} currency={currency} />
          </>
        }
        actions={
          <>
            <Status value={order.status} />
            {order.status === 'FINISHED' && (
              <button type="button" className="btn" disabled={!mayAct} onClick={() => setRefunding(true)}>
                <Undo2 size={14} aria-hidden /> Refund
              </button>
            )}
          </>
        }
      />
      <div className="cols">
        <div>
          <TimelineView id={id} />
        </div>
        <div>
          <Panel title="Order">
            <Facts
              facts={[
                ['Id', <Id value={order.id} />],
                [
                  'User',
                  <Link to="/users/$id" params={{ id: order.userId }}>
                    {order.userId}
                  </Link>,
                ],
                ['Description', order.description || <span className="muted">none</span>],
                ['Paid by', order.paymentMethod],
                ['Reason', order.failureCode?.replaceAll('_', ' ') ?? <span className="muted">none</span>],
                ['Refunded', <Money amount={order.refunded} currency={currency} />],
                ['In dispute', <Money amount={order.disputed} currency={currency} />],
                ['Charged back', <Money amount={order.chargedBack} currency={currency} />],
                ['Created', <Time at={order.createdAt} />],
                [order.decidedAt ? 'Decided' : 'Expires', <Time at={order.decidedAt ?? order.expiresAt} />],
              ]}
            />
          </Panel>
          <SubjectFacts id={id} />
        </div>
      </div>
      <RefundForm id={id} currency={currency} open={refunding} onClose={() => setRefunding(false)} />
    </div>
  );
}

function RefundForm({
  id,
  currency,
  open,
  onClose,
}: {
  id: string;
  currency: string;
  open: boolean;
  onClose: () => void;
}) {
  const { act, busy } = useAct();
  const [amount, setAmount] = useState('');
  const [reason, setReason] = useState('');
  return (
    <Modal open={open} onClose={onClose} title="Refund this order">
      <p>The amount goes back to its user’s balance at once. It can’t be taken back.</p>
      <form
        className="field"
        style={{ gap: 12 }}
        onSubmit={(event) => {
          event.preventDefault();
          void act(async () => {
            const refund = await ok(
              api.POST('/api/v1/orders/{id}/refunds', {
                params: { path: { id } },
                body: { ...(amount ? { amount } : {}), ...(reason ? { reason } : {}) },
              }),
            );
            return `${refund.amount} ${refund.currency} were refunded.`;
          }).then((done) => done && onClose());
        }}
      >
        <label className="field">
          <span>Amount in {currency}</span>
          <input
            className="input"
            inputMode="decimal"
            value={amount}
            onChange={(event) => setAmount(event.target.value)}
          />
          <small>All that can be refunded when left empty.</small>
        </label>
        <label className="field">
          <span>Reason</span>
          <input className="input" value={reason} onChange={(event) => setReason(event.target.value)} />
        </label>
        <div className="foot">
          <button type="button" className="btn" onClick={onClose}>
            Back
          </button>
          <button type="submit" className="btn primary" disabled={busy}>
            Refund
          </button>
        </div>
      </form>
    </Modal>
  );
}
