// Docker's question to a role: node healthcheck.mjs /healthz|/readyz. Exit 0 is well, 1 is not; the reason goes to
// stdout, where `docker inspect` shows it. Plain Node, so that the image needs no curl.
const path = process.argv[2] ?? '/healthz';
const port = process.env.METRICS_PORT || '9464';
const TIMEOUT_MS = 4_000;

try {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, {
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  process.stdout.write(`${response.status} ${await response.text()}\n`);
  process.exitCode = response.ok ? 0 : 1;
} catch (error) {
  process.stdout.write(`${error.cause?.message ?? error.message}\n`);
  process.exitCode = 1;
}
