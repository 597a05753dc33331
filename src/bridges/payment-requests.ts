import type { Client } from '@temporalio/client';
import { PaymentRequestEvent } from '../contracts/messages';
import type { PaymentRequest } from '../contracts/workflows';
import type { Config } from '../platform/config';
import { headersToStrings } from '../platform/kafka';
import { idsOf } from '../contracts/tracing';
import { annotate } from '../platform/tracing';
import { signalPaymentRequest } from '../platform/workflow-starts';
import { parseJson, parseWith, toMessageRef, type IncomingMessage } from './message';
import { correlationId, exactAmount } from './message-fields';
import { takenByTemporal } from './temporal-start';

/** @throws PoisonMessage invalid_json, invalid_message, amount_invalid. */
export function parsePaymentRequest(message: IncomingMessage): PaymentRequest {
  const json = parseJson(message);
  const { orderId, userId, amount, currency } = parseWith(PaymentRequestEvent, json);
  return {
    orderId,
    userId,
    amountMinor: exactAmount(amount, currency),
    currency,
    correlationId: correlationId(headersToStrings(message.headers)),
    source: toMessageRef(message),
  };
}

/**
 * The handler of `payment-request`: the request reaches the order's one workflow as a signal, because a provider's
 * webhook for the order may have started it before.
 *
 * After it closed, a repeated request may run again (ALLOW_DUPLICATE) rather than be turned away as a duplicate: a
 * request that was dead-lettered (`unknown_order`) has a closed workflow too, and to redrive it must do something. The
 * price is a short run for each true duplicate, which finds the order's one payment attempt made and changes nothing.
 */
export function paymentRequestHandler(
  client: Client,
  config: Pick<Config, 'BRIDGE_START_TIMEOUT_MS'>,
): (message: IncomingMessage) => Promise<void> {
  return async (message) => {
    const request = parsePaymentRequest(message);
    annotate(() => idsOf(request));
    await takenByTemporal(client, config.BRIDGE_START_TIMEOUT_MS, () =>
      signalPaymentRequest(client, request),
    );
  };
}
