import { CONFIG_FIELDS, loadConfig, ROLE_NEEDS } from '../../../src/platform/config';
import { configSections, FIRST, GENERATED, renderEnvExample } from '../../../scripts/generate-env-example';
import { readText } from './project-files';

describe('what npm run generate writes', () => {
  it.each(Object.keys(GENERATED))('%s is what the configuration schema says now', (file) => {
    // When this fails: npm run generate
    expect(readText(file) === GENERATED[file]?.()).toBe(true);
  });

  it('has every variable once, in the order of the schema, each with a description', () => {
    const variables = configSections().flatMap((section) => section.variables);
    expect(variables.map(({ name }) => name)).toEqual(CONFIG_FIELDS.map(({ name }) => name));
    expect(variables.filter(({ description }) => description === '')).toEqual([]);
  });

  it('leaves operators few things to decide, and says which ten matter first, and which metric tells', () => {
    const variables = configSections().flatMap((section) => section.variables);
    // Those of OpenTelemetry are the standard's, and the same everywhere. The 116th is API_TRUSTED_PROXIES: nothing but the
    // network that it runs in says whose X-Forwarded-For may be believed.
    expect(variables.filter(({ name }) => !name.startsWith('OTEL_')).length).toBeLessThanOrEqual(116);
    expect(FIRST).toHaveLength(10);
    for (const { name, metric } of FIRST) {
      expect(variables.map((each) => each.name)).toContain(name);
      if (metric.startsWith('remit_')) expect(readText('src/platform/metrics.ts')).toContain(`'${metric}'`);
    }
  });

  it('says which roles need a variable, of those that have no default', () => {
    const variables = configSections().flatMap((section) => section.variables);
    for (const { name, needed, fallback } of variables) {
      const roles = Object.entries(ROLE_NEEDS).filter(([, names]) => names.some((each) => each === name));
      expect([name, needed]).toEqual([name, roles.map(([role]) => role)]);
      if (needed.length > 0) expect([name, fallback]).toEqual([name, undefined]);
    }
    expect(renderEnvExample()).toMatch(/^# needed by: ingest, migrate\n#CLICKHOUSE_URL=$/m);
  });

  it('shows defaults that the configuration reads as its defaults', () => {
    const shown = [...renderEnvExample().matchAll(/^#([A-Z][A-Z0-9_]*)=(.*)$/gm)].map(([, name, value]) => [
      name,
      value,
    ]);
    const names = new Set(CONFIG_FIELDS.map(({ name }) => name));
    const env = Object.fromEntries(shown.filter(([name]) => names.has(name ?? ''))) as Record<string, string>;
    expect(loadConfig(env, [])).toEqual(loadConfig({}, []));
  });
});
