import type { Command } from 'commander';
import type { PortalLinkCommand } from '../operations/portal-link';
import { dataDir, integer, say } from './command';

export function register(program: Command): void {
  program
    .command('portal-link')
    .description('prints a link that shows a subscriber its own subscriptions, once; or ends such a link')
    .argument('[subscriptions...]', 'ids or uids of what it shows')
    .option('--label <label>', 'in their place: all subscriptions that have this label now')
    .option('--expires-s <seconds>', 'the link must be opened within so many seconds', integer, 900)
    .option('--session-s <seconds>', 'the portal can be used for so long from then on', integer, 3_600)
    .option(
      '--read-only',
      'without resending, trying now, test events, and seeing or rotating secrets',
      false,
    )
    .option('--brand-name <name>', 'stands at the top of the page')
    .option('--brand-color <#rrggbb>', 'of the top of the page and its buttons')
    .option('--revoke <id>', 'end the link of this id, and the session that it has opened, instead')
    .option('--json', 'one JSON document, with the id that --revoke takes', false)
    .option('--tenant <id>', 'whose subscriptions; DEFAULT_TENANT when left out')
    .option('--url <url>', 'the API; the local one when left out')
    .option('--token <token>', 'a bearer token; one is signed with AUTH_JWT_SECRET when left out')
    .addHelpText(
      'after',
      `
Examples:
  remit portal-link customer-17 --brand-name Acme --brand-color '#0b6e4f'
  remit portal-link --label team:accounting --read-only --session-s 86400
  remit portal-link --revoke 8e03978e-40d5-43e8-bc93-6894a57f9324`,
    )
    .action(async (subscriptions: string[], options: PortalLinkCommand) => {
      const { runPortalLink } = await import('../operations/portal-link.js');
      await runPortalLink(dataDir(), subscriptions, options, say);
    });
}
