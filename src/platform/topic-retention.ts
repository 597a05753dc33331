import { ConfigResourceTypes, type Admin, type Kafka } from 'kafkajs';
import type { Config } from './config';
import type { Logger } from './logging';
import { withAdmin } from './topic-reader';
import { readBackTopics } from './topics';

/**
 * Beyond the longest wait: a message waits in its topic before a bridge takes it, and a dead letter is late while the
 * database, Temporal or the workers are away.
 */
const MARGIN_MS = 3 * 24 * 3_600_000;

type RetentionSettings = Pick<Config, 'UNKNOWN_TRANSACTION_WAIT_MS'>;

/** How long the topics that workflows refer to must keep their messages: a dead letter is read from them. */
export function neededRetentionMs({ UNKNOWN_TRANSACTION_WAIT_MS }: RetentionSettings): number {
  return UNKNOWN_TRANSACTION_WAIT_MS + MARGIN_MS;
}

interface ShortlyKept {
  topic: string;
  retentionMs: number;
  /** What is set on the topic itself, which setting anything on it would otherwise reset. */
  own: { name: string; value: string }[];
}

/** Kafka's source of a setting: this topic, not the broker or a default. */
const SET_ON_TOPIC = 1;

/** Which of the topics that workflows refer to lose their messages too soon. Reads only. */
async function shortlyKept(
  admin: Admin,
  topics: readonly string[],
  neededMs: number,
): Promise<ShortlyKept[]> {
  const { resources } = await admin.describeConfigs({
    includeSynonyms: false,
    resources: topics.map((name) => ({ type: ConfigResourceTypes.TOPIC, name })),
  });
  return resources.flatMap(({ resourceName: topic, configEntries }) => {
    const given = configEntries.find(({ configName }) => configName === 'retention.ms')?.configValue;
    const retentionMs = Number(given ?? -1);
    if (retentionMs < 0 || retentionMs >= neededMs) return [];
    const own = configEntries
      .filter(({ configSource }) => Number(configSource) === SET_ON_TOPIC)
      .map(({ configName: name, configValue: value }) => ({ name, value }));
    return [{ topic, retentionMs, own }];
  });
}

/**
 * Lets the topics that workflows refer to keep their messages for longer than the longest wait, when they do not yet.
 * What else is set on them stays; a longer retention stays too. Idempotent.
 * @returns the topics whose retention it raised.
 */
export async function ensureRetention(kafka: Kafka, config: Config): Promise<string[]> {
  const neededMs = neededRetentionMs(config);
  return withAdmin(kafka, async (admin) => {
    const short = await shortlyKept(admin, readBackTopics(config), neededMs);
    if (short.length > 0)
      await admin.alterConfigs({
        validateOnly: false,
        resources: short.map(({ topic, own }) => ({
          type: ConfigResourceTypes.TOPIC,
          name: topic,
          configEntries: [
            ...own.filter(({ name }) => name !== 'retention.ms'),
            { name: 'retention.ms', value: String(neededMs) },
          ],
        })),
      });
    return short.map(({ topic }) => topic);
  });
}

/** Says once which topics lose messages that events may still wait for. Never rejects: it is advice. */
export async function warnOfShortRetention(kafka: Kafka, config: Config, log: Logger): Promise<void> {
  const neededMs = neededRetentionMs(config);
  try {
    const short = await withAdmin(kafka, (admin) => shortlyKept(admin, readBackTopics(config), neededMs));
    for (const { topic, retentionMs } of short)
      log.warn(
        { topic, retentionMs, neededMs },
        'the topic keeps its messages too short for UNKNOWN_TRANSACTION_WAIT_MS: dead letters may miss their original; run remit migrate',
      );
  } catch (error) {
    log.debug({ err: error }, 'the retention of topics could not be read');
  }
}
