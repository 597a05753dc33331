/** What a running workflow can be told and asked. */

export const SIGNALS = {
  providerEvent: 'providerEvent',
  paymentRequest: 'paymentRequest',
  orderEvent: 'orderEvent',
  disputeEvent: 'disputeEvent',
  tryNow: 'tryNow',
  cancel: 'cancel',
  wake: 'wake',
  pause: 'pause',
  resume: 'resume',
} as const;

export const UPDATES = { refund: 'refund', submitEvidence: 'submitEvidence' } as const;

export const QUERIES = { state: 'state' } as const;
