import {
  Account,
  AccountBalance,
  BalanceQuery,
  CreateAccountBody,
  TopUpBody,
} from '../../contracts/accounts';
import { formatMinor, parseMajorAmount } from '../../contracts/money';
import { createAccount, getAccount, topUp, type AccountView } from '../../domain/accounts';
import { defineRoute, type Route } from './route';

function balanceOf(account: AccountView) {
  const { userId, currency, balanceMinor, availableMinor, heldMinor } = account;
  return {
    userId,
    currency,
    balance: formatMinor(balanceMinor, currency),
    available: formatMinor(availableMinor, currency),
    held: formatMinor(heldMinor, currency),
  };
}

/** An account as the API shows it. */
export function accountOf(account: AccountView) {
  return { id: account.id, ...balanceOf(account), createdAt: account.createdAt.toISOString() };
}

/** The shop's accounts: paths and shapes are those of its API gateway. */
export const accountRoutes: Route[] = [
  defineRoute({
    method: 'post',
    path: '/accounts',
    operationId: 'createAccount',
    tag: 'Accounts',
    summary: 'Open an account with a zero balance',
    access: 'user',
    body: CreateAccountBody,
    bodyOptional: true,
    responses: {
      201: { description: 'The account', schema: Account, headers: { Location: 'where its balance is' } },
    },
    problems: ['account_exists'],
    async handle({ deps, caller, body, operationId }) {
      const currency = body.currency ?? deps.config.DEFAULT_CURRENCY;
      const account = await createAccount(deps.database, {
        id: operationId,
        tenantId: caller.tenantId,
        userId: caller.id,
        currency,
      });
      return {
        status: 201,
        body: accountOf(account),
        headers: { Location: `/accounts/balance?currency=${currency}` },
      };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/accounts/topup',
    operationId: 'topUpAccount',
    tag: 'Accounts',
    summary: 'Add money to an account',
    description:
      'Any user may where USERS_MAY_TOP_UP is true, which it is on a local stack. Elsewhere it takes a bearer token with the scope `topup`; the account is that of X-User-Id where that header is trusted, otherwise of the token’s subject.',
    access: 'user',
    scope: 'topup',
    usersOnlyIf: 'USERS_MAY_TOP_UP',
    body: TopUpBody,
    responses: { 200: { description: 'The balance afterwards', schema: AccountBalance } },
    problems: ['not_found', 'unprocessable'],
    async handle({ deps, caller, body, correlationId, operationId }) {
      const currency = body.currency ?? deps.config.DEFAULT_CURRENCY;
      const account = await topUp(deps.database, {
        tenantId: caller.tenantId,
        userId: caller.id,
        currency,
        amountMinor: parseMajorAmount(body.amount, currency),
        correlationId,
        actor: caller.actor,
        reference: operationId,
      });
      return { status: 200, body: balanceOf(account) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/accounts/balance',
    operationId: 'getBalance',
    tag: 'Accounts',
    summary: 'Read an account’s balance',
    access: 'user',
    query: BalanceQuery,
    responses: { 200: { description: 'The balance', schema: AccountBalance } },
    problems: ['not_found'],
    async handle({ deps, caller, query }) {
      const account = await getAccount(deps.database, {
        tenantId: caller.tenantId,
        userId: caller.id,
        currency: query.currency ?? deps.config.DEFAULT_CURRENCY,
      });
      return { status: 200, body: balanceOf(account) };
    },
  }),
];
