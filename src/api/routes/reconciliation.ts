import { RemitError } from '../../contracts/errors';
import { IdParams } from '../../contracts/http';
import {
  Correction,
  CorrectionPage,
  CorrectionsQuery,
  DecideCorrectionBody,
  ProposeCorrectionBody,
  ReconciliationRunDetail,
  ReconciliationRunPage,
  RunsQuery,
} from '../../contracts/reconciliation';
import { formatMinor, parseMajorAmount } from '../../contracts/money';
import {
  approveCorrection,
  currencyOf,
  listCorrections,
  proposeCorrection,
  rejectCorrection,
  type CorrectionView,
} from '../../domain/corrections';
import { reconcile, reconciliationOptions } from '../../domain/reconciliation';
import { getRun, keepRun, listRuns, type RunView } from '../../domain/reconciliation-runs';
import { uuidOr404 } from './ids';
import { actorOf, defineRoute, pageLimits, pageOf, type Caller, type Route, type RouteDeps } from './route';

/** A reconciliation reads whole tables. */
const MAX_RUNNING = 2;
let running = 0;

function runOf({ createdAt: _, at, ...run }: RunView) {
  return { ...run, at: at.toISOString() };
}

async function detailOf({ database }: RouteDeps, { tenantId, platform }: Caller, text: string) {
  const id = uuidOr404(text, 'run');
  const { report, ...run } = await getRun(database, { tenantId, allTenants: platform ?? false, id });
  return { ...runOf(run), report };
}

function correctionOf({ amountMinor, createdAt, decidedAt, ...correction }: CorrectionView) {
  const { id, currency, status } = correction;
  return {
    ...correction,
    direction: amountMinor < 0n ? 'debit' : 'credit',
    amount: formatMinor(amountMinor < 0n ? -amountMinor : amountMinor, currency),
    createdAt: createdAt.toISOString(),
    decidedAt: decidedAt?.toISOString() ?? null,
    reference: status === 'posted' ? `correction:${id}` : null,
  };
}

const decide = (verb: 'approve' | 'reject', operationId: string, summary: string, description: string) =>
  defineRoute({
    method: 'post',
    path: `/api/v1/corrections/:id/${verb}`,
    operationId,
    tag: 'Reconciliation',
    summary,
    description,
    access: 'token',
    scope: 'admin',
    params: IdParams,
    body: DecideCorrectionBody,
    bodyOptional: true,
    responses: { 200: { description: 'The correction', schema: Correction } },
    problems: ['not_found', 'conflict', 'unprocessable'],
    async handle({ deps, params, body, ...call }) {
      const id = uuidOr404(params.id, 'correction');
      const decideIt = verb === 'approve' ? approveCorrection : rejectCorrection;
      return {
        status: 200,
        body: correctionOf(await decideIt(deps.database, actorOf(call), { id, ...body })),
      };
    },
  });

/** Runs of reconciliation, and movements that correct what they found. */
export const reconciliationRoutes: Route[] = [
  defineRoute({
    method: 'get',
    path: '/api/v1/reconciliation-runs',
    operationId: 'listReconciliationRuns',
    tag: 'Reconciliation',
    summary: 'List runs of reconciliation, newest first',
    description: 'The tenant’s own, and with the scope platform those over all tenants.',
    access: 'token',
    query: RunsQuery,
    responses: { 200: { description: 'A page of runs', schema: ReconciliationRunPage } },
    async handle({ deps, caller, query }) {
      const page = await listRuns(deps.database, {
        ...{ tenantId: caller.tenantId, allTenants: caller.platform ?? false },
        clean: query.clean === undefined ? undefined : query.clean === 'true',
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: pageOf(page, runOf) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/reconciliation-runs/:id',
    operationId: 'getReconciliationRun',
    tag: 'Reconciliation',
    summary: 'Read a run with its findings',
    access: 'token',
    params: IdParams,
    responses: { 200: { description: 'The run', schema: ReconciliationRunDetail } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      return { status: 200, body: await detailOf(deps, caller, params.id) };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/api/v1/reconciliation-runs',
    operationId: 'runReconciliation',
    tag: 'Reconciliation',
    summary: 'Reconcile the tenant now, and keep the run',
    access: 'token',
    responses: { 201: { description: 'The run', schema: ReconciliationRunDetail } },
    async handle({ deps, caller, operationId }) {
      const { tenantId } = caller;
      const known = await detailOf(deps, caller, operationId).catch(() => undefined);
      if (known) return { status: 201, body: known };
      if (running >= MAX_RUNNING)
        throw new RemitError('unavailable', 'Other reconciliations are running; try again.');
      running += 1;
      try {
        const result = await reconcile(deps.database, { ...reconciliationOptions(deps.config), tenantId });
        await keepRun(deps.database, result, { id: operationId, startedBy: caller.actor });
      } finally {
        running -= 1;
      }
      return { status: 201, body: await detailOf(deps, caller, operationId) };
    },
  }),
  defineRoute({
    method: 'get',
    path: '/api/v1/corrections',
    operationId: 'listCorrections',
    tag: 'Reconciliation',
    summary: 'List correcting movements, newest first',
    access: 'token',
    query: CorrectionsQuery,
    responses: { 200: { description: 'A page of corrections', schema: CorrectionPage } },
    async handle({ deps, caller, query }) {
      const page = await listCorrections(deps.database, {
        ...{ tenantId: caller.tenantId, status: query.status },
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: pageOf(page, correctionOf) };
    },
  }),
  defineRoute({
    method: 'post',
    path: '/api/v1/corrections',
    operationId: 'proposeCorrection',
    tag: 'Reconciliation',
    summary: 'Propose a movement that corrects an account',
    description: 'Nothing moves until a second person approves it.',
    access: 'token',
    scope: 'admin',
    body: ProposeCorrectionBody,
    responses: { 201: { description: 'The correction, proposed', schema: Correction } },
    problems: ['not_found', 'unprocessable'],
    async handle({ deps, body, operationId, ...call }) {
      const { accountId, direction, amount, reason, runId = null } = body;
      const currency = await currencyOf(deps.database, { tenantId: call.caller.tenantId, accountId });
      const minor = parseMajorAmount(amount, currency);
      const correction = await proposeCorrection(deps.database, actorOf(call), {
        ...{ id: operationId, accountId, reason, runId },
        amountMinor: direction === 'credit' ? minor : -minor,
      });
      return { status: 201, body: correctionOf(correction) };
    },
  }),
  decide(
    'approve',
    'approveCorrection',
    'Approve a correction: its movement is posted',
    'By another person than the one who proposed it. A debit of more than the account has is refused (422).',
  ),
  decide(
    'reject',
    'rejectCorrection',
    'Reject a correction',
    'Nothing moves. The person who proposed it may reject it too.',
  ),
];
