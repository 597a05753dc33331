/** A Ctrl-C may arrive twice, from the terminal and from a launcher, milliseconds apart. */
const SAME_SIGNAL_MS = 700;

/** Aborted by the first SIGINT or SIGTERM; a second one ends the process at once. */
export function untilStopped(): AbortSignal {
  const ending = new AbortController();
  const signals = ['SIGINT', 'SIGTERM'] as const;
  const stop = () => {
    if (ending.signal.aborted) return;
    ending.abort();
    setTimeout(() => {
      for (const signal of signals) process.removeListener(signal, stop);
    }, SAME_SIGNAL_MS).unref();
  };
  for (const signal of signals) process.on(signal, stop);
  return ending.signal;
}
