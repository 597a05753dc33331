/** Code of a release that fails: Temporal gives a workflow whose task throws another chance, for ever. */
export function paymentWorkflow(): Promise<void> {
  throw new TypeError('Cannot read properties of undefined (reading "amount")');
}
