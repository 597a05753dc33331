import { readiness } from '../../../src/platform/ops-server';
import { startIngest } from '../../../src/roles/ingest';
import { eventually, runRoles } from '../../support/harness';
import {
  count,
  createIngestSpace,
  goodPurchase,
  produce,
  readAll,
  startIngestRole,
  untilCommitted,
} from './support';

it('is not ready with a password that ClickHouse refuses, and loses and dead-letters nothing by it', async () => {
  const space = await createIngestSpace();
  const config = { ...space.config, CLICKHOUSE_PASSWORD: 'of another server' };
  const refused = await runRoles({ ...space, config }, startIngest);
  try {
    await produce(space, space.config.TOPIC_PURCHASES, [{ value: JSON.stringify(goodPurchase()) }]);
    await eventually(async () => {
      const { ready, dependencies } = await readiness(refused.lifecycle, 5_000);
      expect(ready).toBe(false);
      expect(dependencies).toMatchObject({
        clickhouse: expect.stringContaining('Authentication failed') as string,
        'table purchases': expect.stringContaining('Authentication failed') as string,
        [`batches of ${config.TOPIC_PURCHASES}`]: expect.stringContaining('batches wait') as string,
      });
      expect(JSON.stringify(dependencies)).not.toContain(config.CLICKHOUSE_PASSWORD);
    });
  } finally {
    await refused.stop();
  }
  const role = await startIngestRole(space);
  try {
    await untilCommitted(space);
    expect((await readiness(role.lifecycle, 5_000)).ready).toBe(true);
    expect(await count(space)).toBe(1);
    expect(await readAll(space, space.config.TOPIC_PURCHASES_DLQ, 0)).toEqual([]);
  } finally {
    await role.stop();
    await space.clickhouse.close();
  }
});
