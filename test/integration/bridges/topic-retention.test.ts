import { ConfigResourceTypes } from 'kafkajs';
import { createKafka } from '../../../src/platform/kafka';
import { withAdmin } from '../../../src/platform/topic-reader';
import { ensureRetention, neededRetentionMs } from '../../../src/platform/topic-retention';
import { createTestSpace, eventually } from '../../support/harness';

const DAY = 24 * 3_600_000;

it('raises the retention of topics that events refer to for longer than it, and leaves everything else', async () => {
  const { config, log } = await createTestSpace({
    topics: true,
    env: { UNKNOWN_TRANSACTION_WAIT_MS: String(30 * DAY) },
  });
  const kafka = createKafka(config, log);
  const own = { short: config.TOPIC_WEBHOOKS_ORDERS, long: config.TOPIC_WEBHOOKS_DISPUTES };
  const resource = (name: string, entries: Record<string, string>) => ({
    ...{ type: ConfigResourceTypes.TOPIC, name },
    configEntries: Object.entries(entries).map(([key, value]) => ({ name: key, value })),
  });
  const read = async (name: string) => {
    const { resources } = await withAdmin(kafka, (admin) =>
      admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: ConfigResourceTypes.TOPIC, name }],
      }),
    );
    const value = (key: string) =>
      resources[0]?.configEntries.find(({ configName }) => configName === key)?.configValue;
    return { retentionMs: Number(value('retention.ms')), segmentBytes: value('segment.bytes') };
  };
  await withAdmin(kafka, (admin) =>
    admin.alterConfigs({
      validateOnly: false,
      resources: [
        resource(own.short, { 'retention.ms': '3600000', 'segment.bytes': '2097152' }),
        resource(own.long, { 'retention.ms': String(90 * DAY), 'segment.bytes': '2097152' }),
      ],
    }),
  );
  // A broker shows a setting a moment after it was made.
  await eventually(async () => expect((await read(own.long)).retentionMs).toBe(90 * DAY));
  await eventually(async () => expect((await read(own.short)).retentionMs).toBe(3_600_000));
  const raised = await ensureRetention(kafka, config);
  expect(raised).toContain(own.short);
  expect(raised).toContain(config.TOPIC_EVENTS);
  expect(raised).not.toContain(own.long);
  await eventually(async () =>
    expect(await read(own.short)).toEqual({
      retentionMs: neededRetentionMs(config),
      segmentBytes: '2097152',
    }),
  );
  expect(await read(own.long)).toEqual({ retentionMs: 90 * DAY, segmentBytes: '2097152' });
  expect(neededRetentionMs(config)).toBeGreaterThan(config.UNKNOWN_TRANSACTION_WAIT_MS);
  await eventually(async () => expect(await ensureRetention(kafka, config)).toEqual([]));
});
