/** Steps go to stderr: stdout belongs to the command itself (`bench --json` ends with one line of JSON). */
export function say(line) {
  process.stderr.write(`${line}\n`);
}

/** A failure whose message is for a person; `exitCode` is the process's. */
export class StepError extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

export const elapsed = (startedAt) => `${((Date.now() - startedAt) / 1000).toFixed(1)} s`;

/** Runs a step and says how long it took. */
export async function step(title, work) {
  const startedAt = Date.now();
  say(`▸ ${title} …`);
  const result = await work();
  say(`✔ ${title} (${elapsed(startedAt)})`);
  return result;
}
