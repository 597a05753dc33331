import { RemitError } from '../contracts/errors';

/** What an If-Match header allows: any version, or one of these. */
export type ExpectedVersions = '*' | readonly number[];

/** @throws RemitError precondition_failed when the version found is none of the expected. */
export function requireVersion(expected: ExpectedVersions, found: number): void {
  if (expected !== '*' && !expected.includes(found))
    throw new RemitError('precondition_failed', 'It was changed in the meantime; read it again.');
}

/** `updateMany` and `deleteMany` found the version that was read, or somebody else was faster. */
export function requireOneRow(count: number): void {
  if (count !== 1)
    throw new RemitError('precondition_failed', 'It was changed in the meantime; read it again.');
}
