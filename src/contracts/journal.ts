import { z } from 'zod';
import { cleanText, createdTime, DecimalAmount, Instant, page, PageQuery, UserId } from './http';
import { Account } from './accounts';
import { Currency } from './money';
import { PaymentMethod } from './messages';
import { Order } from './orders';
import { Timestamp } from './times';

/** Accounts, orders and movements of a tenant, as its operators look at them. */

export const AccountsQuery = PageQuery.extend({
  userId: UserId.optional(),
  currency: Currency.optional(),
});
export const AccountPage = page(Account, 'AccountPage');

export const AccountAsOfQuery = z.strictObject({
  at: Timestamp.optional().meta({ description: 'the balance as it was at this moment; now when left out' }),
});
export const AccountAsOf = Account.extend({
  at: Instant.nullable().meta({ description: 'the moment asked for; null: now' }),
  provedBy: z
    .object({
      auditId: z.string().meta({ description: 'the last audit record of the account by then' }),
      at: Instant,
      action: z.string(),
      cause: z.string(),
    })
    .nullable()
    .meta({ description: 'what the amounts are read from; null: nothing had moved yet' }),
}).meta({ id: 'AccountAsOf' });

export const EntriesQuery = PageQuery.extend(createdTime);
export const EntriesCsvQuery = z.strictObject(createdTime);

export const OrdersQuery = PageQuery.extend({
  userId: UserId.optional(),
  status: Order.shape.status.optional(),
  paymentMethod: PaymentMethod.optional(),
  ...createdTime,
});
export const OrderDetail = Order.extend({
  refunded: DecimalAmount,
  disputed: DecimalAmount.meta({ description: 'held for open disputes' }),
  chargedBack: DecimalAmount,
  collectedAs: z.enum(['order', 'account']).nullable().meta({
    description: 'a provider collected the amount: for the order, or for its user’s account',
  }),
  correlationId: z.string().nullable(),
  workflowId: z.string(),
}).meta({ id: 'OrderDetail' });

export const JournalQuery = PageQuery.extend({
  kind: cleanText(64).optional().meta({ description: 'such as top_up, payment, order, refund' }),
  reference: cleanText(300).optional().meta({ description: 'exactly this one' }),
  ...createdTime,
});
const journalFields = {
  id: z.string(),
  kind: z.string(),
  reference: z
    .string()
    .meta({ description: 'names the movement; unique forever', example: 'order:3f6d2c1a…' }),
  correlationId: z.string().nullable(),
  createdAt: Instant,
};
export const JournalTransaction = z.object(journalFields).meta({ id: 'JournalTransaction' });
export const JournalTransactionPage = page(JournalTransaction, 'JournalTransactionPage');
export const JournalLine = z
  .object({
    id: z.string(),
    accountId: z.string().nullable(),
    userId: z.string().nullable(),
    systemAccount: z.string().nullable().meta({ example: 'revenue:orders' }),
    amount: DecimalAmount.meta({ description: 'positive: money came in' }),
    currency: Currency,
    balanceAfter: DecimalAmount.nullable().meta({ description: 'null for system accounts' }),
  })
  .meta({ id: 'JournalLine' });
export const JournalTransactionDetail = z
  .object({ ...journalFields, entries: z.array(JournalLine).meta({ description: 'they sum to zero' }) })
  .meta({ id: 'JournalTransactionDetail' });
