import { PURCHASE_STATUSES } from '../contracts/purchases';

export interface GeneratorOptions {
  /** The same seed gives the same messages, apart from their times. */
  seed: number;
  /** Share of messages that ingest has to dead-letter, 0 to 1. */
  badShare: number;
  /** Clock of `createdAt`. */
  now?: () => number;
}

export interface GeneratedPurchase {
  key: string;
  value: string;
  /** Which mistake it has; undefined when it is right. */
  mistake: string | undefined;
}

const CURRENCIES = ['TRY', 'TRY', 'TRY', 'USD', 'EUR', 'KZT'] as const;
const PROVIDERS = ['decard', 'decard', 'paygate', 'northbank'] as const;
/** Most purchases complete. */
const STATUSES = [...PURCHASE_STATUSES, ...Array.from({ length: 12 }, () => 'completed' as const)];
const USERS = 1_000_000;
const PRODUCTS = 5_000;
const PROCESSING_MS = 2_500;

type Mistake = (value: string, next: (below: number) => number) => string;

/** What real producers get wrong: each makes of a right message one that must not be stored. */
const MISTAKES: Readonly<Record<string, Mistake>> = {
  not_json: () => 'purchase;42;129.90;TRY',
  cut_off: (value) => value.slice(0, value.length / 2),
  two_objects: (value) => value + value,
  two_lines: (value) => `${value}\n${value}`,
  array: (value) => `[${value}]`,
  empty: () => '',
  unknown_currency: (value) => value.replace(/"currency":"\w+"/, '"currency":"QQQ"'),
  negative_amount: (value) => value.replace(/"amount":"/, '"amount":"-'),
  overflow: (value) => value.replace(/"amount":"\d+/, `"amount":"${'9'.repeat(25)}`),
  wrong_type: (value) => value.replace(/"userId":"([^"]+)"/, '"userId":42'),
  null_field: (value) => value.replace(/"productId":"[^"]+"/, '"productId":null'),
  missing_field: (value) => value.replace(/"provider":"\w+",/, ''),
  unknown_field: (value) => value.replace('{', '{"coupon":"X",'),
  impossible_day: (value) => value.replace(/"createdAt":"\d{4}-\d\d-\d\d/, '"createdAt":"2026-02-30'),
};
const MISTAKE_NAMES = Object.keys(MISTAKES);

/** Random whole numbers below a bound (xorshift32). */
function randomNumbers(seed: number): (below: number) => number {
  let state = (seed ^ 0x9e3779b9) | 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return Math.floor(((state >>> 0) / 4_294_967_296) * below);
  };
}

/** A function that makes one purchase message after another, of about 250 bytes. */
export function purchaseGenerator(options: GeneratorOptions): () => GeneratedPurchase {
  const next = randomNumbers(options.seed);
  const now = options.now ?? Date.now;
  const hex = (digits: number) =>
    next(16 ** digits)
      .toString(16)
      .padStart(digits, '0');
  const pick = <T>(from: readonly T[]): T => from[next(from.length)]!;
  return () => {
    const id = `${hex(8)}-${hex(4)}-4${hex(3)}-${'89ab'[next(4)]}${hex(3)}-${hex(6)}${hex(6)}`;
    const createdAt = now() - PROCESSING_MS;
    // The square of a random number: some products sell far more than others.
    const product = Math.floor((next(1_000) / 1_000) ** 2 * PRODUCTS);
    const right = JSON.stringify({
      id,
      userId: `user-${String(next(USERS)).padStart(8, '0')}`,
      productId: `sku-${String(product).padStart(6, '0')}`,
      amount: `${1 + next(2_000)}.${String(next(100)).padStart(2, '0')}`,
      currency: pick(CURRENCIES),
      status: pick(STATUSES),
      provider: pick(PROVIDERS),
      createdAt: new Date(createdAt).toISOString(),
      processedAt: new Date(createdAt + next(PROCESSING_MS)).toISOString(),
    });
    if (options.badShare === 0 || next(1_000_000) >= options.badShare * 1_000_000)
      return { key: id, value: right, mistake: undefined };
    const mistake = pick(MISTAKE_NAMES);
    return { key: id, value: MISTAKES[mistake]!(right, next), mistake };
  };
}
