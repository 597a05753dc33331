import type { EventEmitter } from 'node:events';
import { Client, type Submittable } from 'pg';
import { parseLsn, type Lsn } from './wal-names';

/** What `pg` has of a connection and does not declare. */
interface Wire extends EventEmitter {
  stream: { pause(): void; resume(): void; destroy(): void };
  query(text: string): void;
  sendCopyFromChunk(chunk: Buffer): void;
}
/** The columns of a row, in the server's own words. */
export type Row = Record<string, string | null>;
const wireOf = (client: Client): Wire => (client as unknown as { connection: Wire }).connection;

export interface Server {
  systemIdentifier: string;
  timeline: number;
  /** Up to where it has flushed its log. */
  flushedTo: Lsn;
  segmentBytes: number;
  version: string;
}

/**
 * A connection over which PostgreSQL hands out base backups and its write-ahead log: the protocol of pg_basebackup and
 * pg_receivewal, over the client that remit has. It may ask SQL as well, so an ordinary entry of pg_hba.conf lets it in;
 * the login needs REPLICATION.
 * https://www.postgresql.org/docs/18/protocol-replication.html
 */
export class ReplicationConnection {
  private constructor(private readonly client: Client) {}

  /** @throws Error that says what is missing. */
  static async open(url: string): Promise<ReplicationConnection> {
    const client = new Client({
      connectionString: url,
      application_name: 'remit backup',
      connectionTimeoutMillis: 10_000,
      keepAlive: true,
      replication: 'database',
    } as ConstructorParameters<typeof Client>[0]);
    // Whoever waits for an answer gets the error as well.
    client.on('error', () => undefined);
    try {
      await client.connect();
    } catch (error) {
      if ((error as { code?: string }).code === '42501')
        throw new Error(
          'this login may not copy the server: it needs the attribute REPLICATION (ALTER ROLE … REPLICATION), or DATABASE_URL must name one that has it',
          { cause: error },
        );
      throw new Error(`PostgreSQL does not answer (${String(error)})`, { cause: error });
    }
    return new ReplicationConnection(client);
  }

  /** The first row of a command's answer. */
  async row(command: string): Promise<Row> {
    const { rows } = await this.client.query<Row>(command);
    return rows[0] ?? {};
  }

  async server(): Promise<Server> {
    const system = await this.row('IDENTIFY_SYSTEM');
    const { bytes, version } = await this.row(
      `SELECT (SELECT setting FROM pg_settings WHERE name = 'wal_segment_size') AS bytes, current_setting('server_version') AS version`,
    );
    return {
      systemIdentifier: String(system['systemid']),
      timeline: Number(system['timeline']),
      flushedTo: parseLsn(String(system['xlogpos'])),
      segmentBytes: Number(bytes),
      version: String(version),
    };
  }

  /** The server's clock. */
  async now(): Promise<string> {
    const { now } = await this.row(
      `SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') AS now`,
    );
    return String(now);
  }

  /**
   * Runs a command whose answer is a stream.
   * @param onData gets each message; it may return a promise, until whose end the server is not read from.
   * @param onRow gets each row that comes with it, as it comes.
   * @returns the rows that came with it, each by its columns, when the server has ended it.
   * @throws what the server refuses, and what `onData` throws.
   */
  stream(
    command: string,
    onData: (message: Buffer) => Promise<void> | void,
    onRow?: (row: Row) => void,
  ): Promise<Row[]> {
    const wire = wireOf(this.client);
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => {
        reject(error instanceof Error ? error : new Error(String(error)));
        wire.stream.destroy();
      };
      this.client.query(new StreamedCommand(command, wire, { onData, onRow, resolve, reject, fail }));
    });
  }

  /** Says something to the server in a stream that goes both ways. */
  send(message: Buffer): void {
    wireOf(this.client).sendCopyFromChunk(message);
  }

  /** At once, whatever is under way. */
  close(): void {
    wireOf(this.client).stream.destroy();
  }
}

class StreamedCommand implements Submittable {
  #columns: string[] = [];
  readonly #rows: Row[] = [];
  #waiting = 0;
  #last: Promise<void> = Promise.resolve();

  constructor(
    private readonly command: string,
    private readonly wire: Wire,
    private readonly to: {
      onData: (message: Buffer) => Promise<void> | void;
      onRow: ((row: Row) => void) | undefined;
      resolve: (rows: Row[]) => void;
      reject: (error: Error) => void;
      fail: (error: unknown) => void;
    },
  ) {}

  submit(): void {
    this.wire.query(this.command);
  }

  handleRowDescription({ fields }: { fields: { name: string }[] }): void {
    this.#columns = fields.map(({ name }) => name);
  }

  handleDataRow({ fields }: { fields: (string | null)[] }): void {
    const row = Object.fromEntries(this.#columns.map((name, index) => [name, fields[index] ?? null]));
    this.#rows.push(row);
    this.to.onRow?.(row);
  }

  handleCopyData({ chunk }: { chunk: Buffer }): void {
    // The parser uses its buffer again.
    const message = Buffer.from(chunk);
    if (this.#waiting === 0) {
      try {
        const taken = this.to.onData(message);
        if (taken) this.#wait(taken);
      } catch (error) {
        this.to.fail(error);
      }
      return;
    }
    // What had come before the socket was paused.
    const before = this.#last;
    this.#wait(before.then(() => this.to.onData(message)));
  }

  #wait(taken: Promise<void>): void {
    if (this.#waiting++ === 0) this.wire.stream.pause();
    this.#last = taken;
    taken.then(() => {
      if (--this.#waiting === 0) this.wire.stream.resume();
    }, this.to.fail);
  }

  handleReadyForQuery(): void {
    void this.#last.then(() => this.to.resolve(this.#rows), this.to.fail);
  }

  handleError(error: Error): void {
    this.to.reject(error);
  }

  handleCommandComplete(): void {
    // The answer's end is ReadyForQuery.
  }
  handleEmptyQuery(): void {
    // No command of ours is empty.
  }
  handlePortalSuspended(): void {
    // Commands of this protocol have no portals.
  }
  handleCopyInResponse(): void {
    // Nothing is copied in.
  }
}
