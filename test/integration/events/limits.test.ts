import { eventConfigs } from '../../../src/domain/event-configs';
import { EventSchemas } from '../../../src/domain/event-schemas';
import { eventTypes } from '../../../src/domain/event-types';
import type { Database } from '../../../src/platform/postgres';
import { createTestSpace, openTestDatabase } from '../../support/harness';

const MAX = 3;
const ACTOR = { tenantId: 'small', actor: 'token:test', correlationId: 'c' };

let db: Database;
const schemas = new EventSchemas(1);
beforeAll(async () => {
  db = openTestDatabase(await createTestSpace());
});
afterAll(() => Promise.all([db.close(), schemas.close()]));

describe('a tenant that creates many at once', () => {
  it.each([
    [
      'event types',
      (i: number) =>
        eventTypes.create(
          { prisma: db.prisma, schemas },
          ACTOR,
          `parcel.n${i}`,
          { description: '', schema: null, example: null },
          MAX,
        ),
    ],
    [
      'event configs',
      (i: number) =>
        eventConfigs.create(
          db,
          ACTOR,
          `parcel.n${i}`,
          {
            ...{ enabled: true, ordered: false },
            ...{ scheduleMs: null, timeoutMs: null, retentionDays: null },
          },
          MAX,
        ),
    ],
  ])('has at most so many %s, and is told so', async (things, create) => {
    const created = await Promise.allSettled(Array.from({ length: 8 }, (_, i) => create(i)));
    expect(created.filter(({ status }) => status === 'fulfilled')).toHaveLength(MAX);
    for (const each of created)
      if (each.status === 'rejected')
        expect(each.reason).toMatchObject({
          code: 'unprocessable',
          message: `A tenant has at most ${MAX} ${things}.`,
        });
  });
});
