/**
 * How much one workflow carries, in one place. Temporal ends a run whose history passes 51,200 events or 50 MB and loses
 * what it was waiting for; it takes 2 MB as the input of a run, and 10,000 signals in one. All of these are the
 * server's defaults, and what follows keeps far below them (docs/adr/0012).
 */

/**
 * Events that wait in one workflow for what they are about: a transaction or an order that is not there yet. A provider
 * that sends more than a thousand of them for one id is not early, it is wrong.
 */
export const WAITING_MESSAGES_MAX = 1_000;
/** The same in bytes of JSON. An event has about 700, at most 4,000 (SIGNAL_BYTES_MAX). */
export const WAITING_BYTES_MAX = 1_000_000;
/** Bytes that a run hands to the next: what may wait, and what came while the rest was dead-lettered. Input takes 2 MB. */
export const CARRIED_BYTES_MAX = 1_500_000;
/** The longest signal that a bridge makes of a message of any size; 10,000 of them fit into a history. */
export const SIGNAL_BYTES_MAX = 4_000;

/**
 * From here on a run continues as a new one as soon as it may, also where the server would suggest it later. What follows
 * before it may is bounded: one message, or as many signals as the server takes.
 */
export const HISTORY_EVENTS_MAX = 4_000;
export const HISTORY_BYTES_MAX = 4_000_000;

/** Dead letters that one activity writes, so that a try of it repeats little and takes less than a minute. */
export const DEAD_LETTERS_TOGETHER = 50;
/** The same in bytes of JSON, beyond the first; Temporal takes 2 MB as input. */
export const DEAD_LETTERS_BYTES = 250_000;
/** What does not fit is gathered for so long, so that a flood costs one activity a second instead of one an event. */
export const GATHER_MS = 1_000;

/**
 * Pauses between two tries of an early event: half of the time that it has waited, between these two. A webhook that
 * overtook its transaction by a second is late by half a second; a wait of 30 days costs some 750 tries.
 */
export const EARLY_PAUSE_MIN_MS = 1_000;
export const EARLY_PAUSE_MAX_MS = 3_600_000;
