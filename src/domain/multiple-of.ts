/** A finite number as digits × 10^exponent, exactly as it is written in JSON. */
function decimalOf(value: number): { digits: bigint; exponent: number } {
  const [mantissa = '0', power = '0'] = String(value).split('e');
  const [whole = '0', fraction = ''] = mantissa.split('.');
  return { digits: BigInt(whole + fraction), exponent: Number(power) - fraction.length };
}

/**
 * JSON Schema's `multipleOf`, by decimal digits: 19.99 is a multiple of 0.01, although their quotient in binary is
 * 1998.9999999999998.
 */
export function isMultipleOf(divisor: number, value: number): boolean {
  if (value === 0) return true;
  const a = decimalOf(value);
  const b = decimalOf(divisor);
  const exponent = Math.min(a.exponent, b.exponent);
  const scaled = ({ digits, exponent: own }: typeof a) => digits * 10n ** BigInt(own - exponent);
  return scaled(a) % scaled(b) === 0n;
}
