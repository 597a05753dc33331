import { eventConfigContract } from '../../contracts/events';
import { eventConfigs } from '../../domain/event-configs';
import { versionedRoutes } from './versioned';

/** How events of each type are delivered. */
export const eventConfigRoutes = versionedRoutes({
  path: '/api/v1/event-configs',
  noun: 'EventConfig',
  tag: 'Event configs',
  one: 'The config',
  key: 'eventType',
  contract: eventConfigContract,
  operations: eventConfigs,
  texts: {
    create: {
      summary: 'Define how events of one type are delivered',
      description:
        'For types of remit’s own and of the tenant; the type need not exist yet. Without a config, and where a field is null, the server’s configuration holds.',
    },
    list: { summary: 'List event configs, newest first' },
    get: { summary: 'Read the config of an event type' },
    update: {
      summary: 'Change the given fields of a config',
      description:
        'Holds for events from now on; existing deliveries keep the schedule that they started with.',
    },
    remove: { summary: 'Delete a config: the server’s configuration holds again' },
  },
});
