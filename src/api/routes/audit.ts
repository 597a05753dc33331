import type { z } from 'zod';
import { AuditPage, AuditQuery, type AuditRecord } from '../../contracts/events';
import { listAudit, type AuditView } from '../../domain/audit';
import { defineRoute, pageLimits, pageOf, timeOf, type Route } from './route';

function auditOf(record: AuditView): z.output<typeof AuditRecord> {
  const { id, at, actor, action, cause, accountId, correlationId, details } = record;
  const minor = (amount: bigint | null) => amount?.toString() ?? null;
  return {
    ...{ id: id.toString(), at: at.toISOString(), actor, action, cause, accountId, correlationId, details },
    balanceBeforeMinor: minor(record.balanceBeforeMinor),
    balanceAfterMinor: minor(record.balanceAfterMinor),
    heldBeforeMinor: minor(record.heldBeforeMinor),
    heldAfterMinor: minor(record.heldAfterMinor),
  };
}

/** Who changed what: for administrators, because it shows every user's money. */
export const auditRoutes: Route[] = [
  defineRoute({
    method: 'get',
    path: '/api/v1/audit',
    operationId: 'listAudit',
    tag: 'Audit',
    summary: 'List the audit log, newest first: changed configuration, balance operations, refused events',
    access: 'token',
    scope: 'admin',
    query: AuditQuery,
    responses: { 200: { description: 'A page of the audit log', schema: AuditPage } },
    async handle({ deps, caller, query }) {
      const { kind, actor, action, cause } = query;
      const page = await listAudit(deps.database, {
        tenantId: caller.tenantId,
        ...{ kind, actor, action, cause },
        ...timeOf(query),
        ...pageLimits(query, deps.config, 'number'),
      });
      return { status: 200, body: pageOf(page, auditOf) };
    },
  }),
];
