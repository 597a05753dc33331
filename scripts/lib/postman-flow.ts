import { forget, type SecretVariable } from './postman-scripts';

/**
 * The Postman collection as somebody new to remit reads it, and as it runs from top to bottom: each folder makes what the
 * next ones need. Every operation of the API stands in it once at least; bodies are the contracts' examples, changed only
 * where they have to name what the run has made.
 */

type Body = Record<string, unknown>;

/** One request of the collection. */
export interface Step {
  operation: string;
  /** In place of the operation's summary; names are unique in the collection. */
  name?: string;
  /** What to send in place of the example. */
  body?: (example: Body) => Body;
  /** Path parameters that are not what they are elsewhere. */
  path?: Record<string, string>;
  /** Query parameters that are switched on. */
  query?: Record<string, string>;
  /** Script lines that run before it. */
  before?: readonly string[];
  /** Repeats the request for up to a minute until this expression of `body`, the answer, holds. */
  until?: string;
  /** Collection variables, each with the expression of `body` that it takes. */
  keep?: Record<string, string>;
  /** Somebody else than the rest of the run: the variable that has the token. */
  token?: 'secondToken';
  /** Signs it as a provider does, with the secret in this variable. */
  sign?: SecretVariable;
}

/** Names of this run's own, so that one run does not find what another has left. */
const NEW_RUN = [
  'var run = Date.now().toString(36) + Math.floor(Math.random() * 1e6).toString(36);',
  "pm.collectionVariables.set('userId', 'user-' + run);",
  "pm.collectionVariables.set('eventType', 'invoice.paid_' + run);",
  "pm.collectionVariables.set('disputeRef', 'dp_' + run);",
  "pm.collectionVariables.set('startedAt', new Date(Date.now() - 60000).toISOString());",
  ...forget('tries'),
];

const providerWebhook = (transactionId: string, amount: number, type: string) => (example: Body) => ({
  ...example,
  transactionId,
  amount,
  type,
});
const chargeback = (more: Body) => (example: Body) => ({
  ...example,
  ...{ provider_event_id: '{{providerEventId}}', order_id: '{{orderId}}', dispute_id: '{{disputeRef}}' },
  // What the refund has left of the order.
  amount: '40.00',
  ...more,
});

/** One that nothing was attempted of: the one that is tried may have ended. */
const OTHER_DELIVERY = { id: '{{otherDeliveryId}}' };

