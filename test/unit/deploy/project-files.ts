import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';

export const PROJECT = path.resolve(__dirname, '..', '..', '..');
export const readText = (file: string) => readFileSync(path.join(PROJECT, file), 'utf8');

/** A YAML file with its merge keys resolved, as Docker Compose and Prometheus read it. */
export function readYaml<T>(file: string): T {
  return parse(readText(file), { merge: true, maxAliasCount: 1_000 }) as T;
}

/** Every file below a folder, relative to the project. */
export function filesBelow(folder: string): string[] {
  return readdirSync(path.join(PROJECT, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(PROJECT, path.join(entry.parentPath, entry.name)));
}

export interface Service {
  image: string;
  build?: { context: string };
  pull_policy?: string;
  command?: string[];
  environment?: Record<string, unknown>;
  healthcheck?: { test?: string[]; disable?: boolean };
  ports?: string[];
  volumes?: string[];
  restart?: string;
  profiles?: string[];
  stop_grace_period?: string;
  networks?: string[];
  depends_on?: Record<string, { condition: string }>;
  deploy?: { replicas: string };
}

export interface Compose {
  services: Record<string, Service>;
  volumes: Record<string, unknown>;
  networks: Record<string, unknown>;
}

export const readCompose = () => readYaml<Compose>('docker-compose.yml');

/** The services that run roles of remit, by name; what is run on request (a profile) is none. */
export function remitServices(compose: Compose): [string, Service][] {
  return Object.entries(compose.services).filter(
    ([, { image, profiles }]) => image.includes('REMIT_IMAGE') && profiles === undefined,
  );
}

/**
 * What Compose makes of a value when nothing is set: `${A:-x}` is x, `${A:-${B:-x}}` too. A required variable gets a
 * value that is valid.
 */
export function withDefaults(value: unknown, given: Record<string, string> = {}): string {
  // A default has no `$` in it: the innermost ones are resolved first.
  const resolved = String(value).replaceAll(
    /\$\{([A-Z][A-Z0-9_]*)(?:(:?)([-?])([^}$]*))?\}/g,
    (_all, name: string, _colon: string | undefined, kind: string | undefined, rest: string | undefined) =>
      given[name] ?? (kind === '-' ? (rest ?? '') : ''),
  );
  return resolved === String(value) ? resolved : withDefaults(resolved, given);
}
