const os = require('node:os');

/** One project a kind of test; the real parts are started once for all of them by test/support/global-setup.ts. */
const base = {
  testEnvironment: 'node',
  transform: {
    '^.+\\.ts$': [
      '@swc/jest',
      {
        jsc: { parser: { syntax: 'typescript' }, target: 'es2022' },
        module: { type: 'commonjs' },
        sourceMaps: 'inline',
      },
    ],
    // The one is published as ES modules alone; the other has dynamic imports, which Jest's own modules don't take.
    '/node_modules/(oauth4webapi|@opentelemetry/otlp-exporter-base)/.+\\.js$': [
      '@swc/jest',
      { jsc: { parser: { syntax: 'ecmascript' }, target: 'es2022' }, module: { type: 'commonjs' } },
    ],
  },
  transformIgnorePatterns: ['/node_modules/(?!oauth4webapi/|@opentelemetry/otlp-exporter-base/)'],
  // Dynamic imports carry the .js that Node needs of the compiled code.
  moduleNameMapper: { '^(\\.{1,2}/.*)\\.js$': '$1' },
};
const kind = (name, extra = {}) => ({
  ...base,
  displayName: name,
  testMatch: [`<rootDir>/test/${name}/**/*.test.ts`],
  ...extra,
});
const withStack = {
  globalSetup: '<rootDir>/test/support/global-setup.ts',
  globalTeardown: '<rootDir>/test/support/global-teardown.ts',
};

module.exports = {
  projects: [
    kind('unit'),
    kind('workflows', { globalSetup: '<rootDir>/test/support/workflow-setup.ts' }),
    kind('integration', withStack),
    kind('e2e', withStack),
    kind('faults', withStack),
  ],
  reporters: ['default', '<rootDir>/test/support/closing-lines-reporter.js'],
  // Generous: a busy machine is slow, and only what hangs is to fail by it.
  testTimeout: 180_000,
  // Two at least: many files wait for servers more than they compute.
  maxWorkers: Math.max(2, os.availableParallelism()),
  // What tests load (native clients, schemas) stays in a worker; one that has grown is replaced before it runs out of memory.
  workerIdleMemoryLimit: '1GB',
  forceExit: true,
};
