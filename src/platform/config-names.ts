import { distance } from 'fastest-levenshtein';

/** A name of two letters more, less or other than one of ours is meant to be ours. */
const NEAR = 2;
/** What Kubernetes sets in every container for each service of its namespace: none of ours, whatever it is called. */
const OF_SERVICES = /_SERVICE_(HOST|PORT)(_\w+)?$|_PORT(_\d+_(TCP|UDP)(_\w+)?)?$/;
/** Beginnings that nobody else uses; what is unknown under them is a mistake although nothing is near. */
const OWN = /^REMIT_(DATA|EMBEDDED)_/;
/** Another name of KAFKA_BROKERS. */
const ALIASES = ['KAFKA_BROKER'];

/**
 * Variables that are set under a name which is nearly one of ours, and would be ignored: the mistake is told instead of
 * the default being used.
 * @param fixed names of settings that no variable sets.
 * @returns the mistakes, one line each.
 */
export function misspelt(
  given: readonly string[],
  known: readonly string[],
  fixed: readonly string[] = [],
): string[] {
  const ours = new Set([...known, ...ALIASES]);
  return given.flatMap((name) => {
    if (fixed.includes(name)) return [`${name} is no variable of remit: it is fixed, or follows from others`];
    if (ours.has(name) || OF_SERVICES.test(name) || !name.includes('_')) return [];
    const meant = nearest(name, known);
    if (meant !== undefined) return [`${name} is no variable of remit; is ${meant} meant?`];
    return OWN.test(name) ? [`${name} is no variable of remit`] : [];
  });
}

function nearest(name: string, known: readonly string[]): string | undefined {
  const upper = name.toUpperCase();
  // The unit or the last word was left out.
  const longer = known.find(
    (each) => each.startsWith(`${upper}_`) && !each.slice(upper.length + 1).includes('_'),
  );
  if (longer !== undefined) return longer;
  const byDistance = known.map((each) => ({ each, far: distance(upper, each) }));
  byDistance.sort((a, b) => a.far - b.far);
  const [first] = byDistance;
  return first !== undefined && first.far <= NEAR ? first.each : undefined;
}
