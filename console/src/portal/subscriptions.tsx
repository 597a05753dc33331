import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { Eye, FlaskConical, KeyRound } from 'lucide-react';
import { useState } from 'react';
import { api, ok, portalCall, type Schemas } from '../lib/api';
import {
  Code,
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
import { Modal, useAct } from '../ui/dialogs';
import { AttemptHealth } from '../ui/health';
import { PlainTable } from '../ui/plain-table';
import { useRouteParam } from '../ui/route-param';
import { usePortal } from './session';

type Subscription = Schemas['Subscription'];

export const useSubscriptions = () =>
  useQuery({
    queryKey: ['subscriptions'],
    queryFn: () => ok(api.GET('/api/v1/subscriptions')),
    refetchInterval: 10_000,
  });

/** All that the link shows; of one alone, that one. */
export function Subscriptions() {
  const query = useSubscriptions();
  if (!query.data) return <Unready query={query} />;
  const { items } = query.data;
  if (items.length === 1) return <Page subscription={items[0]!} />;
  return (
    <div className="page">
      <Head title="Subscriptions" />
      {items.length === 0 ? (
        <Empty title="There is nothing left">The subscriptions of this link have been deleted.</Empty>
      ) : (
        <Panel flush>
          <PlainTable
            stack
            rows={items}
            keyOf={({ id }) => id}
            columns={[
              [
                'URL',
                ({ id, url }) => (
                  <Link to="/subscriptions/$id" params={{ id }}>
                    {url}
                  </Link>
                ),
              ],
              ['State', ({ state }) => <Status value={state} />],
              ['Types', ({ eventTypes }) => eventTypes.join(', ')],
            ]}
          />
        </Panel>
      )}
    </div>
  );
}

export function Subscription() {
  const id = useRouteParam('id');
  const query = useSubscription(id);
  if (!query.data) return <Unready query={query} />;
  return <Page subscription={query.data} />;
}

const useSubscription = (id: string) =>
  useQuery({
    queryKey: ['subscriptions', id],
    queryFn: () => ok(api.GET('/api/v1/subscriptions/{id}', { params: { path: { id } } })),
    refetchInterval: 5_000,
  });

const STATES: Partial<Record<Subscription['state'], string>> = {
  failing: 'Attempts fail, and are repeated on the schedule.',
  paused: 'Nothing is sent until it is resumed. What is missed meanwhile can be sent then.',
  disabled: 'It answered 410 Gone, so nothing is sent until it is resumed.',
};

function Page({ subscription }: { subscription: Subscription }) {
  const { id, state, stateReason } = subscription;
  const { act, busy } = useAct();
  const { readOnly } = usePortal();
  const [secret, setSecret] = useState<{ value: string; until?: string | null } | undefined>();
  const path = { path: { id } };
  return (
    <div className="page">
      <Head
        title={subscription.url}
        actions={
          <>
            <Status value={state} />
            {!readOnly && (
              <>
                <button
                  type="button"
                  className="btn"
                  disabled={busy}
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
                  disabled={busy}
                  onClick={() =>
                    void act(
                      async () => {
                        const seen = await portalCall('POST', `v1/subscriptions/${id}/secret`);
                        setSecret({ value: (seen as { secret: string }).secret });
                        return 'It is noted that the secret was seen.';
                      },
                      {
                        title: 'Show the secret?',
                        body: 'Whoever knows it can sign webhooks that you take for ours. It is noted that it was seen.',
                        action: 'Show it',
                      },
                    )
                  }
                >
                  <Eye size={14} aria-hidden /> Show secret
                </button>
                <button
                  type="button"
                  className="btn"
                  disabled={busy}
                  onClick={() =>
                    void act(
                      async () => {
                        const made = await ok(
                          api.POST('/api/v1/subscriptions/{id}/rotate-secret', { params: path, body: {} }),
                        );
                        setSecret({ value: made.secret, until: made.previousSecretValidUntil });
                        return 'The secret was rotated.';
                      },
                      {
                        title: 'Give it a new secret?',
                        body: 'For 24 hours both secrets sign, so that you can change over without losing a webhook.',
                        action: 'Rotate the secret',
                      },
                    )
                  }
                >
                  <KeyRound size={14} aria-hidden /> Rotate secret
                </button>
              </>
            )}
          </>
        }
      />
      {state !== 'active' && (
        <Note tone={state === 'failing' ? 'warn' : 'bad'}>
          It is {state} <Time at={subscription.stateChangedAt} />
          {stateReason && ` (${stateReason.replaceAll('_', ' ')})`}. {STATES[state]}{' '}
          <Link to="/deliveries" search={{ subscriptionId: id, status: 'exhausted' }}>
            See what failed
          </Link>
        </Note>
      )}
      <div className="cols">
        <div>
          <AttemptHealth id={id} />
          <Latest id={id} />
        </div>
        <div>
          <Panel title="Subscription">
            <Facts
              facts={[
                ['Id', <Id value={id} />],
                ['Description', subscription.description || <span className="muted">none</span>],
                [
                  'Types',
                  subscription.eventTypes.map((type) => (
                    <span key={type}>
                      <span className="tag">{type}</span>{' '}
                    </span>
                  )),
                ],
                ['In order', subscription.ordered ? 'yes' : 'no'],
                [
                  'Rate limit',
                  subscription.rateLimitPerSecond === null ? (
                    <span className="muted">none</span>
                  ) : (
                    `${subscription.rateLimitPerSecond}/s`
                  ),
                ],
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
      <Modal open={secret !== undefined} onClose={() => setSecret(undefined)} title="The secret">
        {secret && (
          <>
            <p>Verify signatures with it, and keep it where only your code reads it.</p>
            <Code label="Secret">{secret.value}</Code>
            {secret.until && (
              <p className="muted">
                The secret before signs beside it, until <Time at={secret.until} />.
              </p>
            )}
            <div className="foot">
              <button type="button" className="btn primary" onClick={() => setSecret(undefined)}>
                Done
              </button>
            </div>
          </>
        )}
      </Modal>
    </div>
  );
}

const LATEST = 8;

function Latest({ id }: { id: string }) {
  const query = useQuery({
    queryKey: ['deliveries', 'latest', id],
    queryFn: () =>
      ok(api.GET('/api/v1/deliveries', { params: { query: { subscriptionId: id, limit: LATEST } } })),
    refetchInterval: 5_000,
  });
  return (
    <Panel title="Latest deliveries" flush>
      {!query.data ? (
        query.isPending ? (
          <Loading rows={3} />
        ) : (
          <Failure error={query.error} />
        )
      ) : query.data.items.length === 0 ? (
        <Empty title="Nothing yet">A test event shows whether your URL can be reached.</Empty>
      ) : (
        <PlainTable
          rows={query.data.items}
          keyOf={({ id }) => id}
          columns={[
            ['Status', ({ status }) => <Status value={status} />],
            [
              'Event',
              ({ id, eventType }) => (
                <Link to="/deliveries" search={{ open: id }} aria-label={`${eventType}, delivery ${id}`}>
                  {eventType}
                </Link>
              ),
            ],
            ['Attempts', ({ attempts }) => attempts, 'right'],
            ['Created', ({ createdAt }) => <Time at={createdAt} />, 'right'],
          ]}
        />
      )}
    </Panel>
  );
}
