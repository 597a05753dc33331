import { z } from 'zod';
import { DecimalAmount, Instant, page } from './http';
import { PaymentType } from './messages';
import { Currency, MajorAmount } from './money';

export const CreateAccountBody = z
  .strictObject({ currency: Currency.optional() })
  .meta({ id: 'CreateAccount', example: { currency: 'TRY' } });
export const TopUpBody = z
  .strictObject({ amount: MajorAmount, currency: Currency.optional() })
  .meta({ id: 'TopUp', example: { amount: '100.00' } });
export const BalanceQuery = z.strictObject({ currency: Currency.optional() });

export const AccountBalance = z
  .object({
    userId: z.string(),
    currency: Currency,
    balance: DecimalAmount,
    available: DecimalAmount.meta({ description: 'balance without what is held for payouts' }),
    held: DecimalAmount,
  })
  .meta({ id: 'AccountBalance' });

export const Account = AccountBalance.extend({ id: z.string(), createdAt: Instant }).meta({ id: 'Account' });

export const AccountParams = z.strictObject({ id: z.string().max(200) });

export const StatementEntry = z
  .object({
    id: z.string(),
    journalId: z.string().meta({ description: 'the movement, whose entries sum to zero' }),
    kind: z.string().meta({ description: 'kind of movement', example: 'order' }),
    reference: z.string().meta({ description: 'names the movement; unique forever' }),
    amount: DecimalAmount.meta({ description: 'positive: money came in' }),
    currency: Currency,
    balanceAfter: DecimalAmount,
    correlationId: z.string().nullable(),
    createdAt: Instant,
  })
  .meta({ id: 'StatementEntry' });
export const StatementPage = page(StatementEntry, 'StatementPage');

export const Reconciliation = z
  .object({
    clean: z.boolean(),
    at: Instant.meta({ description: 'when the snapshot was taken' }),
    tenant: z.string().nullable().meta({ description: 'null: all tenants' }),
    checks: z.array(
      z.object({
        name: z.string(),
        rule: z.string().meta({ description: 'what holds when nothing is found' }),
        found: z.int(),
        findings: z
          .array(z.object({ subject: z.string(), detail: z.string() }))
          .meta({ description: 'the first of them' }),
        durationMs: z.int(),
      }),
    ),
    dailyTotals: z
      .array(
        z.object({
          day: z.iso.date(),
          provider: z.string(),
          type: PaymentType,
          currency: Currency,
          succeeded: z.int(),
          failed: z.int(),
          expired: z.int(),
          succeededAmount: DecimalAmount,
        }),
      )
      .meta({ description: 'settled payments and payouts by provider and UTC day' }),
  })
  .meta({ id: 'Reconciliation' });
