import type { z } from 'zod';
import { IdParams } from '../../contracts/http';
import {
  CreatePortalLinkBody,
  PortalLink,
  PortalLinkCreated,
  PortalLinkPage,
  PortalLinksQuery,
} from '../../contracts/portal';
import {
  createPortalLink,
  getPortalLink,
  listPortalLinks,
  revokePortalLink,
  type PortalLinkView,
} from '../../domain/portal-links';
import { uuidOr404 } from './ids';
import { actorOf, defineRoute, pageLimits, pageOf, type Route } from './route';

function linkOf(link: PortalLinkView): z.output<typeof PortalLink> {
  const { id, subscriptionIds, readOnly, brand, sessionS, createdBy } = link;
  return {
    ...{ id, subscriptionIds, readOnly, brand, sessionS, createdBy },
    createdAt: link.createdAt.toISOString(),
    expiresAt: link.expiresAt.toISOString(),
    openedAt: link.openedAt?.toISOString() ?? null,
    sessionEndsAt: link.sessionEndsAt?.toISOString() ?? null,
    revokedAt: link.revokedAt?.toISOString() ?? null,
  };
}

const common = { tag: 'Portal links', access: 'token' } as const;

/** Links that open the subscribers' portal; what the portal itself calls is in `api/portal`. */
export const portalLinkRoutes: Route[] = [
  defineRoute({
    ...common,
    answersSecret: true,
    method: 'post',
    path: '/api/v1/portal-links',
    operationId: 'createPortalLink',
    summary: 'Make a link that shows a subscriber its subscriptions',
    description:
      'It opens the portal once, in one browser: events, deliveries, resending, test events, secrets and health of these subscriptions, and nothing else of the tenant. Repeated under its Idempotency-Key it is the same link with a new URL, which replaces the one before; once opened, it is a 409.',
    body: CreatePortalLinkBody,
    responses: {
      201: {
        description: 'The link',
        schema: PortalLinkCreated,
        headers: { Location: 'where it is' },
      },
    },
    problems: ['not_found', 'unprocessable', 'conflict'],
    async handle({ deps, body, operationId, origin, ...call }) {
      const { subscriptionIds, label, ...rest } = body;
      const { link, code } = await createPortalLink(deps.database, actorOf(call), {
        ...rest,
        operationId,
        subscriptions: label === undefined ? { refs: subscriptionIds ?? [] } : { label },
      });
      return {
        status: 201,
        body: { ...linkOf(link), url: `${origin}/portal#${code}` },
        headers: { Location: `/api/v1/portal-links/${link.id}` },
      };
    },
  }),
  defineRoute({
    ...common,
    method: 'get',
    path: '/api/v1/portal-links',
    operationId: 'listPortalLinks',
    summary: 'List links to the portal, newest first: who was let in, and until when',
    description: 'Links are kept for 30 days after they could last be opened.',
    query: PortalLinksQuery,
    responses: { 200: { description: 'A page of links', schema: PortalLinkPage } },
    async handle({ deps, caller, query }) {
      const page = await listPortalLinks(deps.database, {
        tenantId: caller.tenantId,
        ...pageLimits(query, deps.config, 'uuid'),
      });
      return { status: 200, body: pageOf(page, linkOf) };
    },
  }),
  defineRoute({
    ...common,
    method: 'get',
    path: '/api/v1/portal-links/:id',
    operationId: 'getPortalLink',
    summary: 'Read a link to the portal',
    params: IdParams,
    responses: { 200: { description: 'The link', schema: PortalLink } },
    problems: ['not_found'],
    async handle({ deps, caller, params }) {
      const id = uuidOr404(params.id, 'link');
      return {
        status: 200,
        body: linkOf(await getPortalLink(deps.database, { tenantId: caller.tenantId, id })),
      };
    },
  }),
  defineRoute({
    ...common,
    method: 'delete',
    path: '/api/v1/portal-links/:id',
    operationId: 'revokePortalLink',
    summary: 'End a link to the portal and the session that it has opened, at once',
    params: IdParams,
    responses: { 204: { description: 'Ended; also when it was before' } },
    problems: ['not_found'],
    async handle({ deps, params, ...call }) {
      await revokePortalLink(deps.database, actorOf(call), uuidOr404(params.id, 'link'));
      return { status: 204 };
    },
  }),
];
