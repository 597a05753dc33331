import type { z } from 'zod';
import type { ProblemCode } from '../../contracts/errors';
import { PageQuery } from '../../contracts/http';
import { EventTypeName } from '../../contracts/webhooks';
import type { VersionedOperations } from '../../domain/versioned-resource';
import { actorOf, defineRoute, etagOf, given, pageLimits, pageOf, type Route, type RouteDeps } from './route';

/** Of every version: when it came, and its number, which is also its ETag. */
interface Stamps {
  version: number;
  createdAt: Date;
  updatedAt: Date;
}

interface Texts {
  summary: string;
  description?: string;
}

export interface VersionedRoutes<Key extends string, View extends Stamps, Fields extends object> {
  path: `/api/v1/${string}`;
  /** Ends the operation ids: `createEventType` and `listEventTypes` of `EventType`. */
  noun: string;
  /** Heads its operations in the document: `Event types`. */
  tag: string;
  /** One of it, as a sentence begins: `The event type`. */
  one: string;
  key: Key;
  contract: {
    create: z.ZodType<Record<Key, string> & Fields>;
    update: z.ZodType<{ [Field in keyof Fields]?: Fields[Field] | undefined }>;
    params: z.ZodObject;
    one: z.ZodType;
    page: z.ZodType;
  };
  operations: VersionedOperations<View, Fields, Pick<RouteDeps['database'], 'prisma'> & Schemas>;
  texts: Record<'create' | 'list' | 'get' | 'update' | 'remove', Texts>;
  /** Its fields hold JSON of any content. */
  anyJson?: boolean;
  /** Problems of creating and changing it, beyond those of every such resource. */
  problems?: readonly ProblemCode[];
}

type Schemas = { schemas: RouteDeps['eventSchemas'] };

const ETAG = { ETag: 'its version, for If-Match' };

/**
 * The five routes of what a tenant configures under the name of an event type. Changing it is the administrator's, since
 * it concerns every subscriber; a change has to name the version that was read.
 */
export function versionedRoutes<
  Key extends string,
  View extends Stamps & Record<Key, string>,
  Fields extends object,
>({
  path,
  noun,
  tag,
  one,
  key,
  contract,
  operations,
  texts,
  anyJson,
  problems = [],
}: VersionedRoutes<Key, View, Fields>): Route[] {
  const common = { tag, access: 'token' } as const;
  const changes = { ...common, scope: 'admin' } as const;
  const written = anyJson ? { anyJson } : {};
  const byName = { path: `${path}/:${key}`, params: contract.params };

  const stored = ({ database, eventSchemas }: RouteDeps) => ({
    prisma: database.prisma,
    schemas: eventSchemas,
  });
  const answer = (view: View) => ({
    [key]: view[key],
    ...operations.fieldsOf(view),
    version: view.version,
    createdAt: view.createdAt.toISOString(),
    updatedAt: view.updatedAt.toISOString(),
  });
  /** A name that no type can have is one under which there is nothing. */
  const nameIn = (params: Record<string, unknown>): string => {
    const parsed = EventTypeName.safeParse(params[key]);
    if (!parsed.success) throw operations.notFound();
    return parsed.data;
  };
  const answers = { 200: { description: one, schema: contract.one, headers: ETAG } };

  return [
    defineRoute({
      ...{ ...changes, ...written, ...texts.create, method: 'post', path, operationId: `create${noun}` },
      body: contract.create,
      responses: {
        201: {
          description: one,
          schema: contract.one,
          headers: { Location: 'where it is', ...ETAG },
        },
      },
      problems: ['conflict', 'unprocessable', ...problems],
      async handle({ deps, body, ...call }) {
        const { [key]: name, ...fields } = body;
        const created = await operations.create(
          stored(deps),
          actorOf(call),
          name,
          fields as unknown as Fields,
          deps.config.EVENT_TYPES_MAX_PER_TENANT,
        );
        return {
          status: 201,
          body: answer(created),
          headers: { Location: `${path}/${created[key]}`, ...etagOf(created) },
        };
      },
    }),
    defineRoute({
      ...{ ...common, ...texts.list, method: 'get', path, operationId: `list${noun}s` },
      query: PageQuery,
      responses: { 200: { description: `A page of ${tag.toLowerCase()}`, schema: contract.page } },
      async handle({ deps, caller, query }) {
        const page = await operations.list(stored(deps), {
          tenantId: caller.tenantId,
          ...pageLimits(query, deps.config, 'uuid'),
        });
        return { status: 200, body: pageOf(page, answer) };
      },
    }),
    defineRoute({
      ...{ ...common, ...byName, ...texts.get, method: 'get', operationId: `get${noun}` },
      responses: answers,
      problems: ['not_found'],
      async handle({ deps, caller, params }) {
        const found = await operations.get(stored(deps), caller.tenantId, nameIn(params));
        return { status: 200, body: answer(found), headers: etagOf(found) };
      },
    }),
    defineRoute({
      ...{
        ...changes,
        ...byName,
        ...written,
        ...texts.update,
        method: 'patch',
        operationId: `update${noun}`,
      },
      ifMatch: 'required',
      body: contract.update,
      responses: answers,
      problems: ['not_found', ...problems],
      async handle({ deps, params, body, expected, ...call }) {
        const updated = await operations.update(stored(deps), actorOf(call), {
          key: nameIn(params),
          expected,
          changes: given(body),
        });
        return { status: 200, body: answer(updated), headers: etagOf(updated) };
      },
    }),
    defineRoute({
      ...{ ...changes, ...byName, ...texts.remove, method: 'delete', operationId: `delete${noun}` },
      ifMatch: 'optional',
      responses: { 204: { description: 'It is deleted' } },
      problems: ['not_found'],
      async handle({ deps, params, expected, ...call }) {
        await operations.remove(stored(deps), actorOf(call), { key: nameIn(params), expected });
        return { status: 204 };
      },
    }),
  ];
}
