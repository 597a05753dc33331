import { parseKeeping } from '../../../src/contracts/json';
import { execFile } from 'node:child_process';
import { createHmac } from 'node:crypto';
import path from 'node:path';
import { promisify } from 'node:util';
import { runInNewContext } from 'node:vm';
import { Parser } from '@asyncapi/parser';
import { Webhook } from 'standardwebhooks';
import { asyncApi, openApi, SPECS } from '../../../scripts/generate-specs';
import { routeOf, successOf, type PostmanItem } from '../../../scripts/lib/postman';
import { allRoutes } from '../../../src/api/app';
import { loadConfig } from '../../../src/platform/config';
import { allTopics } from '../../../src/platform/topics';
import { readText } from '../deploy/project-files';

const projectRoot = path.resolve(__dirname, '../../..');

interface Script {
  listen: string;
  script: { exec: string[] };
}
type Item = PostmanItem & { item?: Item[]; event?: Script[] };

describe('the specifications', () => {
  it.each(Object.keys(SPECS))('%s is what the code says now', async (file) => {
    // When this fails: npm run generate
    expect(readText(file) === (await SPECS[file]?.())).toBe(true);
  });

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

  describe('the Postman collection', () => {
    const text = readText('postman_collection.json');
    const collection = JSON.parse(text) as Item & {
      variable: { key: string; value: string }[];
      event: Script[];
    };
    const leaves = (item: Item): Item[] =>
      item.request ? [item] : (item.item ?? []).flatMap((each) => leaves(each));
    const requests = leaves(collection);
    const routes = allRoutes();
    const routeFor = (item: Item) => routeOf(item.request!, routes);
    const resolved = (raw: string) =>
      raw.replaceAll(/\{\{(\w+)\}\}/g, (_all, name: string) => {
        const found = collection.variable.find(({ key }) => key === name);
        if (!found) throw new Error(`{{${name}}} is not defined`);
        return found.value;
      });

    it('has a request for every operation, accounts and orders among them', () => {
      const paths = openApi()['paths'] as Record<string, Record<string, unknown>>;
      const operations = Object.entries(paths).flatMap(([path, methods]) =>
        Object.keys(methods).map(
          (method) => `${method.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`,
        ),
      );
      const called = requests.map(({ request }) => `${request!.method} /${request!.url.path.join('/')}`);
      expect([...new Set(called)].sort()).toEqual(operations.sort());
    });

    it('calls each request differently, which is how scripts name the one to go on with', () => {
      const names = requests.map(({ name }) => name);
      expect(new Set(names).size).toBe(names.length);
    });

    it('checks in each request the status that the document gives for success', () => {
      for (const item of requests) {
        const checks = item.event?.find(({ listen }) => listen === 'test')?.script.exec.join('\n');
        expect([item.name, checks]).toEqual([
          item.name,
          expect.stringContaining(`pm.response.to.have.status(${successOf(routeFor(item))})`),
        ]);
      }
    });

    it('defines every variable that it uses', () => {
      const used = new Set([...text.matchAll(/\{\{(\w+)\}\}/g)].map(([, name]) => name));
      const defined = collection.variable.map(({ key }) => key);
      expect(defined).toEqual(
        expect.arrayContaining(['baseUrl', 'token', 'userId', 'decardSecret', 'orderWebhookSecret']),
      );
      expect([...used].filter((name) => !defined.includes(name ?? ''))).toEqual([]);
    });

    it('sends bodies that the API takes', () => {
      const withBody = requests.filter((item) => routeFor(item).body);
      expect(withBody.length).toBeGreaterThan(15);
      for (const item of withBody) {
        const { body, keeps = ['nothing'] } = routeFor(item);
        const result = body?.safeParse(parseKeeping(resolved(item.request!.body!.raw), keeps));
        expect([item.name, result?.error?.issues]).toEqual([item.name, undefined]);
      }
    });

    it('names the user where a route is a user’s, and has a placeholder nowhere', () => {
      for (const item of requests) {
        const user = item.request!.header?.find(({ key }) => key === 'X-User-Id')?.value;
        expect([item.name, user]).toEqual([
          item.name,
          routeFor(item).access === 'user' ? '{{userId}}' : undefined,
        ]);
        for (const { value, disabled } of [
          ...(item.request!.header ?? []),
          ...(item.request!.url.variable ?? []),
        ])
          if (!disabled) expect(value).not.toMatch(/^<.*>$|^$/);
      }
    });

    it('signs webhooks, and only these, each with the secret of its provider', () => {
      const secrets = {
        decardSecret: `whsec_${Buffer.alloc(32, 5).toString('base64')}`,
        orderWebhookSecret: `whsec_${Buffer.alloc(32, 6).toString('base64')}`,
      };
      const scriptOf = (item: Item) =>
        item.event?.find(({ listen }) => listen === 'prerequest')?.script.exec.join('\n') ?? '';
      const signed = requests.filter((item) => scriptOf(item).includes('webhook-signature'));
      const webhooks = requests.filter((item) => item.request!.url.path[0] === 'webhooks');
      expect(signed.map(({ name }) => name)).toEqual(webhooks.map(({ name }) => name));
      for (const item of signed) {
        const values = new Map(collection.variable.map(({ key, value }) => [key, value]));
        for (const [key, value] of Object.entries(secrets)) values.set(key, value);
        const replaceIn = (raw: string) =>
          raw
            .replaceAll('{{$guid}}', '0b8ff6a4-51f5-4ce7-9f21-6a3a1c9d9e55')
            .replaceAll(/\{\{(\w+)\}\}/g, (_all, name: string) => values.get(name) ?? '');
        const headers: Record<string, string> = {};
        const pm = {
          variables: { get: (name: string) => values.get(name), replaceIn },
          collectionVariables: { set: (name: string, value: string) => values.set(name, value) },
          request: {
            body: item.request!.body,
            headers: {
              upsert: ({ key, value }: { key: string; value: string }) => void (headers[key] = value),
            },
          },
        };
        // Some sandboxes have declared it already, and run what follows in the same scope; and scripts run repeatedly.
        const script = `const CryptoJS = {};\n${scriptOf(item)}\n${scriptOf(item)}`;
        runInNewContext(script, { pm, require: () => PLAYED_CRYPTO_JS, Date });
        const body = replaceIn(item.request!.body!.raw);
        expect(headers['webhook-id']).toMatch(/^evt_/);
        const provider = item.request!.url.path[1] === 'providers' ? 'decardSecret' : 'orderWebhookSecret';
        expect(() => new Webhook(secrets[provider]).verify(body, headers)).not.toThrow();
      }
    });
  });
});

/** The three functions of crypto-js that Postman gives to scripts, as the script uses them. */
const PLAYED_CRYPTO_JS = {
  HmacSHA256: (text: string, key: Buffer) => createHmac('sha256', key).update(text).digest(),
  enc: {
    Base64: {
      parse: (text: string) => Buffer.from(text, 'base64'),
      stringify: (bytes: Buffer) => bytes.toString('base64'),
    },
  },
};
