import type * as Chdb from 'chdb';
import { Gate } from './clickhouse-gate';
import { ClickHouseException, fromEngine } from './clickhouse-errors';
import { quoteIdentifier, quoteString } from './clickhouse-sql';

const MAX_WAITING = 1_000;
const DEFAULT_MAX_EXECUTION_SECONDS = '600';

export interface EngineRequest {
  sql: string;
  /** Output format of a query that names none. */
  format: string;
  database: string | undefined;
  /** Settings of this request alone. */
  settings: ReadonlyMap<string, string>;
  /** Query parameters `{name:Type}`, in ClickHouse's escaped text form. */
  parameters: ReadonlyMap<string, string>;
  readonly: boolean;
}

export interface EngineResult {
  body: Uint8Array;
  rows: number;
  bytes: number;
  elapsedNs: number;
}

/**
 * The engine on one folder. Each request has a session of its own, made and thrown away in under a
 * millisecond: settings, parameters and the current database cannot leak into another request, and requests
 * run in parallel (one session would run them one after the other).
 */
export class ClickHouseEngine {
  readonly #gate: Gate;
  /** Keeps the engine alive between requests: it goes down with its last session. */
  readonly #keeper: Chdb.Session;

  private constructor(
    private readonly chdb: typeof Chdb,
    private readonly dir: string,
    concurrency: number,
    readonly version: string,
    keeper: Chdb.Session,
  ) {
    this.#gate = new Gate(concurrency, MAX_WAITING);
    this.#keeper = keeper;
  }

  /** Opens the folder. Throws when another process has it open. */
  static async open(dir: string, concurrency: number): Promise<ClickHouseEngine> {
    const chdb = await import('chdb');
    const keeper = new chdb.Session(dir);
    const version = (await keeper.queryAsync('SELECT version()', { format: 'TabSeparatedRaw' }))
      .text()
      .trim();
    return new ClickHouseEngine(chdb, dir, concurrency, version, keeper);
  }

  /** Runs one statement. Throws a ClickHouseException. */
  run(request: EngineRequest): Promise<EngineResult> {
    return this.#gate.run(() => this.#run(request));
  }

  async #run(request: EngineRequest): Promise<EngineResult> {
    const session = new this.chdb.Session(this.dir);
    try {
      if (request.database !== undefined)
        await session.queryAsync(`USE ${quoteIdentifier(request.database)}`);
      await session.queryAsync(setStatement(request));
      const result = await session.queryAsync(request.sql, { format: request.format });
      return {
        body: result.bytes(),
        rows: result.rowsRead,
        bytes: result.bytesRead,
        elapsedNs: Math.round(result.elapsed * 1e9),
      };
    } catch (error) {
      throw fromEngine(error);
    } finally {
      session.close();
    }
  }

  /** Waits for what still runs and closes the folder. */
  async close(): Promise<void> {
    await this.chdb.drainPending();
    this.#keeper.close();
    await this.chdb.drainPending();
  }
}

function setStatement({ settings, parameters, readonly }: EngineRequest): string {
  const assignments = new Map([['max_execution_time', DEFAULT_MAX_EXECUTION_SECONDS], ...settings]);
  for (const [name, value] of parameters) assignments.set(`param_${name}`, value);
  for (const name of assignments.keys()) {
    if (!/^\w+$/.test(name))
      throw new ClickHouseException(115, 'UNKNOWN_SETTING', `Unknown setting '${name}'.`);
  }
  if (readonly) assignments.set('readonly', '2');
  return `SET ${[...assignments].map(([name, value]) => `${name} = ${quoteString(value)}`).join(', ')}`;
}
