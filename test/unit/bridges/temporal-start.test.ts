import { ServiceError } from '@temporalio/client';
import { lastingRefusal } from '../../../src/bridges/temporal-start';

const refused = (code: number, details: string) =>
  new ServiceError('x', {
    cause: Object.assign(new Error(details), { code, details, metadata: {} }),
  });

it.each([
  ['an argument it can’t take', 3, 'WorkflowId length exceeds limit.', 'invalid_message'],
  ['an invalid argument', 3, 'invalid TaskQueue', 'invalid_message'],
  ['a value out of range', 11, 'out of range', 'invalid_message'],
  ['a payload that is too large', 3, 'Blob size exceeds limit', 'message_too_large'],
  [
    'a request larger than gRPC takes',
    8,
    'grpc: received message larger than max (5000000 vs. 4194304)',
    'message_too_large',
  ],
])('%s will never be taken', (_, code, details, expected) => {
  expect(lastingRefusal(refused(code, details))?.code).toBe(expected);
});

it.each([
  ['an unreachable server', 14, 'No connection established'],
  ['an overloaded one', 8, 'namespace rate limit exceeded'],
  ['a call that took too long', 4, 'Deadline exceeded'],
  ['a namespace that is not there yet', 5, 'Namespace x is not found.'],
  ['an expired key', 16, 'unauthenticated'],
  ['a missing permission', 7, 'Request unauthorized.'],
  ['a defect of the server', 13, 'internal'],
  [
    'a run that has taken as many signals as it may',
    3,
    'exceeded workflow execution limit for signal events',
  ],
  [
    'a search attribute that nobody registered',
    3,
    'Namespace default has no mapping defined for search attribute RemitProvider',
  ],
])('%s is waited for', (_, code, details) => {
  expect(lastingRefusal(refused(code, details))).toBeUndefined();
});

it('waits for what is no answer of Temporal at all', () => {
  expect(lastingRefusal(new Error('socket hang up'))).toBeUndefined();
  expect(lastingRefusal(undefined)).toBeUndefined();
});
