import { eventTypeContract } from '../../contracts/events';
import { eventTypes } from '../../domain/event-types';
import { versionedRoutes } from './versioned';

/** Types of the events that a tenant publishes. */
export const eventTypeRoutes = versionedRoutes({
  path: '/api/v1/event-types',
  noun: 'EventType',
  tag: 'Event types',
  one: 'The event type',
  key: 'name',
  contract: eventTypeContract,
  operations: eventTypes,
  anyJson: true,
  problems: ['schema_too_complex'],
  texts: {
    create: {
      summary: 'Define a type of events, with the JSON Schema of their data',
      description: 'Names that begin with remit. are kept for remit’s own events.',
    },
    list: { summary: 'List event types, newest first' },
    get: { summary: 'Read an event type' },
    update: {
      summary: 'Change the given fields of an event type',
      description: 'Holds for what is published from now on; existing events are not checked again.',
    },
    remove: { summary: 'Delete an event type: no event of it can be published any more' },
  },
});
