import { windowStart } from '../../src/api/shared-limit';

/** A name whose window of a rate limit goes on for longer than any test takes. */
export function nameInMidWindow(
  newName: () => string,
  windowMs: number,
  keyOf = (name: string) => name,
): string {
  for (;;) {
    const name = newName();
    const now = Date.now();
    if (now - windowStart(keyOf(name), windowMs, now) < windowMs / 2) return name;
  }
}
