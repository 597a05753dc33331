import { RemitError } from '../contracts/errors';

/** Why an event can't be published, whoever sends it. */
type EventFault = 'unknown_event_type' | 'reserved_event_type' | 'schema_mismatch' | 'message_too_large';
export interface Mistake {
  fault: EventFault;
  path: string;
  message: string;
}

/** An event will never be right as it is. */
export class EventRefused extends RemitError {
  /** Of the first event that has one. */
  readonly fault: EventFault;

  constructor(mistakes: readonly [Mistake, ...Mistake[]]) {
    super(
      'unprocessable',
      'The events can’t be published.',
      mistakes.map(({ path, message }) => ({ path, message })),
    );
    this.fault = mistakes[0].fault;
  }
}

/** @throws EventRefused when there is a mistake. */
export function requireNone([first, ...others]: readonly Mistake[]): void {
  if (first) throw new EventRefused([first, ...others]);
}

/** Names a field of one of the events in an error. */
export type PathOf = (index: number, field: string) => string;
