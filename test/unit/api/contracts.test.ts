import { hasRoundedAmount, ProviderName, UserId, uuidOrUndefined } from '../../../src/contracts/http';
import { formatMinor, MAX_AMOUNT_MINOR } from '../../../src/contracts/money';
import { PROVIDERS } from '../../../src/platform/topics';

describe('the contracts of the HTTP API', () => {
  it('name the providers that have topics', () => {
    expect(ProviderName.options).toEqual([...PROVIDERS]);
  });

  it.each([
    ['{"amount":100.00000000000000001}', true],
    ['{"amount" : 99.99999999999999999 }', true],
    ['{"amount":1.0000000000000000e2}', true],
    ['{"amount":100.10}', false],
    ['{"amount":"100.00000000000000001"}', false],
    ['{"description":"\\"amount\\":100.00000000000000001"}', false],
    ...['TRY', 'JPY', 'KWD', 'CLF'].map((currency) => [
      `{"amount":${formatMinor(MAX_AMOUNT_MINOR, currency)}}`,
      false,
    ]),
  ])('find in %s an amount that JSON.parse would round: %p', (json, rounded) => {
    expect(hasRoundedAmount(String(json))).toBe(rounded);
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
