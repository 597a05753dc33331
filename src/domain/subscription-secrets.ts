import { randomUUID } from 'node:crypto';
import { RemitError } from '../contracts/errors';
import { MAX_VALID_SECRETS } from '../contracts/subscriptions';
import type { Subscription } from '../generated/prisma/client';
import type { Database } from '../platform/postgres';
import type { Keyring } from '../platform/secrets';
import { recordChange, type Actor } from './audit';
import { noSubscription, secretContext, subscriptionCause } from './subscriptions';
import { requireOneRow, requireVersion, type ExpectedVersions } from './versions';
import { newWebhookSecret } from '../webhooks/signature';

/** The secrets of a subscription after its first: how they change, and who gets to see them. */

/**
 * Gives a subscription a new secret, which is returned here and never again. The one before goes on signing alongside it
 * for `overlapMs` milliseconds, those of earlier rotations for as long as was said then; with 0 they all end at once.
 * Idempotent when it is given an operationId: while the secret that was made under it is the present one, it is handed
 * back as it is.
 * @throws RemitError not_found, precondition_failed; unprocessable when MAX_VALID_SECRETS would sign at the same time
 *   already, or when the secret is the present one.
 */
export async function rotateSecret(
  db: Pick<Database, 'prisma'>,
  keyring: Keyring,
  by: Actor,
  {
    id,
    expected,
    overlapMs,
    operationId = randomUUID(),
    repeats = false,
    secret: ownSecret,
  }: {
    id: string;
    expected: ExpectedVersions;
    overlapMs: number;
    operationId?: string;
    /** It was carried out before under this operationId: nothing is rotated once more. */
    repeats?: boolean;
    secret?: string | undefined;
  },
): Promise<{ secret: string; previousSecretValidUntil: Date | null; version: number }> {
  const { tenantId } = by;
  const before = await db.prisma.subscription.findFirst({
    where: { id, tenantId, state: { not: 'deleted' } },
  });
  if (!before) throw noSubscription();
  if (before.secretOperationId === operationId)
    return {
      secret: keyring.decrypt(before.secretCiphertext, secretContext(id)),
      previousSecretValidUntil: before.previousSecretValidUntil,
      version: before.version,
    };
  if (repeats) throw new RemitError('conflict', 'the secret that this request made has been rotated since');
  requireVersion(expected, before.version);
  if (ownSecret !== undefined && keyring.decrypt(before.secretCiphertext, secretContext(id)) === ownSecret)
    throw new RemitError('unprocessable', 'this is its present secret');
  const secret = ownSecret ?? newWebhookSecret();
  const validUntil = overlapMs > 0 ? new Date(Date.now() + overlapMs) : null;
  const older = validUntil ? stillValid(before) : [];
  if (older.length + 2 > MAX_VALID_SECRETS)
    throw new RemitError(
      'unprocessable',
      `${MAX_VALID_SECRETS} secrets are valid already; wait until one ends, or rotate with overlapS 0`,
    );
  await db.prisma.$transaction(async (tx) => {
    const { count } = await tx.subscription.updateMany({
      where: { id, tenantId, version: before.version, state: { not: 'deleted' } },
      data: {
        secretCiphertext: keyring.encrypt(secret, secretContext(id)),
        secretOperationId: operationId,
        previousSecretCiphertext: validUntil ? before.secretCiphertext : null,
        previousSecretValidUntil: validUntil,
        olderSecretCiphertexts: older.map(({ ciphertext }) => ciphertext),
        olderSecretsValidUntil: older.map((each) => each.validUntil),
        version: { increment: 1 },
        updatedAt: new Date(),
      },
    });
    requireOneRow(count);
    await recordChange(tx, by, {
      action: 'subscription.secret_rotated',
      cause: subscriptionCause(id),
      after: { previousSecretValidUntil: validUntil },
    });
  });
  return { secret, previousSecretValidUntil: validUntil, version: before.version + 1 };
}

/**
 * The present secret, for the subscriber itself; it is noted in the audit log that it was seen.
 * @throws RemitError not_found.
 */
export async function revealSecret(
  db: Pick<Database, 'prisma'>,
  keyring: Keyring,
  by: Actor,
  id: string,
): Promise<string> {
  const { tenantId } = by;
  const found = await db.prisma.subscription.findFirst({
    where: { id, tenantId, state: { not: 'deleted' } },
    select: { secretCiphertext: true },
  });
  if (!found) throw noSubscription();
  const secret = keyring.decrypt(found.secretCiphertext, secretContext(id));
  await recordChange(db.prisma, by, { action: 'subscription.secret_viewed', cause: subscriptionCause(id) });
  return secret;
}

/** The secrets before the present one whose overlap is not over, newest first. */
function stillValid(subscription: Subscription): { ciphertext: Uint8Array<ArrayBuffer>; validUntil: Date }[] {
  const former = [
    [subscription.previousSecretCiphertext, subscription.previousSecretValidUntil] as const,
    ...subscription.olderSecretCiphertexts.map(
      (ciphertext, index) => [ciphertext, subscription.olderSecretsValidUntil[index]] as const,
    ),
  ];
  return former.flatMap(([ciphertext, validUntil]) =>
    ciphertext && validUntil && validUntil.getTime() > Date.now() ? [{ ciphertext, validUntil }] : [],
  );
}
