/**
 * What reconciliation compares. Each check is one query that returns what is wrong: `subject` names it, `detail` says
 * how, and `found` is how many there are in all, on every row. `$1` is a tenant or NULL for all of them, `$2` how many
 * rows to return, and of those that are `aged` `$3` the milliseconds that work may take.
 */
export interface Check {
  name: string;
  /** What holds when it finds nothing. */
  rule: string;
  /** It is about work that has waited for longer than a margin. */
  aged?: true;
  sql: string;
}

/** The SQL of a check from the SQL of its findings (`subject`, `detail`). */
export const listed = (findings: string) =>
  `SELECT subject, detail, count(*) OVER () AS found FROM (${findings}) AS findings ORDER BY subject LIMIT $2`;
/** Whether a row is of the tenant that is asked for. */
export const tenant = (alias: string) => `($1::text IS NULL OR ${alias}.tenant_id = $1)`;
