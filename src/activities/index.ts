import { createDeadLetterActivities } from './dead-letters';
import { createDeliveryActivities, type DeliveryDeps } from './deliveries';
import type { ActivityDeps } from './deps';
import { createEventActivities, type EventDeps } from './events';
import { createDisputeActivities } from './disputes';
import { createLedgerActivities, type LedgerDeps } from './ledger';
import { createOrderWebhookActivities } from './order-webhooks';
import { createOrderActivities } from './orders';
import { createPaymentActivities } from './payments';
import { createReplayActivities, type ReplayDeps } from './replays';

/** Every activity of remit, over one set of dependencies; each worker runs those that its queue's workflows call. */
export function createActivities(deps: ActivityDeps & DeliveryDeps & EventDeps & ReplayDeps & LedgerDeps) {
  return {
    ...createPaymentActivities(deps),
    ...createOrderActivities(deps),
    ...createOrderWebhookActivities(deps),
    ...createDisputeActivities(deps),
    ...createDeadLetterActivities(deps),
    ...createDeliveryActivities(deps),
    ...createReplayActivities(deps),
    ...createEventActivities(deps),
    ...createLedgerActivities(deps),
  };
}
