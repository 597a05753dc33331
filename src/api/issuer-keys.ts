import { createRemoteJWKSet, errors, type JWTVerifyGetKey } from 'jose';
import type { Logger } from '../platform/logging';
import { metrics } from '../platform/metrics';

const FETCH_TIMEOUT_MS = 5_000;
/** Keys that are older are fetched again before they are used: this long a key that the issuer withdrew may still count. */
const MAX_AGE_MS = 10 * 60_000;
/** While the issuer can't be reached, the last keys count for this long: a night, not a week. */
const MAX_STALE_MS = 24 * 3_600_000;
/** How often an issuer that can't be reached, or that has no token's key, is asked again. */
const RETRY_MS = 10_000;

/**
 * The keys (JWKS) of the issuer of tokens. An issuer that is away for a while keeps nobody out: its last keys are used,
 * without waiting for it again, for a bounded time.
 */
export class IssuerKeys {
  private readonly keys: ReturnType<typeof createRemoteJWKSet>;
  private loadedAtMs: number | undefined;
  private triedAtMs = Number.NEGATIVE_INFINITY;
  private failure: Error | undefined;
  private refreshing: Promise<void> | undefined;

  constructor(
    url: string,
    private readonly log?: Pick<Logger, 'warn' | 'info'>,
    private readonly now: () => number = Date.now,
  ) {
    // When they are fetched is decided here; jose would drop keys that it can't renew.
    this.keys = createRemoteJWKSet(new URL(url), {
      timeoutDuration: FETCH_TIMEOUT_MS,
      cacheMaxAge: Number.POSITIVE_INFINITY,
      cooldownDuration: Number.POSITIVE_INFINITY,
    });
  }

  /**
   * The key of a token.
   * @throws JWKSNoMatchingKey when the issuer has none such; what the fetch throws when there are no keys that may still
   *   be used, or the token's is not among them and the issuer can't be asked.
   */
  readonly find: JWTVerifyGetKey = async (header, token) => {
    await this.freshen();
    try {
      return await this.keys(header, token);
    } catch (error) {
      if (!(error instanceof errors.JWKSNoMatchingKey)) throw error;
      // Perhaps the issuer has a new one; it may be being asked at this moment.
      if (this.refreshing === undefined && this.now() - this.triedAtMs < RETRY_MS)
        throw this.failure ?? error;
      await (this.refreshing ?? this.refresh());
      return await this.keys(header, token);
    }
  };

  private async freshen(): Promise<void> {
    if (this.loadedAtMs === undefined) return this.refresh();
    const age = () => this.now() - this.loadedAtMs!;
    if (age() < MAX_AGE_MS) return;
    if (this.now() - this.triedAtMs >= RETRY_MS) {
      const known = this.failure !== undefined && age() < MAX_STALE_MS;
      const refreshing = this.refresh().catch(() => undefined);
      // Who comes first waits for the issuer; while it is known to be away, nobody does who can do without it.
      if (!known) await refreshing;
    }
    if (this.failure !== undefined && age() >= MAX_STALE_MS) throw this.failure;
  }

  private refresh(): Promise<void> {
    return (this.refreshing ??= this.fetch().finally(() => (this.refreshing = undefined)));
  }

  private async fetch(): Promise<void> {
    this.triedAtMs = this.now();
    try {
      await this.keys.reload();
    } catch (error) {
      metrics.issuerKeyFetches.inc({ result: 'failed' });
      if (this.failure === undefined)
        this.log?.warn(
          { err: error, keysFrom: this.loadedAtMs === undefined ? null : new Date(this.loadedAtMs) },
          'the keys of the token issuer can’t be fetched; the last ones are used for at most a day',
        );
      this.failure = error as Error;
      throw error;
    }
    if (this.failure !== undefined) this.log?.info('the keys of the token issuer are fetched again');
    this.failure = undefined;
    this.loadedAtMs = this.now();
    metrics.issuerKeyFetches.inc({ result: 'ok' });
    metrics.issuerKeysLoaded.set(this.loadedAtMs / 1_000);
  }
}
