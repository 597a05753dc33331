/** How long replicas remember the tokens of batches: longer than the longest outage between an insert and its repetition. */
const REPLICATED_WINDOW_SECONDS = 7 * 86_400;

const CREATES = /^(CREATE (?:TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS \w+|ALTER TABLE \w+)/;

/** An engine that keeps its rows on one server alone. */
const OTHER_ENGINE = /\bENGINE\s*=(?!\s*\w*MergeTree\b)/;

/** A quoted identifier. */
export function quoteName(name: string): string {
  return `\`${name.replaceAll('\\', '\\\\').replaceAll('`', '\\`')}\``;
}

/** ` ON CLUSTER …`, or nothing for a single server. */
export function onCluster(cluster: string | undefined): string {
  return cluster === undefined ? '' : ` ON CLUSTER ${quoteName(cluster)}`;
}

/**
 * A statement of a migration as a cluster of replicas needs it: on all of its servers, with replicated engines (their
 * paths are the server's `default_replica_path` with its macros) and with the window of tokens that is kept in Keeper.
 * Without a cluster it is left as it is.
 * @throws for a statement that could change one server alone, and for a table that would not be replicated.
 */
export function statementFor(cluster: string | undefined, statement: string): string {
  if (cluster === undefined) return statement;
  if (!CREATES.test(statement))
    throw new Error(`this statement of a migration can't be run on a cluster:\n${statement}`);
  if (OTHER_ENGINE.test(statement))
    throw new Error(
      `a table of a cluster needs an engine of the MergeTree family, to be replicated:\n${statement}`,
    );
  return statement
    .replace(CREATES, `$1${onCluster(cluster)}`)
    .replace(/\bENGINE\s*=\s*(\w*MergeTree)\b/, 'ENGINE = Replicated$1')
    .replace(
      /\bnon_replicated_deduplication_window = (\d+)/,
      `replicated_deduplication_window = $1, replicated_deduplication_window_seconds = ${REPLICATED_WINDOW_SECONDS}`,
    );
}
