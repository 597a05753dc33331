import type { DeadLetterCode } from '../contracts/errors';
import type { Refusal } from './mailbox';

/** The refusal of an outcome, when it is one of those that are dead-lettered. */
export function refusalOf<Code extends DeadLetterCode>(
  reasons: Readonly<Record<Code, string>>,
  outcome: string,
): Refusal | undefined {
  if (!Object.hasOwn(reasons, outcome)) return undefined;
  const code = outcome as Code;
  return { code, reason: reasons[code] };
}
