import { PortAllocator } from '../../../src/embedded/ports';

/** Outside the range of outgoing connections, so that a server's port is still free when it comes back. */
export const ports = new PortAllocator();
