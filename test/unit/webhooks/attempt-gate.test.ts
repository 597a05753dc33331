import { AttemptGate } from '../../../src/webhooks/attempt-gate';

const gateOf = (all = 64, perSubscription = 16) =>
  new AttemptGate({
    WEBHOOK_CONCURRENT_ATTEMPTS: all,
    WEBHOOK_CONCURRENT_PER_SUBSCRIPTION: perSubscription,
    WEBHOOK_SLOW_AFTER_MS: 2_000,
  });

const fill = (gate: AttemptGate, keys: string[]) => {
  const places = [];
  for (let place = gate.enter(keys, false); place; place = gate.enter(keys, false)) places.push(place);
  return places;
};

describe('the places of one worker', () => {
  it('are at most so many for one subscription, and free again when an attempt is over', () => {
    const gate = gateOf();
    const places = fill(gate, ['a']);
    expect(places).toHaveLength(16);
    places[0]?.leave(5);
    places[0]?.leave(5);
    expect(fill(gate, ['a'])).toHaveLength(1);
  });

  it('are at most half for the subscriptions of one host', () => {
    const gate = gateOf();
    expect(fill(gate, ['a', 'https://host'])).toHaveLength(16);
    expect(fill(gate, ['b', 'https://host'])).toHaveLength(16);
    expect(gate.enter(['c', 'https://host'], false)).toBeUndefined();
    expect(gate.enter(['d', 'https://other'], false)).toBeDefined();
  });

  it('are there for one that answers although others on the same host hang', () => {
    const gate = gateOf();
    for (const hanging of ['a', 'b'])
      for (const place of fill(gate, [hanging, 'https://host'])) place.leave(15_000);
    expect(fill(gate, ['a', 'https://host'])).toHaveLength(2);
    expect(fill(gate, ['b', 'https://host'])).toHaveLength(2);
    expect(fill(gate, ['healthy', 'https://host'])).toHaveLength(16);
  });

  it('shrink to an eighth for a subscriber that was slow, until it answers fast again', () => {
    const gate = gateOf();
    for (const place of fill(gate, ['a'])) place.leave(15_000);
    const slow = fill(gate, ['a']);
    expect(slow).toHaveLength(2);
    for (const place of slow) place.leave(20);
    expect(fill(gate, ['a'])).toHaveLength(16);
  });

  it('are never all taken by slow subscribers, however many there are', () => {
    const gate = gateOf();
    const hanging = Array.from({ length: 100 }, (_, index) => `hanging-${index}`);
    for (const key of hanging) gate.enter([key], false)?.leave(15_000);
    const taken = hanging.flatMap((key) => fill(gate, [key]));
    expect(taken).toHaveLength(32);
    expect(fill(gate, ['healthy'])).toHaveLength(16);
  });

  it('are one for a subscriber that is being tried again after a rest', () => {
    const gate = gateOf();
    const probe = gate.enter(['a'], true);
    expect(probe).toBeDefined();
    expect(gate.enter(['a'], true)).toBeUndefined();
    probe?.leave(undefined);
    expect(gate.enter(['a'], true)).toBeDefined();
  });

  it('of a host are not kept from one that is being tried again by others, nor from others by it', () => {
    const gate = gateOf();
    expect(gate.enter(['healthy', 'https://host'], false)).toBeDefined();
    expect(gate.enter(['a', 'https://host'], true)).toBeDefined();
    expect(gate.enter(['b', 'https://host'], true)).toBeDefined();
    expect(gate.enter(['a', 'https://host'], true)).toBeUndefined();
    expect(gate.enter(['healthy', 'https://host'], false)).toBeDefined();
  });
});

describe('those that wait for a place', () => {
  it('get one as it becomes free, subscriptions in turn, whatever each has waiting', async () => {
    const gate = gateOf(2, 2);
    const held = fill(gate, ['x']);
    const order: string[] = [];
    const wait = (key: string) =>
      gate.enterSoon([key], 60_000).then((place) => {
        order.push(key);
        return place!;
      });
    const waiting = [wait('a'), wait('a'), wait('a'), wait('b'), wait('c')];
    for (const each of waiting) void each.then((place) => place.leave(1));
    held[0]!.leave(1);
    await Promise.all(waiting);
    expect(order.slice(0, 3)).toEqual(['a', 'b', 'c']);
    expect(order).toHaveLength(5);
  });

  it('get none after their time, and take none from others then', async () => {
    const gate = gateOf(1, 1);
    const [held] = fill(gate, ['x']);
    await expect(gate.enterSoon(['a'], 5)).resolves.toBeUndefined();
    held!.leave(1);
    expect(gate.enter(['a'], false)).toBeDefined();
  });

  it('give up soon on a subscriber that has all its places and answers nothing', async () => {
    const gate = gateOf(64, 2);
    fill(gate, ['a']);
    const startedAt = performance.now();
    await expect(gate.enterSoon(['a'], 60_000)).resolves.toBeUndefined();
    expect(performance.now() - startedAt).toBeLessThan(10_000);
    await expect(gate.enterSoon(['a'], 60_000)).resolves.toBeUndefined();
  });

  it('do not wait behind a slow subscriber of their own', async () => {
    const gate = gateOf();
    for (const place of fill(gate, ['a'])) place.leave(15_000);
    expect(fill(gate, ['a'])).toHaveLength(2);
    await expect(gate.enterSoon(['a'], 60_000)).resolves.toBeUndefined();
  });
});

describe('the places of a host', () => {
  it('are at most half for one tenant, whatever of its subscriptions hang there', () => {
    const gate = gateOf();
    const at = (subscription: string, tenant: string) => [
      subscription,
      'https://host',
      `${tenant} at https://host`,
    ];
    const hostile = ['h1', 'h2', 'h3'].flatMap((id) => fill(gate, at(id, 'hostile')));
    expect(hostile).toHaveLength(16);
    expect(fill(gate, at('a', 'other'))).toHaveLength(16);
  });

  it('are given in turn: those that nothing fits do not stand before one that has its place', async () => {
    const gate = gateOf(64, 1);
    const hostile = Array.from({ length: 60 }, (_, n) => [
      `h${n}`,
      'https://host',
      'hostile at https://host',
    ]);
    const held = hostile.flatMap((keys) => fill(gate, keys));
    expect(held).toHaveLength(16);
    for (const keys of hostile) void gate.enterSoon(keys, 60_000);
    const busy = gate.enter(['a', 'https://host', 'other at https://host'], false)!;
    const waiting = gate.enterSoon(['a', 'https://host', 'other at https://host'], 60_000);
    // Somebody else's places become free, time and again.
    for (let i = 0; i < 3; i++) gate.enter([`x${i}`, 'https://else', 'x'], false)!.leave(1);
    busy.leave(1);
    for (let i = 0; i < 3; i++) gate.enter([`x${i}`, 'https://else', 'x'], false)!.leave(1);
    expect(await waiting).toBeDefined();
  });
});
