import { DefaultFailureConverter } from '@temporalio/common';

/**
 * Puts the message and stack of a failure into a payload, which the codec encrypts with all others. Loaded by its path: by
 * clients and workers where payloads are encrypted, and always into the workflow bundle, which is one for both cases. Failures
 * of either kind are read by the SDK's own converter too.
 */
export const failureConverter = new DefaultFailureConverter({ encodeCommonAttributes: true });
