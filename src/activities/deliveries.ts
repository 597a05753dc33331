import { Context } from '@temporalio/activity';
import type { DeliveryStatus } from '../contracts/webhooks';
import type { DeliveryRef, LaneStep } from '../contracts/workflows';
import type { DeliveryEnd } from '../domain/delivery-ends';
import type { DeliveryRow } from '../domain/pending-deliveries';
import type { Config } from '../platform/config';
import type { OutgoingMessage } from '../platform/kafka';
import type { Logger } from '../platform/logging';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import type { MadeAttempt } from '../webhooks/attempt';
import { Attempts } from '../webhooks/attempts';
import type { WebhookClient } from '../webhooks/client';
import {
  finish,
  prepare,
  store,
  takeTurn,
  type AttemptInput,
  type AttemptResult,
  type DeliveryAttemptDeps,
} from '../webhooks/delivery-attempts';
import { writeDeadLetter } from '../webhooks/delivery-dead-letter';
import { sendLane, type LanesDeps } from '../webhooks/lanes';
import { withHeartbeat } from './heartbeat';

export type { AttemptInput, AttemptResult } from '../webhooks/delivery-attempts';

/** What delivery activities need of the outside world, handed in by the worker role. */
export interface DeliveryDeps {
  db: Pick<Database, 'pool' | 'prisma'>;
  keyring: Keyring;
  webhooks: Pick<WebhookClient, 'postWebhook'>;
  /** Resolves when all in-sync replicas have the message. */
  producer: { send(message: OutgoingMessage): Promise<void> };
  config: DeliveryConfig;
  log: Logger;
  /** Completes a delivery row with the retry policy that applies to it. */
  deliveryPolicy: (row: DeliveryRow, correlationId: string) => DeliveryRef;
  /** Shared with the consumer of published events, where one process has both; its own when left out. */
  attempts?: Attempts;
  /** Resolves when the workflow of each lane is there and has been told to look. Idempotent. */
  wakeLanes: (subscriptionIds: readonly string[]) => Promise<void>;
  /** Resolves when the workflow of each delivery is there. Idempotent. */
  startDeliveries: (deliveries: readonly DeliveryRef[]) => Promise<void>;
  /** The time, where a test plays it. */
  clock?: () => Date | Promise<Date>;
}

export type DeliveryConfig = Pick<
  Config,
  | 'TOPIC_WEBHOOK_DELIVERY_DLQ'
  | 'WEBHOOK_CONCURRENT_ATTEMPTS'
  | 'WEBHOOK_CONCURRENT_PER_SUBSCRIPTION'
  | 'WEBHOOK_SLOW_AFTER_MS'
  | 'WEBHOOK_THROTTLE_BASE_MS'
  | 'WEBHOOK_THROTTLE_CAP_MS'
  | 'WEBHOOK_FAILING_ATTEMPT'
  | 'WEBHOOK_PAUSE_AFTER_MS'
>;

/** Durable steps of the delivery workflow. */
export function createDeliveryActivities(deps: DeliveryDeps) {
  const { attempts = new Attempts(deps) } = deps;
  const shared: DeliveryAttemptDeps = { ...deps, attempts, now: deps.clock ?? (() => new Date()) };
  const deadLetter = (input: { deliveryId: string; correlationId: string }) => writeDeadLetter(deps, input);
  const lanes: LanesDeps = { ...deps, attempts, deadLetter };

  return {
    /**
     * Makes one attempt and stores it. A subscriber's failure is a result; an outage of our own (database, key,
     * sockets) throws, to be retried by Temporal without using up the subscriber's schedule. Idempotent by
     * (delivery, attempt) once stored; between sending and storing, at least once.
     */
    attemptDelivery: (input: AttemptInput): Promise<AttemptResult> =>
      withHeartbeat<MadeAttempt, AttemptResult>(async (handover) => {
        if (!handover.left) {
          const found = await prepare(shared, input);
          if ('verdict' in found) return found;
          const made = await takeTurn(shared, input, found);
          if ('verdict' in made) return made;
          handover.left = made;
        }
        return store(shared, input, handover.left);
      }),

    /** Ends a delivery without another attempt. Idempotent. */
    async finishDelivery(input: DeliveryEnd): Promise<DeliveryStatus | null> {
      return finish(deps, input);
    },

    /**
     * Sends what is due in a subscription's lane, for a while. Repeated after a crash it sends what was not recorded.
     * @returns when there is something to do again.
     */
    sendLane: ({ subscriptionId }: { subscriptionId: string }): Promise<LaneStep> =>
      withHeartbeat<never, LaneStep>(() =>
        sendLane(lanes, subscriptionId, Context.current().cancellationSignal),
      ),

    /** Puts an exhausted delivery on the DLQ, keyed by subscription. Repeating it may repeat the dead letter. */
    deadLetterDelivery: deadLetter,
  };
}

export type DeliveryActivities = ReturnType<typeof createDeliveryActivities>;
