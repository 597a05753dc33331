import { builtGoCommand, ensureGoCommand, type GoCommand } from './go-build';

const VERSION = '1.29.1';
const SERVER_MODULE = 'go.temporal.io/server';

/** Temporal's server without the CLI around it, for several nodes on PostgreSQL; and the tool that brings its schema. */
const SERVER: GoCommand = {
  asset: 'temporal-server',
  package: `${SERVER_MODULE}/cmd/server`,
  version: VERSION,
  executable: 'temporal-server',
  folder: 'temporal-server',
  title: 'Temporal server',
  progressTitle: 'Temporal server',
  takes: 'two to five minutes',
  linkerFlags: '-s -w',
};
const SQL_TOOL: GoCommand = {
  ...SERVER,
  package: `${SERVER_MODULE}/cmd/tools/sql`,
  executable: 'temporal-sql-tool',
  folder: 'temporal-sql-tool',
  title: 'Temporal SQL tool',
  progressTitle: 'Temporal SQL tool',
};

/** Builds server and tool into the cache, unless they are there. @returns where they are. */
export async function ensureTemporalServer(
  report: (line: string) => void,
): Promise<{ server: string; sqlTool: string }> {
  for (const command of [SERVER, SQL_TOOL]) await ensureGoCommand(command, report);
  return { server: builtGoCommand(SERVER), sqlTool: builtGoCommand(SQL_TOOL) };
}
