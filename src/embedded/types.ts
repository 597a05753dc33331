import type { FileLock } from '../platform/lock';

/** One server of the embedded stack. */
export type EmbeddedPart = 'postgres' | 'kafka' | 'temporal' | 'clickhouse';

/** Every part, in the order in which it is shown to people. */
export const EMBEDDED_PARTS: readonly EmbeddedPart[] = ['postgres', 'kafka', 'temporal', 'clickhouse'];

/** Where the parts answer; a part that is neither embedded nor outside has ''. */
export interface EmbeddedEndpoints {
  /** postgresql:// URL with its credentials. */
  postgres: string;
  /** host:port, or a comma separated list of an outside cluster. */
  kafka: string;
  /** host:port of the gRPC front end. */
  temporal: string;
  /** http URL of the Temporal UI; '' when Temporal runs outside. */
  temporalUi: string;
  /** http URL. */
  clickhouse: string;
}

export type SearchAttributeType = 'Keyword' | 'Int' | 'Datetime' | 'Double' | 'Bool' | 'Text';

export interface EmbeddedOptions {
  /** Where data, logs, locks and pid files live: `.remit/` in the project. Created when missing. */
  dataDir: string;
  /** The lock of the data folder, when the caller has taken it; it is released when the stack stops. */
  lock?: FileLock;
  /** Addresses of parts that run elsewhere: they are not started. */
  outside: Partial<Record<EmbeddedPart, string>>;
  /** Which parts are wanted; all by default. */
  parts?: EmbeddedPart[];
  /** 'standard': 5432, 9092, 7233 with its UI on 8233, and 8123, each when it is free; else a free one. */
  ports: 'standard' | 'free';
  /** Registered with the Temporal server, also on data of an earlier start. */
  searchAttributes: Readonly<Record<string, SearchAttributeType>>;
  /** Progress, one line at a time, for a person. */
  report: (line: string) => void;
}

/** The end of a part that nobody asked for. `code` is null when a signal ended it. */
export interface PartExit {
  part: EmbeddedPart;
  code: number | null;
}

export interface EmbeddedStack {
  endpoints: EmbeddedEndpoints;
  /** The processes that run now (a killed part is missing until it is restarted). */
  readonly processes: readonly { part: EmbeddedPart; pid: number }[];
  /** SIGKILL, for fault tests; resolves when the process is gone. Doing it twice is harmless. */
  kill(part: EmbeddedPart): Promise<void>;
  /** Starts a part again on the same port and data, stopping it first when it runs; resolves when it is ready. */
  restart(part: EmbeddedPart): Promise<void>;
  /** Orderly, bounded in time, idempotent. Leaves no process behind. */
  stop(): Promise<void>;
  /** Resolves when a part dies without kill, restart or stop having been called. */
  exited: Promise<PartExit>;
}

/** A failure that a person can fix: the message says what happened and what to do next. */
export class EmbeddedError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = 'EmbeddedError';
  }
}
