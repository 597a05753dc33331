const config = require('./jest.config.js');

/** What is too long for `npm test`: test/nightly, one file at a time, each with servers of its own. See docs/nightly.md. */
module.exports = {
  ...config,
  projects: [
    { ...config.projects[0], displayName: 'nightly', testMatch: ['<rootDir>/test/nightly/**/*.test.ts'] },
  ],
  testTimeout: 45 * 60_000,
  maxWorkers: 1,
};
