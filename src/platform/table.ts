import Table from 'cli-table3';

/** A table for people: without colour codes where they would only be noise (pipes, CI, NO_COLOR). */
export function createTable(head: string[]): Table.Table {
  const plain = !process.stdout.isTTY || Boolean(process.env['NO_COLOR']);
  return new Table({ head, style: plain ? { head: [], border: [] } : { head: ['bold'], border: ['gray'] } });
}
