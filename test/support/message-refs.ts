import type { MessageRef, RefusedMessage } from '../../src/contracts/workflows';

/** Where a message would lie that a test plays. */
export const messageRef = (topic: string, changes: Partial<MessageRef> = {}): MessageRef => ({
  topic,
  partition: 0,
  offset: '0',
  timestampMs: Date.UTC(2026, 10, 21),
  sha256: 'a'.repeat(64),
  ...changes,
});

/** Plays the activity that writes dead letters, keeping what it was given. */
export function playedDeadLetters() {
  const letters: RefusedMessage[] = [];
  return {
    letters,
    deadLetterMessages: (messages: RefusedMessage[]): Promise<void> =>
      Promise.resolve(void letters.push(...messages)),
  };
}
