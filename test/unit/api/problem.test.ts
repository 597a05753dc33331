import fc from 'fast-check';
import { z } from 'zod';
import { fieldErrors, invalidRequest, problemDocument, toFault } from '../../../src/api/problem';
import { PROBLEM_STATUS, RemitError, type ProblemCode } from '../../../src/contracts/errors';
import { Problem } from '../../../src/contracts/http';
import { CreateOrderBody } from '../../../src/contracts/orders';
import { CreatePaymentBody } from '../../../src/api/routes/payments';
import { DecardEvent } from '../../../src/contracts/messages';
import { ConflictsExhaustedError } from '../../../src/domain/money-transaction';
import { NotQueuedError } from '../../../src/platform/kafka';

const codes = Object.keys(PROBLEM_STATUS) as ProblemCode[];
const document = (error: unknown) => problemDocument(toFault(error), '/orders', 'c-1');

describe('problem documents', () => {
  it.each(codes)('say %s with its status, type and title', (code) => {
    const problem = document(new RemitError(code, 'because', [{ path: 'amount', message: 'too small' }]));
    expect(Problem.parse(problem)).toEqual({
      type: `urn:remit:error:${code}`,
      title: expect.stringMatching(/\S/) as unknown,
      status: PROBLEM_STATUS[code],
      detail: 'because',
      instance: '/orders',
      code,
      errors: [{ path: 'amount', message: 'too small' }],
      correlationId: 'c-1',
    });
  });

  it.each([
    ['a defect', new TypeError('x is not a function at /srv/secret.js'), 'internal'],
    ['something thrown that is no error', 'boom', 'internal'],
    ['nothing', undefined, 'internal'],
    ['a validation failure of our own data', new z.ZodError([]), 'internal'],
    ['a refused connection', Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }), 'unavailable'],
    [
      'a wrapped one',
      new Error('query', { cause: Object.assign(new Error(), { code: '57P01' }) }),
      'unavailable',
    ],
    ['a pool without a free connection', new Error('timeout exceeded when trying to connect'), 'unavailable'],
    ['conflicts without end', new ConflictsExhaustedError('top_up lost 25 times'), 'unavailable'],
    ['brokers that don’t answer', new NotQueuedError('broker 10.0.0.7 is down'), 'not_queued'],
  ])('say nothing of the inside for %s', (_name, error, code) => {
    const problem = document(error);
    expect(problem.code).toBe(code);
    if (error instanceof Error && error.message) expect(JSON.stringify(problem)).not.toContain(error.message);
  });

  it('name each field of a request that is wrong', () => {
    const parsed = CreatePaymentBody.safeParse({ userId: '', amount: null, currency: 'XYZ', colour: 1 });
    expect(parsed.success).toBe(false);
    const errors = fieldErrors(parsed.error!);
    expect(errors.map(({ path }) => path).sort()).toEqual(['amount', 'colour', 'currency', 'userId']);
    expect(errors.find(({ path }) => path === 'colour')?.message).toBe('unknown field');
  });

  it('say “required” of what is missing', () => {
    expect(fieldErrors(CreateOrderBody.safeParse({}).error!)).toEqual([
      { path: 'amount', message: 'required' },
    ]);
    expect(fieldErrors(CreateOrderBody.safeParse(undefined).error!)).toEqual([
      { path: 'body', message: 'required' },
    ]);
  });

  it('stay small and never repeat a value, whatever was sent', () => {
    const secret = 'hunter2hunter2';
    fc.assert(
      fc.property(fc.object({ key: fc.string({ maxLength: 300 }), withNullPrototype: true }), (body) => {
        const parsed = DecardEvent.safeParse({ ...body, provider: secret, status: secret, amount: [secret] });
        const text = JSON.stringify(document(invalidRequest(parsed.error!)));
        expect(text.length).toBeLessThan(10_000);
        expect(text).not.toContain(secret);
      }),
    );
  });
});
