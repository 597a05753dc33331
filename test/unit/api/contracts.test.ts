import { UserId, uuidOrUndefined } from '../../../src/contracts/http';
import { loadConfig } from '../../../src/platform/config';
import { allTopics, paymentWebhookTopic } from '../../../src/platform/topics';
import { ProviderName } from '../../../src/providers/names';
import { BUILT_IN_PROVIDERS } from '../../../src/providers/registry';

describe('the contracts of the HTTP API', () => {
  it('name the providers that have topics', () => {
    const config = loadConfig({}, []);
    for (const { name } of BUILT_IN_PROVIDERS) {
      expect(ProviderName.meta()?.description).toContain(name);
      expect(allTopics(config)).toContain(paymentWebhookTopic(config, name));
    }
  });

  it('take any printable ASCII as a user id, and read UUIDs in either case', () => {
    for (const id of ['a', 'user123', 'auth0|5f', 'a@b.c', 'a b', 'x'.repeat(128)])
      expect(UserId.safeParse(id).success).toBe(true);
    for (const id of ['', ' a', 'a ', 'a\n', 'é', 'x'.repeat(129)])
      expect(UserId.safeParse(id).success).toBe(false);
    expect(uuidOrUndefined('6F9619FF-8B86-4011-B42D-00C04FC964FF')).toBe(
      '6f9619ff-8b86-4011-b42d-00c04fc964ff',
    );
    expect(uuidOrUndefined('6F9619FF8B864011B42D00C04FC964FF')).toBeUndefined();
  });
});
