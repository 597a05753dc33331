import { execFile } from 'node:child_process';
import os from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { PROJECT_ROOT } from '../../src/platform/project';

const SCRIPT = `
  const { EventSchemas } = require(process.argv[1]);
  (async () => {
    const schemas = new EventSchemas(10);
    const schema = { properties: { a: { multipleOf: 0.01 } } };
    const inspected = await schemas.inspect('t', schema, { a: 19.99 });
    const checked = await schemas.check('t', [{ key: 'k', schema, data: { text: '{"a":19.999}', value: { a: 19.999 } } }], () => 'data');
    await schemas.close();
    console.log(JSON.stringify({ inspected, checked }));
  })();
`;

it('the compiled code checks schemas in threads too, wherever it is started', async () => {
  const module = path.join(PROJECT_ROOT, 'dist', 'domain', 'event-schemas.js');
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', SCRIPT, module], {
    cwd: os.tmpdir(),
    env: {},
  });
  expect(JSON.parse(stdout)).toEqual({
    inspected: { errors: [] },
    checked: [[{ path: 'a', message: 'must be multiple of 0.01' }]],
  });
});
