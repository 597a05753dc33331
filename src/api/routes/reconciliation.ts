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
import { defineRoute, type Route } from './route';

const later = () => Promise.reject(new RemitError('unavailable', 'not there yet'));

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
    handle: later,
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
    handle: later,
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
    handle: later,
  }),
  defineRoute({
    method: 'post',
    path: '/api/v1/reconciliation-runs',
    operationId: 'runReconciliation',
    tag: 'Reconciliation',
    summary: 'Reconcile the tenant now, and keep the run',
    access: 'token',
    responses: { 201: { description: 'The run', schema: ReconciliationRunDetail } },
    handle: later,
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
    handle: later,
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
    handle: later,
  }),
  decide(
    'approve',
    'approveCorrection',
    'Approve a correction: its movement is posted',
    'By somebody else than who proposed it. A debit of more than the account has is refused (422).',
  ),
  decide('reject', 'rejectCorrection', 'Reject a correction', 'Nothing moves. Also by who proposed it.'),
];
