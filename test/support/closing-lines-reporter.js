const { appendFileSync } = require('node:fs');
const path = require('node:path');

const SLOWEST_FILES = 10;

/** Ends the run with its slowest files, and with one plain line that any CI can read. */
module.exports = class ClosingLinesReporter {
  onRunComplete(
    _contexts,
    { numPassedTests, numFailedTests, numPendingTests, numRuntimeErrorTestSuites, testResults },
  ) {
    const files = testResults
      .map(({ testFilePath, perfStats }) => ({ file: testFilePath, ms: perfStats.end - perfStats.start }))
      .sort((a, b) => b.ms - a.ms);
    if (files.length > SLOWEST_FILES) {
      process.stdout.write('\nSlowest files:\n');
      for (const { file, ms } of files.slice(0, SLOWEST_FILES))
        process.stdout.write(
          `${(ms / 1_000).toFixed(1).padStart(7)} s  ${path.relative(process.cwd(), file)}\n`,
        );
    }
    const failed = numFailedTests + numRuntimeErrorTestSuites;
    const closing = `${numPassedTests} passed, ${failed} failed, ${numPendingTests} skipped`;
    process.stdout.write(`\n${closing}\n`);
    // For the table of a nightly run: see test/support/nightly.ts.
    if (process.env.REMIT_NIGHTLY_RESULTS) appendFileSync(process.env.REMIT_NIGHTLY_RESULTS, `${closing}\n`);
  }
};
