import { defineSearchAttributeKey } from '@temporalio/common';

/** Of workflows, to find them by in the Temporal UI. Plain text in Temporal, so nothing secret goes in. */
export const SEARCH_ATTRIBUTE_KEYS = {
  provider: defineSearchAttributeKey('RemitProvider', 'KEYWORD'),
  status: defineSearchAttributeKey('RemitStatus', 'KEYWORD'),
  userId: defineSearchAttributeKey('RemitUserId', 'KEYWORD'),
  orderId: defineSearchAttributeKey('RemitOrderId', 'KEYWORD'),
  eventType: defineSearchAttributeKey('RemitEventType', 'KEYWORD'),
  subscriptionId: defineSearchAttributeKey('RemitSubscriptionId', 'KEYWORD'),
} as const;

/** Their names and types, as a namespace registers them. */
export const SEARCH_ATTRIBUTES: Readonly<Record<string, 'Keyword'>> = Object.fromEntries(
  Object.values(SEARCH_ATTRIBUTE_KEYS).map(({ name }) => [name, 'Keyword'] as const),
);
