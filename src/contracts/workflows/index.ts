/**
 * What bridges, API, workflows and operators agree on about Temporal. Plain types and names only (no zod): workflow code
 * bundles it.
 */
export * from './delivery';
export * from './dispute';
export * from './lane';
export * from './message-refs';
export * from './messages';
export * from './names';
export * from './order';
export * from './payment';
export * from './replay';
export * from './search-attributes';
export * from './scheduled-jobs';
