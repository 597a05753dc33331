import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { loadConfig, type Config } from '../platform/config';
import { CLEAR_PAYLOADS, type Endpoints } from '../roles/local-stack';

/** How the CLI reaches a remit: what the environment says, completed by the files of a local installation. */
export interface Access {
  endpoints: Endpoints;
  config: Config;
}

/** Reads a JSON file of the data folder; an empty object when there is none. */
async function readOptional(file: string): Promise<Record<string, string>> {
  try {
    return JSON.parse(await readFile(file, 'utf8')) as Record<string, string>;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw new Error(`${file} is not readable: ${String(error)}`, { cause: error });
  }
}

/** Endpoints and secrets of the installation whose endpoints file this is; variables that are set win. */
export async function localAccess(endpointsFile: string): Promise<Access> {
  const folder = path.dirname(endpointsFile);
  const [endpoints, secrets] = await Promise.all([
    readOptional(endpointsFile),
    readOptional(path.join(folder, 'secrets.json')),
  ]);
  const env = {
    ...secrets,
    // As the roles of this installation do, unless Temporal is another one.
    ...(endpoints['temporal'] && !process.env['TEMPORAL_ADDRESS'] && CLEAR_PAYLOADS),
    ...process.env,
  };
  return { endpoints: endpoints as unknown as Endpoints, config: loadConfig(env, []) };
}
