import { randomUUID } from 'node:crypto';
import type { DeliveryRef } from '../../src/contracts/workflows';
import type { HealthRules } from '../../src/domain/deliveries';
import { deliveryPolicyOf } from '../../src/webhooks/delivery-policy';
import { loadConfig } from '../../src/platform/config';

const config = loadConfig({}, []);

/** The rules of the default configuration. */
export const RULES: HealthRules = {
  failingAttempt: config.WEBHOOK_FAILING_ATTEMPT,
  pauseAfterMs: config.WEBHOOK_PAUSE_AFTER_MS,
  throttleBaseMs: config.WEBHOOK_THROTTLE_BASE_MS,
  throttleCapMs: config.WEBHOOK_THROTTLE_CAP_MS,
};

/** The policy of the default configuration, as the worker role hands it to activities. */
export const playedPolicy = deliveryPolicyOf(config);

/** Where nothing is to be started: neither deliveries nor lanes. */
export const NOTHING_STARTED = {
  startDeliveries: () => Promise.resolve(),
  wakeLanes: () => Promise.resolve(),
  cancelDeliveries: () => Promise.resolve(),
};

/** A delivery as its workflow gets it, with the default schedule. */
export const deliveryRef = (changes: Partial<DeliveryRef> = {}): DeliveryRef => ({
  deliveryId: randomUUID(),
  eventId: `evt_${randomUUID()}`,
  subscriptionId: 'sub_1',
  eventType: 'payment.succeeded',
  scheduleMs: config.WEBHOOK_SCHEDULE_MS,
  timeoutMs: 15_000,
  correlationId: 'correlation',
  ...changes,
});
