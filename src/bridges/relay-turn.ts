import type { PoolClient, QueryResult } from 'pg';
import type { Config } from '../platform/config';

/**
 * The advisory lock that makes one relay at a time the publisher ("remit" in ASCII). Held by the transaction of a
 * round, so that it ends with the round, or with the connection of a relay that died.
 */
export const RELAY_LOCK = 0x72_65_6d_69_74;

/** While brokers are waited for, PostgreSQL hears of the relay so many times in the time after which it would end the turn. */
const HEARD_TIMES = 4;

type TurnConfig = Pick<Config, 'RELAY_TURN_TIMEOUT_MS' | 'RELAY_ROUND_MAX_MS'>;

/**
 * A relay's turn to publish: a transaction that holds the lock. A process that hangs (not one that died) would keep it for as
 * long as it hangs; so PostgreSQL ends the turn of one that it has not heard of for `RELAY_TURN_TIMEOUT_MS`, wherever it hangs.
 *
 * Two relays may publish at once then, the one that hung being woken. That repeats messages and never changes the order in
 * which the messages of a key come first: both begin with the oldest rows that are left, and no row is deleted before all that
 * precede it are stored. `assertHeld` keeps nearly all of these repetitions away.
 */
export class RelayTurn {
  private readonly begunAtMs = performance.now();
  /** PostgreSQL has heard of us since then. */
  private heardAtMs = this.begunAtMs;

  private constructor(
    private readonly client: PoolClient,
    private readonly config: TurnConfig,
  ) {}

  /** Begins the transaction of a round. @returns undefined, and leaves no transaction, while another relay has the turn. */
  static async take(client: PoolClient, config: TurnConfig): Promise<RelayTurn | undefined> {
    const turn = new RelayTurn(client, config);
    const { RELAY_TURN_TIMEOUT_MS: silenceMs } = config;
    // The second setting ends a turn whose answer is not taken: the server waits in the middle of it, not idle.
    const begun = (await client.query(
      `BEGIN ISOLATION LEVEL READ COMMITTED;
       SET LOCAL idle_in_transaction_session_timeout = ${silenceMs};
       SET LOCAL tcp_user_timeout = ${silenceMs};
       SELECT pg_try_advisory_xact_lock(${RELAY_LOCK}) AS mine`,
    )) as unknown as QueryResult<{ mine: boolean }>[];
    if (begun.at(-1)?.rows[0]?.mine) return turn;
    await client.query('ROLLBACK');
    return undefined;
  }

  /** @throws Error when PostgreSQL may have ended the turn: another relay publishes by now. */
  assertHeld(): void {
    const silentMs = performance.now() - this.heardAtMs;
    if (silentMs > this.config.RELAY_TURN_TIMEOUT_MS)
      throw new Error(
        `this relay hung for ${Math.round(silentMs / 1_000)} s and has lost its turn: another one publishes`,
      );
  }

  /** Keeps the turn while `run` waits for others than PostgreSQL, for `RELAY_ROUND_MAX_MS` from its beginning at most. */
  async holdWhile<T>(run: () => Promise<T>): Promise<T> {
    let asking = false;
    const timer = setInterval(() => {
      if (asking || performance.now() - this.begunAtMs > this.config.RELAY_ROUND_MAX_MS) return;
      asking = true;
      const askedAtMs = performance.now();
      this.client.query('SELECT').then(
        () => {
          this.heardAtMs = askedAtMs;
          asking = false;
        },
        // The turn is lost; the round's own next statement says why.
        () => clearInterval(timer),
      );
    }, this.config.RELAY_TURN_TIMEOUT_MS / HEARD_TIMES);
    try {
      return await run();
    } finally {
      clearInterval(timer);
    }
  }
}
