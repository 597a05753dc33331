import { Link } from '@tanstack/react-router';
import { useQuery } from '@tanstack/react-query';
import { useRouteParam } from '../ui/route-param';
import { api, ok, type Schemas } from '../lib/api';
import { Empty, Facts, Head, Id, Money, Panel, Status, Time, Unready } from '../ui/basics';
import { Filters, sinceOf, useFilters, type FilterSpec } from '../ui/filters';
import { column, idColumn, List, usePages } from '../ui/table';
import { SubjectFacts, TimelineView } from '../ui/timeline';

type Payment = Schemas['Payment'];

const PROVIDERS = ['decard', 'stripe', 'adyen', 'paypal', 'paytr'] as const;
const FILTERS: FilterSpec[] = [
  { name: 'status', label: 'Status', kind: 'choice', options: ['pending', 'succeeded', 'failed', 'expired'] },
  { name: 'userId', label: 'User', kind: 'text' },
  { name: 'provider', label: 'Provider', kind: 'choice', options: PROVIDERS },
  { name: 'since', label: 'Created', kind: 'time' },
];

const columns = (to: '/payments/$id' | '/payouts/$id') => [
  idColumn<Payment>(to, 'minmax(96px, 1.3fr)'),
  column<Payment>('status', 'Status', ({ status }) => <Status value={status} />, { width: '104px' }),
  column<Payment>(
    'amount',
    'Amount',
    ({ amount, currency }) => <Money amount={amount} currency={currency} />,
    { width: 'minmax(110px, 150px)', right: true },
  ),
  column<Payment>('user', 'User', ({ userId }) => userId, { wide: true }),
  column<Payment>('provider', 'Provider', ({ provider }) => provider, { width: '100px', wide: true }),
  column<Payment>(
    'why',
    'Reason',
    ({ failureCode }) => failureCode?.replaceAll('_', ' ') ?? <span className="muted">–</span>,
    { width: '150px', wide: true },
  ),
  column<Payment>('created', 'Created', ({ createdAt }) => <Time at={createdAt} />, {
    width: '96px',
    right: true,
    wide: true,
  }),
];

function PaymentList({ kind }: { kind: 'payments' | 'payouts' }) {
  const [search] = useFilters();
  const { status, userId, provider } = search;
  const since = sinceOf(search['since']);
  const pages = usePages<Payment>(
    [kind, search, since],
    (cursor) =>
      ok(
        api.GET(`/api/v1/${kind}`, {
          params: {
            query: {
              limit: 100,
              cursor,
              since,
              userId: userId || undefined,
              status: status as Payment['status'] | undefined,
              provider: PROVIDERS.find((each) => each === provider),
            },
          },
        }),
      ),
    5_000,
  );
  const one = kind === 'payments' ? 'payment' : 'payout';
  return (
    <div className="page fill">
      <Head title={kind === 'payments' ? 'Payments' : 'Payouts'} />
      <Filters specs={FILTERS} />
      <List
        label={kind}
        pages={pages}
        columns={columns(kind === 'payments' ? '/payments/$id' : '/payouts/$id')}
        keyOf={({ id }) => id}
        empty={
          <Empty title={`No ${one} fits`}>
            {Object.keys(search).length > 0
              ? 'Change or clear the filters.'
              : `A ${one} is created by POST /api/v1/${kind}; npm run demo creates some.`}
          </Empty>
        }
      />
    </div>
  );
}

export const Payments = () => <PaymentList kind="payments" />;
export const Payouts = () => <PaymentList kind="payouts" />;

export function Payment() {
  const id = useRouteParam('id');
  const kind = location.pathname.startsWith('/console/payouts') ? 'payouts' : 'payments';
  const query = useQuery({
    queryKey: [kind, id],
    queryFn: () => ok(api.GET(`/api/v1/${kind}/{id}`, { params: { path: { id } } })),
    refetchInterval: 5_000,
  });
  const one = kind === 'payments' ? 'Payment' : 'Payout';
  if (!query.data) return <Unready query={query} />;
  const payment = query.data;
  return (
    <div className="page">
      <nav className="crumb" aria-label="Where this is">
        <Link to={`/${kind}`}>{one}s</Link>
      </nav>
      <Head
        title={
          <>
            {one} of <Money amount={payment.amount} currency={payment.currency} />
          </>
        }
        actions={<Status value={payment.status} />}
      />
      <div className="cols">
        <div>
          <TimelineView id={id} />
        </div>
        <div>
          <Panel title={one}>
            <Facts
              facts={[
                ['Id', <Id value={payment.id} />],
                [
                  'User',
                  <Link to="/users/$id" params={{ id: payment.userId }}>
                    {payment.userId}
                  </Link>,
                ],
                ['Provider', payment.provider],
                ['Reason', payment.failureCode?.replaceAll('_', ' ') ?? <span className="muted">none</span>],
                ['Created', <Time at={payment.createdAt} />],
                [
                  payment.settledAt ? 'Settled' : 'Expires',
                  <Time at={payment.settledAt ?? payment.expiresAt} />,
                ],
              ]}
            />
          </Panel>
          <SubjectFacts id={id} />
        </div>
      </div>
    </div>
  );
}
