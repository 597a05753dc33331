import type { HealthRules } from '../../src/domain/deliveries';
import { deliveryPolicyOf } from '../../src/domain/delivery-policy';
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