export const FLOW: readonly { folder: string; description: string; steps: readonly Step[] }[] = [
  {
    folder: 'Health',
    description: 'Is it up?',
    steps: [{ operation: 'getHealth' }, { operation: 'getReadiness' }],
  },
  {
    folder: 'Accounts',
    description:
      'A user, named in X-User-Id, opens an account and pays money into it. Each run takes a new user.',
    steps: [
      { operation: 'createAccount', before: NEW_RUN, keep: { accountId: 'body.id' } },
      { operation: 'topUpAccount' },
      { operation: 'getBalance' },
    ],
  },
  {
    folder: 'Orders',
    description: 'The user orders; a worker takes the money from the account.',
    steps: [
      { operation: 'createOrder', keep: { orderId: 'body.id' } },
      { operation: 'getOrder', until: "body.status === 'FINISHED'" },
      { operation: 'listOrders' },
    ],
  },
  {
    folder: 'Payments and payouts',
    description: 'Money that comes from, and goes to, a payment provider. Both stay pending until it speaks.',
    steps: [
      {
        operation: 'createPayment',
        body: (example) => ({ ...example, userId: '{{userId}}' }),
        keep: { paymentId: 'body.id' },
      },
      { operation: 'getPayment' },
      { operation: 'getTimeline', name: 'What has happened to the payment, and what will' },
      { operation: 'search', query: { q: '{{paymentId}}' } },
      { operation: 'listPayments' },
      {
        operation: 'createPayout',
        body: (example) => ({ ...example, userId: '{{userId}}' }),
        keep: { payoutId: 'body.id' },
      },
      { operation: 'getPayout' },
      { operation: 'listPayouts' },
    ],
  },
  {
    folder: 'Provider webhooks',
    description: 'What the providers say of payment, payout and order, signed as Standard Webhooks say.',
    steps: [
      {
        operation: 'receiveProviderWebhook',
        body: providerWebhook('{{paymentId}}', 100, 'payment'),
        sign: 'decardSecret',
      },
      {
        operation: 'getPayment',
        name: 'The payment has succeeded',
        until: "body.status === 'succeeded'",
      },
      {
        operation: 'receiveProviderWebhook',
        name: 'Take a provider’s webhook: the payout',
        body: providerWebhook('{{payoutId}}', 50, 'payout'),
        sign: 'decardSecret',
      },
      { operation: 'getPayout', name: 'The payout has succeeded', until: "body.status === 'succeeded'" },
      {
        operation: 'receiveOrderWebhook',
        body: (example) => ({
          ...example,
          ...{ provider_event_id: '{{providerEventId}}', order_id: '{{orderId}}', user_id: '{{userId}}' },
        }),
        sign: 'orderWebhookSecret',
      },
    ],
  },
  {
    folder: 'Refunds',
    description: 'A part of the order goes back to the user’s balance.',
    steps: [{ operation: 'createRefund' }, { operation: 'listRefunds' }],
  },
  {
    folder: 'Disputes',
    description: 'A chargeback opens a dispute, evidence is given, and the provider decides.',
    steps: [
      { operation: 'receiveChargeback', body: chargeback({ status: 'opened' }), sign: 'orderWebhookSecret' },
      {
        operation: 'listDisputes',
        query: { orderId: '{{orderId}}' },
        until: 'body.items.length > 0',
        keep: { disputeId: 'body.items[0].id' },
      },
      { operation: 'getDispute' },
      { operation: 'submitEvidence' },
      {
        operation: 'receiveChargeback',
        name: 'Take a provider’s word on a chargeback: it is won',
        body: chargeback({ status: 'won' }),
        sign: 'orderWebhookSecret',
      },
      { operation: 'getDispute', name: 'The dispute is won', until: "body.status === 'won'" },
    ],
  },
  {
    folder: 'Ledger',
    description: 'What all of it came to.',
    steps: [
      { operation: 'listTenantAccounts', query: { userId: '{{userId}}' } },
      { operation: 'getTenantAccount' },
      { operation: 'listEntries' },
      { operation: 'exportEntries' },
      { operation: 'listTenantOrders', query: { userId: '{{userId}}' } },
      { operation: 'getTenantOrder' },
      {
        operation: 'listJournalTransactions',
        query: { reference: 'order:{{orderId}}' },
        keep: { journalId: 'body.items[0].id' },
      },
      { operation: 'getJournalTransaction' },
      { operation: 'reconcile' },
    ],
  },
  {
    folder: 'Reconciliation',
    description:
      'A run that is kept, and a movement that corrects an account: proposed by one, approved by another (set secondToken to the token of somebody else).',
    steps: [
      { operation: 'runReconciliation', keep: { runId: 'body.id' } },
      { operation: 'listReconciliationRuns' },
      { operation: 'getReconciliationRun' },
      {
        operation: 'proposeCorrection',
        body: (example) => ({ ...example, accountId: '{{accountId}}' }),
        keep: { correctionId: 'body.id' },
      },
      { operation: 'approveCorrection', token: 'secondToken' },
      {
        operation: 'proposeCorrection',
        name: 'Propose another correction',
        body: (example) => ({ ...example, accountId: '{{accountId}}' }),
        keep: { correctionId: 'body.id' },
      },
      { operation: 'rejectCorrection' },
      { operation: 'listCorrections' },
    ],
  },
  {
    folder: 'Event types',
    description: 'Events of one’s own: what they are called and what is in them.',
    steps: [
      { operation: 'createEventType', body: (example) => ({ ...example, name: '{{eventType}}' }) },
      { operation: 'listEventTypes' },
      { operation: 'getEventType' },
      { operation: 'updateEventType' },
    ],
  },
  {
    folder: 'Event configs',
    description:
      'How events of a type are delivered. The first attempt is made after ten minutes here, so that there is time to look at what waits.',
    steps: [
      {
        operation: 'createEventConfig',
        body: (example) => ({ ...example, eventType: '{{eventType}}', scheduleMs: [600_000, 600_000] }),
      },
      { operation: 'listEventConfigs' },
      { operation: 'getEventConfig' },
      { operation: 'updateEventConfig', body: ({ timeoutMs }) => ({ timeoutMs }) },
    ],
  },
  {
    folder: 'Subscriptions',
    description: 'Who gets them. Set subscriberUrl to an endpoint of your own to see them arrive.',
    steps: [
      {
        operation: 'createSubscription',
        body: (example) => ({
          ...example,
          url: '{{subscriberUrl}}',
          eventTypes: ['{{eventType}}'],
          filter: [{ path: 'currency', op: 'eq', value: 'EUR' }],
        }),
        keep: { subscriptionId: 'body.id' },
      },
      { operation: 'listSubscriptions' },
      { operation: 'getSubscription' },
      {
        operation: 'updateSubscription',
        body: ({ rateLimitPerSecond }) => ({ eventTypes: ['{{eventType}}'], rateLimitPerSecond }),
      },
      { operation: 'rotateSubscriptionSecret' },
      { operation: 'testFilter' },
      { operation: 'testSubscription' },
    ],
  },
  {
    folder: 'Events',
    description: 'They are published, one and several at a time, and handed out to whoever subscribed.',
    steps: [
      {
        operation: 'publishEvent',
        body: (example) => ({ ...example, type: '{{eventType}}' }),
        keep: { eventId: 'body.id' },
      },
      {
        operation: 'publishEvents',
        body: ({ events }) => ({
          events: (events as Body[]).map((event) => ({ ...event, type: '{{eventType}}' })),
        }),
      },
      { operation: 'listEvents' },
      { operation: 'getEvent' },
    ],
  },
  {
    folder: 'Deliveries',
    description:
      'What became of each event for each subscription: one is tried at once, another is cancelled and sent again.',
    steps: [
      {
        operation: 'listDeliveries',
        query: { subscriptionId: '{{subscriptionId}}' },
        until:
          "body.items.filter(function (each) { return each.eventType !== 'remit.webhook.test'; }).length === 3",
        keep: {
          deliveryId:
            'body.items.filter(function (each) { return each.eventId === pm.collectionVariables.get("eventId"); })[0].id',
          otherDeliveryId:
            'body.items.filter(function (each) { return each.eventId !== pm.collectionVariables.get("eventId") && each.eventType !== "remit.webhook.test"; })[0].id',
        },
      },
      { operation: 'getDelivery' },
      { operation: 'tryDeliveryNow' },
      { operation: 'listAttempts', until: 'body.items.length > 0' },
      { operation: 'cancelDelivery', path: OTHER_DELIVERY },
      {
        operation: 'getDelivery',
        name: 'The delivery is cancelled',
        path: OTHER_DELIVERY,
        until: "body.status === 'cancelled'",
      },
      { operation: 'resendDelivery', path: OTHER_DELIVERY, body: () => ({ onlyIf: 'cancelled' }) },
      {
        operation: 'retryDeliveries',
        name: 'How many wait for their next attempt',
        body: () => ({ subscriptionId: '{{subscriptionId}}', dryRun: true }),
      },
      {
        operation: 'cancelDeliveries',
        name: 'How many could be cancelled',
        body: () => ({ subscriptionId: '{{subscriptionId}}', dryRun: true }),
      },
      { operation: 'findAttempts', query: { subscriptionId: '{{subscriptionId}}' } },
    ],
  },
  {
    folder: 'Portal links',
    description: 'A link shows the subscriber its own events and deliveries: open its url in a browser.',
    steps: [
      {
        operation: 'createPortalLink',
        body: (example) => ({ ...example, subscriptionIds: ['{{subscriptionId}}'] }),
        keep: { portalLinkId: 'body.id' },
      },
      { operation: 'listPortalLinks' },
      { operation: 'getPortalLink' },
    ],
  },
  {
    folder: 'Pause and resume',
    description:
      'What is published while a subscription is paused does not reach it. A resume with "missed": true would send it at once; here a replay does.',
    steps: [
      { operation: 'pauseSubscription' },
      {
        operation: 'publishEvents',
        name: 'Publish events that the subscription misses',
        // So many that the replay, one a second, takes longer than the requests that follow it.
        body: ({ events }) => ({
          events: Array.from({ length: 20 }, () => ({ ...(events as Body[])[0], type: '{{eventType}}' })),
        }),
      },
      {
        operation: 'listEvents',
        name: 'All events are handed out',
        query: { type: '{{eventType}}' },
        until: 'body.items.every(function (each) { return each.fannedOutAt !== null; })',
      },
      { operation: 'resumeSubscription', body: () => ({ missed: false }) },
    ],
  },
  {
    folder: 'Replays',
    description:
      'What was missed is sent, no faster than one a second here; a replay can be paused and ended.',
    steps: [
      {
        operation: 'createReplay',
        body: ({ kind }) => ({
          ...{ subscriptionId: '{{subscriptionId}}', kind, since: '{{startedAt}}' },
          ...{ eventTypes: ['{{eventType}}'], ratePerSecond: 1 },
        }),
        keep: { replayId: 'body.id' },
      },
      { operation: 'pauseReplay' },
      { operation: 'getReplay' },
      { operation: 'listReplays' },
      { operation: 'resumeReplay' },
      { operation: 'cancelReplay' },
    ],
  },
  {
    folder: 'Statistics',
    description: 'Figures by time, and what happens now. Purchases need ClickHouse.',
    steps: [
      { operation: 'deliveryStatistics' },
      { operation: 'attemptStatistics' },
      { operation: 'paymentStatistics' },
      { operation: 'orderStatistics' },
      { operation: 'purchaseStatistics' },
      { operation: 'stream', query: { seconds: '1' } },
    ],
  },
  {
    folder: 'The installation',
    description:
      'With the scope platform. A provider’s webhook of another amount becomes a dead letter, which is looked at, redriven (and comes back, for its amount is still another) and given up.',
    steps: [
      { operation: 'getSystem' },
      { operation: 'listRefusedOutboxRows' },
      { operation: 'retryRefusedOutboxRows' },
      { operation: 'discardRefusedOutboxRows' },
      {
        operation: 'receiveProviderWebhook',
        name: 'Take a provider’s webhook of another amount',
        body: providerWebhook('{{paymentId}}', 99, 'payment'),
        sign: 'decardSecret',
      },
      {
        operation: 'listDeadLetterTopics',
        until: 'body.items.some(function (each) { return each.waiting > 0; })',
        keep: {
          deadLetterTopic: 'body.items.filter(function (each) { return each.waiting > 0; })[0].topic',
        },
      },
      { operation: 'listDeadLetters', keep: { deadLetterId: 'body.items[0].id' } },
      { operation: 'getDeadLetter' },
      {
        operation: 'redriveDeadLetters',
        body: () => ({ letters: ['{{deadLetterId}}'] }),
      },
      { operation: 'purgeDeadLetters' },
    ],
  },
  {
    folder: 'Clean up',
    description: 'Who did what, and the end of what this run has made.',
    steps: [
      { operation: 'listAudit' },
      { operation: 'revokePortalLink' },
      { operation: 'deleteSubscription' },
      { operation: 'deleteEventConfig' },
      { operation: 'deleteEventType' },
    ],
  },
  {
    folder: 'Documentation',
    description: 'The OpenAPI document of all this, and a page to try it out.',
    steps: [{ operation: 'getDocs' }, { operation: 'getDocsFile' }, { operation: 'getOpenApi' }],
  },
];
