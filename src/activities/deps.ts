import type { RefusedMessage } from '../contracts/workflows';
import type { Database } from '../platform/postgres';

/** What activities need of the outside world, handed in by the worker role. */
export interface ActivityDeps {
  db: Database;
  /** How long an event of an unknown transaction waits for it. */
  unknownTransactionWaitMs: number;
  /** How long evidence for a dispute may take when its provider names no time. */
  disputeEvidenceDueMs: number;
  /** Whether the lists of the Temporal UI may name users: search attributes are never encrypted. */
  showsUsers: boolean;
  /** Writes the dead letter of a message that a workflow refuses; resolves when the brokers have it. */
  deadLetter: (message: RefusedMessage) => Promise<void>;
}
