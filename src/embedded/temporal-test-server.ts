import { existsSync } from 'node:fs';
import path from 'node:path';
import { contentKey, writeFileAtomic } from './cache';
import { once } from './downloads';
import { findJava } from './java';
import { classPath, ensureJars, haveJars, jarSetDir, type JarSet } from './maven';
import { checkPrerequisites, thisMachine } from './prerequisites';
import { EmbeddedError } from './types';

const TEST_SERVER_JARS: JarSet = {
  asset: 'temporal-test-server',
  version: '1.38.0',
  title: 'Temporal test server',
};

/**
 * Path of an executable that runs Temporal's time-skipping test server on a port.
 * Downloads its jars into the cache the first time (pinned and verified); returns at once afterwards.
 * Throws an EmbeddedError when Java or, for the download, Maven is missing.
 */
export async function ensureTimeSkippingServer(report: (line: string) => void): Promise<string> {
  checkPrerequisites(
    ['test-server'],
    thisMachine(() => !haveJars(TEST_SERVER_JARS)),
  );
  if (!haveJars(TEST_SERVER_JARS)) {
    await once('temporal-test-server', report, () => ensureJars(TEST_SERVER_JARS, report));
  }
  const java = findJava();
  if (java === undefined)
    throw new EmbeddedError('Java is gone: the test server needs Java 17 or later in PATH or JAVA_HOME.');
  const content = script(java.executable);
  const file = path.join(jarSetDir(TEST_SERVER_JARS), `temporal-test-server-${contentKey(content)}`);
  if (!existsSync(file)) writeFileAtomic(file, content, 0o755);
  return file;
}

/** `exec`, so that a signal to the script reaches the server. It is started as `SCRIPT PORT`. */
function script(java: string): string {
  const flags = [
    '-Xmx256m',
    '-XX:TieredStopAtLevel=1',
    '-XX:+UseSerialGC',
    '-Xshare:auto',
    '-Dorg.slf4j.simpleLogger.defaultLogLevel=warn',
  ];
  const quoted = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`;
  return [
    '#!/bin/sh',
    `exec ${quoted(java)} ${flags.join(' ')} -cp ${quoted(classPath(TEST_SERVER_JARS))} io.temporal.testserver.TestServer "$@"`,
    '',
  ].join('\n');
}
