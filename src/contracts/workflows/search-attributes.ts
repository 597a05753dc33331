/** Keyword search attributes; plain text in Temporal, so nothing secret goes in. */
export const SEARCH_ATTRIBUTES = {
  RemitProvider: 'Keyword',
  RemitStatus: 'Keyword',
  RemitUserId: 'Keyword',
  RemitOrderId: 'Keyword',
  RemitEventType: 'Keyword',
  RemitSubscriptionId: 'Keyword',
} as const;
