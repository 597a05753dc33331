import { adyen } from './adyen';
import { decard } from './decard';
import { paypal } from './paypal';
import { paytr } from './paytr';
import type { Provider } from './provider';
import { stripe } from './stripe';

/** The providers that remit comes with. A new one is its file and a line here. */
export const BUILT_IN_PROVIDERS: readonly Provider[] = [decard, stripe, adyen, paypal, paytr];
