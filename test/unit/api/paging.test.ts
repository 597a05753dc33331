import fc from 'fast-check';
import { pageLimits } from '../../../src/api/routes/route';
import { RemitError } from '../../../src/contracts/errors';
import { PageQuery } from '../../../src/contracts/http';
import { decodeCursor, encodeCursor } from '../../../src/domain/pages';

const CONFIG = { API_PAGE_SIZE_MAX_ROWS: 200 };
const position = {
  createdAt: new Date('2026-01-02T03:04:05.678Z'),
  id: '6f9619ff-8b86-4011-b42d-00c04fc964ff',
};
const raw = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url');

describe('pages', () => {
  it('have 50 rows unless asked, and never more than configured', () => {
    const limitOf = (query: object) => pageLimits(PageQuery.parse(query), CONFIG, 'uuid').limit;
    expect(limitOf({})).toBe(50);
    expect(limitOf({ limit: '7' })).toBe(7);
    expect(limitOf({ limit: '100000' })).toBe(200);
  });

  it.each(['0', '-1', '1.5', '1e3', '0x10', '', ' 1', 'NaN', '9999999', ['1', '2']])(
    'refuse the limit %p',
    (limit) => {
      expect(PageQuery.safeParse({ limit }).success).toBe(false);
    },
  );

  it('refuse unknown parameters', () => {
    expect(PageQuery.safeParse({ page: '2' }).success).toBe(false);
    expect(PageQuery.safeParse(JSON.parse('{"__proto__":"x"}')).success).toBe(false);
  });

  it('go on behind any position a list can end at', () => {
    fc.assert(
      fc.property(
        fc.date({ min: new Date(0), max: new Date('9999-12-31'), noInvalidDate: true }),
        fc.uuid(),
        (createdAt, id) => {
          const { cursor } = pageLimits(
            PageQuery.parse({ cursor: encodeCursor({ createdAt, id }) }),
            CONFIG,
            'uuid',
          );
          expect(decodeCursor(cursor!)).toEqual({ createdAt, id });
        },
      ),
    );
  });

  it.each([
    ['no base64url', 'a b'],
    ['base64url of nothing known', Buffer.from('hello').toString('base64url')],
    ['an id of another kind', encodeCursor({ ...position, id: 'sub_1' })],
    ['a year that the database has not', raw(['-271821-04-20T00:00:00.000Z', position.id])],
    ['a time that is none', raw(['yesterday', position.id])],
    ['another shape', raw({ createdAt: position.createdAt, id: position.id })],
    ['an id with a quote in it', raw([position.createdAt, "' OR 1=1 --"])],
    ['no end', 'a'.repeat(201)],
  ])('refuse a cursor that is %s', (_name, cursor) => {
    const read = () => {
      const parsed = PageQuery.safeParse({ cursor });
      if (!parsed.success) throw new RemitError('invalid_request', 'schema');
      return pageLimits(parsed.data, CONFIG, 'uuid');
    };
    expect(read).toThrow(RemitError);
  });
});
