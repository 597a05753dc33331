import { loadConfig } from '../../src/platform/config';
import { Lifecycle } from '../../src/platform/lifecycle';
import { createLogger } from '../../src/platform/logging';
import { createRoleContext } from '../../src/roles/context';
import { startIngest } from '../../src/roles/ingest';

/** The ingest role as a process that tests kill; says when it has joined its groups. */
const config = { ...loadConfig(process.env, []), INGEST_RETRY_CAP_MS: 1_000 };
const log = createLogger(config, 'ingest');
const lifecycle = new Lifecycle(log, config.SHUTDOWN_TIMEOUT_MS);
lifecycle.installProcessHandlers();
startIngest(createRoleContext(config, log, lifecycle)).then(
  () => process.send!('ready'),
  (error: unknown) => {
    log.fatal({ err: error }, 'did not start');
    process.exit(1);
  },
);
