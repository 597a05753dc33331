export const probe = async () => import('../bridges/relay.js');
