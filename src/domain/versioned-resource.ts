import type { RemitError } from '../contracts/errors';
import { Prisma } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import { recordChange, type Actor } from './audit';
import { afterCursor, NEWEST_FIRST, toPage, type Page, type PagePosition } from './pages';
import { createWithinQuota, requireRoom } from './quota';
import { requireOneRow, requireVersion, type ExpectedVersions } from './versions';

/**
 * What tenants configure under names of their own (event types, event configs): limited in number, changed against the
 * version that was read, every change in the audit log.
 */

/** A row of one of a tenant's, whose number of changes is its version. */
interface Versioned extends PagePosition {
  version: number;
}

/** The table of a resource. Rows are those of one tenant; a key is the name within it. */
export interface VersionedTable<Row extends Versioned, Fields> {
  count: (tx: Prisma.TransactionClient, tenantId: string) => Promise<number>;
  find: (tx: Prisma.TransactionClient, tenantId: string, key: string) => Promise<Row | null>;
  page(
    tx: Prisma.TransactionClient,
    where: { tenantId: string } & ReturnType<typeof afterCursor>,
    newestFirst: { orderBy: typeof NEWEST_FIRST; take: number },
  ): Promise<Row[]>;
  create: (tx: Prisma.TransactionClient, tenantId: string, key: string, fields: Fields) => Promise<Row>;
  /** Of this version only; also raises it. */
  update(
    tx: Prisma.TransactionClient,
    row: { tenantId: string; key: string; version: number },
    fields: Fields,
  ): Promise<{ count: number }>;
  /** Of this version only. */
  remove(
    tx: Prisma.TransactionClient,
    row: { tenantId: string; key: string; version: number },
  ): Promise<{ count: number }>;
}

export interface VersionedResource<
  Row extends Versioned,
  View extends { version: number },
  Fields,
  Deps extends Db = Db,
> {
  /** In the audit log: `event_type` makes `event_type.created` and `event_type:<key>`. */
  kind: string;
  /** For people: `event types`. */
  plural: string;
  table: VersionedTable<Row, Fields>;
  view: (row: Row) => View;
  /** What can be changed of it. */
  fieldsOf: (view: View) => Fields;
  notFound: () => RemitError;
  /** There is one under this key already. */
  taken: (key: string) => RemitError;
  /** Throws a RemitError when there may be none like this; asked before one is created or changed. */
  check?: (deps: Deps, tenantId: string, key: string, fields: Fields) => Promise<void>;
}

type Db = Pick<Database, 'prisma'>;

/** What can be done with one kind of resource. `Deps` is what its check needs beside the database. */
export interface VersionedOperations<View, Fields, Deps extends Db = Db> {
  notFound: () => RemitError;
  /** What can be changed of it. */
  fieldsOf: (view: View) => Fields;
  /** @throws RemitError not_found, also for another tenant's. */
  get: (db: Db, tenantId: string, key: string) => Promise<View>;
  /**
   * Not idempotent: a second call is a conflict.
   * @throws RemitError conflict when there is one; unprocessable when the tenant has as many as it may; what the
   *   resource's check throws.
   */
  create: (deps: Deps, actor: Actor, key: string, fields: Fields, maxPerTenant: number) => Promise<View>;
  /** A tenant's, newest first. @throws RemitError invalid_request on a malformed cursor. */
  list: (
    db: Db,
    page: { tenantId: string; limit: number; cursor?: string | undefined },
  ) => Promise<Page<View>>;
  /** Changes the given fields. @throws RemitError not_found, precondition_failed; what the resource's check throws. */
  update: (
    deps: Deps,
    actor: Actor,
    change: { key: string; expected: ExpectedVersions; changes: Partial<Fields> },
  ) => Promise<View>;
  /** @throws RemitError not_found, precondition_failed. */
  remove: (db: Db, actor: Actor, row: { key: string; expected: ExpectedVersions }) => Promise<void>;
}

/** Creating, reading, changing and deleting one kind of resource. */
export function versionedResource<
  Row extends Versioned,
  View extends { version: number },
  Fields extends object,
  Deps extends Db = Db,
>({
  kind,
  plural,
  table,
  view,
  fieldsOf,
  notFound,
  taken,
  check = () => Promise.resolve(),
}: VersionedResource<Row, View, Fields, Deps>): VersionedOperations<View, Fields, Deps> {
  const cause = (key: string) => `${kind}:${key}`;

  async function get({ prisma }: Db, tenantId: string, key: string): Promise<View> {
    const found = await table.find(prisma, tenantId, key);
    if (!found) throw notFound();
    return view(found);
  }

  async function create(
    deps: Deps,
    actor: Actor,
    key: string,
    fields: Fields,
    maxPerTenant: number,
  ): Promise<View> {
    const { tenantId } = actor;
    await check(deps, tenantId, key, fields);
    try {
      return await createWithinQuota(deps, plural, tenantId, async (tx) => {
        requireRoom(plural, await table.count(tx, tenantId), maxPerTenant);
        const created = await table.create(tx, tenantId, key, fields);
        await recordChange(tx, actor, { action: `${kind}.created`, cause: cause(key), after: fields });
        return view(created);
      });
    } catch (error) {
      if (error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002') throw taken(key);
      throw error;
    }
  }

  async function list(
    { prisma }: Db,
    { tenantId, limit, cursor }: { tenantId: string; limit: number; cursor?: string | undefined },
  ): Promise<Page<View>> {
    const where = { tenantId, ...afterCursor(cursor) };
    const rows = await table.page(prisma, where, { orderBy: NEWEST_FIRST, take: limit + 1 });
    return toPage(rows, limit, view);
  }

  async function update(
    deps: Deps,
    actor: Actor,
    { key, expected, changes }: { key: string; expected: ExpectedVersions; changes: Partial<Fields> },
  ): Promise<View> {
    const { tenantId } = actor;
    const found = await get(deps, tenantId, key);
    requireVersion(expected, found.version);
    const before = fieldsOf(found);
    const after: Fields = { ...before, ...changes };
    await check(deps, tenantId, key, after);
    return deps.prisma.$transaction(async (tx) => {
      requireOneRow((await table.update(tx, { tenantId, key, version: found.version }, after)).count);
      await recordChange(tx, actor, { action: `${kind}.updated`, cause: cause(key), before, after });
      const row = await table.find(tx, tenantId, key);
      if (!row) throw notFound();
      return view(row);
    });
  }

  async function remove(
    db: Db,
    actor: Actor,
    { key, expected }: { key: string; expected: ExpectedVersions },
  ): Promise<void> {
    const { tenantId } = actor;
    const found = await get(db, tenantId, key);
    requireVersion(expected, found.version);
    await db.prisma.$transaction(async (tx) => {
      requireOneRow((await table.remove(tx, { tenantId, key, version: found.version })).count);
      const before = fieldsOf(found);
      await recordChange(tx, actor, { action: `${kind}.deleted`, cause: cause(key), before });
    });
  }

  return { notFound, fieldsOf, get, create, list, update, remove };
}
