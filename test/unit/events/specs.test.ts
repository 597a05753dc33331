import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { Parser } from '@asyncapi/parser';
import { asyncApi, openApi, SPECS } from '../../../scripts/generate-specs';
import { loadConfig } from '../../../src/platform/config';
import { allTopics } from '../../../src/platform/topics';
import { readText } from '../deploy/project-files';

const projectRoot = path.resolve(__dirname, '../../..');

interface Item {
  name: string;
  item?: Item[];
  request?: { method: string; url: { path: string[] } };
}

describe('the specifications', () => {
  it.each(Object.keys(SPECS).filter((file) => file.endsWith('.yaml')))(
    '%s is what the code says now',
    async (file) => {
      // When this fails: npm run generate
      expect(readText(file) === (await SPECS[file]?.())).toBe(true);
    },
  );

  it('the OpenAPI document is valid', async () => {
    // The validator is an ES module, which jest can't load without flags of Node: it runs beside.
    const program = `
      import { Validator } from '@seriousme/openapi-schema-validator';
      const result = await new Validator().validate('docs/event-config-openapi.yaml');
      process.stdout.write(JSON.stringify(result));`;
    const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
      cwd: projectRoot,
    });
    expect(JSON.parse(stdout)).toMatchObject({ valid: true });
  });

  it('the AsyncAPI document is valid and has every topic', async () => {
    const { diagnostics } = await new Parser().parse(readText('docs/event-webhook-asyncapi.yaml'));
    expect(diagnostics.filter(({ severity }) => Number(severity) === 0)).toEqual([]);
    const channels = Object.values(asyncApi()['channels'] as Record<string, { address: string | null }>);
    const addresses = channels.map(({ address }) => address).filter((address) => address !== null);
    expect(addresses.sort()).toEqual(allTopics(loadConfig({}, [])).sort());
  });

  it('the Postman collection has a request for every operation, accounts and orders among them', () => {
    const requests: string[] = [];
    const walk = ({ item, request }: Item): void => {
      for (const each of item ?? []) walk(each);
      if (request) requests.push(`${request.method} /${request.url.path.join('/')}`);
    };
    // Not compared byte by byte: the converter makes up example values.
    walk(JSON.parse(readText('postman_collection.json')) as Item);
    const paths = openApi()['paths'] as Record<string, Record<string, unknown>>;
    const operations = Object.entries(paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`),
    );
    expect(requests.sort()).toEqual(operations.sort());
    expect(requests).toEqual(
      expect.arrayContaining(['POST /accounts', 'POST /accounts/topup', 'POST /orders']),
    );
  });
});
