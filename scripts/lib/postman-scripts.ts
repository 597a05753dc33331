/**
 * The scripts of the collection. They run in the sandboxes of old and new Postman and newman alike: plain JavaScript in a
 * function of its own, since some sandboxes have declared names such as CryptoJS already and run scripts one after the
 * other in the same scope.
 */

/** Variables that hold what a provider signs with. */
export type SecretVariable = 'decardSecret' | 'orderWebhookSecret';

export interface PostmanScript {
  listen: 'prerequest' | 'test';
  script: { type: 'text/javascript'; exec: string[] };
}

function script(listen: PostmanScript['listen'], lines: readonly string[]): PostmanScript {
  const body = lines.map((line) => `  ${line}`);
  return { listen, script: { type: 'text/javascript', exec: ['(function () {', ...body, '})();'] } };
}

/** Lines that take a variable back to nothing. */
export const forget = (variable: string): string[] => [`pm.collectionVariables.unset('${variable}');`];

/** Signs the request as Standard Webhooks say. */
const sign = (secret: SecretVariable): string[] => [
  "var cryptoJs = require('crypto-js');",
  `var secret = (pm.variables.get('${secret}') || '').replace(/^whsec_/, '');`,
  `if (!secret) throw new Error('Set the variable ${secret} of the collection.');`,
  "var id = pm.variables.replaceIn('evt_{{$guid}}');",
  "pm.collectionVariables.set('providerEventId', id);",
  'var timestamp = String(Math.floor(Date.now() / 1000));',
  'var body = pm.variables.replaceIn(pm.request.body.raw);',
  "var mac = cryptoJs.HmacSHA256(id + '.' + timestamp + '.' + body, cryptoJs.enc.Base64.parse(secret));",
  "pm.request.headers.upsert({ key: 'webhook-id', value: id });",
  "pm.request.headers.upsert({ key: 'webhook-timestamp', value: timestamp });",
  "pm.request.headers.upsert({ key: 'webhook-signature', value: 'v1,' + cryptoJs.enc.Base64.stringify(mac) });",
];

const POLLS = 120;
const POLL_PAUSE_MS = 500;

/** Asks again while the expected has not come about; otherwise goes on to what follows. */
const poll = (condition: string): string[] => [
  "var tries = Number(pm.collectionVariables.get('tries') || 0) + 1;",
  `if (pm.response.code < 300 && !(${condition}) && tries < ${POLLS}) {`,
  "  pm.collectionVariables.set('tries', String(tries));",
  // Works where pm.execution does not exist yet.
  '  postman.setNextRequest(pm.info.requestName);',
  `  return setTimeout(function () {}, ${POLL_PAUSE_MS});`,
  '}',
  ...forget('tries'),
];

export interface Checks {
  status: number;
  until?: string | undefined;
  keep?: Record<string, string> | undefined;
}

/** Checks the answer's status, and keeps what later requests need. */
export function checkScript({ status, until, keep = {} }: Checks): PostmanScript {
  const kept = Object.entries(keep);
  return script('test', [
    ...(until !== undefined || kept.length > 0
      ? ['var body = {};', 'try { body = pm.response.json(); } catch (error) { /* the status says it */ }']
      : []),
    ...(until === undefined ? [] : poll(until)),
    `pm.test('answers ${status}', function () { pm.response.to.have.status(${status}); });`,
    ...(until === undefined
      ? []
      : [`pm.test(${JSON.stringify(until)}, function () { pm.expect(${until}).to.equal(true); });`]),
    ...kept.map(
      ([variable, expression]) =>
        `if (pm.response.code === ${status}) pm.collectionVariables.set('${variable}', ${expression});`,
    ),
  ]);
}

/** What runs before the request; nothing when there is nothing to do. */
export function beforeScript({
  before = [],
  secret,
}: {
  before?: readonly string[] | undefined;
  secret?: SecretVariable | undefined;
}): PostmanScript[] {
  const lines = [...before, ...(secret === undefined ? [] : sign(secret))];
  return lines.length === 0 ? [] : [script('prerequest', lines)];
}
