import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { findJava } from '../../src/embedded/java';
import { KAFKA_JARS } from '../../src/embedded/kafka';
import { classPath } from '../../src/embedded/maven';

export interface ForeignStream {
  topic: string;
  codec: 'none' | 'gzip' | 'snappy' | 'lz4' | 'zstd';
  count: number;
  valueBytes: number;
  /** `aborted`: a transaction that is aborted, then one that is committed. */
  mode?: 'plain' | 'aborted';
}

/** Produces with Apache's Java client, from the jars of the embedded broker: see ForeignProducer.java. */
export async function produceForeign(brokers: readonly string[], streams: ForeignStream[]): Promise<void> {
  const java = findJava();
  if (!java) throw new Error('Java is missing');
  await promisify(execFile)(
    java.executable,
    [
      '-XX:TieredStopAtLevel=1',
      '-Dorg.slf4j.simpleLogger.defaultLogLevel=error',
      '-cp',
      classPath(KAFKA_JARS),
      path.join(__dirname, 'ForeignProducer.java'),
      brokers.join(','),
      ...streams.map(({ topic, codec, count, valueBytes, mode = 'plain' }) =>
        [topic, codec, count, valueBytes, mode].join(','),
      ),
    ],
    { encoding: 'utf8' },
  );
}
