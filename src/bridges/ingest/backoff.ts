export { Backoff } from '../../platform/backoff';
