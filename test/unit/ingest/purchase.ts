import type { SourceRecord } from '../../../src/bridges/ingest/source';
import type { Purchase } from '../../../src/contracts/purchases';

/** A right purchase with the given fields changed. */
export function purchase(
  changes: Partial<Record<keyof Purchase | 'extra', unknown>> = {},
): Record<string, unknown> {
  return {
    id: '0a1b2c3d-4e5f-4a6b-8c7d-0123456789ab',
    userId: 'user-00000001',
    productId: 'sku-000042',
    amount: '129.90',
    currency: 'TRY',
    status: 'completed',
    provider: 'decard',
    createdAt: '2026-11-21T09:37:35.123Z',
    processedAt: '2026-11-21T09:37:36.456Z',
    ...changes,
  };
}

export function bytesOf(value: unknown): Buffer {
  return Buffer.from(JSON.stringify(value));
}

export function record(offset: number, value: Buffer | null, more: Partial<SourceRecord> = {}): SourceRecord {
  return {
    offset: String(offset),
    key: Buffer.from(`key-${offset}`),
    value,
    timestamp: '1763717855123',
    ...more,
  };
}
